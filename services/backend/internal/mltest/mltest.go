// Package mltest is a model service whose answers a test writes line by line.
package mltest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/servertest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Server speaks mlapi. Chat, Ready and Models may be set at any time.
type Server struct {
	*servertest.Server

	mu     sync.Mutex
	chat   func(*Stream)
	ready  wire.Readiness
	models mlapi.Models
}

// Start starts a server that is ready and answers "hello".
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{
		chat: func(st *Stream) { st.Text("hello"); st.Done() },
		ready: wire.Readiness{
			Status: "ready", Checks: map[string]string{"ollama": "ok", "model": "ok"},
		},
		models: mlapi.Models{
			Models: []mlapi.ModelInfo{{Name: "codexcontinue", Default: true}},
			Build:  mlapi.Build{Name: "codexcontinue", State: mlapi.BuildReady},
		},
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /chat", func(w http.ResponseWriter, r *http.Request) {
		st := &Stream{t: t, w: w, HTTP: r}
		if err := json.NewDecoder(r.Body).Decode(&st.Request); err != nil {
			t.Errorf("ml got something else than a chat request: %v", err)
		}

		s.mu.Lock()
		chat := s.chat
		s.mu.Unlock()
		chat(st)
	})

	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ready.Status != "ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(s.ready)
	})

	mux.HandleFunc("GET /models", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.models)
	})

	s.Server = servertest.Start(t, mux)
	return s
}

// Chat sets how further chat requests are answered.
func (s *Server) Chat(f func(*Stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chat = f
}

// Ready sets the answer of GET /ready.
func (s *Server) Ready(r wire.Readiness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = r
}

// Models sets the answer of GET /models.
func (s *Server) Models(m mlapi.Models) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models = m
}

// Stream is one answer.
type Stream struct {
	Request mlapi.ChatRequest
	HTTP    *http.Request

	t testing.TB
	w http.ResponseWriter
}

// Open sends the header: the request is taken.
func (s *Stream) Open() {
	s.w.Header().Set("Content-Type", mlapi.NDJSON)
	_ = http.NewResponseController(s.w).Flush()
}

// Raw sends a piece of the stream as it is.
func (s *Stream) Raw(text string) {
	_, _ = fmt.Fprint(s.w, text)
	_ = http.NewResponseController(s.w).Flush()
}

// Send sends a line.
func (s *Stream) Send(c mlapi.Chunk) {
	b, err := json.Marshal(c)
	if err != nil {
		s.t.Error(err)
	}
	s.Raw(string(b) + "\n")
}

// Text sends a delta.
func (s *Stream) Text(text string) { s.Send(mlapi.Chunk{Text: text}) }

// Done ends the answer.
func (s *Stream) Done() {
	s.Send(mlapi.Chunk{Done: &mlapi.Done{
		Model: "codexcontinue", Reason: "stop", PromptTokens: 3, Tokens: 5,
	}})
}

// Words are the first n words of the answers of Count.
func Words(n int) string {
	var all strings.Builder
	for k := range n {
		fmt.Fprintf(&all, "%d ", k)
	}
	return all.String()
}

// Count answers with n numbered words, one after each pause. It goes on behind the text so far when
// it gets one.
func Count(n int, pause time.Duration) func(*Stream) {
	return func(s *Stream) {
		first, said := 0, s.SoFar()
		if first = strings.Count(said, " "); said != Words(first) {
			s.t.Errorf("ml got a text so far that it did not write: %q", said)
		}

		s.Open()
		for k := first; k < n; k++ {
			select {
			case <-s.HTTP.Context().Done():
				return
			case <-time.After(pause):
				s.Text(fmt.Sprintf("%d ", k))
			}
		}

		s.Done()
	}
}

// SoFar is the text that the answer is to go on from, or empty.
func (s *Stream) SoFar() string {
	if last := s.Request.Messages[len(s.Request.Messages)-1]; last.Role == "assistant" {
		return last.Content
	}
	return ""
}

// Refuse answers with a problem.
func (s *Stream) Refuse(p *problem.Problem) { problem.Write(s.w, s.HTTP, p) }

// Cut breaks the connection.
func (s *Stream) Cut() { panic(http.ErrAbortHandler) }

// Hold blocks until the client has gone away.
func (s *Stream) Hold() { <-s.HTTP.Context().Done() }
