package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// TestHalfAPage shows what the backend has, says what it lacks, and asks to be loaded again.
func TestHalfAPage(t *testing.T) {
	const (
		list, models = "GET /api/conversations", "GET /api/models"
		one          = "GET /api/conversations/{id}"
	)
	const noList = "The conversations cannot be loaded right now."
	for name, tc := range map[string]struct {
		lacks  string
		path   string
		status int
		again  bool
		noList bool
	}{
		"all":              {"", "/c/c1", http.StatusOK, false, false},
		"no list":          {list, "/c/c1", http.StatusOK, true, true},
		"no models":        {models, "/c/c1", http.StatusOK, true, false},
		"no conversation":  {one, "/c/c1", http.StatusBadGateway, false, false},
		"none of it asked": {one, "/", http.StatusOK, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, echo)
			v := s.visitor()
			v.do("POST", "/chat", "message=mine")
			if tc.lacks != "" {
				s.backend.Fail(tc.lacks, problem.New(http.StatusServiceUnavailable, "not now"))
			}
			r := v.get(tc.path)
			if r.StatusCode != tc.status || (r.Header.Get("Retry-After") == "3") != tc.again {
				t.Errorf("%s, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
			}
			if strings.Contains(r.body, noList) != tc.noList {
				t.Errorf("it says that there is no list: %v", !tc.noList)
			}
		})
	}
}

// TestListAlone is the part of the page that its script loads again.
func TestListAlone(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.do("POST", "/chat", "message=mine")
	me := v.jar.m[ownerCookie].Value
	for i := range 60 {
		id := "x" + strings.Repeat("x", i)
		s.backend.Add(me, backendapi.ConversationDetail{Conversation: backendapi.Conversation{
			ID: id, Title: id, UpdatedAt: time.Now().Add(-time.Hour),
		}})
	}
	const lacks = "The conversations cannot be loaded right now."
	for path, more := range map[string]string{
		"/fragments/sidebar":            `href="/?cursor=50"`,
		"/fragments/sidebar?current=c1": `href="/c/c1?cursor=50"`,
	} {
		body := v.get(path).body
		mustContain(t, body, `href="/c/c1"`, more)
		if strings.Contains(body, lacks) {
			t.Errorf("%s lacks the list that is there", path)
		}
	}
	s.backend.Fail("GET /api/conversations", problem.New(http.StatusServiceUnavailable, "not now"))
	mustContain(t, v.get("/fragments/sidebar").body, lacks)
}

// TestRefusedIn holds where a message that is refused can be sent again: in its conversation,
// unless that is gone.
func TestRefusedIn(t *testing.T) {
	const field = `name="conversation_id" value="c1"`
	for name, tc := range map[string]struct {
		why    problem.Problem
		status int
		there  bool
		says   string
	}{
		"busy":        {problem.Problem{Status: 409}, 409, true, "still being answered"},
		"gone":        {problem.Problem{Status: 404}, 404, false, "no longer exists"},
		"first error": {problem.Problem{Status: 400, Detail: "why"}, 400, true, "why"},
		"last error":  {problem.Problem{Status: 599, Detail: "why"}, 599, true, "why"},
		"next":        {problem.Problem{Status: 429, QueuePosition: 1}, 429, true, "now. Try again"},
		"second":      {problem.Problem{Status: 429, QueuePosition: 2}, 429, true, "(1 before you)"},
		"used up": {problem.Problem{Status: 429, Type: mlapi.TypeDayLimit, Detail: "why"}, 429,
			true, ">why</p>"},
		"full queue": {problem.Problem{Status: 429, Type: mlapi.TypeQueueFull, QueuePosition: 3}, 429,
			true, "(2 before you)"},
		"conversations": {problem.Problem{Status: 429, Type: "/problems/too-many-conversations",
			Detail: "why"}, 429, true, ">why</p>"},
		"not for this person": {problem.Problem{Status: 403, Type: mlapi.TypeModelRefused,
			Detail: "why"}, 403, true, ">why</p>"},
		"at once": {problem.Problem{Status: 429, Type: mlapi.TypeAtOnce, Detail: "why"}, 429,
			true, ">why</p>"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, echo)
			v := s.visitor()
			v.do("POST", "/chat", "message=mine")
			tc.why.Title = "Refused"
			s.backend.Fail("POST /api/chat", &tc.why)
			form := url.Values{"message": {"hi there"}, "conversation_id": {"c1"}}.Encode()
			r := v.do("POST", "/chat", form)
			if r.StatusCode != tc.status {
				t.Errorf("%s, want %d", r.Status, tc.status)
			}
			mustContain(t, r.body, tc.says, ">hi there</textarea>")
			if strings.Contains(r.body, field) != tc.there {
				t.Errorf("the form is of the conversation: %v", !tc.there)
			}
		})
	}
}

// TestLongest takes a message and a title that are as long as they may be.
func TestLongest(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	post := func(path, field, text string) int {
		return v.do("POST", path, url.Values{field: {text}}.Encode()).StatusCode
	}
	for path, tc := range map[string]struct {
		field string
		most  int
	}{
		"/chat":        {"message", backendapi.MaxMessage},
		"/c/c1/rename": {"title", backendapi.MaxTitle},
	} {
		if path != "/chat" {
			post("/chat", "message", "mine")
		}
		if got := post(path, tc.field, strings.Repeat("x", tc.most)); got != http.StatusSeeOther {
			t.Errorf("POST %s with %d bytes: %d", path, tc.most, got)
		}
		got := post(path, tc.field, strings.Repeat("x", tc.most+1))
		if got != http.StatusUnprocessableEntity {
			t.Errorf("POST %s with one more: %d", path, got)
		}
	}
}
