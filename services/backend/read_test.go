package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/contract"
)

// TestReadByOperator reads somebody's conversations by the command. What the services record of
// that is the act of who typed it, and has the reason and nothing of what was read.
func TestReadByOperator(t *testing.T) {
	const phrase = "the pangolin sleeps at noon"
	s := newSite(t, contract.Auditing{Audit: true})
	s.ml.Chat(func(st *mltest.Stream) { st.Text(phrase); st.Done() })
	ada := s.join("ada")
	ada.want(http.StatusSeeOther, "/chat", "message", "Tell me.")
	r := s.redis.Client(t)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if all := ada.want(http.StatusOK, "/account/data/export?format=json"); strings.Contains(all,
			phrase) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("ada has no conversation")
		}
	}

	day := r.LIndex(t.Context(), "{audit}:days", -1).Val()
	before := r.LLen(t.Context(), "{audit}:"+day).Val()
	out, err := s.user("--at=", "--by=carol", "read", "ada", "case 4711")
	if err != nil || !strings.Contains(out, phrase) {
		t.Fatalf("%v: %s", err, out)
	}

	id := strings.Split(r.Keys(t.Context(), "owner:*:conversations").Val()[0], ":")[1]
	var acts []string
	for _, line := range r.LRange(t.Context(), "{audit}:"+day, before, -1).Val() {
		record, err := auditlog.Parse(line)
		if err == nil && record.Actor != "" && record.Outcome == auditlog.Done {
			continue // of ada's export, which the backend may record after she has it
		}
		if err != nil || record.By != "carol" || record.Actor != "" || record.Object != id {
			t.Errorf("%v: %s", err, line)
		}
		if strings.Contains(line, phrase) {
			t.Errorf("recorded is what was read: %s", line)
		}
		acts = append(acts, fmt.Sprint(record.Service, " ", record.Action, " ", record.Outcome))
	}

	// What the backend has sent before the command ends, it may record after it.
	want := []string{"codexctl read intent", "backend export intent", "codexctl read done"}
	acts = slices.DeleteFunc(acts, func(act string) bool { return act == "backend export done" })
	if !slices.Equal(acts, want) {
		t.Errorf("recorded are %q, want %q", acts, want)
	}

	if strings.Contains(s.log.String(), phrase) || strings.Contains(s.log.String(), "case 4711") {
		t.Error("a log has what was read, or why")
	}
}
