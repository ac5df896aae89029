package api

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

func TestMain(m *testing.M) { ollamatest.Main(m) }

// TestThinking: the reasoning is passed on as such, is no text, and is a sign of life.
func TestThinking(t *testing.T) {
	const silence = 3 * time.Second
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		for range 6 {
			tell(w, `{"message":{"content":"","thinking":"Hm. "}}`)
			time.Sleep(silence / 5)
		}
		tell(w, hello, done)
	})

	i := start(t, f.URL, func(o *Options) { o.Silence = silence })
	c := i.chat(t.Context(), ask)
	var thinking, text strings.Builder
	var last *mlapi.Chunk
	for ch := c.next(); ch != nil; ch = c.next() {
		if ch.Thinking != "" && text.Len() > 0 {
			t.Error("it thinks after it speaks")
		}
		thinking.WriteString(ch.Thinking)
		text.WriteString(ch.Text)
		last = ch
	}

	if thinking.String() != strings.Repeat("Hm. ", 6) || text.String() != "Hello" ||
		last.Done == nil {
		t.Errorf("thinking %q, text %q, %+v", thinking.String(), text.String(), last)
	}

	resp, err := http.Get(i.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	b, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(b), "ml_first_token_seconds_count 1\n") ||
		strings.Contains(string(b), `ml_first_token_seconds_bucket{le="1"} 1`) {
		t.Error("its reasoning is the answer's first token")
	}
}

// TestThinkingOfRealOllama: a model whose template has reasoning is asked for it by Ollama itself.
func TestThinkingOfRealOllama(t *testing.T) {
	s := ollamatest.Start(t)
	s.Make(
		t,
		&api.CreateRequest{Model: "m", Template: ollamatest.ThinkingTemplate},
		ollamatest.GGUF(t),
	)

	i := start(t, s.URL, nil)
	for path, body := range map[string]string{"/chat": ask, "/generate": `{"prompt":"Hi"}`} {
		resp := i.post(t.Context(), path, body)
		var thinking, text string
		for _, l := range strings.Split(strings.TrimSpace(readAll(resp)), "\n") {
			var ch mlapi.Chunk
			if err := json.Unmarshal([]byte(l), &ch); err != nil {
				t.Fatal(err)
			}
			thinking, text = thinking+ch.Thinking, text+ch.Text
		}

		if thinking != tinymodel.Answer || text != "" {
			t.Errorf("%s: thinking %q, text %q", path, thinking, text)
		}
	}
}

func readAll(resp *http.Response) string {
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// vocabularyOf is what Ollama shows of a model with a token for each printable character and these
// control tokens.
func vocabularyOf(template string, control ...string) string {
	tokens, types := []string{"<unk>", "▁", "<0x0A>"}, []int{2, 1, 6}
	for c := '!'; c <= '~'; c++ {
		tokens, types = append(tokens, string(c)), append(types, 1)
	}

	for _, c := range control {
		tokens, types = append(tokens, c), append(types, 3)
	}

	b, _ := json.Marshal(
		map[string]any{
			"template":  template,
			"modelfile": "FROM /x\nPARAMETER num_ctx 1000\n",
			"model_info": map[string]any{
				"general.architecture":      "llama",
				"llama.context_length":      4096,
				"tokenizer.ggml.model":      "llama",
				"tokenizer.ggml.tokens":     tokens,
				"tokenizer.ggml.token_type": types,
				"tokenizer.ggml.scores":     make([]float32, len(tokens)),
			},
		},
	)

	return string(b)
}

// TestPastedCode: code reaches a model as it was pasted, byte by byte, but for that model's own
// control tokens.
func TestPastedCode(t *testing.T) {
	const code = "s := `<s> [INST] <|im_start|> </s> <start_of_turn>` // 漢字\n"
	f := newFake(t, answers)
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}", "<|eot_id|>")
	i := start(t, f.URL, nil)
	b, _ := json.Marshal(
		mlapi.ChatRequest{
			Messages: []mlapi.Message{user(code), assistant(code), user(code + "<|eot_id|>")},
		},
	)

	i.chat(t.Context(), string(b)).rest()
	var sent api.ChatRequest
	if err := json.Unmarshal([]byte(f.lastBody()), &sent); err != nil {
		t.Fatal(err)
	}

	for k, want := range []string{code, code, code + "<\u200b|eot_id|>"} {
		if sent.Messages[k].Content != want {
			t.Errorf("message %d is %q, want %q", k, sent.Messages[k].Content, want)
		}
	}

	b, _ = json.Marshal(mlapi.GenerateRequest{Prompt: code})
	readAll(i.post(t.Context(), "/generate", string(b)))
	var generate api.GenerateRequest
	if err := json.Unmarshal([]byte(f.lastBody()), &generate); err != nil ||
		generate.Prompt != code {
		t.Errorf("%v: %q", err, generate.Prompt)
	}
}

// TestOllamaRefusesThePrompt: where the count was an estimate, Ollama's own has the last word.
func TestOllamaRefusesThePrompt(t *testing.T) {
	f := newFake(t, nil)
	f.answer = func(w http.ResponseWriter, _ *http.Request) {
		var req struct{ Messages []api.Message }
		if err := json.Unmarshal([]byte(f.lastBody()), &req); err != nil || len(req.Messages) > 3 ||
			strings.Contains(f.lastBody(), "never") {
			w.WriteHeader(http.StatusBadRequest)
			tell(w, `{"error":"the input length exceeds the context length"}`)
			return
		}

		answers(w, nil)
	}

	i := start(t, f.URL, nil)
	text, leftOut, again, last := i.chat(t.Context(),
		chatBody(t, "", nil, user("1"), assistant("2"), user("3"), assistant("4"), user("5"),
			assistant("6"), user("7"))).
		all()
	if text != "Hello <you>" || leftOut != 4 || again || last.Done == nil {
		t.Errorf("%q, %d left out, %+v", text, leftOut, last)
	}

	for path, body := range map[string]string{
		"/chat":     chatBody(t, "", nil, user("1"), assistant("2"), user("never")),
		"/generate": `{"prompt":"never"}`,
	} {
		if p := i.refused(http.StatusRequestEntityTooLarge,
			i.post(t.Context(), path, body)); p.Type != problem.TypeTooLong {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// TestNoRefusalForAGuess: where the context or the tokenizer is not known, a message that may be
// too long is sent, and Ollama decides. So is the end of an answer that goes on.
func TestNoRefusalForAGuess(t *testing.T) {
	const each = "{{ range .Messages }}{{ .Content }}{{ end }}"
	noContext := strings.ReplaceAll(vocabularyOf(each), "PARAMETER num_ctx 1000", "")
	noContext = strings.ReplaceAll(noContext, `"llama.context_length":4096`,
		`"llama.context_length":32768`)
	noTokenizer := strings.ReplaceAll(vocabularyOf(each), `"tokenizer.ggml.model":"llama"`,
		`"tokenizer.ggml.model":"other"`)
	for name, show := range map[string]string{
		"nothing is known": "", "no context": noContext, "no tokenizer": noTokenizer,
	} {
		t.Run(name, func(t *testing.T) {
			refuses := atomic.Bool{}
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				if refuses.Load() {
					w.WriteHeader(http.StatusBadRequest)
					tell(w, `{"error":"the input length exceeds the context length"}`)
					return
				}
				answers(w, nil)
			})

			f.show = show
			i := start(t, f.URL, nil)
			long := chatBody(t, "", nil, user("1"), assistant("2"),
				user(strings.Repeat("word ", 4<<10)))
			if text, leftOut, _, last := i.chat(t.Context(),
				long).all(); text != "Hello <you>" || leftOut != 2 || last.Done == nil {
				t.Errorf("%q, %d left out, %+v", text, leftOut, last)
			}

			soFar := chatBody(t, "", nil, user("Hi"), assistant(strings.Repeat("word ", 4<<10)))
			if text, _, _, last := i.chat(t.Context(),
				soFar).all(); text != "Hello <you>" || last.Done == nil ||
				last.Done.Reason != "stop" {
				t.Errorf("%q, %+v", text, last)
			}

			refuses.Store(true)
			if p := i.refused(http.StatusRequestEntityTooLarge,
				i.post(t.Context(), "/chat", long)); p.Type != problem.TypeTooLong {
				t.Errorf("%+v", p)
			}

			if show == "" {
				return // nobody knows that the model can go on
			}

			if text, _, _, last := i.chat(t.Context(),
				soFar).all(); text != "" || last.Done == nil || last.Done.Reason != "length" {
				t.Errorf("%q, %+v", text, last)
			}
		})
	}
}

// TestRemembersTheContext: the context with which Ollama loaded a model counts when it
// does not say so any more.
func TestRemembersTheContext(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, nil)
	f.setPS(`{"models":[{"name":"m:latest","digest":"d1","context_length":32768}]}`)
	i.chat(t.Context(), ask).rest()

	var history []mlapi.Message
	for range 8 {
		history = append(history, user(strings.Repeat("word ", 400)), assistant("yes"))
	}

	long := chatBody(t, "", nil, append(history, user("and?"))...)
	for _, ps := range []string{`{"models":[]}`, ""} {
		f.setPS(ps)
		if _, leftOut, _, last := i.chat(t.Context(), long).all(); leftOut != 0 ||
			last.Done == nil {
			t.Errorf("%d left out, %+v", leftOut, last)
		}
	}
}

// TestOllamaIsReplaced: a request that has its turn waits for an Ollama that is started again, and
// for no longer than it says.
func TestOllamaIsReplaced(t *testing.T) {
	f := newFake(t, answers)
	address := f.Listener.Addr().String()
	i := start(t, f.URL, func(o *Options) { o.Patience = 20 * time.Second })
	i.chat(t.Context(), ask).rest()
	f.CloseClientConnections()
	f.Close()

	came := make(chan string)
	go func() {
		text, _ := i.chat(t.Context(), ask).rest()
		came <- text
	}()

	await(t, func() bool { return i.queue.Running() == 1 })
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("somebody took the port: ", err)
	}

	again := &httptest.Server{Listener: l, Config: &http.Server{Handler: f.Config.Handler}}
	again.Start()
	defer again.Close()
	if text := <-came; text != "Hello <you>" {
		t.Errorf("got %q", text)
	}
}

// The name of an Ollama whose container is made anew resolves to nothing for a while.
func TestOllamaHasNoAddress(t *testing.T) {
	f := newFake(t, answers)
	var gone atomic.Bool
	var questions atomic.Int32
	ollamatest.Resolve(t, "ollama.internal", func() []string {
		if gone.Load() && questions.Add(1) < 16 {
			return nil
		}
		return []string{"127.0.0.1"}
	})

	_, port, err := net.SplitHostPort(f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	i := start(t, "http://ollama.internal:"+port, func(o *Options) {
		o.Patience = 20 * time.Second
	})
	i.chat(t.Context(), ask).rest()
	gone.Store(true)
	if text := readAll(i.post(t.Context(), "/chat", ask)); !strings.Contains(text, "Hello") {
		t.Errorf("got %s", text)
	}
}

// TestDrainsWithoutOllama: a request that waits for Ollama while this instance is told to stop has
// not begun.
func TestDrainsWithoutOllama(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, func(o *Options) { o.Patience = time.Minute })
	i.chat(t.Context(), ask).rest()
	f.CloseClientConnections()
	f.Close()
	refused := make(chan *problem.Problem)
	go func() {
		var p problem.Problem
		_ = json.Unmarshal([]byte(readAll(i.post(t.Context(), "/chat", ask))), &p)
		refused <- &p
	}()

	await(t, func() bool { return i.queue.Running() == 1 })
	i.queue.Close()
	if p := <-refused; p.Status != http.StatusServiceUnavailable || p.Type != problem.TypeDraining {
		t.Errorf("%+v", p)
	}
}

// TestCutBeforeTheFirstWord: one that ends before it said anything is asked once more, and not for
// ever.
func TestCutBeforeTheFirstWord(t *testing.T) {
	var asked atomic.Int32
	cuts := int32(1)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= cuts {
			panic(http.ErrAbortHandler)
		}
		answers(w, r)
	})

	i := start(t, f.URL, func(o *Options) { o.Patience = 20 * time.Second })
	if text, last := i.chat(t.Context(), ask).rest(); text != "Hello <you>" || last.Done == nil {
		t.Errorf("%q, %+v", text, last)
	}

	asked.Store(0)
	cuts = 100
	i.refused(http.StatusBadGateway, i.post(t.Context(), "/chat", ask))
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// TestWaitingIsNotTheAnswersTime: an answer's time begins with its turn.
func TestWaitingIsNotTheAnswersTime(t *testing.T) {
	var asked atomic.Int32
	open := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, hello)
		if asked.Add(1) == 1 {
			<-open
		}
		tell(w, done)
	})

	const timeout = 2 * time.Second
	first := start(t, f.URL, func(o *Options) { o.Queue = queue.New(1, 1) })
	second := start(t, f.URL, func(o *Options) { o.Queue, o.Timeout = first.queue, timeout })
	running := first.chat(t.Context(), ask)
	running.next()
	waiting := second.chat(t.Context(), ask)
	waiting.next()
	time.Sleep(timeout + timeout/2)
	close(open)
	if text, last := waiting.rest(); text != "Hello" || last.Done == nil ||
		last.Done.QueueMS < float64(timeout.Milliseconds()) {
		t.Errorf("%q, %+v", text, last)
	}

	running.rest()
}

// TestPlaceIsTaken: one owner who takes every place does not keep the others out; the one who has
// to give it up hears why.
func TestPlaceIsTaken(t *testing.T) {
	open := make(chan struct{})
	f := newFake(
		t,
		func(w http.ResponseWriter, r *http.Request) { tell(w, hello); <-open; tell(w, done) },
	)

	i := start(t, f.URL, func(o *Options) { o.Queue = queue.New(1, 2) })
	var mine []*chunks
	for range 3 {
		c := i.chat(t.Context(), ask)
		c.next()
		mine = append(mine, c)
	}

	i.refused(http.StatusTooManyRequests, i.post(t.Context(), "/chat", ask))
	req, err := http.NewRequestWithContext(
		context.WithoutCancel(t.Context()),
		http.MethodPost,
		i.url+"/chat",
		strings.NewReader(ask),
	)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set(wire.OwnerHeader, "bob")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("bob got %v, %v", resp, err)
	}
	defer resp.Body.Close()

	_, last := mine[2].rest()
	if p := last.Error; p == nil || p.Status != http.StatusTooManyRequests ||
		p.Type != "/problems/queue-full" ||
		p.RetryAfter == 0 ||
		p.QueuePosition != 3 {
		t.Errorf("the one who gave its place up got %+v", last)
	}

	close(open)
	lines := strings.Split(strings.TrimSpace(readAll(resp)), "\n")
	if first := lines[0]; first != `{"queue":2}` ||
		!slices.ContainsFunc(
			lines,
			func(l string) bool { return strings.HasPrefix(l, `{"done":`) },
		) {
		t.Errorf("bob got %q", lines)
	}

	mine[0].rest()
	mine[1].rest()
}

// TestAnotherModelOfTheSameName: what is known of a model is that of the one which has the name
// now.
func TestAnotherModelOfTheSameName(t *testing.T) {
	f := newFake(t, answers)
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}", "<|a|>")
	i := start(t, f.URL, nil)
	sent := func() string {
		i.chat(t.Context(), chatBody(t, "", nil, user("<|a|> <|b|>"))).rest()
		var req api.ChatRequest
		if err := json.Unmarshal([]byte(f.lastBody()), &req); err != nil {
			t.Fatal(err)
		}
		return req.Messages[0].Content
	}

	if got := sent(); got != "<\u200b|a|> <|b|>" {
		t.Errorf("%q", got)
	}

	f.mu.Lock()
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}", "<|b|>")
	f.tags = strings.ReplaceAll(f.tags, `"digest":"d1"`, `"digest":"d2"`)
	f.mu.Unlock()
	resp, err := http.Get(i.url + "/ready")
	if err != nil {
		t.Fatal(err)
	}

	resp.Body.Close()
	if got := sent(); got != "<|a|> <\u200b|b|>" {
		t.Errorf("%q", got)
	}
}

// TestKnownBeforeTheFirstRequest: the default model's vocabulary is there when somebody asks for
// the first time.
func TestKnownBeforeTheFirstRequest(t *testing.T) {
	f := newFake(t, answers)
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}", "<|a|>")
	var shown atomic.Int32
	counting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Config.Handler.ServeHTTP(w, r)
		if r.URL.Path == "/api/show" {
			shown.Add(1)
		}
	}))
	defer counting.Close()
	i := start(t, counting.URL, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { i.watch(ctx); close(ended) }()
	await(t, func() bool { return shown.Load() == 2 }) // the model, and its vocabulary
	if p := i.refused(http.StatusRequestEntityTooLarge,
		i.post(t.Context(), "/chat",
			chatBody(t, "", nil, user(strings.Repeat("a", 64<<10))))); p.Type != problem.TypeTooLong {
		t.Errorf("%+v", p)
	}

	if shown.Load() != 2 {
		t.Errorf("Ollama was asked %d times", shown.Load())
	}

	stop()
	<-ended
}
