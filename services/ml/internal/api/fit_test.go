package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/prompt"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

func chatBody(
	t *testing.T,
	model string,
	options map[string]any,
	messages ...mlapi.Message,
) string {
	t.Helper()
	b, err := json.Marshal(mlapi.ChatRequest{Model: model, Messages: messages, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func user(text string) mlapi.Message      { return mlapi.Message{Role: "user", Content: text} }
func assistant(text string) mlapi.Message { return mlapi.Message{Role: "assistant", Content: text} }

// all reads an answer to its end: what it says besides its text, and its text.
func (c *chunks) all() (text string, leftOut int, again bool, last *mlapi.Chunk) {
	c.t.Helper()
	var b strings.Builder
	for ch := c.next(); ch != nil; ch = c.next() {
		if (ch.LeftOut > 0 || ch.Again) && (b.Len() > 0 || leftOut > 0 || again) {
			c.t.Errorf("late or twice: %+v", ch)
		}
		leftOut, again = leftOut+ch.LeftOut, again || ch.Again
		b.WriteString(ch.Text)
		last = ch
	}

	return b.String(), leftOut, again, last
}

// TestContinues: a real model goes on from each place at which an answer may be cut, without a gap
// and with nothing twice.
func TestContinues(t *testing.T) {
	s := ollamatest.Start(t)
	s.Continuing(t, "m")
	s.Tiny(t, "other", "")
	i := start(t, s.URL, nil)

	whole, _, _, last := i.chat(t.Context(), chatBody(t, "", nil, user("Hi"))).all()
	if whole != tinymodel.Answer || last.Done == nil {
		t.Fatalf("%q, %+v", whole, last)
	}

	for at, r := range tinymodel.Answer + " " {
		// Between two tokens: the deltas of an answer are tokens. A space is in the text so far, or
		// it comes with the rest.
		if r != ' ' || strings.HasSuffix(tinymodel.Answer[:at], " I") ||
			strings.HasSuffix(tinymodel.Answer[:at], " from") ||
			strings.HasSuffix(tinymodel.Answer[:at], " is") {
			continue
		}

		for _, soFar := range []string{tinymodel.Answer[:at], tinymodel.Answer[:at] + " "} {
			rest, leftOut, again, last := i.chat(t.Context(),
				chatBody(t, "", nil, user("One"), assistant("Two."), user("Hi"), assistant(soFar))).
				all()
			if again || leftOut > 0 || last.Done == nil ||
				strings.TrimRight(soFar+rest, " ") != tinymodel.Answer {
				t.Errorf("%q was continued with %q (again %v): %+v", soFar, rest, again, last)
			}
		}
	}

	// The other one's template ends the assistant's turn, so its answer begins again.
	text, _, again, last := i.chat(t.Context(),
		chatBody(t, "other", nil, user("Hi"), assistant("Hello! I am"))).
		all()
	if !again || text != tinymodel.Answer || last.Done == nil {
		t.Errorf("again %v, %q, %+v", again, text, last)
	}
}

// TestNumPredictCountsTheTextSoFar: an answer is not longer for having been cut.
func TestNumPredictCountsTheTextSoFar(t *testing.T) {
	s := ollamatest.Start(t)
	s.Continuing(t, "m")
	i := start(t, s.URL, nil)
	few := map[string]any{"num_predict": 9}
	whole, _, _, last := i.chat(t.Context(), chatBody(t, "", few, user("Hi"))).all()
	if last.Done == nil || last.Done.Reason != "length" || last.Done.Tokens != 9 {
		t.Fatalf("%q, %+v", whole, last)
	}

	rest, _, again, last := i.chat(t.Context(),
		chatBody(t, "", few, user("Hi"), assistant("Hello! I am tiny test"))).
		all()
	if again || "Hello! I am tiny test"+rest != whole || last.Done == nil ||
		last.Done.Reason != "length" {
		t.Errorf("%q, %+v; the whole one is %q", rest, last, whole)
	}
}

// spy passes requests on to an Ollama, and keeps those to chat.
type spy struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newSpy(t *testing.T, to string) *spy {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}

	s := &spy{}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.FlushInterval = -1
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/chat" {
			b, _ := io.ReadAll(r.Body)
			s.mu.Lock()
			s.seen = append(s.seen, string(b))
			s.mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(b))
		}

		// Else the server closes the body, which the proxy may be reading, when the answer begins.
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	}))

	t.Cleanup(s.Close)
	return s
}

func (s *spy) chats() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.seen) }

// rendered is the prompt that a real Ollama makes of a request.
func rendered(t *testing.T, s *ollamatest.Server, model string, body string) string {
	t.Helper()
	var req api.ChatRequest
	if err := json.Unmarshal([]byte(body), &req); err != nil {
		t.Fatal(err)
	}

	req.Model, req.DebugRenderOnly = model, true
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}

	resp, err := http.Post(s.URL+"/api/chat", "application/json", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var out api.ChatResponse
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.DebugInfo == nil {
		t.Fatalf("%v: %+v", err, out)
	}

	return out.DebugInfo.RenderedTemplate
}

const safety = "Never give a dose without the advice to check it."

// TestSystemStays: neither a long message nor a long history pushes the SYSTEM prompt out of a real
// Ollama's context.
func TestSystemStays(t *testing.T) {
	s := ollamatest.Start(t)
	s.Make(
		t,
		&api.CreateRequest{
			Model:      "m",
			Template:   ollamatest.ContinuingTemplate,
			System:     safety,
			Parameters: map[string]any{"num_ctx": 2048},
		},
		ollamatest.GGUF(t),
	)

	seen := newSpy(t, s.URL)
	i := start(t, seen.URL, nil)

	resp := i.post(
		t.Context(),
		"/chat",
		chatBody(t, "", nil, user(strings.Repeat("dose? ", 10<<10))),
	)

	p := i.refused(http.StatusRequestEntityTooLarge, resp)
	var tokens, room int
	if _, err := fmt.Sscanf(p.Detail, "The message has about %d tokens, and %d fit", &tokens, &room); err != nil ||
		p.Type != problem.TypeTooLong ||
		tokens < 60<<10 ||
		tokens > 62<<10 ||
		room > 1536 ||
		room < 1300 {
		t.Errorf("%+v: %d tokens, room for %d, %v", p, tokens, room, err)
	}

	if got := seen.chats(); len(got) > 0 {
		t.Fatalf("Ollama was asked: %.200s", got[0])
	}

	p = i.refused(
		http.StatusRequestEntityTooLarge,
		i.post(t.Context(), "/generate", `{"prompt":"`+strings.Repeat("dose? ", 10<<10)+`"}`),
	)
	if p.Type != problem.TypeTooLong {
		t.Errorf("generate: %+v", p)
	}
	if i.queue.Running() != 0 || i.queue.Waiting() != 0 {
		t.Error("a turn was taken")
	}

	// Twenty turns of about 200 tokens each: some seven fit.
	var history []mlapi.Message
	for n := range 20 {
		history = append(
			history,
			user(fmt.Sprintf("question %d %s", n, strings.Repeat("q", 90))),
			assistant(fmt.Sprintf("answer %d %s", n, strings.Repeat("a", 80))),
		)
	}

	history = append(history, user("and now?"))
	text, leftOut, _, last := i.chat(t.Context(), chatBody(t, "", nil, history...)).all()
	if text != tinymodel.Answer || last.Done == nil || leftOut == 0 || leftOut%2 != 0 ||
		leftOut > len(history)-9 {
		t.Fatalf("%d of %d were left out; %q, %+v", leftOut, len(history), text, last)
	}

	var sent api.ChatRequest
	if err := json.Unmarshal([]byte(seen.chats()[0]), &sent); err != nil {
		t.Fatal(err)
	}

	if len(sent.Messages) != len(history)-leftOut || sent.Messages[0].Role != "user" ||
		sent.Messages[0].Content != history[leftOut].Content ||
		sent.Truncate == nil ||
		*sent.Truncate ||
		sent.Shift == nil ||
		*sent.Shift {
		t.Errorf("Ollama got %+v", sent)
	}

	// What Ollama makes of it has the SYSTEM prompt, and is no longer than what was kept for it.
	if text := rendered(t, s, "m:latest", seen.chats()[0]); !strings.HasPrefix(
		text,
		"[SYS]"+safety+"[/SYS]",
	) {
		t.Errorf("the prompt begins with %.100q", text)
	}

	if n := last.Done.PromptTokens; n > 1536 || n < 1536-300 {
		t.Errorf("the prompt has %d tokens", n)
	}

	// An answer that goes on fits as well.
	soFar := strings.Repeat("so it is. ", 100)
	_, leftOut, again, last := i.chat(t.Context(),
		chatBody(t, "", nil, append(history, assistant(soFar))...)).
		all()
	if again || last.Done == nil || leftOut == 0 || last.Done.PromptTokens > 2048-32 {
		t.Errorf("again %v, %d left out, %+v", again, leftOut, last)
	}

	// One that has come to the context's end has no more to say.
	text, _, again, last = i.chat(t.Context(),
		chatBody(t, "", nil, user("Hi"), assistant(strings.Repeat("so it is. ", 300)))).
		all()
	if text != "" || again || last.Done == nil || last.Done.Reason != "length" {
		t.Errorf("again %v, %q, %+v", again, text, last)
	}
}

// TestCountsAsOllamaDoes: the count is Ollama's, and not less.
func TestCountsAsOllamaDoes(t *testing.T) {
	s := ollamatest.Start(t)
	s.Continuing(t, "m")
	i := start(t, s.URL, nil)
	m := prompt.NewCatalog(s.Client(), slog.New(slog.DiscardHandler)).Get(t.Context(), "m", "")
	if !m.Vocabulary.Exact() {
		t.Fatal("the vocabulary is not known")
	}

	for _, text := range []string{"Hi", "Hello! I am tiny test model",
		"for i := range 10 {\n\tfmt.Println(i)\n}\n", "naïve Ünïcödé 漢字 🙂", "a <s> b </s> <|alt|>",
		strings.Repeat("Hello! I am tiny ", 200), strings.Repeat("x", 2000)} {
		text = m.Neutralise(text)
		_, _, _, last := i.chat(t.Context(), chatBody(t, "", nil, user(text))).all()
		if last.Done == nil {
			t.Errorf("%.20q: %+v", text, last)
			continue
		}

		// Beside the text: [user] and [assistant], as letters, spaces and line breaks, and the
		// token that begins it all.
		want := last.Done.PromptTokens - len("[user] ") - len("\n[assistant]") - 1
		// A first letter may grow together with the space before it.
		if got := m.Count(text); got < want || got > want+1 {
			t.Errorf("%.20q: %d tokens, Ollama has %d", text, got, want)
		}
	}
}

// TestGoesOnAfterACrash: Ollama is killed in the middle of an answer. Asked to go on while it is
// away, ml waits, and the rest comes when it is back.
func TestGoesOnAfterACrash(t *testing.T) {
	s := ollamatest.Start(t)
	s.Continuing(t, "m")
	i := start(t, s.URL, func(o *Options) { o.Patience = time.Minute })
	c := i.chat(t.Context(), chatBody(t, "", nil, user("Hi")))
	soFar := ""
	for range 5 {
		soFar += c.next().Text
	}

	s.Kill(t)
	rest := make(chan string)
	go func() {
		text, _, again, last := i.chat(t.Context(),
			chatBody(t, "", nil, user("Hi"), assistant(soFar))).
			all()
		if again || last.Done == nil {
			t.Errorf("again %v, %+v", again, last)
		}
		rest <- text
	}()

	s.Restart(t)
	if text := <-rest; soFar+text != tinymodel.Answer {
		t.Errorf("%q was continued with %q", soFar, text)
	}
}
