package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgetest"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/google/go-cmp/cmp"
)

// instance is the API in front of an ml that answer plays.
type instance struct {
	t    *testing.T
	url  string
	key  string
	keys *apikey.Keys
	log  *syncLog

	handler   http.Handler
	knowledge *knowledgetest.Server

	mu    sync.Mutex
	asked []string // method, path, owner and body
}

// syncLog is a log that may be read while it is written.
type syncLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *syncLog) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *syncLog) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

const (
	said = `{"thinking":"Hm."}` + "\n" + `{"text":"Hel"}` + "\n" + `{"text":"<lo>"}` + "\n"
	done = `{"done":{"model":"m","reason":"stop","prompt_tokens":3,"tokens":2}}` + "\n"
	call = `{"tool_calls":[{"id":"c1","name":"f","arguments":{"a":1}},` +
		`{"id":"c2","name":"g","arguments":{}}]}` + "\n"
	listed = `{"models":[{"name":"m","default":true,"modified":"2026-01-02T03:04:05Z"},` +
		`{"name":"dir/n:7b"}],"build":{}}`
	vectors = `{"model":"m","embeddings":[[1,-0.5],[0,2]],"prompt_tokens":4}`
)

func start(t *testing.T, answer http.HandlerFunc) *instance {
	t.Helper()
	var i *instance
	ml := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		i.mu.Lock()
		i.asked = append(i.asked, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path,
			r.Header.Get("Authorization"), b))
		i.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(func() { ml.CloseClientConnections(); ml.Close() })
	i = startAt(t, ml)
	return i
}

// startAt returns the API in front of ml.
func startAt(t *testing.T, ml *httptest.Server) *instance {
	t.Helper()
	i := &instance{t: t, log: &syncLog{}}
	r := redistest.StartAs(t, "gate")
	st, err := store.New(redisclient.Address{URL: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	i.keys = apikey.New(st, 0, func(_ context.Context, owner string) (identity.Person, error) {
		return identity.Person{ID: owner, Groups: []string{"of " + owner}}, nil
	})
	if i.key, err = i.keys.Make(t.Context(), "alice", "x", apikey.Scopes, time.Time{}); err != nil {
		t.Fatal(err)
	}

	client := hop.NewStreaming("ml", ml.URL)
	client.Sign(func(_ context.Context, owner string) string { return "token-of-" + owner })
	i.knowledge = knowledgetest.Start(t)
	knowledge := hop.New("knowledge", i.knowledge.URL)
	knowledge.Sign(identity.NewSigner(identity.Gate).For(identity.Knowledge))
	mux := http.NewServeMux()
	Register(mux.Handle, Options{
		ML: client, Knowledge: knowledge, Keys: i.keys, RawCompletions: true,
		Log: slog.New(slog.NewTextHandler(i.log, nil)),
	})
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	i.url, i.handler = api.URL, mux
	return i
}

// reply answers each question with these lines.
func reply(lines string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/models":
			_, _ = io.WriteString(w, listed)
		case "/embed":
			_, _ = io.WriteString(w, vectors)
		default:
			w.Header().Set("Content-Type", mlapi.NDJSON)
			_, _ = io.WriteString(w, lines)
		}
	}
}

func (i *instance) request(method, path, body string) *http.Request {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.url+path,
		strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.key)
	return req
}

// as returns the instance with a key of the owner.
func (i *instance) as(owner string) *instance {
	i.t.Helper()
	key, err := i.keys.Make(i.t.Context(), owner, "x", apikey.Scopes, time.Time{})
	if err != nil {
		i.t.Fatal(err)
	}
	return &instance{t: i.t, url: i.url, key: key}
}

func (i *instance) send(req *http.Request) (*http.Response, string) {
	i.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp, string(b)
}

func (i *instance) post(path, body string) (*http.Response, string) {
	i.t.Helper()
	return i.send(i.request(http.MethodPost, path, body))
}

// last is what ml was asked last.
func (i *instance) last() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.asked) == 0 {
		return ""
	}
	return i.asked[len(i.asked)-1]
}

// faultOf reads an error.
func (i *instance) faultOf(body string) (f Fault) {
	i.t.Helper()
	if err := json.Unmarshal([]byte(body), &faulty{&f}); err != nil || f.Message == "" ||
		f.Type == "" {
		i.t.Fatalf("%s: %v", body, err)
	}
	return f
}

func code(f Fault) string {
	if f.Code == nil {
		return ""
	}
	return *f.Code
}

const (
	ask         = `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`
	askStream   = `{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}`
	askComplete = `{"model":"m","prompt":"Hi"}`
	askEmbed    = `{"model":"m","input":"Hi"}`
)

// masked replaces what differs from answer to answer.
func masked(body string) string {
	body = regexp.MustCompile(`(chatcmpl|cmpl)-[A-Z2-7]{26}`).ReplaceAllString(body, "$1-ID")
	return regexp.MustCompile(`"created":\d{10}`).ReplaceAllString(body, `"created":1`)
}

// TestAnswers checks the form of answers to the byte.
func TestAnswers(t *testing.T) {
	chat := func(choice string) string {
		return `{"id":"chatcmpl-ID","object":"chat.completion","created":1,"model":"m","choices":[` +
			choice + `],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n"
	}
	chunk := func(choice string) string {
		return `data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1,"model":"m",` +
			`"choices":[` + choice + `]}` + "\n\n"
	}
	added := func(delta string) string {
		return chunk(`{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":null}`)
	}
	begin := added(`{"role":"assistant","content":""}`)
	end := func(reason string) string {
		return chunk(`{"index":0,"delta":{},"logprobs":null,"finish_reason":"` + reason + `"}`)
	}
	text := func(choice string) string {
		return `{"id":"cmpl-ID","object":"text_completion","created":1,"model":"m","choices":[` +
			choice + `]`
	}

	for _, tt := range []struct{ path, ask, says, want string }{
		{"/v1/chat/completions", ask, said + done, chat(`{"index":0,"message":{"role":"assistant",` +
			`"content":"Hel\u003clo\u003e","refusal":null,"reasoning_content":"Hm."},` +
			`"logprobs":null,"finish_reason":"stop"}`)},
		{"/v1/chat/completions", ask, call + done, chat(`{"index":0,"message":{"role":"assistant",` +
			`"content":null,"refusal":null,"tool_calls":[{"id":"c1","type":"function","function":` +
			`{"name":"f","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":` +
			`{"name":"g","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}`)},
		{"/v1/chat/completions", askStream, said + done, begin +
			added(`{"reasoning_content":"Hm."}`) + added(`{"content":"Hel"}`) +
			added(`{"content":"<lo>"}`) + end("stop") + "data: [DONE]\n\n"},
		{"/v1/chat/completions", askStream, done, begin + end("stop") + "data: [DONE]\n\n"},
		{"/v1/chat/completions", askStream, `{"queue":2}` + "\n" + call + done, begin +
			added(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":`+
				`{"name":"f","arguments":"{\"a\":1}"}},{"index":1,"id":"c2","type":"function",`+
				`"function":{"name":"g","arguments":"{}"}}]}`) +
			end("tool_calls") + "data: [DONE]\n\n"},
		{"/v1/chat/completions", strings.Replace(askStream, `{`, `{"parallel_tool_calls":false,`, 1),
			call + call + done, begin +
				added(`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":`+
					`{"name":"f","arguments":"{\"a\":1}"}}]}`) +
				end("tool_calls") + "data: [DONE]\n\n"},
		{"/v1/completions", askComplete, said + strings.Replace(done, "stop", "length", 1),
			text(`{"index":0,"text":"Hel\u003clo\u003e","logprobs":null,"finish_reason":"length"}`) +
				`,"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` + "\n"},
		{"/v1/completions", `{"model":"m","prompt":"Hi","stream":true,` +
			`"stream_options":{"include_usage":true}}`, said + done,
			"data: " + text(`{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}`) + "}\n\n" +
				"data: " + text(`{"index":0,"text":"<lo>","logprobs":null,"finish_reason":null}`) + "}\n\n" +
				"data: " + text(`{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}`) + "}\n\n" +
				"data: " + text("") +
				`,"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}` +
				"\n\ndata: [DONE]\n\n"},
	} {
		i := start(t, reply(tt.says))
		resp, body := i.post(tt.path, tt.ask)
		if d := cmp.Diff(tt.want, masked(body)); d != "" || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s (-want +got):\n%s", tt.ask, resp.Status, d)
		}
		if h := resp.Header.Get("Access-Control-Allow-Origin"); h != "" {
			t.Errorf("CORS: %q", h)
		}
		if !strings.Contains(i.last(), " Bearer token-of-alice ") {
			t.Errorf("ml was asked %q", i.last())
		}
	}
}

func TestModelsAndEmbeddings(t *testing.T) {
	i := start(t, reply(""))
	const m = `{"id":"m","object":"model","created":1767323045,"owned_by":"codexcontinue"}`
	const n = `{"id":"dir/n:7b","object":"model","created":0,"owned_by":"codexcontinue"}`
	for path, want := range map[string]string{
		"/v1/models":              `{"object":"list","data":[` + m + "," + n + "]}\n",
		"/v1/models/m":            m + "\n",
		"/v1/models/m:latest":     m + "\n",
		"/v1/models/dir/n:7b":     n + "\n",
		"/v1/models/dir%2Fn%3A7b": n + "\n",
	} {
		if resp, body := i.send(i.request(http.MethodGet, path, "")); body != want {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
	resp, body := i.send(i.request(http.MethodGet, "/v1/models/absent", ""))
	if f := i.faultOf(body); resp.StatusCode != 404 || code(f) != "model_not_found" {
		t.Errorf("%s %s", resp.Status, body)
	}

	const usage = `"model":"m","usage":{"prompt_tokens":4,"total_tokens":4}}` + "\n"
	for format, want := range map[string]string{
		"float": `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5]},` +
			`{"object":"embedding","index":1,"embedding":[0,2]}],` + usage,
		"base64": `{"object":"list","data":[{"object":"embedding","index":0,` +
			`"embedding":"AACAPwAAAL8="},{"object":"embedding","index":1,` +
			`"embedding":"AAAAAAAAAEA="}],` + usage,
	} {
		if resp, body := i.post("/v1/embeddings", `{"model":"m","input":["a","b"],`+
			`"encoding_format":"`+format+`"}`); body != want {
			t.Errorf("%s: %s %s", format, resp.Status, body)
		}
	}
}

// TestManyEmbeddings checks that ml is asked for many vectors in parts, and for no more than that.
func TestManyEmbeddings(t *testing.T) {
	var mu sync.Mutex
	at := 0
	i := start(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n := min(embedSlice, maxInputs-at)
		out := mlapi.EmbedResponse{PromptTokens: n}
		for range n {
			out.Embeddings = append(out.Embeddings, []float32{float32(at)})
			at++
		}
		wire.WriteJSON(w, http.StatusOK, out)
	})
	many := func(n int) string {
		return `{"model":"m","input":["x"` + strings.Repeat(`,"x"`, n-1) + `]}`
	}

	resp, body := i.post("/v1/embeddings", many(maxInputs))
	var got struct {
		Data  []struct{ Embedding []float32 }
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Data) != maxInputs ||
		got.Data[maxInputs-1].Embedding[0] != maxInputs-1 || got.Usage.PromptTokens != maxInputs {
		t.Errorf("%s: %d vectors, %+v, %v", resp.Status, len(got.Data), got.Usage, err)
	}
	if n := strings.Count(i.last(), `"x"`); n > embedSlice || len(i.asked) != maxInputs/embedSlice {
		t.Errorf("ml was asked %d times, at last for %d", len(i.asked), n)
	}

	asked := len(i.asked)
	for _, ask := range []string{many(maxInputs + 1), `{"model":"m","input":[]}`,
		`{"model":"m","input":["a",""]}`} {
		resp, body := i.post("/v1/embeddings", ask)
		if f := i.faultOf(body); resp.StatusCode != 400 || f.Param == nil || *f.Param != "input" {
			t.Errorf("%.40s: %s %s", ask, resp.Status, body)
		}
	}
	if len(i.asked) != asked {
		t.Errorf("ml was asked %s", i.last())
	}
}

// row matches a row of a table of fields: the field, what becomes of it, and an example.
var row = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (honoured|ignored|refused) \\| `(.+?)` \\|")

// TestFields sends each row of docs/api.md.
func TestFields(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}

	i := start(t, reply(said+call+done))
	for path, ask := range map[string]string{
		"/v1/chat/completions": ask, "/v1/completions": askComplete, "/v1/embeddings": askEmbed,
	} {
		_, section, ok := strings.Cut(string(doc), "### "+path+"\n")
		if !ok {
			t.Fatalf("docs/api.md lacks %s", path)
		}
		section, _, _ = strings.Cut(section, "\n#")
		rows := row.FindAllStringSubmatch(section, -1)
		if lines := strings.Count(section, "\n| `"); len(rows) != lines || lines < 7 {
			t.Errorf("%s: %d of %d rows are understood", path, len(rows), lines)
		}

		_, plain := i.post(path, ask)
		asked := i.last()
		rules := map[string]rules{
			"/v1/chat/completions": chatRules, "/v1/completions": completionRules,
		}[path]
		listed := map[string]bool{}
		for _, r := range rows {
			field, fate, example := r[1], r[2], r[3]
			listed[field] = true
			var body map[string]json.RawMessage
			if err := json.Unmarshal([]byte(ask), &body); err != nil {
				t.Fatal(err)
			}
			body[field] = json.RawMessage(example)
			sent, err := json.Marshal(body)
			if err != nil {
				t.Fatalf("%s %s: %v", path, field, err)
			}

			resp, got := i.post(path, string(sent))
			changed := i.last() != asked || masked(got) != masked(plain)
			switch {
			case fate == "refused":
				f := i.faultOf(got)
				if resp.StatusCode != http.StatusBadRequest || f.Param == nil ||
					!strings.HasPrefix(*f.Param, field) {
					t.Errorf("%s %s %s: %s %s", path, field, example, resp.Status, got)
				}
			case resp.StatusCode != http.StatusOK:
				t.Errorf("%s %s %s: %s %s", path, field, example, resp.Status, got)
			case field == "stream_options": // it is for streams
			case field == "tool_choice": // it is for tools
			case changed != (fate == "honoured"):
				t.Errorf("%s %s %s is not %s: ml was asked %s", path, field, example, fate, i.last())
			}

			body[field] = json.RawMessage("null")
			sent, _ = json.Marshal(body)
			if resp, got := i.post(path, string(sent)); resp.StatusCode != 200 && !required[field] {
				t.Errorf("%s %s null: %s %s", path, field, resp.Status, got)
			}
		}

		for field := range rules {
			if !listed[field] {
				t.Errorf("docs/api.md does not say that %s refuses %s", path, field)
			}
		}
	}
}

// required are the fields that each request has.
var required = map[string]bool{"model": true, "messages": true, "prompt": true, "input": true}

// TestAsked checks what ml is asked.
func TestAsked(t *testing.T) {
	i := start(t, reply(said+done))
	const tool = `{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}`
	for _, tt := range []struct{ path, ask, want string }{
		{"/v1/chat/completions", `{"model":"m","max_tokens":5,"max_completion_tokens":99999,"seed":` +
			`4294967303,"stop":"x","temperature":0,"response_format":{"type":"json_schema",` +
			`"json_schema":{"name":"n","schema":{"type":"object"}}},"tools":[` + tool + `],"messages":[` +
			`{"role":"developer","content":"Be brief"},` +
			`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},` +
			`{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",` +
			`"function":{"name":"f","arguments":"{\"a\": 1}"}},{"id":"c2","type":"function",` +
			`"function":{"name":"g","arguments":""}}]},` +
			`{"role":"tool","tool_call_id":"c2","content":"two"}]}`,
			`POST /chat Bearer token-of-alice {"model":"m","messages":[` +
				`{"role":"system","content":"Be brief"},{"role":"user","content":"a\n\nb"},` +
				`{"role":"assistant","content":"","tool_calls":[` +
				`{"id":"c1","name":"f","arguments":{"a":1}},{"id":"c2","name":"g","arguments":{}}]},` +
				`{"role":"tool","content":"two","tool_name":"g","tool_call_id":"c2"}],` +
				`"options":{"num_predict":32768,"seed":7,"stop":["x"],"temperature":0},` +
				`"whole":true,"tools":[` + tool + `],"format":{"type":"object"}}`},
		{"/v1/chat/completions", strings.Replace(ask, "{", `{"tool_choice":"none","tools":[`+tool+`],`,
			1), `POST /chat Bearer token-of-alice {"model":"m","messages":[` +
			`{"role":"user","content":"Hi"}],"whole":true}`},
		{"/v1/completions", `{"model":"m","prompt":"a","suffix":"b"}`,
			`POST /generate Bearer token-of-alice {"model":"m","prompt":"a","suffix":"b"}`},
		{"/v1/completions", `{"model":"m","prompt":"a"}`,
			`POST /generate Bearer token-of-alice {"model":"m","prompt":"a","raw":true}`},
		{"/v1/embeddings", `{"model":"m","input":"a","dimensions":2}`,
			`POST /embed Bearer token-of-alice {"model":"m","input":["a"],"dimensions":2}`},
	} {
		if resp, body := i.post(tt.path, tt.ask); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", tt.ask, resp.Status, body)
		}
		if d := cmp.Diff(tt.want, i.last()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.ask, d)
		}
	}
}

// TestInvalid checks what is refused before ml is asked.
func TestInvalid(t *testing.T) {
	i := start(t, reply(said+done))
	chat := func(field, value string) string {
		return `{"model":"m","messages":[{"role":"user","content":"Hi"}],"` + field + `":` + value + `}`
	}
	for _, tt := range []struct{ path, ask, param, code string }{
		{"/v1/chat/completions", `[]`, "", ""},
		{"/v1/chat/completions", `{"model":"m"`, "", ""},
		{"/v1/chat/completions", chat("temperature", `"hot"`), "temperature", "invalid_type"},
		{"/v1/chat/completions", chat("stop", `7`), "stop", "invalid_value"},
		{"/v1/chat/completions", chat("model", `""`), "model", "invalid_value"},
		{"/v1/chat/completions", chat("max_completion_tokens", `0`), "max_completion_tokens",
			"invalid_value"},
		{"/v1/chat/completions", chat("messages", `[]`), "messages", "invalid_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"user","content":"Hi"},`+
			`{"role":"assistant","content":"So"}]`), "messages", "invalid_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"function","content":"Hi"}]`),
			"messages[0].role", "unsupported_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"user","content":7}]`),
			"messages[0].content", "invalid_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"tool","tool_call_id":"x","content":""}]`),
			"messages[0].tool_call_id", "invalid_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"assistant","tool_calls":[{"id":"c",`+
			`"function":{"name":"f","arguments":"[]"}}]},{"role":"user","content":""}]`),
			"messages[0].tool_calls[0].function.arguments", "invalid_value"},
		{"/v1/chat/completions", chat("messages", `[{"role":"assistant","tool_calls":[{"id":"c",`+
			`"function":{"name":"`+strings.Repeat("f", 65)+`"}}]},{"role":"user","content":""}]`),
			"messages[0].tool_calls[0].function.name", "invalid_value"},
		{"/v1/chat/completions", chat("tools", `[{"type":"function","function":{"name":"a b"}}]`),
			"tools[0].function.name", "invalid_value"},
		{"/v1/chat/completions", chat("response_format", `{"type":"xml"}`), "response_format.type",
			"unsupported_value"},
		{"/v1/chat/completions", chat("response_format", `{"type":"json_schema"}`),
			"response_format.json_schema.schema", "invalid_value"},
		{"/v1/completions", `{"model":"m","prompt":""}`, "prompt", "invalid_value"},
		{"/v1/completions", `{"prompt":"x"}`, "model", "invalid_value"},
		{"/v1/embeddings", `{"input":"x"}`, "model", "invalid_value"},
	} {
		resp, body := i.post(tt.path, tt.ask)
		f := i.faultOf(body)
		param := ""
		if f.Param != nil {
			param = *f.Param
		}
		if resp.StatusCode != http.StatusBadRequest || param != tt.param || code(f) != tt.code ||
			f.Type != "invalid_request_error" {
			t.Errorf("%s: %s %s", tt.ask, resp.Status, body)
		}
	}
	if asked := i.last(); asked != "" {
		t.Errorf("ml was asked %s", asked)
	}

	resp, body := i.post("/v1/chat/completions", `{"model":"`+strings.Repeat("x", 8<<20)+`"}`)
	if f := i.faultOf(body); resp.StatusCode != 413 || code(f) != "request_too_large" {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, _ := i.post("/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"`+
		strings.Repeat("x", 7<<20)+`"}]}`); resp.StatusCode != http.StatusOK {
		t.Errorf("7 MB: %s", resp.Status)
	}
}

// TestRefusals checks what a client is told of ml's refusals.
func TestRefusals(t *testing.T) {
	var refusal *problem.Problem
	i := start(t, func(w http.ResponseWriter, r *http.Request) { problem.Write(w, r, refusal) })
	busy := problem.New(429, "Full.")
	busy.RetryAfter = 7
	option := problem.New(400, "The request is not valid.")
	option.Errors = []problem.FieldError{{Location: "body.options.num_predict", Message: "no"}}
	for _, tt := range []struct {
		refusal           *problem.Problem
		status            int
		kind, param, code string
		after             string
	}{
		{problem.Typed(problem.TypeTooLong, 413, "Long."), 400, "invalid_request_error", "messages",
			"context_length_exceeded", ""},
		{problem.Typed(mlapi.TypeNoModel, 404, "None."), 404, "invalid_request_error", "model",
			"model_not_found", ""},
		{busy, 429, "requests", "", "rate_limit_exceeded", "7"},
		{option, 400, "invalid_request_error", "max_tokens", "invalid_value", ""},
		{problem.New(400, "No tools."), 400, "invalid_request_error", "", "", ""},
		{problem.New(413, "Large."), 413, "invalid_request_error", "", "request_too_large", ""},
		{problem.New(401, "Who?"), 503, "server_error", "", "", "2"},
		{problem.New(403, "You?"), 503, "server_error", "", "", "2"},
		{problem.New(504, "Slow."), 504, "server_error", "", "", ""},
	} {
		refusal = tt.refusal
		for _, ask := range []string{ask, askStream} {
			resp, body := i.post("/v1/chat/completions", ask)
			f := i.faultOf(body)
			param := ""
			if f.Param != nil {
				param = *f.Param
			}
			if resp.StatusCode != tt.status || f.Type != tt.kind || param != tt.param ||
				code(f) != tt.code || resp.Header.Get("Retry-After") != tt.after {
				t.Errorf("%+v: %s %v %s", tt.refusal, resp.Status, resp.Header, body)
			}
		}
	}
	if log := i.log.String(); !strings.Contains(log, "Who?") || !strings.Contains(log, "You?") {
		t.Errorf("that ml does not know the gate is not in the log: %s", log)
	}
}

// TestTooLarge checks what a client is told of a body that is cut off as too large.
func TestTooLarge(t *testing.T) {
	f := asFault(fmt.Errorf("x: %w", &http.MaxBytesError{Limit: 1}), "")
	if f.Status != http.StatusRequestEntityTooLarge || code(*f) != "request_too_large" {
		t.Errorf("%+v", f)
	}
}

// TestCut checks an answer that ml does not end: before its first word it is asked for again, after
// it the stream ends with an error.
func TestCut(t *testing.T) {
	var mu sync.Mutex
	var replies []string
	i := start(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(w, replies[0])
		replies = replies[1:]
	})
	const draining = `{"error":{"type":"/problems/draining","title":"x","status":503}}` + "\n"
	for _, ask := range []string{ask, askStream} {
		replies = []string{`{"queue":1}` + "\n", draining, said + done}
		if resp, body := i.post("/v1/chat/completions", ask); resp.StatusCode != 200 ||
			!strings.Contains(body, "stop") || len(replies) != 0 {
			t.Errorf("%s: %s %s", ask, resp.Status, body)
		}
	}

	for _, end := range []string{"", `{"error":{"title":"x","status":502,"detail":"Lost."}}` + "\n"} {
		replies = []string{said + end, "never"}
		resp, body := i.post("/v1/chat/completions", ask)
		if f := i.faultOf(body); resp.StatusCode != 502 || f.Type != "server_error" ||
			len(replies) != 1 {
			t.Errorf("%s %s", resp.Status, body)
		}

		replies = []string{said + end, "never"}
		resp, body = i.post("/v1/chat/completions", askStream)
		events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
		f := i.faultOf(strings.TrimPrefix(events[len(events)-1], "data: "))
		if resp.StatusCode != 200 || f.Type != "server_error" || len(replies) != 1 ||
			!strings.Contains(body, "<lo>") || strings.Contains(body, "[DONE]") ||
			strings.Contains(body, `finish_reason":"`) {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
}

// TestDisconnect checks that a client that goes away ends the question to ml.
func TestDisconnect(t *testing.T) {
	for _, ask := range []string{ask, askStream} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		i := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, said)
			_ = http.NewResponseController(w).Flush()
			time.AfterFunc(200*time.Millisecond, cancel) // when ml has the question
			<-r.Context().Done()
			close(ended)
		})
		req := i.request(http.MethodPost, "/v1/chat/completions", ask).WithContext(ctx)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.ReadAll(resp.Body)
			resp.Body.Close()
		}

		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: ml goes on", ask)
		}
		cancel()
		if log := i.log.String(); log != "" {
			t.Errorf("the log has %s", log)
		}
	}
}

// TestKey checks who is let in, and that no log has what is secret.
func TestKey(t *testing.T) {
	i := start(t, reply(said+done))
	narrow, err := i.keys.Make(t.Context(), "bob", "x", []apikey.Scope{apikey.Models}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		authorization, path string
		status              int
		code                string
	}{
		{"", "/v1/chat/completions", 401, "invalid_api_key"},
		{"Bearer", "/v1/chat/completions", 401, "invalid_api_key"},
		{"Basic " + i.key, "/v1/chat/completions", 401, "invalid_api_key"},
		{"Bearer sk-1234", "/v1/chat/completions", 401, "invalid_api_key"},
		{"bearer " + i.key, "/v1/chat/completions", 200, ""},
		{"Bearer " + narrow, "/v1/chat/completions", 403, "insufficient_permissions"},
		{"Bearer " + narrow, "/v1/completions", 403, "insufficient_permissions"},
		{"Bearer " + narrow, "/v1/embeddings", 403, "insufficient_permissions"},
		{"Bearer " + i.key, "/v1/chat/completions?api_key=x", 400, "key_in_url"},
		{"", "/v1/chat/completions?k=" + i.key, 400, "key_in_url"},
		{"", "/v1/" + i.key, 400, "key_in_url"},
		{"Bearer " + narrow, "/v1/responses", 404, "unknown_url"},
		{"Bearer " + i.key, "/v1/responses", 404, "unknown_url"},
	} {
		req := i.request(http.MethodPost, tt.path, ask)
		req.Header.Set("Authorization", tt.authorization)
		req.Header.Set(wire.OwnerHeader, "mallory")
		resp, body := i.send(req)
		if resp.StatusCode != tt.status || tt.status != 200 && code(i.faultOf(body)) != tt.code {
			t.Errorf("%s with %q: %s %s", tt.path, tt.authorization, resp.Status, body)
		}
		if tt.status == 401 && resp.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%v", resp.Header)
		}
	}

	if log := i.log.String(); strings.Contains(log, i.key) || strings.Contains(log, "Hi") {
		t.Errorf("the log tells a secret: %s", log)
	}
}

// TestBodiesAtOnce checks that requests beyond what may be held at once are refused for a while.
func TestBodiesAtOnce(t *testing.T) {
	i := start(t, reply(said+done))
	s := newService(Options{Keys: i.keys, Log: slog.New(slog.DiscardHandler)})
	h := s.admit(apikey.Chat, func(w http.ResponseWriter, r *http.Request, _ string) error {
		_, err := io.Copy(w, r.Body)
		return err
	})

	var bodies []*io.PipeWriter
	var wg sync.WaitGroup
	for n := range maxBodies / maxBody {
		pr, pw := io.Pipe()
		bodies = append(bodies, pw)
		req := i.as(fmt.Sprint("person ", n*maxBody/maxOwnBodies)).request(http.MethodPost, "/", "")
		req.Body, req.ContentLength = pr, maxBody
		if n%2 == 0 {
			req.ContentLength = -1
		}
		wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), req) })
		if _, err := pw.Write([]byte("x")); err != nil { // it is read, so it was let in
			t.Fatal(err)
		}
	}

	for body, want := range map[string]int{"": http.StatusOK, "x": http.StatusTooManyRequests} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, i.request(http.MethodPost, "/", body))
		if w.Code != want {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
		if want != http.StatusOK {
			if f := i.faultOf(w.Body.String()); code(f) != "rate_limit_exceeded" ||
				f.Type != typeLimit || w.Header().Get("Retry-After") == "" {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
		}
	}

	for _, pw := range bodies {
		pw.Close()
	}
	wg.Wait()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, i.request(http.MethodPost, "/", "x"))
	if w.Code != http.StatusOK {
		t.Errorf("after them: %d %s", w.Code, w.Body)
	}
}

// TestOwnBodiesAtOnce checks that one person's programs leave room for those of others.
func TestOwnBodiesAtOnce(t *testing.T) {
	i := start(t, reply(said+done))
	s := newService(Options{Keys: i.keys, Log: slog.New(slog.DiscardHandler)})
	h := s.admit(apikey.Chat, func(_ http.ResponseWriter, r *http.Request, _ string) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	})
	status := func(i *instance) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, i.request(http.MethodPost, "/", "x"))
		return w.Code
	}

	var bodies []*io.PipeWriter
	var wg sync.WaitGroup
	for range maxOwnBodies / maxBody {
		pr, pw := io.Pipe()
		bodies = append(bodies, pw)
		req := i.request(http.MethodPost, "/", "")
		req.Body, req.ContentLength = pr, -1
		wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), req) })
		if _, err := pw.Write([]byte("x")); err != nil { // it is read, so it was let in
			t.Fatal(err)
		}
	}

	if got := status(i); got != http.StatusTooManyRequests {
		t.Errorf("one more of the same person: %d", got)
	}
	if got := status(i.as("bob")); got != http.StatusOK {
		t.Errorf("one of somebody else: %d", got)
	}

	for _, pw := range bodies {
		pw.Close()
	}
	wg.Wait()
	if got := status(i); got != http.StatusOK {
		t.Errorf("after them: %d", got)
	}
}

// TestRawOff checks that a stack with a safety prompt has no prompts without it.
func TestRawOff(t *testing.T) {
	i := start(t, reply(said+done))
	s := newService(Options{Keys: i.keys, Log: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	s.admit(apikey.Completions, s.complete).ServeHTTP(w,
		i.request(http.MethodPost, "/v1/completions", askComplete))
	if f := i.faultOf(w.Body.String()); w.Code != 400 || code(f) != "raw_completions_off" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
