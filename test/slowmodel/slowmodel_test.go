package slowmodel

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTaskOf(t *testing.T) {
	for question, want := range map[string]task{
		"Say hello.":                             {words: DefaultWords, pause: DefaultPause},
		Question(300, 100*time.Millisecond):      {words: 300, pause: 100 * time.Millisecond},
		"please count 3 (p1-2)":                  {words: 3, pause: DefaultPause},
		"count 3 every day":                      {words: 3, pause: DefaultPause},
		"think 10, then count 5 every 1ms (x)":   {words: 5, think: 10, pause: time.Millisecond},
		"account 7 every 1s, count 123456 words": {words: DefaultWords, pause: DefaultPause},
	} {
		if got := taskOf(question); got != want {
			t.Errorf("%q: %+v, want %+v", question, got, want)
		}
	}
}

// TestRest: wherever an answer is cut, the parts make the whole.
func TestRest(t *testing.T) {
	whole := Text(11)
	if !strings.HasPrefix(whole, "w1 w2 ") || !strings.HasSuffix(whole, " w11 end.") {
		t.Fatalf("the answer is %q", whole)
	}

	for cut := range len(whole) + 1 {
		if got := whole[:cut] + strings.Join(rest(11, whole[:cut]), ""); got != whole {
			t.Errorf("cut after %q: %q", whole[:cut], got)
		}
	}

	for _, wrong := range []string{"w2", "w1  w2", "w1 w3 ", whole + " ", "Hello"} {
		if got := strings.Join(rest(11, wrong), ""); !strings.HasPrefix(got, Lost) {
			t.Errorf("%q goes on with %q", wrong, got)
		}
	}
}

// behind is what the real Ollama was asked, in a test without one.
type behind struct {
	paths []string
	chats []map[string]any
}

func start(t *testing.T) (*behind, string) {
	t.Helper()
	b := &behind{}
	real := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.paths = append(b.paths, r.Method+" "+r.URL.Path)
		if r.URL.Path != "/api/chat" {
			fmt.Fprintf(w, "real %s", r.URL.Path)
			return
		}

		var chat map[string]any
		if err := json.NewDecoder(r.Body).Decode(&chat); err != nil {
			t.Error(err)
		}

		b.chats = append(b.chats, chat)
		if chat["model"] == "none" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"model 'none' not found"}`)
			return
		}

		fmt.Fprint(w, `{"model": "tiny", "message": {"role": "assistant", "content": "Hello!"}, `+
			`"done": true, "_debug_info": {"rendered_template": "a prompt of five words"}}`)
	}))

	t.Cleanup(real.Close)
	u, err := url.Parse(real.URL)
	if err != nil {
		t.Fatal(err)
	}

	front := httptest.NewServer(New(u))
	t.Cleanup(front.Close)
	return b, front.URL
}

func ask(t *testing.T, url, body string) (int, []line) {
	t.Helper()
	resp, err := http.Post(url+"/api/chat", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var lines []line
	for d := json.NewDecoder(resp.Body); ; {
		var l line
		if err := d.Decode(&l); err == io.EOF {
			return resp.StatusCode, lines
		} else if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
}

func said(lines []line) (content, thinking string) {
	for _, l := range lines {
		content += l.Message.Content
		thinking += l.Message.Thinking
	}
	return content, thinking
}

func user(content string) string { return `{"role": "user", "content": "` + content + `"}` }

func assistant(content string) string {
	return `{"role": "assistant", "content": "` + content + `"}`
}

func TestChat(t *testing.T) {
	b, url := start(t)
	for name, tc := range map[string]struct {
		// messages and more are of the request.
		messages, more            string
		content, thinking, reason string
		lines                     int
	}{
		"counted": {
			messages: user("count 3 every 1ms"), more: `, "options": {"temperature": 0.5}`,
			content: "w1 w2 w3 end.", reason: "stop", lines: 5,
		},
		"continued": {
			messages: user("count 3 every 1ms") + "," + assistant("w1 w"),
			content:  "2 w3 end.", reason: "stop", lines: 4,
		},
		"complete": {
			messages: user("count 1 every 1ms") + "," + assistant("w1 end."),
			reason:   "stop", lines: 1,
		},
		"thinking": {
			messages: user("think 2, count 1 every 1ms"),
			content:  "w1 end.", thinking: "t1 t2 ", reason: "stop", lines: 5,
		},
		"limited": {
			messages: user("count 9 every 1ms"), more: `, "options": {"num_predict": 2}`,
			content: "w1 w2 ", reason: "length", lines: 3,
		},
		"in one": {
			messages: user("count 2 every 1ms"), more: `, "stream": false`,
			content: "w1 w2 end.", reason: "stop", lines: 1,
		},
		"last asked": {
			messages: user("count 9") + "," + assistant("w1 end.") + "," +
				user("count 1 every 1ms"),
			content: "w1 end.", reason: "stop", lines: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b.chats = nil
			request := `{"model": "tiny", "messages": [` + tc.messages + `]` + tc.more + `}`
			status, lines := ask(t, url, request)
			content, thinking := said(lines)
			last := lines[len(lines)-1]
			if status != http.StatusOK || content != tc.content || thinking != tc.thinking ||
				len(lines) != tc.lines {
				t.Errorf("%d, %d lines: %q, thinking %q", status, len(lines), content, thinking)
			}

			if !last.Done || last.DoneReason != tc.reason || last.PromptEvalCount != 5 {
				t.Errorf("the last line is %+v", last)
			}

			if len(b.chats) != 1 || b.chats[0]["stream"] != false ||
				b.chats[0]["_debug_render_only"] != true {
				t.Errorf("the real one was asked %v", b.chats)
			}
		})
	}
}

func TestPassedOn(t *testing.T) {
	b, url := start(t)
	status, _ := ask(t, url, `{"model":"none","messages":[{"role":"user","content":"count 3"}]}`)
	if status != http.StatusNotFound {
		t.Errorf("a model that is not there: %d", status)
	}

	b.paths, b.chats = nil, nil
	for _, body := range []string{
		`{"model": "tiny", "_debug_render_only": true, "messages": [` + user("x") + `]}`,
		`{"model": "tiny", "messages": []}`,
	} {
		if _, lines := ask(t, url, body); len(lines) != 1 || lines[0].Message.Content != "Hello!" {
			t.Errorf("%s: %+v", body, lines)
		}
	}

	for _, path := range []string{"/", "/api/tags", "/api/show"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}

		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(text) != "real "+path {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}

	want := []string{"POST /api/chat", "POST /api/chat", "GET /", "GET /api/tags", "GET /api/show"}
	if !slices.Equal(b.paths, want) {
		t.Errorf("the real one was asked %v, want %v", b.paths, want)
	}
}

// TestPace: words come one by one, and an answer ends when its reader goes.
func TestPace(t *testing.T) {
	_, url := start(t)
	began := time.Now()
	resp, err := http.Post(
		url+"/api/chat",
		"application/json",
		strings.NewReader(
			`{"model":"tiny","messages":[{"role":"user","content":"count 1000 every 20ms"}]}`,
		),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	d := json.NewDecoder(resp.Body)
	for i := range 10 {
		var l line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("w%d ", i+1); l.Message.Content != want {
			t.Fatalf("word %d is %q", i+1, l.Message.Content)
		}
	}

	if took := time.Since(began); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("ten words took %s", took)
	}
}
