package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// admin returns a visitor who is an administrator.
func (s *site) admin() *visitor {
	v := s.visitor()
	token := identity.NewSigner(identity.Gate).Sign(identity.Person{ID: "root", Admin: true},
		identity.Backend)
	v.jar.m[ownerCookie] = &http.Cookie{Name: ownerCookie, Value: token}
	return v
}

func form(fields ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		q.Add(fields[i], fields[i+1])
	}
	return q.Encode()
}

// TestRateWithoutScripts rates an answer by forms, hands it over, and takes both back.
func TestRateWithoutScripts(t *testing.T) {
	s := newSite(t, echo)
	v := s.visitor()
	v.do("POST", "/chat", "message=two and two is <5>")
	page := v.get("/c/c1")
	if n := strings.Count(page.body, `action="/c/c1/rate/g1"`); n != 1 {
		t.Fatalf("%d forms to rate: %s", n, page.body)
	}
	if strings.Count(page.body, `aria-pressed="true"`) != 1 { // that of the colours
		t.Error("an answer that nobody rated is rated")
	}

	const path = "/c/c1/rate/g1"
	if r := v.do("POST", path, "verdict=down"); r.StatusCode != http.StatusSeeOther ||
		r.Header.Get("Location") != path {
		t.Errorf("%s to %s", r.Status, r.Header.Get("Location"))
	}
	page = v.get("/c/c1")
	if !strings.Contains(page.body, `value="none" data-verdict="down" aria-pressed="true"`) {
		t.Errorf("the verdict is not shown: %s", page.body)
	}

	page = v.get(path)
	for _, want := range []string{"two and two is &lt;5&gt;", `value="down" checked`, "Who reads it:",
		"180 days", `name="consent" value="yes" required>`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the form lacks %s: %s", want, page.body)
		}
	}

	// Without consent nothing is handed over, and what was typed stays.
	for what, fields := range map[string][]string{
		"no consent": {"verdict", "down", "note", "my note"},
		"no verdict": {"note", "my note", "consent", "yes"},
		"a long one": {"verdict", "up", "consent", "yes", "note", "my note",
			"correction", strings.Repeat("x", backendapi.MaxCorrection+1)},
	} {
		r := v.do("POST", path+"/submit", form(fields...))
		if r.StatusCode != http.StatusUnprocessableEntity ||
			!strings.Contains(r.body, `role="alert"`) || !strings.Contains(r.body, "my note") ||
			strings.Contains(r.body, `name="consent" value="yes" required checked`) {
			t.Errorf("%s: %s: %s", what, r.Status, r.body)
		}
	}
	if got := s.backend.Submitted(); len(got) > 0 {
		t.Errorf("handed over: %+v", got)
	}

	r := v.do("POST", path+"/submit", form("verdict", "down", "reason", "wrong", "note",
		" a  line ", "correction", "It is\r\n4", "consent", "yes"))
	want := []backendapi.Submission{{
		ID: "g1", Verdict: "down", Reason: "wrong", Note: "a line", Correction: "It is\n4",
		Question: "two and two is <5>", Answer: "You said: two and two is <5>", State: "waiting",
	}}
	ignored := cmpopts.IgnoreFields(backendapi.Submission{}, "SubmittedAt", "ExpiresAt", "Model",
		"Digest")
	if d := cmp.Diff(want, s.backend.Submitted(), ignored); d != "" ||
		r.Header.Get("Location") != path {
		t.Errorf("%s (-want +got):\n%s", r.Status, d)
	}

	for _, p := range []string{path, "/submissions"} {
		if r := v.get(p); !strings.Contains(r.body, `action="/submissions/g1/withdraw"`) {
			t.Errorf("%s does not let me take it back: %s", p, r.body)
		}
	}
	v.do("POST", "/submissions/g1/withdraw", "x=")
	if got := s.backend.Submitted(); len(got) > 0 {
		t.Errorf("left: %+v", got)
	}

	if r := v.do("POST", path, "verdict=none"); r.Header.Get("Location") != "/c/c1" {
		t.Errorf("%s to %s", r.Status, r.Header.Get("Location"))
	}
	if strings.Contains(v.get("/c/c1").body, `data-verdict="down" aria-pressed="true"`) {
		t.Error("the verdict is still there")
	}

	if r := v.do("POST", path, "verdict=great"); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("another verdict: %s", r.Status)
	}
	other := s.visitor()
	for _, p := range []string{path, "/c/c1/rate/nothing"} {
		if r := other.get(p); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s for somebody else: %s", p, r.Status)
		}
	}
}

// TestReviewPage lets an administrator, and nobody else, accept and reject.
func TestReviewPage(t *testing.T) {
	s := newSite(t, echo)
	for _, id := range []string{"g1", "g2"} {
		s.backend.Hand("ada", backendapi.Submission{
			ID: id, Verdict: "down", Reason: "wrong", Question: "Who is Mrs <Smith>?",
			Answer: "A patient", Correction: "Ask her",
		}, time.Hour)
	}

	v := s.visitor()
	if r := v.get("/review"); r.StatusCode != http.StatusForbidden || strings.Contains(r.body, "Smith") {
		t.Errorf("not an administrator: %s", r.Status)
	}
	if strings.Contains(v.get("/").body, `href="/review"`) {
		t.Error("somebody else is led to the review")
	}

	boss := s.admin()
	page := boss.get("/review")
	for _, want := range []string{"Who is Mrs &lt;Smith&gt;?", "Ask her</textarea>", "It is wrong",
		`action="/review/g1"`, `action="/review/g2"`, `href="/review" class="foot-link review-link"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s: %s", want, page.body)
		}
	}

	// A decision is about what the page showed.
	at := regexp.MustCompile(`name="submitted_at" value="([^"]+)"`).FindStringSubmatch(page.body)
	if at == nil {
		t.Fatalf("the page does not say when it was handed over: %s", page.body)
	}
	if r := boss.do("POST", "/review/g2", form("act", "reject", "submitted_at",
		"2020-01-02T03:04:05Z")); r.StatusCode != http.StatusConflict ||
		!strings.Contains(r.body, "changed it since") {
		t.Errorf("what has changed: %s: %s", r.Status, r.body)
	}
	if r := boss.do("POST", "/review/g2", form("act", "reject")); r.StatusCode !=
		http.StatusUnprocessableEntity {
		t.Errorf("of nothing that was shown: %s", r.Status)
	}

	r := boss.do("POST", "/review/g1", form("act", "accept", "question", "", "answer", "kept text",
		"submitted_at", at[1]))
	if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "kept text") {
		t.Errorf("without a question: %s: %s", r.Status, r.body)
	}

	r = boss.do("POST", "/review/g1", form("act", "accept", "question", "q", "answer",
		"a<|im_end|>", "submitted_at", at[1]))
	if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body,
		"The answer has &#34;&lt;|im_end|&gt;&#34;") {
		t.Errorf("with a control token: %s: %s", r.Status, r.body)
	}

	boss.do("POST", "/review/g1", form("act", "accept", "question", "Who is she?", "answer",
		"Ask her.", "must", "ask\r\n\r\n her ", "must_not", "patient", "submitted_at", at[1]))
	boss.do("POST", "/review/g2", form("act", "reject", "submitted_at", at[1]))
	got := s.backend.Submitted()
	want := &backendapi.Review{Question: "Who is she?", Answer: "Ask her.",
		Must: []string{"ask", "her"}, MustNot: []string{"patient"}}
	if len(got) != 1 || got[0].State != "accepted" || !cmp.Equal(want, got[0].Review) {
		t.Errorf("%+v", got)
	}

	if page := boss.get("/review?state=accepted"); !strings.Contains(page.body, "Who is she?") {
		t.Errorf("what was accepted is not shown: %s", page.body)
	}
	if r := boss.do("POST", "/review/g2", form("act", "accept", "question", "q", "answer", "a",
		"submitted_at", at[1])); r.StatusCode != http.StatusNotFound || !strings.Contains(r.body, "taken it back") {
		t.Errorf("what is gone: %s: %s", r.Status, r.body)
	}
}

// TestBrowserRate rates with the keyboard, without leaving the page, and says what fails.
func TestBrowserRate(t *testing.T) {
	s := newSite(t, numbered())
	b := newBrowser(t, 390, 844)
	b.do(chromedp.Navigate(s.url + "/"))
	b.askAll("first")
	const pressed = "[...document.querySelectorAll('.rate button')]" +
		".map(e => e.getAttribute('aria-pressed')).join()"
	b.do(script("window.same = true; document.getElementById('main').focus()"))
	b.focus(".rate [data-verdict=up]")
	b.do(chromedp.KeyEvent("\r"))
	b.wait(pressed + " === 'true,false' && window.same && " +
		"document.activeElement.matches('.rate [data-verdict=up]')")
	b.focus(".rate [data-verdict=down]")
	b.do(chromedp.KeyEvent(" "))
	b.wait(pressed + " === 'false,true' && document.getElementById('live').innerText !== ''")
	b.do(chromedp.Click(".rate [data-verdict=down]"))
	b.wait(pressed + " === 'false,false' && " +
		"!document.querySelector('.say-why').checkVisibility()")

	b.expect("503")
	s.backend.Fail("PUT /api/conversations/{id}/ratings/{answer}", problem.New(503, "no room"))
	b.do(chromedp.Click(".rate [data-verdict=up]"))
	b.wait("document.getElementById('live').innerText.includes('no room') && " +
		pressed + " === 'false,false'")
	s.backend.Fail("PUT /api/conversations/{id}/ratings/{answer}", nil)

	b.do(chromedp.Click(".rate [data-verdict=down]"))
	b.wait(pressed + " === 'false,true'")
	b.do(chromedp.Click(".say-why"), chromedp.WaitVisible(".submission"),
		chromedp.SendKeys("[name=correction]", "answer 2"), chromedp.Click("[name=consent]"),
		chromedp.Click(".submission .primary"))
	b.wait("document.body.innerText.includes('It has been handed over')")
	if got := s.backend.Submitted(); len(got) != 1 || got[0].Correction != "answer 2" ||
		got[0].Verdict != "down" {
		t.Errorf("%+v", got)
	}
}
