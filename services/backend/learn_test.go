package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/learning"
)

// learn runs `gate learn` as codexctl does, and returns what it prints.
func (s *site) learn(in string, words ...string) (out, failed string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.gate, append([]string{"learn", "--by=carol"}, words...)...)
	cmd.Env, cmd.Stdin = s.env, strings.NewReader(in)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil && said.Len() == 0 {
		s.t.Fatal(err)
	}
	return string(b), said.String()
}

// TestLearn has somebody hand an answer over, on the pages of a site with all services, an
// administrator and a command review it, and its author erase it. Nobody else sees it, and neither
// the logs nor the audit have a word of it.
func TestLearn(t *testing.T) {
	const phrase = "the pangolin sleeps at noon"
	s := newSite(t, contract.Auditing{Audit: true})
	s.ml.Chat(func(st *mltest.Stream) { st.Text("No idea."); st.Done() })
	boss, ada, bob := s.join("boss", "--admin"), s.join("ada"), s.join("bob")

	hand := func(m *member) (id string) {
		t.Helper()
		m.want(http.StatusSeeOther, "/chat", "message", "When does it sleep? "+phrase)
		link := regexp.MustCompile(`/c/[0-9a-f-]+/rate/([0-9a-f-]+)`)
		conversation := regexp.MustCompile(`/c/[0-9a-f-]+`)
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			page := m.want(http.StatusOK, conversation.FindString(m.want(http.StatusOK, "/")))
			if path := link.FindStringSubmatch(page); path != nil {
				m.want(http.StatusSeeOther, path[0], "verdict", "down")
				m.want(http.StatusSeeOther, path[0]+"/submit", "verdict", "down", "reason", "wrong",
					"correction", "At noon: "+phrase, "consent", "yes")
				return path[1]
			}
			if time.Now().After(deadline) {
				t.Fatalf("no answer can be rated: %s", page)
			}
		}
	}
	one, two := hand(ada), hand(bob)

	for _, path := range []string{"/review", "/api/reviews", "/api/reviews/" + one} {
		if status, body := bob.do(path); status != http.StatusForbidden ||
			strings.Contains(body, phrase) {
			t.Errorf("a member gets %s: %d: %s", path, status, body)
		}
	}
	if body := bob.want(http.StatusOK, "/submissions"); strings.Contains(body, one) ||
		!strings.Contains(body, two) {
		t.Errorf("bob's own: %s", body)
	}

	// The page accepts one, the command the other one.
	if body := boss.want(http.StatusOK, "/review"); !strings.Contains(body, phrase) {
		t.Errorf("the page lacks it: %s", body)
	}
	listed := func(state string) (page learning.Submissions) {
		t.Helper()
		out, failed := s.learn("", "list", state)
		if err := json.Unmarshal([]byte(out), &page); err != nil || failed != "" {
			t.Fatalf("%v: %s%s", err, out, failed)
		}
		return page
	}
	accepted := func() learning.Submissions { return listed("accepted") }
	at := map[string]string{} // when it was handed over
	for _, v := range listed("waiting").Submissions {
		at[v.ID] = v.SubmittedAt.Format(time.RFC3339Nano)
	}
	boss.want(http.StatusSeeOther, "/review/"+one, "submitted_at", at[one], "act", "accept", "question", "When does it sleep?",
		"answer", "At noon.", "must", "noon")
	decision, err := json.Marshal([]string{two, `{"submitted_at": "` + at[two] + `", "accept": true, "review": {"question": "And then?",
		"answer": "It wakes up.", "must_not": ["idea"]}}`})
	if err != nil {
		t.Fatal(err)
	}
	if _, failed := s.learn(string(decision), "review", "-"); failed != "" {
		t.Fatal(failed)
	}

	got := accepted()
	if len(got.Submissions) != 2 || got.Submissions[0].Review.Answer != "It wakes up." ||
		got.Submissions[1].Review.Must[0] != "noon" {
		t.Errorf("%+v", got)
	}
	if _, failed := s.learn("", "review", one, `{"submitted_at": "`+at[one]+`", "accept": true}`); !strings.Contains(failed,
		"review") {
		t.Errorf("accepted without a review: %s", failed)
	}
	if _, failed := s.learn("", "list", "all", "of", "them"); !strings.Contains(failed, "usage: gate learn") {
		t.Errorf("a wrong command line: %s", failed)
	}

	// Who erases everything erases also what was accepted.
	if all := ada.want(http.StatusOK, "/account/data/export?format=json"); !strings.Contains(all,
		`"submissions":[{`) || !strings.Contains(all, "At noon.") {
		t.Errorf("the export lacks it: %s", all)
	}
	if out, err := s.user("--at=", "--by=carol", "erase", "ada"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := accepted(); len(got.Submissions) != 1 || got.Submissions[0].ID != two {
		t.Errorf("after the erasure: %+v", got)
	}

	// It goes with the account as well.
	cy := s.join("cy")
	hand(cy)
	if got := listed("waiting"); len(got.Submissions) != 1 {
		t.Errorf("before the removal: %+v", got)
	}
	if out, err := s.user("--at=", "--by=carol", "remove", "cy"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := listed("waiting"); len(got.Submissions) != 0 {
		t.Errorf("after the removal: %+v", got)
	}
	bob.want(http.StatusSeeOther, "/submissions/"+two+"/withdraw", "x", "")
	if got := accepted(); len(got.Submissions) != 0 {
		t.Errorf("after it was taken back: %+v", got)
	}

	r := s.redis.Client(t)
	if left := redistest.Find(t, r, "It wakes up"); len(left) > 0 {
		t.Errorf("left in %q", left)
	}

	decided := map[string]bool{}
	day := r.LIndex(t.Context(), "{audit}:days", -1).Val()
	for _, line := range r.LRange(t.Context(), "{audit}:"+day, 0, -1).Val() {
		if strings.Contains(line, "sleep") || strings.Contains(line, "noon") ||
			strings.Contains(line, one) {
			t.Errorf("the audit has what was written: %s", line)
		}
		record, err := auditlog.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if record.Action == auditlog.Review && record.Outcome == auditlog.Done {
			decided[record.By+record.Detail["what"]] = record.By == "" && record.Actor != "" ||
				record.By == "carol" && record.Actor == ""
		}
	}
	if len(decided) != 2 || !decided["accepted"] || !decided["carolaccepted"] {
		t.Errorf("recorded is %v", decided)
	}
	if strings.Contains(s.log.String(), "noon") {
		t.Error("a log has what was written")
	}
}
