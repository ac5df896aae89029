package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/google/go-cmp/cmp"
)

// herKey is the idempotency key of a message of the person whom the attempts are on.
const herKey = "ABCDEFGHIJKLMNOPQRSTUVWXY2"

// attempts are requests for what is somebody else's, by every route: a route that is not here fails
// the test. Each is a path and the form or text to send. CONVERSATION and ANSWER stand for its ids.
var attempts = map[string][]string{
	"/": {"/CONVERSATION", "/c/CONVERSATION/events", "/generations/ANSWER"},

	"GET /{$}":                  {"/", "/?cursor=CONVERSATION"},
	"GET /c/{id}":               {"/c/CONVERSATION", "/c/CONVERSATION?before=1", "/c/ANSWER"},
	"GET /c/{id}/edit":          {"/c/CONVERSATION/edit"},
	"GET /c/{id}/edit/{answer}": {"/c/CONVERSATION/edit/ANSWER"},
	"POST /c/{id}/rename":       {"/c/CONVERSATION/rename title=x"},
	"POST /c/{id}/delete":       {"/c/CONVERSATION/delete x=1"},
	"POST /c/{id}/rate/{answer}": {
		"/c/CONVERSATION/rate/ANSWER verdict=up", "/c/CONVERSATION/rate/ANSWER verdict=none",
	},
	"GET /c/{id}/rate/{answer}": {"/c/CONVERSATION/rate/ANSWER"},
	"POST /c/{id}/rate/{answer}/submit": {
		"/c/CONVERSATION/rate/ANSWER/submit verdict=up&consent=yes",
	},
	"POST /c/{id}/replace": {
		"/c/CONVERSATION/replace from=ANSWER&to=ANSWER",
		"/c/CONVERSATION/replace from=ANSWER&to=ANSWER&message=x",
		"/c/CONVERSATION/replace from=ANSWER&to=ANSWER&key=" + herKey,
	},
	"POST /chat": {
		"/chat conversation_id=CONVERSATION&message=x",
		"/chat conversation_id=CONVERSATION&message=x&key=" + herKey,
		"/chat message=x&key=" + herKey,
	},

	"GET /submissions":                    {"/submissions"},
	"POST /submissions/{answer}/withdraw": {"/submissions/ANSWER/withdraw x=1"},
	"GET /review":                         {"/review", "/review?state=accepted&before=ANSWER"},
	"POST /review/{answer}": {
		"/review/ANSWER act=reject&submitted_at=" + url.QueryEscape(handedAt.Format(time.RFC3339Nano)),
	},

	"GET /generations/{id}/events": {
		"/generations/ANSWER/events", "/generations/CONVERSATION/events",
	},
	"POST /generations/{id}/stop":  {"/generations/ANSWER/stop back=/c/CONVERSATION"},
	"POST /theme":                  {"/theme back=/c/CONVERSATION"},
	"GET /search":                  {"/search?q=private", "/search?q=CONVERSATION"},
	"GET /passages/{id}":           {"/passages/ANSWER?in=CONVERSATION"},
	"GET /fragments/passages/{id}": {"/fragments/passages/ANSWER?in=CONVERSATION"},
	"GET /status":                  {"/status"},
	"GET /fragments/sidebar":       {"/fragments/sidebar?current=CONVERSATION"},
	"GET /fragments/model":         {"/fragments/model?selected=CONVERSATION"},
	"GET /fragments/status":        {"/fragments/status"},
	"GET /static/{hash}/{name}":    {"/static/CONVERSATION/ANSWER"},

	// The backend's own tests have what else may be sent to its API.
	"/api/": {
		`/api/chat {"conversation_id":"CONVERSATION","message":"x"}`,
		"/api/conversations",
		"/api/conversations?q=private",
		"/api/conversations/export",
		`/api/conversations/CONVERSATION {"title":"x"}`,
		"/api/conversations/CONVERSATION/export?format=markdown",
		`/api/conversations/CONVERSATION/ratings/ANSWER {"verdict":"up"}`,
		`/api/conversations/CONVERSATION/ratings/ANSWER/submission {"verdict":"up","consent":true}`,
		"/api/generations/ANSWER",
		"/api/generations/ANSWER/events",
		"/api/passages/ANSWER",
		"/api/submissions",
		"/api/submissions/ANSWER",
		"/api/reviews",
		`/api/reviews/ANSWER {"accept":false}`,
	},
}

// handedAt is when she handed her answer over.
var handedAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestForeign: what is another's answers by no route and no method otherwise than what does not
// exist.
func TestForeign(t *testing.T) {
	s := newSiteFrom(t, handedAt, func(message string, a *fakebackend.Answer) {
		a.Text("a private answer")
		if message == "a private wait" {
			<-a.Stopped()
		}
		a.Done()
	})

	hers, other := s.visitor(), s.visitor()
	hers.complete("", "a private question", 1)
	hers.do("POST", "/c/c1/rate/g1", "verdict=down")
	s.backend.Hand(hers.jar.m[ownerCookie].Value, backendapi.Submission{ID: "g1",
		Verdict: "down", Question: "a private question", Answer: "a private answer"}, 0)
	hers.do("POST", "/chat", form("message", "a private wait", "key", herKey))
	defer hers.do("POST", "/generations/g2/stop", "x=1")
	for begin := time.Now(); !strings.Contains(hers.get("/c/c2").body, "a private answer"); {
		if time.Since(begin) > patience {
			t.Fatal("the second answer does not begin")
		}
	}
	before := hers.all()

	other.get("/")
	other.c.Timeout = patience // of a stream that it gets
	for _, pattern := range s.app.Patterns() {
		all, ok := attempts[pattern]
		if !ok {
			t.Errorf("%s is not among the attempts: add what somebody may try there", pattern)
		}

		for _, a := range all {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "POST for scripts"} {
				want := other.attempt(method, a, "999")
				for _, id := range []string{"1", "2"} { // complete, and being written
					if d := cmp.Diff(want, other.attempt(method, a, id)); d != "" {
						t.Errorf("%s %s: her c%s differs from what does not exist:\n%s", method, a, id, d)
					}
				}
			}
		}
	}

	for pattern := range attempts {
		if !slices.Contains(s.app.Patterns(), pattern) {
			t.Errorf("there is no %s any more", pattern)
		}
	}
	if d := cmp.Diff(before, hers.all()); d != "" {
		t.Errorf("an attempt has changed something:\n%s", d)
	}
	if !strings.Contains(before, `data-state="streaming"`) {
		t.Errorf("none of hers is being written:\n%s", before)
	}
}

// attempt makes an attempt and returns what it was answered, without the ids that it named itself
// and those that are new each time.
func (v *visitor) attempt(method, a, id string) string {
	v.s.t.Helper()
	ids := strings.NewReplacer("CONVERSATION", "c"+id, "ANSWER", "g"+id)
	path, body, _ := strings.Cut(ids.Replace(a), " ")
	header := []string{"X-Request-Id", "attempt"}
	method, _, scripts := strings.Cut(method, " for ")
	if scripts {
		header = append(header, "Accept", "application/json")
	}

	r := v.do(method, path, body, header...)
	got := r.Status + " " + r.Header.Get("Location") + "\n" + r.body
	if strings.Contains(got, "a private") {
		v.s.t.Errorf("%s %s shows what is private:\n%s", method, a, got)
	}

	if strings.Contains(a, "CONVERSATION") || strings.Contains(a, "ANSWER") {
		got = regexp.MustCompile(`\b[cg]`+id+`\b`).ReplaceAllString(got, "")
	}
	return fresh.ReplaceAllString(got, "")
}

// fresh matches the keys of messages, the ids of what was made after hers, and times.
var fresh = regexp.MustCompile(
	`\b[A-Z2-7]{26}\b|\b[cg]([3-9]|\d{2,})\b|\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)`)

// all returns what the visitor's pages show.
func (v *visitor) all() string {
	v.s.t.Helper()
	all := ""
	for _, path := range []string{"/c/c1", "/c/c2", "/c/c1/rate/g1", "/submissions"} {
		r := v.get(path)
		if r.StatusCode != http.StatusOK {
			v.s.t.Errorf("%s: %s", path, r.Status)
		}
		all += r.body
	}
	return fresh.ReplaceAllString(all, "")
}
