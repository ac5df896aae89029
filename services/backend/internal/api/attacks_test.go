package api_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/google/go-cmp/cmp"
)

var bob = header{wire.OwnerHeader: "bob"}

// attempt is a request for what is somebody else's. CONVERSATION and ANSWER stand for its ids.
type attempt struct {
	path, body string
	header     header
}

// attempts are those by every route: a route of the API that is not here fails the test.
var attempts = map[string][]attempt{
	"POST /api/chat": {
		{body: `{"conversation_id": "CONVERSATION", "message": "x"}`},
		{
			body:   `{"conversation_id": "CONVERSATION", "message": "x"}`,
			header: header{"Accept": sse.ContentType},
		},
		{body: `{"conversation_id": "CONVERSATION", "message": "",
			"replaces": {"from": "ANSWER", "to": "ANSWER"}}`},
		{
			body:   `{"conversation_id": "CONVERSATION", "message": "x"}`,
			header: header{wire.KeyHeader: "her-key"},
		},
		{body: `{"message": "x"}`, header: header{wire.KeyHeader: "her-key"}},
	},
	"POST /api/conversations": {
		{body: `{"title": "x"}`, header: header{wire.KeyHeader: "her-key"}},
	},
	"GET /api/conversations": {
		{path: "/api/conversations"},
		{path: "/api/conversations?q=private"},
		{path: "/api/conversations?q=CONVERSATION"},
	},
	"GET /api/conversations/{id}": {
		{path: "/api/conversations/CONVERSATION"},
		{path: "/api/conversations/CONVERSATION?limit=1&before=1"},
		{path: "/api/conversations/ANSWER"},
	},
	"PATCH /api/conversations/{id}": {
		{path: "/api/conversations/CONVERSATION", body: `{"title": "x"}`},
	},
	"DELETE /api/conversations/{id}": {
		{path: "/api/conversations/CONVERSATION"},
	},
	"GET /api/conversations/{id}/export": {
		{path: "/api/conversations/CONVERSATION/export"},
		{path: "/api/conversations/CONVERSATION/export?format=json"},
		{path: "/api/conversations/CONVERSATION/export?format=markdown"},
	},
	"GET /api/conversations/export": {
		{path: "/api/conversations/export?format=json"},
	},
	"DELETE /api/conversations": {
		// What somebody has erased bars them from storing more for a while.
		{path: "/api/conversations", header: header{wire.OwnerHeader: "eve"}},
	},
	"POST /api/conversations/take": {
		{path: "/api/conversations/take", body: `{"from": "CONVERSATION"}`},
	},
	"PUT /api/conversations/{id}/ratings/{answer}": {
		{path: "/api/conversations/CONVERSATION/ratings/ANSWER", body: `{"verdict": "up"}`},
	},
	"DELETE /api/conversations/{id}/ratings/{answer}": {
		{path: "/api/conversations/CONVERSATION/ratings/ANSWER"},
	},
	"POST /api/conversations/{id}/ratings/{answer}/submission": {
		{
			path: "/api/conversations/CONVERSATION/ratings/ANSWER/submission",
			body: `{"verdict": "up", "consent": true}`,
		},
	},
	"GET /api/submissions": {{path: "/api/submissions"}},
	"DELETE /api/submissions": { // as above
		{path: "/api/submissions", header: header{wire.OwnerHeader: "eve"}},
	},
	"DELETE /api/submissions/{answer}": {{path: "/api/submissions/ANSWER"}},
	"GET /api/reviews":                 {{path: "/api/reviews"}, {path: "/api/reviews?before=ANSWER"}},
	"GET /api/reviews/{answer}":        {{path: "/api/reviews/ANSWER"}},
	"PUT /api/reviews/{answer}":        {{path: "/api/reviews/ANSWER", body: `{"submitted_at": "2026-01-02T03:04:05Z", "accept": false}`}},
	"GET /api/generations/{id}/events": {
		{path: "/api/generations/ANSWER/events"},
		{path: "/api/generations/ANSWER/events", header: header{"Last-Event-ID": "1-1"}},
		{path: "/api/generations/CONVERSATION/events"},
	},
	"DELETE /api/generations/{id}": {
		{path: "/api/generations/ANSWER"},
	},
	"GET /api/passages/{id}": { // TestPassage has those that knowledge refuses
		{path: "/api/passages/CONVERSATION"},
		{path: "/api/passages/ANSWER"},
	},
	"GET /api/models": {{path: "/api/models"}},
	"GET /api/status": {{path: "/api/status"}},
}

// TestForeignIDs checks that what is somebody else's answers by no route otherwise than what does
// not exist.
func TestForeignIDs(t *testing.T) {
	i, ml, _ := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("a private answer"); s.Hold() })
	hers := i.sendKey("her-key", backendapi.ChatRequest{Message: "a private question"})
	before := i.detail(alice, hers.ConversationID)
	ml.Chat(func(s *mltest.Stream) { s.Done() })
	none := backendapi.Generation{
		ID: backwards(hers.ID), ConversationID: backwards(hers.ConversationID),
	}

	for _, route := range i.routes() {
		all, ok := attempts[route]
		if !ok {
			t.Errorf("%s is not among the attempts: add what somebody may try there", route)
		}

		method, path, _ := strings.Cut(route, " ")
		for _, a := range all {
			if a.path == "" {
				a.path = path
			}

			got, want := i.attempt(method, a, hers), i.attempt(method, a, none)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s %+v: hers differs from what does not exist:\n%s", route, a, d)
			}
			if strings.Contains(got, "private") {
				t.Errorf("%s %+v: %s", route, a, got)
			}
		}
	}

	if d := cmp.Diff(before, i.detail(alice, hers.ConversationID)); d != "" {
		t.Errorf("an attempt has changed something:\n%s", d)
	}
	if before.Messages[1].State != backendapi.MessageStreaming {
		t.Errorf("%+v", before)
	}
}

// routes returns the methods and paths of the API, as it describes itself.
func (i *instance) routes() (all []string) {
	i.t.Helper()
	var spec struct {
		Paths map[string]map[string]json.RawMessage
	}
	i.want(http.StatusOK, &spec, http.MethodGet, "/openapi.json", nil, nil)
	for path, methods := range spec.Paths {
		for method := range methods {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}

	slices.Sort(all)
	for route := range attempts {
		if !slices.Contains(all, route) {
			i.t.Errorf("there is no %s any more", route)
		}
	}

	return all
}

// attempt makes the attempt, as bob unless it says otherwise, and returns the answer without what differs each time.
func (i *instance) attempt(method string, a attempt, ids backendapi.Generation) string {
	i.t.Helper()
	put := strings.NewReplacer("CONVERSATION", ids.ConversationID, "ANSWER", ids.ID)
	h := header{wire.OwnerHeader: bob[wire.OwnerHeader]}
	maps.Copy(h, a.header)

	var body any
	if a.body != "" {
		body = put.Replace(a.body)
	}

	resp := i.do(method, put.Replace(a.path), body, h)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}

	return resp.Status + " " + differs.ReplaceAllString(string(b), "")
}

// differs matches ids, times and how long something took.
var differs = regexp.MustCompile(`[A-Z2-7]{26}|\d{4}-\d\d-\d\dT[\d:.]+Z|"latency_ms":[\d.]+`)

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// TestThousandReaders: somebody who opens a thousand streams and reads none leaves room for others.
func TestThousandReaders(t *testing.T) {
	i, ml, _ := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("one "); s.Hold() })
	g := i.send(alice, "", "Hi")
	status := map[int]int{}
	for range 1000 {
		resp := i.do(http.MethodGet, "/api/generations/"+g.ID+"/events", nil, alice)
		status[resp.StatusCode]++
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			if resp.Header.Get("Retry-After") == "" {
				t.Errorf("%v", resp.Header)
			}
		}
	}

	if status[http.StatusOK] != generation.MaxOwnReaders ||
		status[http.StatusTooManyRequests] != 1000-generation.MaxOwnReaders {
		t.Errorf("answers by status: %v", status)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("two"); s.Done() })
	if text, _, _ := i.follow(bob, i.send(bob, "", "Hi").ID, "").rest(); text != "two" {
		t.Errorf("somebody else gets %q", text)
	}
}

// TestOwnSearches: somebody who searches over and over leaves room for others.
func TestOwnSearches(t *testing.T) {
	i, _, redis := stack(t)
	search := func(h header) int {
		return i.do(http.MethodGet, "/api/conversations?q=x", nil, h).StatusCode
	}
	if got := search(alice); got != http.StatusOK { // Redis is connected now
		t.Fatal(got)
	}

	resume := redis.Pause(t)
	var searches sync.WaitGroup
	answers := make(chan int, 10)
	for range cap(answers) {
		searches.Go(func() { answers <- search(alice) })
	}

	// Two wait for Redis, and the others are refused without it.
	for range cap(answers) - 2 {
		if got := soon(t, "a refusal", answers); got != http.StatusTooManyRequests {
			t.Errorf("one more search of the same person: %d", got)
		}
	}

	other := make(chan int, 1)
	go func() { other <- search(bob) }()
	select {
	case got := <-other:
		t.Errorf("somebody else's search: %d without Redis", got)
	case <-time.After(200 * time.Millisecond):
	}

	resume()
	searches.Wait()
	for _, got := range []int{<-answers, <-answers, soon(t, "the other's search", other)} {
		if got != http.StatusOK {
			t.Errorf("a search that was let in: %d", got)
		}
	}
}
