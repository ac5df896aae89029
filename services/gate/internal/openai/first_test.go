package openai

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// TestConnectionIsKept checks that ml's answer is read to its end, which comes after its last line
// when ml has given its place back: the next question then needs no new connection.
func TestConnectionIsKept(t *testing.T) {
	var made atomic.Int32
	ml := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, said+done)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}))

	ml.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}

	ml.Start()
	t.Cleanup(ml.Close)

	i := startAt(t, ml)
	for _, ask := range []string{ask, askStream, ask} {
		if resp, body := i.post("/v1/chat/completions", ask); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}

	if n := made.Load(); n != 1 {
		t.Errorf("three questions to ml took %d connections", n)
	}
}

// pieces records what a response has at each flush.
type pieces struct {
	*httptest.ResponseRecorder
	flushed []string
}

func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

func (p *pieces) FlushError() error {
	p.flushed = append(p.flushed, p.Body.String())
	p.Body.Reset()
	return nil
}

// TestFirstWordAtOnce checks that a stream's header, its first event and the first word go out
// together, and every later event as it comes.
func TestFirstWordAtOnce(t *testing.T) {
	i := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mlapi.NDJSON)
		_, _ = io.WriteString(w, `{"text":"Hel"}`+"\n"+`{"text":"lo"}`+"\n"+done)
	})

	w := &pieces{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions",
		strings.NewReader(askStream))
	r.Header.Set("Authorization", "Bearer "+i.key)
	i.handler.ServeHTTP(w, r)

	if len(w.flushed) != 4 || !strings.Contains(w.flushed[0], `"role":"assistant"`) ||
		!strings.Contains(w.flushed[0], `"content":"Hel"`) ||
		!strings.Contains(w.flushed[1], `"content":"lo"`) ||
		!strings.Contains(w.flushed[2], `"finish_reason":"stop"`) ||
		!strings.Contains(w.flushed[3], "[DONE]") {
		t.Errorf("it was sent as %q", w.flushed)
	}
}
