package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// numbered answers with the number of answers so far.
func numbered() func(string, *fakebackend.Answer) {
	n := 0
	return func(_ string, a *fakebackend.Answer) {
		n++
		a.Text(fmt.Sprint("answer ", n))
		a.Done()
	}
}

// complete sends a message and waits for the end of its answer, the nth.
func (v *visitor) complete(conversation, message string, n int) {
	v.s.t.Helper()
	v.do("POST", "/chat",
		url.Values{"conversation_id": {conversation}, "message": {message}}.Encode())
	v.listen(fmt.Sprintf("/generations/g%d/events", n)).until("end")
}

// againForm returns the fields of the form that asks the last question of a page again.
func againForm(t *testing.T, page string) url.Values {
	t.Helper()
	const field = `<input type="hidden" name="(%s)" value="([^"]*)">\s*`
	form := `<form method="post" action="/c/c1/replace" class="again">\s*`
	for _, name := range []string{"key", "from", "to"} {
		form += fmt.Sprintf(field, name)
	}

	all := regexp.MustCompile(form).FindAllStringSubmatch(page, -1)
	if len(all) == 0 {
		t.Fatalf("no form asks again:\n%s", page)
	}

	m := all[len(all)-1]
	return url.Values{m[1]: {m[2]}, m[3]: {m[4]}, m[5]: {m[6]}}
}

// TestAskAgain asks the last question again, as a browser without scripts does. The form sent twice
// asks once.
func TestAskAgain(t *testing.T) {
	s := newSite(t, numbered())
	v := s.visitor()
	v.complete("", "first", 1)
	v.complete("c1", "second", 2)
	form := againForm(t, v.get("/c/c1").body)
	if form.Get("from") != "g2" || form.Get("to") != "g2" || form.Get("key") == "" {
		t.Errorf("%v", form)
	}

	for range 2 {
		r := v.do("POST", "/c/c1/replace", form.Encode())
		if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/c/c1#latest" {
			t.Fatalf("%s to %q", r.Status, r.Header.Get("Location"))
		}
		v.listen("/generations/g3/events").until("end")
	}

	page := v.get("/c/c1").body
	mustContain(t, page, "answer 1", "answer 3", `href="/c/c1/edit/g1"`, `href="/c/c1/edit/g3"`)
	if strings.Contains(page, "answer 2") || strings.Contains(page, "answer 4") {
		t.Errorf("it shows another answer:\n%s", page)
	}
	if got := s.backend.Questions(); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("%q", got)
	}
}

// TestAskAgainAtTheEnd: the end of a stream brings the form of its answer, unless it failed, which
// has one to try again.
func TestAskAgainAtTheEnd(t *testing.T) {
	s := newSite(t, func(message string, a *fakebackend.Answer) {
		if message == "fail" {
			a.Error(problem.New(502, "died"))
			return
		}
		a.Done()
	})

	v := s.visitor()
	v.do("POST", "/chat", "message=empty")
	l := v.listen("/generations/g1/events")
	l.until("end")
	if form := againForm(t, l.end.Footer); form.Get("from") != "g1" || form.Get("to") != "g1" {
		t.Errorf("%v", form)
	}

	v.do("POST", "/chat", "message=fail&conversation_id=c1")
	l = v.listen("/generations/g2/events")
	if l.until("end"); strings.Contains(l.end.Footer, "/replace") {
		t.Errorf("%s", l.end.Footer)
	}
}

// TestEditQuestion asks a question in other words, as a browser without scripts does. The page
// shows what goes, whatever page of the conversation the question is on.
func TestEditQuestion(t *testing.T) {
	s := newSite(t, numbered())
	v := s.visitor()
	v.complete("", "first", 1)
	for n, q := range []string{"second\nline", "<b>third</b>", strings.Repeat("long ", 30)} {
		v.complete("c1", q, n+2)
	}

	for _, size := range []int{0, 1, 3} {
		s.backend.PageSize(size)
		page := v.get("/c/c1/edit/g2").body
		mustContain(t, page, ">second\nline</textarea>", `name="from" value="g2"`,
			`name="to" value="g4"`, "5 messages in all", "<li>&lt;b&gt;third&lt;/b&gt;</li>",
			"<li>"+strings.Repeat("long ", 19)+"long…</li>")
		if strings.Contains(page, "<li>second") || strings.Contains(page, " more</li>") {
			t.Errorf("it names others:\n%s", page)
		}

		last := v.get("/c/c1/edit/g4").body
		mustContain(t, last, "Asking again removes the answer to this question.")
	}

	s.backend.PageSize(0)
	form := url.Values{"message": {"in other\r\nwords"}, "from": {"g2"}, "to": {"g4"},
		"key": {formKey(t, v.get("/c/c1/edit/g2").body)}}.Encode()
	for range 2 {
		if r := v.do("POST", "/c/c1/replace", form); r.StatusCode != http.StatusSeeOther {
			t.Fatalf("%s: %s", r.Status, r.body)
		}
		v.listen("/generations/g5/events").until("end")
	}

	got := s.backend.Questions()
	if want := []string{"first", "in other\nwords"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if r := v.get("/c/c1/edit/g2"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a question that is gone: %s", r.Status)
	}
}

// TestEditQuestionOfMany names some of the questions that go, and how many more there are.
func TestEditQuestionOfMany(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.get("/")
	d := longConversation()
	d.Messages = nil
	for n := range 25 {
		d.Messages = append(d.Messages,
			backendapi.Message{Role: "user", Content: fmt.Sprint("question ", n)},
			backendapi.Message{Role: "assistant", GenerationID: fmt.Sprint("g", n),
				State: backendapi.MessageComplete})
	}

	s.backend.Add(v.jar.m[ownerCookie].Value, d)
	page := v.get("/c/long/edit/g0").body
	mustContain(t, page, "49 messages in all", "<li>question 1</li>", "<li>question 20</li>",
		"<li>and 4 more</li>")
	if strings.Contains(page, "question 21") {
		t.Errorf("it names more:\n%s", page)
	}
}

// TestAskAgainRefused loses no text and says why, with and without scripts.
func TestAskAgainRefused(t *testing.T) {
	former := problem.New(http.StatusUnprocessableEntity, "validation failed")
	former.Errors = []problem.FieldError{{
		Location: "body.replaces",
		Message:  "unexpected property",
	}}

	changed := problem.Typed(backendapi.TypeChanged, 409, "changed")
	for name, tt := range map[string]struct {
		fail   *problem.Problem
		text   string
		status int
		says   string
		resend bool
	}{
		"busy":    {problem.New(409, "busy"), "mine", 409, "still being answered", false},
		"changed": {changed, "mine", 409, "has changed since you looked", false},
		"full":    {problem.New(413, "Too large."), "mine", 413, "Too large.", false},
		"a former backend": {
			former, "mine", 503, "is being updated, and cannot ask again yet", true,
		},
		"nothing":  {nil, " ", 422, "Write a message first.", false},
		"too long": {nil, strings.Repeat("x", backendapi.MaxMessage+1), 422, "too long", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, numbered())
			v := s.visitor()
			v.complete("", "first", 1)
			s.backend.Fail("POST /api/chat", tt.fail)
			form := url.Values{"message": {tt.text}, "from": {"g1"}, "to": {"g1"},
				"key": {"ABCDEFGHIJKLMNOPQRSTUVWXY2"}}
			r := v.do("POST", "/c/c1/replace", form.Encode())
			if r.StatusCode != tt.status {
				t.Errorf("%s", r.Status)
			}

			mustContain(t, r.body, tt.says, `role="alert"`, `name="from" value="g1"`,
				`value="ABCDEFGHIJKLMNOPQRSTUVWXY2"`)
			if text := strings.TrimSpace(tt.text); text != "" {
				mustContain(t, r.body, ">"+text+"</textarea>")
			}

			r = v.do("POST", "/c/c1/replace", form.Encode(), "Accept", "application/json")
			var e struct {
				Error  string
				Resend bool
			}

			if err := json.Unmarshal([]byte(r.body), &e); err != nil || r.StatusCode != tt.status ||
				!strings.Contains(e.Error, tt.says) || e.Resend != tt.resend {
				t.Errorf("script: %s %s %v", r.Status, r.body, err)
			}

			if tt.fail == nil {
				return
			}

			form.Del("message") // as it is: the conversation says so
			r = v.do("POST", "/c/c1/replace", form.Encode())
			if r.StatusCode != tt.status {
				t.Errorf("as it is: %s", r.Status)
			}

			mustContain(t, r.body, tt.says, "answer 1", `id="composer"`)
			if got := s.backend.Questions(); !slices.Equal(got, []string{"first"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestEditLosesNoText: the text stays when the backend is away, and when its question is gone.
func TestEditLosesNoText(t *testing.T) {
	s := newSite(t, numbered())
	v := s.visitor()
	v.complete("", "first", 1)
	form := url.Values{"message": {"my text"}, "from": {"g1"}, "to": {"g1"}}.Encode()
	away := problem.New(http.StatusServiceUnavailable, "away")
	s.backend.Fail("POST /api/chat", away)
	s.backend.Fail("GET /api/conversations/{id}", away)
	mustContain(t, v.do("POST", "/c/c1/replace", form).body, ">my text</textarea>", "away",
		`name="from" value="g1"`)
	s.backend.Fail("POST /api/chat", nil)
	s.backend.Fail("GET /api/conversations/{id}", nil)

	v.do("POST", "/c/c1/replace", form)
	v.listen("/generations/g2/events").until("end")
	r := v.do("POST", "/c/c1/replace", form+"+more")
	if r.StatusCode != http.StatusConflict {
		t.Errorf("%s", r.Status)
	}

	mustContain(t, r.body, ">my text</textarea>", "has changed since", "answer 2")

	v.do("POST", "/c/c1/delete", "x=1")
	r = v.do("POST", "/c/c1/replace", form)
	if r.StatusCode != http.StatusNotFound {
		t.Errorf("%s", r.Status)
	}

	mustContain(t, r.body, ">my text</textarea>", "no longer exists")
}

// TestAskAgainLostReply: the reply is lost, and the question is asked once.
func TestAskAgainLostReply(t *testing.T) {
	s := newSite(t, numbered())
	v := s.visitor()
	v.complete("", "first", 1)
	s.backend.LoseReplies(2)
	r := v.do("POST", "/c/c1/replace", againForm(t, v.get("/c/c1").body).Encode())
	if r.StatusCode != http.StatusSeeOther {
		t.Errorf("%s", r.Status)
	}

	v.listen("/generations/g2/events").until("end")
	mustContain(t, v.get("/c/c1").body, "answer 2")
	if got := s.backend.Questions(); !slices.Equal(got, []string{"first"}) {
		t.Errorf("%q", got)
	}
}

// TestSearch shows what was found, with the words marked, and where it goes on.
func TestSearch(t *testing.T) {
	s := newSite(t, func(_ string, a *fakebackend.Answer) {
		a.Text("a <i>needle</i> & hay")
		a.Done()
	})

	v := s.visitor()
	v.complete("", "<u>Which</u> one?", 1)
	page := v.get("/search?q=+needle+").body
	mustContain(t, page, `<h1>Search</h1>`, `value="needle"`, "Conversations with “needle”",
		`<a href="/c/c1">&lt;u&gt;Which&lt;/u&gt; one?</a>`,
		`<p>a &lt;i&gt;<mark>needle</mark>&lt;/i&gt; &amp; hay</p>`,
		"<title>needle · Search · CodexContinue</title>", "Today")

	mustContain(t, v.get("/search?q=Which").body,
		`<a href="/c/c1">&lt;u&gt;<mark>Which</mark>&lt;/u&gt; one?</a>`)
	mustContain(t, v.get("/search?q=nowhere").body, "Nothing with “nowhere” was found.")
	mustContain(t, v.get("/search?q=%22%3E%3Cscript%3E").body,
		"Nothing with “&#34;&gt;&lt;script&gt;”")
	mustContain(t, v.get("/search").body, "Write the words")
	mustContain(t, v.get("/").body,
		`<form class="search" role="search" method="get" action="/search">`)
	r := v.get("/search?q=" + strings.Repeat("x", backendapi.MaxQuery+1))
	if r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%s", r.Status)
	}

	mustContain(t, r.body, "at most 200 characters")

	me := v.jar.m[ownerCookie].Value
	for n := range 30 {
		s.backend.Add(me, backendapi.ConversationDetail{Conversation: backendapi.Conversation{
			ID:        fmt.Sprint("old", n),
			Title:     "old needle",
			UpdatedAt: time.Now().AddDate(0, 0, -n-1),
		}})
	}

	first := v.get("/search?q=needle").body
	mustContain(t, first, `<a href="/search?cursor=20&amp;q=needle">More results</a>`, "Yesterday")
	if n := strings.Count(first, `<a href="/c/`); n != 20 {
		t.Errorf("%d results", n)
	}

	mustContain(t, v.get("/search?cursor=20&q=needle").body, ", continued", `href="/c/old29"`)
	s.backend.Partial()
	mustContain(t, v.get("/search?q=needle").body, "Not everything was searched",
		`<a href="/search?cursor=20&amp;q=needle">Search on</a>`)
}

// TestSearchFails says why.
func TestSearchFails(t *testing.T) {
	s := newSite(t, echo)
	former := problem.New(http.StatusUnprocessableEntity, "validation failed")
	former.Errors = []problem.FieldError{{Location: "query.q", Message: "unexpected"}}
	for _, tt := range []struct {
		fail   *problem.Problem
		status int
		says   string
	}{
		{problem.New(503, "Redis is away."), 503, "Redis is away."},
		{former, 503, "is being updated, and cannot search yet"},
	} {
		s.backend.Fail("GET /api/conversations", tt.fail)
		r := s.visitor().get("/search?q=x")
		if r.StatusCode != tt.status {
			t.Errorf("%s", r.Status)
		}
		mustContain(t, r.body, tt.says, `role="alert"`)
	}
}

// TestExportLinks: a conversation can be saved from its page of forms.
func TestExportLinks(t *testing.T) {
	s := newSite(t, numbered())
	v := s.visitor()
	v.complete("", "mine", 1)
	mustContain(t, v.get("/c/c1/edit").body,
		`<a href="/api/conversations/c1/export?format=markdown" download>Markdown</a>`,
		`<a href="/api/conversations/c1/export?format=json" download>JSON</a>`)
}
