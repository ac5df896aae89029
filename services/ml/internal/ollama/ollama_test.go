package ollama_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/google/go-cmp/cmp"
	"github.com/ollama/ollama/api"
)

// fake answers every request with h.
func fake(t *testing.T, h http.HandlerFunc) *ollama.Client {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return ollama.New(s.URL + "/")
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func line(text string) string {
	return fmt.Sprintf(`{"message":{"role":"assistant","content":%q}}`+"\n", text)
}

const last = `{"message":{"content":"!"},"done":true,"done_reason":"stop",` +
	`"eval_count":3,"eval_duration":1500000000}` + "\n"

func TestChat(t *testing.T) {
	hijacked := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, line("Hi"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}

	var refused *ollama.StatusError
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string // the text that came
		check  func(error) bool
	}{
		"whole": {says(200, line("Hi")+line(" you")+last), "Hi you!", func(err error) bool {
			return err == nil
		}},
		"empty lines": {says(200, line("Hi")+"\n\n"+last), "Hi!", func(err error) bool {
			return err == nil
		}},
		"no line break at end": {says(200, line("Hi")+strings.TrimSpace(last)), "Hi!", func(err error) bool {
			return err == nil
		}},
		"ends without done": {says(200, line("Hi")), "Hi", func(err error) bool {
			return errors.Is(err, ollama.ErrCut)
		}},
		"nothing": {says(200, ""), "", func(err error) bool {
			return errors.Is(err, ollama.ErrCut)
		}},
		"cut connection": {hijacked, "Hi", func(err error) bool {
			return errors.Is(err, ollama.ErrCut)
		}},
		"half a line": {says(200, line("Hi")+`{"message":{"con`), "Hi", func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "/api/chat")
		}},
		"error inside 200": {says(200, line("Hi")+`{"error":"out of memory"}`+"\n"), "Hi", func(err error) bool {
			return errors.As(err, &refused) && refused.Message == "out of memory" &&
				refused.Status == 200
		}},
		"404": {says(404, `{"error":"model 'x' not found"}`), "", func(err error) bool {
			return ollama.NotFound(err) && strings.Contains(err.Error(), "model 'x' not found")
		}},
		"error that is not JSON": {says(503, "busy"), "", func(err error) bool {
			return errors.As(err, &refused) && refused.Message == "503 Service Unavailable" &&
				!ollama.NotFound(err)
		}},
		"long line": {says(200, line(strings.Repeat("x", 2<<20))+last),
			strings.Repeat("x", 2<<20) + "!", func(err error) bool {
				return err == nil
			}},
		"huge line": {says(200, line("Hi")+line(strings.Repeat("x", 5<<20))+last), "Hi", func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "a line of more than 4194304 bytes")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			err := fake(t, tc.answer).Chat(t.Context(), &api.ChatRequest{Model: "x"},
				func(t ollama.Token) error {
					got.WriteString(t.Text)
					return nil
				})
			if got.String() != tc.want {
				t.Errorf("%.50q came, want %.50q", got.String(), tc.want)
			}
			if !tc.check(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestChatPassesTheRequestAndTheFigures(t *testing.T) {
	var body string
	c := fake(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(b)
		says(200, last)(w, r)
	})

	var got ollama.Token
	stop := errors.New("enough")
	err := c.Chat(t.Context(),
		&api.ChatRequest{Model: "x", Messages: []api.Message{{Role: "user", Content: "a"}}},
		func(t ollama.Token) error {
			got = t
			return stop
		})
	if !errors.Is(err, stop) {
		t.Errorf("the callback's error became %v", err)
	}
	sent := `POST /api/chat application/json ` +
		`{"model":"x","messages":[{"role":"user","content":"a"}],"options":null}`
	if body != sent {
		t.Errorf("got  %s\nwant %s", body, sent)
	}

	want := ollama.Token{
		Text:    "!",
		Done:    true,
		Reason:  "stop",
		Metrics: api.Metrics{EvalCount: 3, EvalDuration: 1500 * time.Millisecond},
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestCancellation: the cause is what comes back, whenever it happens, and Ollama's side
// sees the end at once.
func TestCancellation(t *testing.T) {
	why := errors.New("the reader went away")
	for name, begun := range map[string]bool{"before the header": false, "between two tokens": true} {
		t.Run(name, func(t *testing.T) {
			gone, came := make(chan struct{}), make(chan struct{})
			c := fake(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				if begun {
					_, _ = io.WriteString(w, line("Hi"))
					_ = http.NewResponseController(w).Flush()
				} else {
					close(came)
				}

				<-r.Context().Done()
				close(gone)
			})

			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { <-came; cancel(why) }()
			err := c.Generate(ctx, &api.GenerateRequest{Model: "x"}, func(ollama.Token) error {
				close(came)
				return nil
			})
			if !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}

			select {
			case <-gone:
			case <-time.After(10 * time.Second):
				t.Error("Ollama was not told")
			}
		})
	}
}

func TestProgressEndsWithSuccess(t *testing.T) {
	for name, tc := range map[string]struct {
		body  string
		lines int
		want  string
	}{
		"success":    {`{"status":"pulling manifest"}` + "\n" + `{"status":"success"}` + "\n", 2, ""},
		"no success": {`{"status":"pulling manifest"}` + "\n", 1, ollama.ErrCut.Error()},
		"error": {`{"status":"pulling manifest"}` + "\n" + `{"error":"file does not exist"}` + "\n",
			1, "ollama: file does not exist"},
		"not JSON":      {"<html>\n", 0, "/api/pull"},
		"nothing":       {"", 0, ollama.ErrCut.Error()},
		"after success": {`{"status":"success"}` + "\n" + `{"error":"disk full"}` + "\n", 1, "disk full"},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			err := fake(t, says(200, tc.body)).Pull(t.Context(), &api.PullRequest{Model: "x"},
				func(api.ProgressResponse) {
					n++
				})
			if n != tc.lines || (err == nil) != (tc.want == "") ||
				err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%d lines, %v", n, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	addr := l.Addr().String()
	l.Close()
	_, err = ollama.New("http://" + addr).Version(t.Context())
	if err == nil || !strings.Contains(err.Error(), "refused") ||
		strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}

// TestRealOllama: the calls that the service makes, as Ollama itself answers them.
func TestRealOllama(t *testing.T) {
	s := ollamatest.Start(t)
	c, ctx := s.Client(), t.Context()
	if v, err := c.Version(ctx); err != nil || v == "" {
		t.Errorf("version %q, %v", v, err)
	}

	missing := "sha256:" + strings.Repeat("0", 64)
	if has, err := c.HasBlob(ctx, missing); has || err != nil {
		t.Errorf("HasBlob: %v, %v", has, err)
	}
	if err := c.CreateBlob(ctx, missing, strings.NewReader("x")); err == nil {
		t.Error("a blob of another digest was taken")
	}

	s.Tiny(t, "tiny", "")
	var text strings.Builder
	var end ollama.Token
	chat := func(model string) error {
		return c.Chat(ctx,
			&api.ChatRequest{Model: model, Messages: []api.Message{{Role: "user", Content: "Hi"}}},
			func(t ollama.Token) error { text.WriteString(t.Text); end = t; return nil })
	}

	if err := chat("tiny"); err != nil || text.String() != tinymodel.Answer ||
		end.Reason != "stop" || end.EvalCount < 20 {
		t.Errorf("%v: %q, %+v", err, text.String(), end)
	}

	if err := chat("nobody"); !ollama.NotFound(err) {
		t.Errorf("a model that is not there: %v", err)
	}

	if running, err := c.Running(ctx); err != nil || len(running) != 1 ||
		running[0].Name != "tiny:latest" {
		t.Errorf("running %v, %v", running, err)
	}

	if e, err := c.Embed(ctx, &api.EmbedRequest{
		Model: "tiny", Input: []string{"a", "b"},
	}); err != nil || len(e.Embeddings) != 2 || cmp.Equal(e.Embeddings[0], e.Embeddings[1]) {
		t.Errorf("embed: %v", err)
	}

	if err := c.Copy(ctx, "tiny", "other"); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "tiny"); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "tiny"); !ollama.NotFound(err) {
		t.Errorf("the second Delete: %v", err)
	}
	if list, err := c.List(ctx); err != nil || len(list) != 1 || list[0].Name != "other:latest" {
		t.Errorf("list %v, %v", list, err)
	}
	if _, err := c.Show(ctx, "tiny"); !ollama.NotFound(err) {
		t.Errorf("show: %v", err)
	}
}
