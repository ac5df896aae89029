package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/google/go-cmp/cmp"
)

// service under test: the API on an Ollama.
type instance struct {
	t     testing.TB
	url   string
	queue *queue.Queue
	watch func(context.Context)
}

// groupHeader has the groups of the person who asks, in the place of a token.
const groupHeader = "Test-Group"

// start serves the API with the default model m, one request at once and one waiting unless
// change says otherwise.
func start(t testing.TB, ollamaURL string, change func(*Options)) *instance {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	client := ollama.New(ollamaURL)
	pool, err := replicas.New(replicas.Options{
		URL: ollamaURL, Parallel: 1, Everywhere: "m:latest", Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}

	o := Options{
		Ollama:       pool,
		Queue:        queue.New(1, 1),
		Builder:      build.New(build.Options{Name: "m"}, client, log, nil),
		DefaultModel: "m",
		Timeout:      time.Minute,
		Silence:      time.Minute,
		KeepAlive:    time.Minute,
		Log:          log,
	}
	if change != nil {
		change(&o)
	}

	srv := server.New("ml", log, time.Second)
	srv.Guard(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if groups, ok := r.Header[groupHeader]; ok { // as the token has them
				p := identity.Person{ID: "alice", Groups: groups}
				r = r.WithContext(identity.NewContext(r.Context(), p))
			}
			h.ServeHTTP(w, r)
		})
	})
	watch := Register(srv, o)
	h := httptest.NewServer(srv.Handler())
	t.Cleanup(func() { h.CloseClientConnections(); h.Close() })
	return &instance{t, h.URL, o.Queue, watch}
}

func (i *instance) post(ctx context.Context, path, body string) *http.Response {
	i.t.Helper()
	resp, err := i.postAs(ctx, "alice", path, body)
	if err != nil {
		i.t.Fatal(err)
	}

	return resp
}

// postAs is post in somebody's name, which may fail.
func (i *instance) postAs(
	ctx context.Context, owner, path, body string,
) (*http.Response, error) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url+path,
		strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}

	req.Header.Set(wire.OwnerHeader, owner)
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		i.t.Cleanup(func() { resp.Body.Close() })
	}

	return resp, err
}

// refused wants a problem of that status.
func (i *instance) refused(status int, resp *http.Response) *problem.Problem {
	i.t.Helper()
	b, _ := io.ReadAll(resp.Body)
	p := &problem.Problem{}
	if resp.StatusCode != status || resp.Header.Get("Content-Type") != problem.ContentType ||
		json.Unmarshal(b, p) != nil || p.Status != status {
		i.t.Fatalf("got %s %s: %s, want a problem %d", resp.Status, resp.Header, b, status)
	}

	return p
}

// chunks reads the answer as it comes.
type chunks struct {
	t testing.TB
	s *bufio.Scanner
}

func (i *instance) chat(ctx context.Context, body string) *chunks {
	i.t.Helper()
	resp := i.post(ctx, "/chat", body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mlapi.NDJSON {
		b, _ := io.ReadAll(resp.Body)
		i.t.Fatalf("got %s: %s", resp.Status, b)
	}
	return &chunks{i.t, bufio.NewScanner(resp.Body)}
}

// next is the next chunk, nil at the end.
func (c *chunks) next() *mlapi.Chunk {
	c.t.Helper()
	if !c.s.Scan() {
		if err := c.s.Err(); err != nil {
			c.t.Fatal(err)
		}
		return nil
	}

	var out mlapi.Chunk
	if err := json.Unmarshal(c.s.Bytes(), &out); err != nil {
		c.t.Fatalf("%s: %v", c.s.Bytes(), err)
	}

	return &out
}

// rest reads to the end: the text, and the last chunk.
func (c *chunks) rest() (string, *mlapi.Chunk) {
	c.t.Helper()
	var text strings.Builder
	var last *mlapi.Chunk
	for ch := c.next(); ch != nil; ch = c.next() {
		text.WriteString(ch.Text)
		last = ch
	}

	if last == nil || (last.Done == nil) == (last.Error == nil) {
		c.t.Fatalf("the last chunk is %+v", last)
	}

	return text.String(), last
}

// fake is an Ollama with the models m, n and two versions of m, whose answers
// are written by answer.
type fake struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	answer http.HandlerFunc
	tags   string
	ps     string // empty while Ollama does not say
	show   string // of every model
}

func newFake(t *testing.T, answer http.HandlerFunc) *fake {
	f := &fake{
		answer: answer,
		ps:     `{"models":[{"name":"m:latest","digest":"d1"}]}`,
		tags: `{"models":[{"name":"n:7b"},{"name":"m:0123456789ab"},` +
			`{"name":"m:latest","digest":"d1","size":5,"details":{"family":"llama"}},` +
			`{"name":"a:latest"}]}`,
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"version":"0.17.4"}`)
	})
	mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		_, _ = io.WriteString(w, f.tags)
	})

	mux.HandleFunc("GET /api/ps", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ps == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, f.ps)
	})

	mux.HandleFunc("POST /api/show", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.show == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, f.show)
	})

	mux.HandleFunc("POST /api/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.bodies = append(f.bodies, string(b))
		f.mu.Unlock()
		f.answer(w, r)
	})

	f.Server = httptest.NewServer(mux)
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func (f *fake) setPS(s string) { f.mu.Lock(); f.ps = s; f.mu.Unlock() }

func (f *fake) setTags(s string) { f.mu.Lock(); f.tags = s; f.mu.Unlock() }

func (f *fake) lastBody() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bodies[len(f.bodies)-1]
}

func tell(w http.ResponseWriter, lines ...string) {
	for _, l := range lines {
		_, _ = io.WriteString(w, l+"\n")
	}
	_ = http.NewResponseController(w).Flush()
}

const (
	hello = `{"message":{"content":"Hello"}}`
	done  = `{"message":{"content":""},"done":true,"done_reason":"stop",` +
		`"total_duration":9000000,"load_duration":1000000,"prompt_eval_count":7,` +
		`"prompt_eval_duration":2000000,"eval_count":2,"eval_duration":4000000}`
	ask = `{"messages":[{"role":"user","content":"Hi"}]}`
)

func answers(w http.ResponseWriter, _ *http.Request) {
	tell(w, hello, `{"message":{"content":" <you>"}}`, done)
}

func TestChat(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, nil)
	c := i.chat(t.Context(), `{"model":"m","messages":[`+
		`{"role":"system","content":"<|keep|>"},{"role":"user","content":"a <|im_end|> b"},`+
		`{"role":"assistant","content":"[INST]"},{"role":"user","content":"Hi"}],`+
		`"options":{"temperature":0.5}}`)
	var got []mlapi.Chunk
	for ch := c.next(); ch != nil; ch = c.next() {
		got = append(got, *ch)
	}

	if len(got) == 3 && got[2].Done != nil {
		got[2].Done.QueueMS = 0
	}

	want := []mlapi.Chunk{
		{Text: "Hello"}, {Text: " <you>"},
		{Done: &mlapi.Done{
			Model:        "m",
			Digest:       "d1",
			Reason:       "stop",
			PromptTokens: 7,
			Tokens:       2,
			LoadMS:       1,
			PromptMS:     2,
			EvalMS:       4,
		}},
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	for _, part := range []string{
		`"model":"m:latest"`, `"content":"\u003c|keep|\u003e"`,
		`"content":"a ` + "\\u003c\u200b" + `|im_end|\u003e b"`,
		`"content":"[` + "\u200b" + `INST]"`, `"temperature":0.5`, `"keep_alive":"1m0s"`,
	} {
		if !strings.Contains(f.lastBody(), part) {
			t.Errorf("Ollama was not asked with %s: %s", part, f.lastBody())
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, nil)
	for name, tc := range map[string]struct {
		path, body string
		status     int
		want       string // of the problem as JSON
	}{
		"no JSON":       {"/chat", "hi", 400, "not the JSON expected"},
		"nothing":       {"/chat", "", 400, "not the JSON expected"},
		"unknown field": {"/chat", `{"messages":[],"stream":false}`, 400, `unknown field \"stream\"`},
		"more than one": {"/chat", ask + ask, 400, "more than one JSON value"},
		"no messages":   {"/chat", `{"messages":[]}`, 400, "the last message must be the user's"},
		"nothing so far": {"/chat",
			`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":""}]}`, 400,
			"the text so far must not be empty"},
		"nobody asked": {"/chat", `{"messages":[{"role":"assistant","content":"b"}]}`, 400,
			"the last message must be the user's"},
		"system last": {"/chat",
			`{"messages":[{"role":"user","content":"a"},{"role":"system","content":"b"}]}`, 400,
			"the last message must be the user's"},
		"role":            {"/chat", `{"messages":[{"role":"tool","content":"a"}]}`, 400, "body.messages[0].role"},
		"message's field": {"/chat", `{"messages":[{"role":"user","content":"a","images":[]}]}`, 400, "images"},
		"option": {"/chat",
			`{"messages":[{"role":"user","content":"a"}],"options":{"num_gpu":1,"top_p":2}}`, 400,
			"body.options.num_gpu"},
		"other model": {"/chat", `{"model":"x","messages":[{"role":"user","content":"a"}]}`,
			404, `There is no model \"x\". There are: a, m, n:7b.`},
		"other tag": {"/chat", `{"model":"n","messages":[{"role":"user","content":"a"}]}`,
			404, "no-such-model"},
		"too large": {"/chat",
			`{"messages":[{"role":"user","content":"` + strings.Repeat("a", maxBody) + `"}]}`, 413,
			"larger than 8388608 bytes"},
		"no prompt":           {"/generate", `{"system":"x"}`, 400, "body.prompt"},
		"generate's option":   {"/generate", `{"prompt":"x","options":{"seed":1.5}}`, 400, "body.options.seed"},
		"no texts":            {"/embed", `{"input":[]}`, 400, "body.input"},
		"an empty text":       {"/embed", `{"input":["a",""]}`, 400, "body.input"},
		"embed without model": {"/embed", `{"model":"x","input":["a"]}`, 404, "no-such-model"},
	} {
		t.Run(name, func(t *testing.T) {
			i := &instance{t, i.url, i.queue, nil}
			p := i.refused(tc.status, i.post(t.Context(), tc.path, tc.body))
			b, _ := json.Marshal(p)
			if !strings.Contains(string(b), tc.want) {
				t.Errorf("got %s\nwant %s", b, tc.want)
			}
			if p.RequestID == "" {
				t.Error("no request id")
			}
		})
	}

	if len(f.bodies) != 0 {
		t.Errorf("Ollama was asked: %q", f.bodies)
	}
	if i.queue.Running() != 0 {
		t.Error("a turn stayed taken")
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		options string
		wrong   []string
	}{
		{`{}`, nil},
		{`{"temperature":0,"top_p":1,"min_p":0.5,"top_k":0,"repeat_penalty":2,"num_predict":1,` +
			`"seed":-5,"stop":["a","b"]}`,
			nil},
		{`{"temperature":2.1,"top_p":-0.1,"min_p":"1","top_k":1.5,"repeat_penalty":null,` +
			`"num_predict":0,"seed":3e9,"stop":"a"}`,
			[]string{"min_p", "num_predict", "repeat_penalty", "seed", "stop", "temperature", "top_k", "top_p"}},
		{`{"stop":[]}`, []string{"stop"}},
		{`{"stop":[""]}`, []string{"stop"}},
		{`{"stop":[1]}`, []string{"stop"}},
		{`{"stop":["1","2","3","4","5","6","7","8","9"]}`, []string{"stop"}},
		{`{"num_predict":32769}`, []string{"num_predict"}},
		{`{"num_ctx":1,"Temperature":1,"use_mmap":true}`, []string{"Temperature", "num_ctx", "use_mmap"}},
	} {
		var given map[string]any
		if err := json.Unmarshal([]byte(tc.options), &given); err != nil {
			t.Fatal(err)
		}

		var got []string
		if p := checkOptions(given); p != nil {
			for _, e := range p.Errors {
				got = append(got, strings.TrimPrefix(e.Location, "body.options."))
			}
		}

		if d := cmp.Diff(tc.wrong, got); d != "" {
			t.Errorf("%s: %s", tc.options, d)
		}
	}
}

func TestQueueOverHTTP(t *testing.T) {
	open := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, hello)
		<-open
		tell(w, done)
	})

	i := start(t, f.URL, nil)
	first := i.chat(t.Context(), ask)
	if ch := first.next(); ch.Text != "Hello" {
		t.Fatalf("got %+v", ch)
	}

	second := i.chat(t.Context(), ask)
	if ch := second.next(); ch.Queue != 1 || ch.Text != "" {
		t.Errorf("got %+v", ch)
	}

	for _, body := range []struct{ path, body string }{
		{"/chat", ask}, {"/generate", `{"prompt":"x"}`}, {"/embed", `{"input":["x"]}`},
	} {
		resp := i.post(t.Context(), body.path, body.body)
		p := i.refused(http.StatusTooManyRequests, resp)
		if resp.Header.Get("Retry-After") != "10" || p.RetryAfter != 10 || p.QueuePosition != 2 ||
			p.Type != "/problems/queue-full" {
			t.Errorf("%s: Retry-After %q, %+v", body.path, resp.Header.Get("Retry-After"), p)
		}
	}

	// While the second waits, this instance is told to stop.
	i.queue.Close()
	if _, last := second.rest(); last.Error == nil ||
		last.Error.Status != http.StatusServiceUnavailable || last.Error.RetryAfter != 1 ||
		last.Error.Type != problem.TypeDraining {
		t.Errorf("the one that waited got %+v", last)
	}

	resp := i.post(t.Context(), "/chat", ask)
	if p := i.refused(http.StatusServiceUnavailable,
		resp); resp.Header.Get("Retry-After") != "1" || p.Type != problem.TypeDraining {
		t.Errorf("Retry-After %q, %+v", resp.Header.Get("Retry-After"), p)
	}

	close(open)
	if _, last := first.rest(); last.Done == nil {
		t.Errorf("the running one got %+v", last)
	}
}

func TestWaitingOneComesNext(t *testing.T) {
	turn := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, hello)
		<-turn
		tell(w, done)
	})

	i := start(t, f.URL, nil)
	first := i.chat(t.Context(), ask)
	first.next()
	second := i.chat(t.Context(), ask)
	second.next()
	turn <- struct{}{}
	first.rest()
	turn <- struct{}{}
	if text, last := second.rest(); text != "Hello" || last.Done == nil || last.Done.QueueMS <= 0 {
		t.Errorf("%q, %+v", text, last.Done)
	}
}

// TestReaderGone: who goes away while waiting or while reading costs neither a
// turn nor Ollama's work.
func TestReaderGone(t *testing.T) {
	ended := make(chan struct{}, 10)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, hello)
		<-r.Context().Done()
		ended <- struct{}{}
	})

	i := start(t, f.URL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	i.chat(ctx, ask).next()
	waiting, give := context.WithCancel(t.Context())
	i.chat(waiting, ask).next()
	give()
	await(t, func() bool { return i.queue.Waiting() == 0 })
	if i.queue.Running() != 1 {
		t.Errorf("%d run", i.queue.Running())
	}

	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("Ollama's request went on")
	}

	await(t, func() bool { return i.queue.Running() == 0 })
	i.chat(t.Context(), ask).next()
}

func await(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not become true")
		}
	}
}

// TestFailures: what goes wrong before the first word is a problem, later it is the last chunk.
func TestFailures(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, tc := range map[string]struct {
		answer          http.HandlerFunc
		silence, within time.Duration
		status          int
		want, kind      string
	}{
		"error": {answer: func(w http.ResponseWriter, _ *http.Request) {
			tell(w, `{"error":"out of memory"}`)
		}, status: 502, want: "out of memory"},
		"refused": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			tell(w, `{"error":"no chat"}`)
		}, status: 400, want: "no chat"},
		"model gone": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			tell(w, `{"error":"model not found"}`)
		}, status: 404, want: "model not found", kind: "/problems/no-such-model"},
		"cut": {answer: func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler)
		}, status: 502, want: "cannot answer at the moment"},
		"nothing": {answer: func(http.ResponseWriter, *http.Request) {}, status: 502, want: "cut off"},
		"takes too long": {
			answer: hang,
			within: 2 * time.Second, // in which the first word comes, where there is one
			status: 504,
			want:   "was not done within 2s",
			kind:   problem.TypeTimeout,
		},
		"silence at first": {answer: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			answers(w, r)
		}, silence: 400 * time.Millisecond, status: 200, want: ""},
		"silence later": {answer: func(w http.ResponseWriter, r *http.Request) {
			tell(w, hello)
			hang(w, r)
		}, silence: 50 * time.Millisecond, status: 504, want: "it fell silent for 50ms"},
	} {
		for _, later := range []bool{false, true} {
			if later && (name == "refused" || name == "model gone") ||
				!later && name == "silence later" {
				continue
			}

			t.Run(fmt.Sprint(name, " ", later), func(t *testing.T) {
				f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
					if later {
						tell(w, `{"message":{"content":"So"}}`)
					}
					tc.answer(w, r)
				})

				i := start(t, f.URL, func(o *Options) {
					if tc.silence > 0 {
						o.Silence = tc.silence
					}
					if tc.within > 0 {
						o.Timeout = tc.within
					}
				})

				var p *problem.Problem
				switch {
				case name == "silence at first" && !later:
					if text, last := i.chat(t.Context(), ask).rest(); last.Done == nil ||
						text != "Hello <you>" {
						t.Errorf("%q, %+v", text, last)
					}
					return
				case later:
					text, last := i.chat(t.Context(), ask).rest()
					if p = last.Error; p == nil || !strings.HasPrefix(text, "So") {
						t.Fatalf("%q, %+v", text, last)
					}
				default:
					p = i.refused(tc.status, i.post(t.Context(), "/chat", ask))
				}

				want := tc
				if name == "silence at first" {
					want.status, want.want = 504, "it fell silent for 400ms"
				}

				if p.Status != want.status || p.Type != want.kind ||
					!strings.Contains(p.Detail, want.want) {
					t.Errorf("got %+v", p)
				}

				await(t, func() bool { return i.queue.Running() == 0 })
			})
		}
	}
}

func TestModelsAndReadiness(t *testing.T) {
	f := newFake(t, answers)
	i := start(t, f.URL, nil)
	get := func(path string, out any) int {
		resp, err := http.Get(i.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()

		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}

		return resp.StatusCode
	}

	var m mlapi.Models
	get("/models", &m)
	want := mlapi.Models{
		Build: mlapi.Build{Name: "m", State: mlapi.BuildPending},
		Models: []mlapi.ModelInfo{
			{Name: "m", Digest: "d1", SizeBytes: 5, Family: "llama", Default: true, Loaded: true},
			{Name: "a"}, {Name: "n:7b"}},
	}

	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}

	var r wire.Readiness
	if code := get("/ready", &r); code != 200 || r.Checks["model"] != "ok" ||
		r.Checks["ollama"] != "ok" {
		t.Errorf("%d %+v", code, r)
	}

	f.setTags(`{"models":[{"name":"a:latest"}]}`)
	if code := get("/ready", &r); code != 503 ||
		r.Checks["model"] != "the model m is being made: pending" {
		t.Errorf("%d %+v", code, r)
	}

	resp := i.post(t.Context(), "/chat", ask)
	if p := i.refused(503, resp); p.Type != "/problems/model-not-ready" ||
		resp.Header.Get("Retry-After") != "5" {
		t.Errorf("%+v", p)
	}

	f.Close()
	if code := get("/ready", &r); code != 503 || !strings.Contains(r.Checks["ollama"], "refused") {
		t.Errorf("%d %+v", code, r)
	}
	if code := get("/health", &r); code != 200 {
		t.Errorf("health: %d", code)
	}
	if code := get("/models", &m); code != 200 || len(m.Models) != 0 {
		t.Errorf("models without Ollama: %d %+v", code, m)
	}
	if p := i.refused(502, i.post(t.Context(), "/chat", ask)); !strings.Contains(p.Detail, "refused") {
		t.Errorf("%+v", p)
	}
}

// TestModelThatWasDeleted: the names of the models are asked for again once Ollama refuses one of
// them.
func TestModelThatWasDeleted(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(404)
		tell(w, `{"error":"model 'a' not found"}`)
	})

	i := start(t, f.URL, nil)
	const askA = `{"model":"a","messages":[{"role":"user","content":"Hi"}]}`
	i.refused(404, i.post(t.Context(), "/chat", askA))
	f.setTags(`{"models":[{"name":"m:latest"}]}`)
	if p := i.refused(404, i.post(t.Context(), "/chat", askA)); !strings.Contains(p.Detail, "There are: m.") {
		t.Errorf("%+v", p)
	}
	if len(f.bodies) != 1 {
		t.Errorf("Ollama was asked %d times", len(f.bodies))
	}
}

// TestNameGivenToAnotherVersion: Ollama cannot read a model while its name is written; the
// reader sees nothing of it.
func TestNameGivenToAnotherVersion(t *testing.T) {
	for _, answer := range []string{`{"error":"EOF"}`, `{"error":"model 'm' not found"}`} {
		asked := 0
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked > 1 {
				answers(w, r)
				return
			}
			w.WriteHeader(http.StatusNotFound)
			tell(w, answer)
		})

		i := start(t, f.URL, nil)
		if text, last := i.chat(t.Context(), ask).rest(); text != "Hello <you>" ||
			last.Done == nil {
			t.Errorf("%s: %q, %+v", answer, text, last)
		}
	}
}
