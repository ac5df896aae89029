package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/fakebackend"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// letters and signing are passages that answers have as their sources.
var (
	letters = knowledgeapi.Passage{
		ID: "p-1", Collection: "handbook", File: "letters.md", Title: "Discharge <b>letters</b>",
		Heading: "Letters > Times", Page: 3, Before: "A letter goes to the practice.",
		Text:  "It is due within two days.\n\n  ![x](https://evil.example/?q=1) <img src=x>",
		After: "A late one is reported.",
	}
	signing = knowledgeapi.Passage{
		ID: "p/2", Collection: "handbook", File: "signing.pdf", Title: "Signing",
		Heading: "Signing", Text: "Whoever wrote a letter signs it.",
	}
)

func sourceOf(n int, p knowledgeapi.Passage) backendapi.Source {
	return backendapi.Source{N: n, PassageID: p.ID, Collection: p.Collection, File: p.File,
		Title: p.Title, Heading: p.Heading, Page: p.Page}
}

var bothSources = backendapi.Sources{Sources: []backendapi.Source{
	sourceOf(1, letters), sourceOf(2, signing),
}}

// cited are the parts of a page with an answer that cites the first of two sources.
var cited = []string{
	`<a class="cite" href="/passages/p-1?in=c1" ` +
		`title="Discharge &lt;b&gt;letters&lt;/b&gt; · Letters &gt; Times · page 3">[1]</a>`,
	`<a class="source" href="/passages/p-1?in=c1">Discharge &lt;b&gt;letters&lt;/b&gt; · Letters &gt; ` +
		`Times · page 3</a> <span class="muted">handbook / letters.md</span>`,
	`<a class="source" href="/passages/p%2f2?in=c1">Signing</a> <span class="muted">handbook / ` +
		`signing.pdf · not named in the answer</span>`,
}

// TestSources: a citation is a link to its source, without scripts as in the stream.
func TestSources(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		sources *backendapi.Sources
		want    []string
		not     []string
	}{
		"cited": {"Within two days [1].", &bothSources, cited, []string{"sources-note"}},
		"none named": {"Within two days.", &bothSources, []string{
			`<p class="sources-note">The answer names no source.`, `href="/passages/p-1?in=c1"`,
		}, []string{`class="cite"`}},
		"another number": {"So it is [7].", &bothSources, []string{
			"The answer names no source.", "So it is [7].",
		}, []string{`class="cite"`}},
		"none found": {"I do not know [1].", &backendapi.Sources{}, []string{
			"No source was found: the answer rests on no document.", "I do not know [1].",
		}, []string{"source-list", `class="cite"`}},
		"no room": {"Well.", &backendapi.Sources{LeftOut: 2}, []string{
			"there was no room for them",
		}, []string{"source-list"}},
		"not searched": {"Well.", &backendapi.Sources{Unsearched: true}, []string{
			"Sources could not be searched: the answer rests on no document.",
		}, []string{"source-list"}},
		"no documents": {"Well [1].", nil, []string{"Well [1]."}, []string{"sources", `class="cite"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, func(_ string, a *fakebackend.Answer) {
				if tc.sources != nil {
					a.Sources(*tc.sources)
				}
				a.Text(tc.text)
				a.Done()
			})
			v := s.visitor()
			if r := v.do(http.MethodPost, "/chat", "message=When"); r.StatusCode != http.StatusSeeOther {
				t.Fatal(r.Status)
			}

			stream := v.get("/generations/g1/events").body
			page := v.get("/c/c1").body
			unescape := strings.NewReplacer(`\"`, `"`, `\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
			for where, body := range map[string]string{"stream": unescape.Replace(stream), "page": page} {
				// The address of a passage is written in more than one way.
				body = strings.ReplaceAll(body, "p%2F2", "p%2f2")
				_, answer, _ := strings.Cut(body, `class="message answer"`)
				if where == "stream" {
					answer = body
				} else {
					answer, _, _ = strings.Cut(answer, "</article>")
				}
				mustContain(t, answer, tc.want...)
				for _, not := range tc.not {
					if strings.Contains(answer, not) {
						t.Errorf("the %s has %q:\n%s", where, not, answer)
					}
				}
			}
		})
	}
}

// TestPassage: a source has a page of its own, on which nothing of the document is markup. One that
// is gone and one that is for others are the same.
func TestPassage(t *testing.T) {
	s := newSite(t, nil)
	s.backend.AddPassage(letters)
	s.backend.AddPassage(signing)
	v := s.visitor()
	page := v.get("/passages/p-1?in=c1")
	mustContain(t, page.body, "Discharge &lt;b&gt;letters&lt;/b&gt;",
		"Letters &gt; Times · page 3 · handbook / letters.md",
		"It is due within two days.\n\n  ![x](https://evil.example/?q=1) &lt;img src=x&gt;",
		"A letter goes to the practice.", "A late one is reported.", `href="/c/c1"`)
	if strings.Contains(page.body, "<img") || strings.Contains(page.body, `href="https://evil`) {
		t.Errorf("the document is markup:\n%s", page.body)
	}

	fragment := v.get("/fragments/passages/p-1").body
	mustContain(t, fragment, "It is due within two days.", "A late one is reported.")
	if strings.Contains(fragment, "<html") {
		t.Error("the fragment is a page")
	}
	mustContain(t, v.get("/passages/"+url.PathEscape(signing.ID)).body, "Whoever wrote a letter")

	for _, path := range []string{"/passages/gone?in=c1", "/fragments/passages/gone"} {
		r := v.get(path)
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, r.Status)
		}
		mustContain(t, r.body, "This document is no longer there, or not for you.")
	}

	s.backend.Fail("GET /api/passages/{id}", problem.New(http.StatusServiceUnavailable, "Away."))
	if r := v.get("/passages/p-1"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while the documents are away: %s", r.Status)
	}
}
