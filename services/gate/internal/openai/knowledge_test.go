package openai

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
	"github.com/google/go-cmp/cmp"
)

const (
	askDocuments = `{"model":"m","knowledge":true,"messages":[{"role":"user","content":"Of letters?"},` +
		`{"role":"assistant","content":"Yes."},{"role":"user","content":"And their deadline?"}]}`
	quoted = `{"passages":[1]}` + "\n" + `{"text":"Two days [1]."}` + "\n" + done
)

// documented is the API of a stack with documents, of which alice may read two and bob one.
func documented(t *testing.T, answer http.HandlerFunc) *instance {
	t.Helper()
	i := start(t, answer)
	i.knowledge.Add(knowledgeapi.Passage{
		ID: "p-1", Collection: "handbook", File: "letters.md", Title: "Letters", Heading: "Times",
		Page: 3, Text: "The deadline is two days.",
	})
	i.knowledge.Add(knowledgeapi.Passage{
		ID: "p-2", Collection: "board", File: "b.md", Title: "B", Text: "Another deadline.",
	}, "of alice")
	return i
}

// TestKnowledge: the model gets passages that the key's owner may read, and the answer says which
// they were, whole or in a stream.
func TestKnowledge(t *testing.T) {
	i := documented(t, reply(quoted))
	want := sources.Passage{Text: "The deadline is two days."}
	want.N, want.PassageID, want.Collection, want.File = 1, "p-1", "handbook", "letters.md"
	want.Title, want.Heading, want.Page = "Letters", "Times", 3

	var got struct {
		Choices   []struct{ Message struct{ Content string } }
		Citations []sources.Passage
	}
	resp, body := i.post("/v1/chat/completions", askDocuments)
	if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v", resp.Status, body, err)
	}
	if d := cmp.Diff([]sources.Passage{want}, got.Citations); d != "" {
		t.Errorf("the citations (-want +got):\n%s", d)
	}
	if got.Choices[0].Message.Content != "Two days [1]." {
		t.Errorf("the answer is %s", body)
	}

	asked := func() (req mlapi.ChatRequest) {
		_, body, _ := strings.Cut(i.last(), "{")
		if err := json.Unmarshal([]byte("{"+body), &req); err != nil {
			t.Fatal(err)
		}
		return req
	}
	passages := []mlapi.Passage{
		{N: 1, Title: "Letters, Times", Text: "The deadline is two days."},
		{N: 2, Title: "B", Text: "Another deadline."},
	}
	if d := cmp.Diff(passages, asked().Passages); d != "" {
		t.Errorf("ml got (-want +got):\n%s", d)
	}

	searches := i.knowledge.Searches()
	if s := searches[0]; len(searches) != 1 || s.Query != "And their deadline?\nOf letters?" ||
		s.Person.ID != "alice" || !cmp.Equal(s.Person.Groups, []string{"of alice"}) {
		t.Errorf("%+v", searches)
	}

	i.as("bob").post("/v1/chat/completions", askDocuments)
	if d := cmp.Diff(passages[:1], asked().Passages); d != "" {
		t.Errorf("ml got for bob (-want +got):\n%s", d)
	}

	_, body = i.post("/v1/chat/completions", strings.Replace(askDocuments, `"knowledge"`,
		`"stream":true,"stream_options":{"include_usage":true},"knowledge"`, 1))
	chunks := strings.Split(strings.TrimSpace(body), "\n\n")
	for n, chunk := range chunks {
		has := strings.Contains(chunk, `"citations":[{"n":1,"passage_id":"p-1",`)
		if has != (n == len(chunks)-3) || has && !strings.Contains(chunk, `"finish_reason":"stop"`) {
			t.Errorf("chunk %d of %d: %s", n, len(chunks), chunk)
		}
	}
}

// TestNoCitations holds the answers without any, and the refusals.
func TestNoCitations(t *testing.T) {
	i := documented(t, reply(said+done))
	for body, want := range map[string]string{
		ask: "", // nothing is searched
		strings.Replace(ask, `"model"`, `"knowledge":false,"model"`, 1):   "",
		strings.Replace(askDocuments, "deadline", "x", 1):                 `"citations":[]`,
		strings.Replace(askDocuments, `"Of letters?"`, `"Of letters"`, 1): `"citations":[]`,
	} {
		resp, got := i.post("/v1/chat/completions", body)
		if resp.StatusCode != http.StatusOK || strings.Contains(got, "citations") != (want != "") ||
			!strings.Contains(got, want) {
			t.Errorf("%s: %s %s", body, resp.Status, got)
		}
	}
	if n := len(i.knowledge.Searches()); n != 2 {
		t.Errorf("%d searches", n)
	}

	before := i.last()
	for body, want := range map[string]string{
		`{"model":"m","knowledge":true,"messages":[{"role":"system","content":"x"}]}`: "invalid_value",
		strings.Replace(askDocuments, "true", `"yes"`, 1):                             "invalid_type",
	} {
		resp, got := i.post("/v1/chat/completions", body)
		if f := i.faultOf(got); resp.StatusCode != http.StatusBadRequest || code(f) != want ||
			f.Param == nil || *f.Param != "knowledge" {
			t.Errorf("%s: %s %s", body, resp.Status, got)
		}
	}

	i.knowledge.Kill()
	resp, got := i.post("/v1/chat/completions", askDocuments)
	if f := i.faultOf(got); resp.StatusCode != http.StatusServiceUnavailable ||
		code(f) != "knowledge_unavailable" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("knowledge is away: %s %s", resp.Status, got)
	}
	if i.last() != before {
		t.Errorf("a request that is refused goes to ml: %s", i.last())
	}
	if resp, _ := i.post("/v1/chat/completions", ask); resp.StatusCode != http.StatusOK {
		t.Errorf("without knowledge: %s", resp.Status)
	}
}

// TestWithoutDocuments: a stack that has none says so.
func TestWithoutDocuments(t *testing.T) {
	s := &service{}
	_, err := s.query(&mlapi.ChatRequest{Messages: []mlapi.Message{{Role: "user", Content: "x"}}})
	if f := asFault(err, ""); f.Status != http.StatusBadRequest || code(*f) != "unsupported_value" ||
		*f.Param != "knowledge" {
		t.Errorf("%+v", f)
	}
}
