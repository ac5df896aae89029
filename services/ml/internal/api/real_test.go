package api

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

// TestRealOllama: answers, control tokens, options, vectors, and a crash in
// the middle of an answer.
func TestRealOllama(t *testing.T) {
	s := ollamatest.Start(t)
	s.Tiny(t, "m", "")
	s.Tiny(t, "loop", tinymodel.LoopToken)
	// the user's last word is the prompt's
	raw := &api.CreateRequest{
		Model: "raw", From: "m", Template: "{{ range .Messages }}{{ .Content }}{{ end }}",
	}
	if err := s.Client().Create(t.Context(), raw, func(api.ProgressResponse) {}); err != nil {
		t.Fatal(err)
	}

	i := start(t, s.URL, nil)
	if text, last := i.chat(t.Context(),
		ask).rest(); text != tinymodel.Answer || last.Done == nil || last.Done.Tokens < 20 ||
		last.Done.Model != "m" {
		t.Errorf("%q, %+v", text, last)
	}

	for _, token := range []string{tinymodel.AltToken, tinymodel.LoopToken} {
		// That the token works when Ollama is asked directly is what makes this a test.
		var direct strings.Builder
		if err := s.Client().Chat(t.Context(),
			&api.ChatRequest{
				Model:    "raw",
				Messages: []api.Message{{Role: "user", Content: "Hi " + token}},
				Options:  map[string]any{"num_predict": 40},
			},
			func(t ollama.Token) error {
				direct.WriteString(t.Text)
				return nil
			}); err != nil || direct.String() == tinymodel.Answer {
			t.Fatalf("%s changes nothing: %q, %v", token, direct.String(), err)
		}

		b, _ := json.Marshal("Hi " + token)
		text, _ := i.chat(t.Context(),
			`{"model":"raw","messages":[{"role":"user","content":`+string(b)+`}],"options":{"num_predict":40}}`).rest()
		if text != tinymodel.Answer {
			t.Errorf("a user's %s changed the answer: %q", token, text)
		}
	}

	looped, last := i.chat(t.Context(),
		`{"model":"loop","messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":4}}`).rest()
	if last.Done == nil || last.Done.Reason != "length" || last.Done.Tokens != 4 ||
		!strings.HasPrefix(strings.Repeat(tinymodel.LoopWords, 4), looped) {
		t.Errorf("%q, %+v", looped, last.Done)
	}

	resp := i.post(t.Context(), "/generate", `{"prompt":"Hi"}`)
	text, _ := (&chunks{t, bufio.NewScanner(resp.Body)}).rest()
	if text != tinymodel.Answer {
		t.Errorf("generate: %q", text)
	}

	resp = i.post(t.Context(), "/embed", `{"input":["one text","another"]}`)
	var e mlapi.EmbedResponse
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || len(e.Embeddings) != 2 ||
		len(e.Embeddings[0]) == 0 || e.PromptTokens == 0 {
		t.Errorf("embed: %v, %+v", err, e)
	}

	// Ollama is killed while it answers, and comes back.
	c := i.chat(t.Context(), `{"model":"loop","messages":[{"role":"user","content":"Hi"}]}`)
	for range 5 {
		if ch := c.next(); ch == nil || ch.Text == "" {
			t.Fatalf("got %+v before the crash", ch)
		}
	}

	s.Kill(t)
	if _, last := c.rest(); last.Error == nil || last.Error.Status != http.StatusBadGateway {
		t.Errorf("after the crash: %+v", last)
	}

	i.refused(http.StatusBadGateway, i.post(t.Context(), "/chat", ask))
	s.Restart(t)
	if text, last := i.chat(t.Context(), ask).rest(); text != tinymodel.Answer || last.Done == nil {
		t.Errorf("after the restart: %q, %+v", text, last)
	}
	if i.queue.Running() != 0 {
		t.Error("a turn stayed taken")
	}
}

// BenchmarkAnswer compares an answer of 200 tokens through ml with the same one from Ollama
// directly, in turns in one run. added-us/token is what ml adds to each token, ratio the time
// through ml over the direct one.
func BenchmarkAnswer(b *testing.B) {
	s := ollamatest.Start(b)
	s.Tiny(b, "m", tinymodel.LoopToken)
	i := start(b, s.URL, func(o *Options) { o.Queue = queue.New(2, 2) })
	const tokens = 200
	read := func(url, body string) {
		resp, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()

		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || strings.Count(string(text), "\n") < tokens {
			b.Fatalf("%s, %v: %.200s", resp.Status, err, text)
		}
	}

	direct := func() {
		read(s.URL+"/api/chat",
			`{"model":"m","messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":200}}`)
	}

	through := func() {
		read(i.url+"/chat",
			`{"messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":200}}`)
	}

	direct()
	through()
	var times [2]float64
	b.ReportAllocs()
	for b.Loop() {
		for k, f := range []func(){direct, through} {
			before := b.Elapsed()
			f()
			times[k] += float64((b.Elapsed() - before).Microseconds())
		}
	}

	n := float64(b.N)
	b.ReportMetric(times[0]/n/tokens, "direct-us/token")
	b.ReportMetric((times[1]-times[0])/n/tokens, "added-us/token")
	b.ReportMetric(times[1]/times[0], "ratio")
}
