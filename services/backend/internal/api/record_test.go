package api_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// audited returns a recorder with a Redis of its own, and the function that ends it and
// returns what was recorded.
func audited(
	t *testing.T,
) (*audit.Recorder, *redistest.Server, func() (text string, acts []string)) {
	t.Helper()
	redis := redistest.StartAs(t, stacks.Backend)
	var lines bytes.Buffer
	r, err := audit.New(audit.Options{
		Address: redisclient.Address{URL: redis.URL}, Service: stacks.Backend,
		Key: auditlog.NewKey("secret"), Lines: &lines, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(r.Close)
	return r, redis, func() (string, []string) {
		r.Close()
		var acts []string
		for line := range strings.Lines(lines.String()) {
			record, err := auditlog.Parse(line)
			if err != nil || record.Actor != "alice" {
				t.Errorf("%s: %v", line, err)
			}
			acts = append(acts, fmt.Sprint(record.Action, " ", record.Outcome))
		}

		return lines.String(), acts
	}
}

// TestAudit holds that what people do is recorded, and nothing of what they write.
func TestAudit(t *testing.T) {
	const phrase = "xyzzy-plugh"
	recorder, _, recorded := audited(t)
	ml := mltest.Start(t)
	i := newInstance(t, redistest.StartAs(t, stacks.Backend).URL, ml.URL, options{audit: recorder})
	ml.Chat(func(s *mltest.Stream) {
		s.Text(phrase + " is the answer")
		s.Send(mlapi.Chunk{Done: &mlapi.Done{
			Model: "codexcontinue", Digest: "sha256:tiny", Reason: "stop", Tokens: 5,
		}})
	})
	g := i.send(alice, "", "What is "+phrase+"?")
	i.follow(alice, g.ID, "").rest()
	i.want(http.StatusOK, nil, http.MethodGet, "/api/conversations/"+g.ConversationID+
		"/export?format=json", nil, alice)

	ml.Chat(func(s *mltest.Stream) { s.Text("half"); s.Hold() })
	h := i.send(alice, g.ConversationID, "Once more "+phrase)
	some(t, i.follow(alice, h.ID, ""), 4)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+h.ID, nil, alice)
	i.follow(alice, h.ID, "").rest()
	i.refused(http.StatusNotFound, http.MethodPost, "/api/chat", backendapi.ChatRequest{
		ConversationID: "0192f0c1-2345-7abc-8def-0123456789ab", Message: phrase}, alice)
	i.want(http.StatusNoContent, nil, http.MethodDelete,
		"/api/conversations/"+g.ConversationID, nil, alice)

	// What is not there, or has ended, is no act.
	for _, path := range []string{"/api/conversations/", "/api/generations/"} {
		i.refused(http.StatusNotFound, http.MethodDelete,
			path+"0192f0c1-2345-7abc-8def-0123456789ab", nil, alice)
	}
	ml.Chat(func(s *mltest.Stream) { s.Text("done"); s.Done() })
	ended := i.complete("", "Hi")
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+ended.ID, nil, alice)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations", nil, alice)
	i.refused(http.StatusConflict, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: phrase}, alice)
	i.stop()
	i.stopped <- soon(t, "the end of the drain", i.stopped)

	text, acts := recorded()
	for _, secret := range []string{phrase, g.ID, g.ConversationID} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the records:\n%s", secret, text)
		}
	}

	for _, want := range [][]string{
		{"question intent", "question done", "answer done"},
		{"export intent", "export done"},
		{"question intent", "question done", "stop intent", "stop done"},
		{"question intent", "question refused", "question intent", "question refused"},
		{"answer stopped"},
		{"delete intent", "delete done", "delete intent", "delete done"},
	} {
		rest := acts
		for _, act := range want {
			at := slices.Index(rest, act)
			if at < 0 {
				t.Errorf("%q is not recorded in this order: %q", want, acts)
				break
			}
			rest = rest[at+1:]
		}
	}

	for act, want := range map[string]int{
		"stop intent": 1, "stop refused": 0, "delete intent": 2, "delete refused": 0,
	} {
		n := 0
		for _, got := range acts {
			if got == act {
				n++
			}
		}
		if n != want {
			t.Errorf("%q is recorded %d times, want %d: %q", act, n, want, acts)
		}
	}

	for _, want := range []string{
		`"tokens":5`, `"model":"codexcontinue"`, `"digest":"sha256:tiny"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not recorded of the answer:\n%s", want, text)
		}
	}
}

// TestAuditAway holds that nobody asks what cannot be recorded, and that stop and delete go on.
func TestAuditAway(t *testing.T) {
	recorder, redis, _ := audited(t)
	ml := mltest.Start(t)
	i := newInstance(t, redistest.StartAs(t, stacks.Backend).URL, ml.URL, options{audit: recorder})
	ml.Chat(func(s *mltest.Stream) { s.Text("half"); s.Hold() })
	g := i.send(alice, "", "Hi")
	redis.Kill(t)

	p := i.refused(http.StatusServiceUnavailable, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi again"}, alice)
	if !strings.Contains(p.Detail, "recorded") || p.RetryAfter == 0 {
		t.Errorf("the refusal is %+v", p)
	}

	i.refused(http.StatusServiceUnavailable, http.MethodGet,
		"/api/conversations/"+g.ConversationID+"/export", nil, alice)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+g.ID, nil, alice)
	i.want(http.StatusNoContent, nil, http.MethodDelete,
		"/api/conversations/"+g.ConversationID, nil, alice)
}
