package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/google/go-cmp/cmp"
)

func (i *instance) export(conversation, format string) (header http.Header, body string) {
	i.t.Helper()
	resp := i.do(http.MethodGet, "/api/conversations/"+conversation+"/export"+format, nil, alice)
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		i.t.Fatalf("%s: %s, %v", resp.Status, b, err)
	}
	return resp.Header, string(b)
}

// TestExport writes each message as it is, below who wrote it when. A block of code that is open at
// the end of one does not take in the next.
func TestExport(t *testing.T) {
	i, ml, _ := stack(t)
	question := "# Mine\n\n*as* <b>it</b> is \\ \"quoted\" / 🎉"
	open := "Begun:\n\n```go\nfunc main() {"
	ml.Chat(func(s *mltest.Stream) { s.Send(mlapi.Chunk{Thinking: "hm"}); s.Text(open); s.Done() })
	g := i.complete("", question)
	ml.Chat(func(s *mltest.Stream) {
		s.Text("half")
		s.Send(mlapi.Chunk{Error: problem.New(http.StatusInternalServerError, "It broke.")})
	})
	i.complete(g.ConversationID, "go on")
	i.want(http.StatusOK, nil, http.MethodPatch, "/api/conversations/"+g.ConversationID,
		backendapi.Rename{Title: `../My "best": chat\ 1`}, alice)

	d := i.detail(alice, g.ConversationID)
	at := func(n int) string { return d.Messages[n].CreatedAt.UTC().Format("2006-01-02 15:04 UTC") }
	want := fmt.Sprintf("# ../My \"best\": chat\\ 1\n\n## You · %s\n\n%s\n"+
		"\n## codexcontinue · %s\n\n%s\n```\n\n## You · %s\n\ngo on\n"+
		"\n## codexcontinue · %s · failed\n\nhalf\n\n> It broke.\n",
		at(0), question, at(1), open, at(2), at(3))
	for _, format := range []string{"", "?format=markdown"} {
		h, got := i.export(g.ConversationID, format)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", format, d)
		}
		if h.Get("Content-Type") != "text/markdown; charset=utf-8" ||
			h.Get("Content-Disposition") != `attachment; filename=My-best-chat-1.md` ||
			h.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", h)
		}
	}

	h, got := i.export(g.ConversationID, "?format=json")
	var all backendapi.ConversationDetail
	if err := json.Unmarshal([]byte(got), &all); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if d := cmp.Diff(d, all); d != "" || h.Get("Content-Type") != "application/json" ||
		!strings.Contains(h.Get("Content-Disposition"), "My-best-chat-1.json") {
		t.Errorf("%v (-want +got):\n%s", h, d)
	}

	i.refused(http.StatusUnprocessableEntity, http.MethodGet,
		"/api/conversations/"+g.ConversationID+"/export?format=pdf", nil, alice)
	i.refused(http.StatusNotFound, http.MethodGet, "/api/conversations/x/export", nil, alice)
}

// TestExportFileName: whatever the title is, the file's name is one that every system takes.
func TestExportFileName(t *testing.T) {
	i, _, _ := stack(t)
	var c backendapi.Conversation
	i.want(http.StatusCreated, &c, http.MethodPost, "/api/conversations", nil, alice)
	for title, want := range map[string]string{
		"../../etc/passwd\"; x=y": `attachment; filename=etc-passwd-x-y.md`,
		"...":                     `attachment; filename=conversation.md`,
		"Größe 🎉 東京":              `attachment; filename*=utf-8''Gr%C3%B6%C3%9Fe-%E6%9D%B1%E4%BA%AC.md`,
		strings.Repeat("word ", 30): `attachment; filename=` +
			strings.TrimSuffix(strings.Repeat("word-", 12), "-") + ".md",
	} {
		i.want(http.StatusOK, nil, http.MethodPatch, "/api/conversations/"+c.ID,
			backendapi.Rename{Title: title}, alice)
		h, body := i.export(c.ID, "")
		if got := h.Get("Content-Disposition"); got != want {
			t.Errorf("%q: %s, want %s", title, got, want)
		}
		if body != "# "+strings.TrimSpace(title)+"\n" {
			t.Errorf("%q: %q", title, body)
		}
	}
}

// TestSearchAPI finds what is there, page by page, and refuses what is no query.
func TestSearchAPI(t *testing.T) {
	i, ml, _ := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("A <b>Mutex</b> it is."); s.Done() })
	var want []string
	for range 3 {
		want = append(want, i.complete("", "Which one?").ConversationID)
	}
	i.want(http.StatusCreated, nil, http.MethodPost, "/api/conversations",
		map[string]string{"title": "Other"}, alice)

	var got []string
	for cursor := ""; ; {
		var page backendapi.ConversationPage
		i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations?limit=2&q="+
			url.QueryEscape("mutex  WHICH")+"&cursor="+cursor, nil, alice)
		for _, c := range page.Conversations {
			got = append([]string{c.ID}, got...)
			title := []backendapi.Piece{{Text: "Which", Hit: true}, {Text: " one?"}}
			excerpt := []backendapi.Piece{{Text: "A <b>"}, {Text: "Mutex", Hit: true},
				{Text: "</b> it is."}}
			if d := cmp.Diff(backendapi.Found{Title: title, Excerpt: excerpt}, *c.Found); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	var page backendapi.ConversationPage
	for _, q := range []string{"", "%20%20"} { // no word: the list
		i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations?q="+q, nil, alice)
		if len(page.Conversations) != 4 || page.Conversations[0].Found != nil {
			t.Errorf("%q: %+v", q, page)
		}
	}
	i.refused(http.StatusUnprocessableEntity, http.MethodGet,
		"/api/conversations?q="+strings.Repeat("x", backendapi.MaxQuery+1), nil, alice)
	i.refused(http.StatusBadRequest, http.MethodGet, "/api/conversations?q=x&cursor=x", nil, alice)
}
