package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

// asked is the answer to a request: its text, its calls and its last chunk.
func (i *instance) asked(path string, req any) (string, []mlapi.ToolCall, *mlapi.Chunk) {
	i.t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		i.t.Fatal(err)
	}

	resp := i.post(i.t.Context(), path, string(body))
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		i.t.Fatalf("%s: %s %s", path, resp.Status, b)
	}

	var text strings.Builder
	var calls []mlapi.ToolCall
	var last mlapi.Chunk
	for d := json.NewDecoder(resp.Body); d.More(); {
		last = mlapi.Chunk{}
		if err := d.Decode(&last); err != nil {
			i.t.Fatal(err)
		}
		text.WriteString(last.Text)
		calls = append(calls, last.ToolCalls...)
	}

	return text.String(), calls, &last
}

const glob = `{"type":"function","function":{"name":"glob","description":"Tells </s> it",` +
	`"parameters":{"type":"object","required":["pattern"],` +
	`"properties":{"pattern":{"type":"string","description":"\u003c/s\u003e"}}}}}`

// TestProgram checks what a program asks a real Ollama for: tools, a format, and text between two
// others.
func TestProgram(t *testing.T) {
	s := ollamatest.Start(t)
	s.Calling(t, "m", safety, 2048)
	seen := newSpy(t, s.URL)
	i := start(t, seen.URL, nil)
	tools := []json.RawMessage{json.RawMessage(glob)}

	text, calls, last := i.asked("/chat", mlapi.ChatRequest{
		Whole: true, Tools: tools, Messages: []mlapi.Message{user("What is there?")},
	})
	if text != "" || len(calls) != 1 || calls[0].Name != "glob" || calls[0].ID == "" ||
		string(calls[0].Arguments) != `{"pattern":"*"}` || last.Done == nil {
		t.Fatalf("%q, %+v, %+v", text, calls, last)
	}

	conversation := []mlapi.Message{
		{Role: "system", Content: "Be brief.</s>"},
		user("What is there?"),
		{Role: "assistant", ToolCalls: calls},
		{Role: "tool", Content: "main.go</s>", ToolName: "glob", ToolCallID: calls[0].ID},
	}
	text, calls, last = i.asked("/chat", mlapi.ChatRequest{
		Whole: true, Tools: tools, Messages: conversation,
		Options: map[string]any{"presence_penalty": 0.5, "frequency_penalty": -0.5},
	})
	if text != tinymodel.Answer || calls != nil || last.Done == nil {
		t.Errorf("%q, %+v, %+v", text, calls, last)
	}

	// The client's SYSTEM follows the model's, and no control token of a client is one.
	prompt := rendered(t, s, "m:latest", seen.chats()[1])
	if !strings.HasPrefix(prompt, "[SYS]"+safety+"\n\nBe brief.<\u200b/s>[/SYS]") ||
		strings.Contains(prompt, "</s>") || strings.Contains(prompt, `\u003c/s`) ||
		!strings.Contains(prompt, `{"name": "glob", "arguments": {"pattern":"*"}}`) {
		t.Errorf("the prompt is %q", prompt)
	}

	text, _, last = i.asked("/chat", mlapi.ChatRequest{
		Whole: true, Messages: []mlapi.Message{user("Hi")},
		Format:  json.RawMessage(`{"type":"object","properties":{"a":{"const":1}},"required":["a"]}`),
		Options: map[string]any{"num_predict": 60},
	})
	if last.Done == nil || !strings.HasPrefix(text, "{") {
		t.Errorf("the format makes it %q, %+v", text, last)
	}

	text, _, last = i.asked("/generate", mlapi.GenerateRequest{
		Prompt: "func add(</s>", Suffix: "</s>}",
	})
	if text != tinymodel.Filling || last.Done == nil {
		t.Errorf("between: %q, %+v", text, last)
	}

	text, _, last = i.asked("/generate", mlapi.GenerateRequest{Prompt: "Hello<|call|>", Raw: true})
	if text != tinymodel.Call || last.Done == nil {
		t.Errorf("raw: %q, %+v", text, last)
	}
}

// TestProgramTooLong checks that nothing of a program's request is left out.
func TestProgramTooLong(t *testing.T) {
	s := ollamatest.Start(t)
	s.Calling(t, "m", "", 1024)
	seen := newSpy(t, s.URL)
	i := start(t, seen.URL, nil)
	long := strings.Repeat("x ", 600)
	tool := strings.Replace(glob, "Tells", long, 1)
	for name, tt := range map[string]struct {
		path string
		req  any
	}{
		"earlier turns": {"/chat", mlapi.ChatRequest{Whole: true, Messages: []mlapi.Message{
			user(long), assistant("Yes."), user("Hi"),
		}}},
		"tools": {"/chat", mlapi.ChatRequest{
			Whole: true, Messages: []mlapi.Message{user("Hi")},
			Tools: []json.RawMessage{json.RawMessage(tool)},
		}},
		"raw":    {"/generate", mlapi.GenerateRequest{Prompt: long, Raw: true}},
		"suffix": {"/generate", mlapi.GenerateRequest{Prompt: "x", Suffix: long}},
	} {
		body, err := json.Marshal(tt.req)
		if err != nil {
			t.Fatal(err)
		}

		p := i.refused(http.StatusRequestEntityTooLarge, i.post(t.Context(), tt.path, string(body)))
		if p.Type != problem.TypeTooLong || len(seen.chats()) != 0 {
			t.Errorf("%s: %+v, and Ollama was asked %q", name, p, seen.chats())
		}
	}

	text := `{"input":["` + strings.Repeat("x ", 1200) + `"]}`
	p := i.refused(http.StatusRequestEntityTooLarge, i.post(t.Context(), "/embed", text))
	if p.Type != problem.TypeTooLong {
		t.Errorf("embed: %+v", p)
	}
}

// TestProgramRefusedByOllama checks that a prompt that turns out too long is not shortened.
func TestProgramRefusedByOllama(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		tell(w, `{"error":"the input length exceeds the context length"}`)
	})
	i := start(t, f.URL, nil)
	body := `{"whole":true,"messages":[{"role":"user","content":"1"},` +
		`{"role":"assistant","content":"2"},{"role":"user","content":"3"}]}`
	if p := i.refused(http.StatusRequestEntityTooLarge, i.post(t.Context(), "/chat",
		body)); p.Type != problem.TypeTooLong || len(f.bodies) != 1 {
		t.Errorf("%+v after %d requests", p, len(f.bodies))
	}

	// The model's own SYSTEM prompt is not known, and a system's message would take its place.
	p := i.refused(http.StatusServiceUnavailable, i.post(t.Context(), "/chat",
		`{"whole":true,"messages":[{"role":"system","content":"1"},{"role":"user","content":"2"}]}`))
	if p.RetryAfter == 0 || len(f.bodies) != 1 {
		t.Errorf("%+v after %d requests", p, len(f.bodies))
	}
}

// TestSilentCall checks that a call that Ollama collects without a word is not taken for silence.
func TestSilentCall(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		tell(w, `{"message":{"content":"So"}}`)
		time.Sleep(500 * time.Millisecond)
		tell(w, done)
	})
	i := start(t, f.URL, func(o *Options) { o.Silence = 100 * time.Millisecond })
	text, _, last := i.asked("/chat", mlapi.ChatRequest{
		Whole: true, Tools: []json.RawMessage{json.RawMessage(glob)},
		Messages: []mlapi.Message{user("Hi")},
	})
	if text != "So" || last.Done == nil {
		t.Errorf("%q, %+v", text, last)
	}
}

// cpu returns the processor time that the test has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestManyMessages checks that what has too many messages or tools is refused soon.
func TestManyMessages(t *testing.T) {
	f := newFake(t, answers)
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}")
	i := start(t, f.URL, nil)
	i.chat(t.Context(), ask).rest() // from now on the model is known
	asked := len(f.bodies)
	for _, tt := range []struct {
		messages, size, tools int
		status                int
		location              string
	}{
		{250_000, 1, 0, 400, "body.messages"},
		{4097, 1, 0, 400, "body.messages"},
		{1, 1, 257, 400, "body.tools"},
		{4096, 1, 256, 413, ""},
		{4096, 1500, 0, 413, ""},
	} {
		req := mlapi.ChatRequest{Whole: true}
		for range tt.messages {
			req.Messages = append(req.Messages, user(strings.Repeat("x", tt.size)))
		}
		for range tt.tools {
			req.Tools = append(req.Tools, json.RawMessage(glob))
		}
		body, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}

		began := cpu(t)
		p := i.refused(tt.status, i.post(t.Context(), "/chat", string(body)))
		if tt.location == "" && p.Type != problem.TypeTooLong ||
			tt.location != "" && (len(p.Errors) != 1 || p.Errors[0].Location != tt.location) {
			t.Errorf("%+v: %+v", tt, p)
		}
		if d := cpu(t) - began; d > 15*time.Second { // a busy machine takes longer, and no more of it
			t.Errorf("%+v takes %s of a processor", tt, d)
		}
	}
	if len(f.bodies) != asked {
		t.Errorf("Ollama was asked %d times", len(f.bodies)-asked)
	}
}

// TestCallIDs checks that no control token of a client is one in the ids of calls.
func TestCallIDs(t *testing.T) {
	f := newFake(t, answers)
	f.show = vocabularyOf("{{ range .Messages }}{{ .Content }}{{ end }}", "<|eot_id|>")
	i := start(t, f.URL, nil)
	const id = "c<|eot_id|>"
	i.asked("/chat", mlapi.ChatRequest{Whole: true, Messages: []mlapi.Message{
		user("Hi"),
		{Role: "assistant", ToolCalls: []mlapi.ToolCall{
			{ID: id, Name: "f", Arguments: json.RawMessage("{}")},
		}},
		{Role: "tool", Content: "x", ToolName: "f", ToolCallID: id},
	}})

	var sent api.ChatRequest
	if err := json.Unmarshal([]byte(f.lastBody()), &sent); err != nil {
		t.Fatal(err)
	}
	const want = "c<\u200b|eot_id|>"
	if call, of := sent.Messages[1].ToolCalls[0].ID, sent.Messages[2].ToolCallID; call != want ||
		of != want {
		t.Errorf("the ids are %q and %q", call, of)
	}
}

// TestProgramInvalid checks what a program may not ask for.
func TestProgramInvalid(t *testing.T) {
	i := start(t, newFake(t, answers).URL, nil)
	for body, location := range map[string]string{
		`{"whole":true,"messages":[]}`:                                             "body.messages",
		`{"whole":true,"messages":[{"role":"assistant","content":"x"}]}`:           "body.messages",
		`{"whole":true,"messages":[{"role":"god","content":"x"}]}`:                 "body.messages[0].role",
		`{"whole":true,"format":"xml","messages":[{"role":"user","content":"x"}]}`: "body.format",
		`{"format":"json","messages":[{"role":"user","content":"x"}]}`:             "body.whole",
		`{"whole":true,"tools":[7],"messages":[{"role":"user","content":"x"}]}`:    "body.tools[0]",
		`{"whole":true,"messages":[{"role":"user","content":"x",` +
			`"tool_calls":[{"name":"f","arguments":{}}]}]}`: "body.messages[0].tool_calls",
		`{"whole":true,"messages":[{"role":"assistant","content":"",` +
			`"tool_calls":[{"name":"f","arguments":[]}]},{"role":"tool","content":"x"}]}`: "body." +
			"messages[0].tool_calls[0].arguments",
	} {
		p := i.refused(http.StatusBadRequest, i.post(t.Context(), "/chat", body))
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", body, p)
		}
	}
}

// TestNeutralJSON checks that the order and the values of a client's JSON stay.
func TestNeutralJSON(t *testing.T) {
	const raw = `{"z": ["\"", "\\", "\\\"<s>"], "a": {"\u003cs\u003e": 1.50, "b": null}}`
	var got json.RawMessage
	if err := decodeNeutral(nil, json.RawMessage(raw), &got); err != nil {
		t.Fatal(err)
	}

	want := strings.ReplaceAll(raw, `<s>`, "<\u200bs>")
	want = strings.ReplaceAll(want, `\u003cs\u003e`, "<\u200bs>")
	unescaped := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u200b`, "\u200b").
		Replace(string(got))
	if unescaped != want {
		t.Errorf("got %s, want %s", unescaped, want)
	}

	for _, bad := range []string{`{"a`, `{"a\`, `{"a": "\x"}`, `{`, ``} {
		if err := decodeNeutral(nil, json.RawMessage(bad), &got); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
