package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

var keyField = regexp.MustCompile(`name="key" value="([^"]*)"`)

func formKey(t *testing.T, page string) string {
	t.Helper()
	m := keyField.FindStringSubmatch(page)
	if m == nil || m[1] == "" {
		t.Fatalf("the form has no key:\n%s", page)
	}
	return m[1]
}

// TestFormSentTwice checks that the same form, sent again with or without scripts, is one message,
// and that the reply is that of the first time.
func TestFormSentTwice(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	key := formKey(t, v.get("/").body)
	if other := formKey(t, v.get("/").body); other == key {
		t.Error("two pages have the same key")
	}

	form := url.Values{"message": {"once"}, "key": {key}}.Encode()
	for range 2 {
		if r := v.do("POST", "/chat", form); r.StatusCode != http.StatusSeeOther ||
			r.Header.Get("Location") != "/c/c1#latest" {
			t.Errorf("%s to %q", r.Status, r.Header.Get("Location"))
		}
	}

	r := v.do("POST", "/chat", form, "Accept", "application/json")
	var reply struct {
		GenerationID string `json:"generation_id"`
	}
	if err := json.Unmarshal([]byte(r.body), &reply); err != nil || reply.GenerationID != "g1" {
		t.Errorf("%s %s", r.Status, r.body)
	}

	// Someone who goes back to the old page and writes something else has written another message.
	v.do("POST", "/chat", url.Values{"message": {"other"}, "key": {key}}.Encode())
	// A form without a key is a new message each time, unless the edge has given the request one.
	for range 2 {
		v.do("POST", "/chat", "message=plain")
		v.do("POST", "/chat", "message=edge", wire.KeyHeader, "of-the-edge")
	}

	got := s.backend.Questions()
	slices.Sort(got)
	if want := []string{"edge", "once", "other", "plain", "plain"}; !slices.Equal(got, want) {
		t.Errorf("the messages are %q, want %q", got, want)
	}

	valid := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	for _, h := range s.backend.Headers() {
		if k := h.Get(wire.KeyHeader); k != "" && !valid.MatchString(k) {
			t.Errorf("the backend got the key %q", k)
		}
	}
}

// TestLostReply checks that a message is sent again, and is one message, if the connection breaks
// after the backend has stored it.
func TestLostReply(t *testing.T) {
	for name, send := range map[string]func(v *visitor) int{
		"form": func(v *visitor) int { return v.do("POST", "/chat", "message=hi").StatusCode },
		"proxy": func(v *visitor) int {
			return v.do("POST", "/api/chat", `{"message":"hi"}`, wire.KeyHeader, "k").StatusCode
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, echo)
			v := s.visitor()
			v.get("/")
			s.backend.LoseReplies(2)
			if status := send(v); status != http.StatusSeeOther && status != http.StatusAccepted {
				t.Errorf("status %d", status)
			}
			if got := s.backend.Questions(); !slices.Equal(got, []string{"hi"}) {
				t.Errorf("the messages are %q", got)
			}
		})
	}
}

// TestProxyWithoutKey checks that a request without a key, which may have been
// done, is not sent again.
func TestProxyWithoutKey(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	s.backend.LoseReplies(1)
	if r := v.do("POST", "/api/chat", `{"message":"hi"}`); r.StatusCode != http.StatusBadGateway {
		t.Errorf("%s", r.Status)
	}
	if got := s.backend.Questions(); !slices.Equal(got, []string{"hi"}) {
		t.Errorf("the messages are %q", got)
	}
}

// TestRetryHasItsOwnKey checks that asking again is another message.
func TestRetryHasItsOwnKey(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) { a.Error(problem.New(502, "died")) })
	v := s.visitor()
	key := formKey(t, v.get("/").body)
	v.do("POST", "/chat", url.Values{"message": {"hi"}, "key": {key}}.Encode())
	v.listen("/generations/g1/events").until("end")
	all := keyField.FindAllStringSubmatch(v.get("/c/c1").body, -1)
	if len(all) != 2 || all[0][1] == all[1][1] || all[0][1] == key || all[0][1] == "" {
		t.Errorf("the keys of the retry form and the composer are %q", all)
	}
}

// TestRefusedKeepsItsKey checks that a refused message keeps its key, as it may have
// been stored nevertheless.
func TestRefusedKeepsItsKey(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	key := formKey(t, v.get("/").body)
	for _, p := range []*problem.Problem{
		{
			Type:   problem.TypeTooLong,
			Title:  "Too long",
			Status: 413,
			Detail: "The message has 9000 tokens, the model takes 8192.",
		},
		{
			Type:   "/problems/storage-full",
			Title:  "Full",
			Status: 507,
			Detail: "The storage is full. Delete old conversations.",
		},
		{
			Type:   "/problems/storage-full",
			Title:  "Full",
			Status: 503,
			Detail: "The storage is full. Delete old conversations.",
		},
	} {
		s.backend.Fail("POST /api/chat", p)
		form := url.Values{"message": {"my text"}, "key": {key}}.Encode()
		r := v.do("POST", "/chat", form)
		if r.StatusCode != p.Status || formKey(t, r.body) != key {
			t.Errorf("%s", r.Status)
		}

		mustContain(t, r.body, p.Detail, ">my text</textarea>")
		r = v.do("POST", "/chat", form, "Accept", "application/json")
		var e struct {
			Error  string
			Resend bool
		}

		if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.StatusCode != p.Status ||
			e.Error != p.Detail || e.Resend {
			t.Errorf("script: %s %s %v", r.Status, r.body, err)
		}
	}
}
