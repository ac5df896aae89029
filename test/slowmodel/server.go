package slowmodel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds the body of a question in bytes.
const maxBody = 16 << 20

// message is one turn of a conversation.
type message struct {
	Role     string `json:"role"`
	Content  string `json:"content"`
	Thinking string `json:"thinking,omitempty"`
}

// question is the part of Ollama's chat request that matters here.
type question struct {
	Model    string
	Messages []message
	Stream   *bool
	Format   json.RawMessage
	Tools    []json.RawMessage

	// Debug asks for the rendered prompt in place of an answer.
	Debug   bool `json:"_debug_render_only"`
	Options struct {
		NumPredict *int `json:"num_predict"`
	}
}

// metrics are Ollama's figures of an answer.
type metrics struct {
	TotalDuration   time.Duration `json:"total_duration,omitempty"`
	PromptEvalCount int           `json:"prompt_eval_count,omitempty"`
	EvalCount       int           `json:"eval_count,omitempty"`
	EvalDuration    time.Duration `json:"eval_duration,omitempty"`
}

// line is one line of an answer.
type line struct {
	Model      string    `json:"model"`
	CreatedAt  time.Time `json:"created_at"`
	Message    message   `json:"message"`
	Done       bool      `json:"done"`
	DoneReason string    `json:"done_reason,omitempty"`
	metrics
}

// server answers conversations and passes everything else on.
type server struct {
	real  string
	http  *http.Client
	proxy *httputil.ReverseProxy
}

// New makes Ollama's API in front of the real Ollama at the base URL.
func New(real *url.URL) http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	s := &server{real: real.String(), http: &http.Client{Transport: transport}}
	s.proxy = &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(real)
			pr.Out.Host = real.Host
		},
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/chat", s.chat)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		// Else the server closes the body, which the proxy may be reading, when the answer begins.
		_ = http.NewResponseController(w).EnableFullDuplex()
		s.proxy.ServeHTTP(w, r)
	})
	return mux
}

func (s *server) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}

	var q question
	err = json.Unmarshal(body, &q)
	if err != nil || q.Debug || len(q.Messages) == 0 || len(q.Tools) > 0 || hasFormat(q.Format) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		s.proxy.ServeHTTP(w, r)
		return
	}

	if prompt, ok := s.render(w, r, body); ok {
		s.answer(w, r, q, prompt)
	}
}

func hasFormat(f json.RawMessage) bool {
	return len(f) > 0 && string(f) != "null" && string(f) != `""`
}

// render has the real Ollama make the prompt, as it would for an answer of its own. So the model is
// known and loaded, and what the real one refuses is refused in its words; but it writes nothing,
// for which many answers at once would wait in its queue.
func (s *server) render(w http.ResponseWriter, r *http.Request, body []byte) (string, bool) {
	fields := map[string]json.RawMessage{}
	err := json.Unmarshal(body, &fields)
	fields["stream"] = json.RawMessage("false")
	fields["_debug_render_only"] = json.RawMessage("true")
	if err == nil {
		body, err = json.Marshal(fields)
	}

	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return "", false
	}

	ctx, chat := r.Context(), s.real+"/api/chat"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, chat, bytes.NewReader(body))
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return "", false
	}

	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		fail(w, http.StatusBadGateway, err)
		return "", false
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // the client is gone: nothing left to tell
		return "", false
	}

	var made struct {
		Info struct {
			Prompt string `json:"rendered_template"`
		} `json:"_debug_info"`
	}

	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		fail(w, http.StatusBadGateway, err)
		return "", false
	}

	return made.Info.Prompt, true
}

// answer writes the answer to the last question, or the rest of it.
func (s *server) answer(w http.ResponseWriter, r *http.Request, q question, prompt string) {
	asked, soFar := "", ""
	for _, m := range q.Messages {
		if m.Role == "user" {
			asked = m.Content
		}
	}

	if last := q.Messages[len(q.Messages)-1]; last.Role == "assistant" {
		soFar = last.Content
	}

	t := taskOf(asked)
	words := rest(t.words, soFar)
	reason := "stop"
	if n := q.Options.NumPredict; n != nil && *n >= 0 && *n < len(words) {
		words, reason = words[:*n], "length"
	}
	if soFar != "" {
		t.think = 0
	}

	out := writer{
		w:     w,
		rc:    http.NewResponseController(w),
		whole: q.Stream != nil && !*q.Stream,
		model: q.Model,
	}

	began := time.Now()
	for i := range t.think + len(words) {
		if !sleep(r.Context(), time.Until(began.Add(time.Duration(i+1)*t.pause))) {
			return
		}

		m := message{Role: "assistant"}
		if i < t.think {
			m.Thinking = "t" + strconv.Itoa(i+1) + " "
		} else {
			m.Content = words[i-t.think]
		}

		if out.send(line{Message: m}) != nil {
			return // nobody reads it
		}
	}

	took := time.Since(began)
	last := line{Message: message{Role: "assistant"}, Done: true, DoneReason: reason}
	last.metrics = metrics{
		TotalDuration: took, EvalDuration: took, EvalCount: t.think + len(words),
		PromptEvalCount: len(strings.Fields(prompt)), // its tokens are words
	}

	_ = out.send(last)
}

// writer writes the lines of an answer, each at once, or all of them as one.
type writer struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	whole bool
	model string
	said  message
	begun bool
}

func (o *writer) send(l line) error {
	l.Model, l.CreatedAt = o.model, time.Now().UTC()
	if o.whole {
		o.said.Content += l.Message.Content
		o.said.Thinking += l.Message.Thinking
		if !l.Done {
			return nil
		}
		l.Message.Content, l.Message.Thinking = o.said.Content, o.said.Thinking
	}

	if !o.begun {
		o.begun = true
		kind := "application/x-ndjson"
		if o.whole {
			kind = "application/json; charset=utf-8"
		}
		o.w.Header().Set("Content-Type", kind)
	}

	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err := o.w.Write(append(text, '\n')); err != nil {
		return err
	}

	return o.rc.Flush()
}

// sleep waits; it reports false when ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}

	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// fail answers as Ollama does when it cannot.
func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// The client may be gone: nothing left to tell.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": fmt.Sprint(err)})
}
