package hop_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

func serve(t *testing.T, h http.HandlerFunc) *hop.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return hop.New("peer", s.URL+"/")
}

func TestJSON(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}

		if string(b) != `{"a":1}` || r.Header.Get("Content-Type") != "application/json" ||
			r.Header.Get(wire.RequestIDHeader) != "id-1" ||
			r.Header.Get("X-Extra") != "yes" || r.URL.Path != "/x" {
			t.Errorf("got %s %v %s", b, r.Header, r.URL)
		}

		io.WriteString(w, `{"ok":true}`)
	})

	var out struct{ OK bool }
	ctx := logging.WithRequestID(context.Background(), "id-1")
	if err := c.JSON(ctx, http.MethodPost, "/x", map[string]int{"a": 1}, &out,
		http.Header{"X-Extra": {"yes"}}); err != nil || !out.OK {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestPlainBody checks that a body is no longer than what it says.
func TestPlainBody(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != `{"a":"<b> & c"}` {
			t.Errorf("got %s, %v", b, err)
		}
	})
	resp, err := c.Do(t.Context(), http.MethodPost, "/", map[string]string{"a": "<b> & c"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestErrorResponses(t *testing.T) {
	for name, tc := range map[string]struct {
		contentType, body string
		want              problem.Problem
	}{
		"problem": {problem.ContentType + "; charset=utf-8",
			`{"title":"Queue full","status":200,"detail":"busy","queue_position":4}`,
			problem.Problem{Title: "Queue full", Status: 429, Detail: "busy", QueuePosition: 4, RetryAfter: 7}},
		"text": {"text/plain", "no",
			problem.Problem{
				Title:      "Too Many Requests",
				Status:     429,
				Detail:     "peer answered 429 Too Many Requests",
				RetryAfter: 7,
			}},
		"JSON that is no problem": {"application/json", `{"title":"x"}`,
			problem.Problem{
				Title:      "Too Many Requests",
				Status:     429,
				Detail:     "peer answered 429 Too Many Requests",
				RetryAfter: 7,
			}},
		"broken problem": {problem.ContentType, `{`,
			problem.Problem{
				Title:      "Too Many Requests",
				Status:     429,
				Detail:     "peer answered 429 Too Many Requests",
				RetryAfter: 7,
			}},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.contentType)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(429)
				io.WriteString(w, tc.body)
			})

			_, err := c.Do(context.Background(), http.MethodGet, "/", nil, nil)
			var p *problem.Problem
			if !errors.As(err, &p) || p.Title != tc.want.Title || p.Status != tc.want.Status ||
				p.Detail != tc.want.Detail ||
				p.QueuePosition != tc.want.QueuePosition || p.RetryAfter != tc.want.RetryAfter {
				t.Errorf("got %+v, want %+v", err, tc.want)
			}
		})
	}
}

// A peer that is being replaced is not there for a moment: the request waits for it.
func TestPeerComesBack(t *testing.T) {
	addr := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	c := hop.New("peer", "http://"+addr)
	done := make(chan error, 1)
	go func() {
		done <- c.JSON(context.Background(), http.MethodPost, "/", map[string]int{}, nil, nil)
	}()
	time.AfterFunc(150*time.Millisecond, func() { // after the first attempts
		l, err := net.Listen("tcp", addr)
		if err != nil {
			done <- err
			return
		}

		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
		}))
		t.Cleanup(func() { l.Close() })
	})

	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What may have had an effect is not sent twice, and a caller who leaves is not kept.
func TestNoRetry(t *testing.T) {
	var requests atomic.Int32
	c := serve(t, func(http.ResponseWriter, *http.Request) {
		requests.Add(1)
		panic(http.ErrAbortHandler)
	})

	if err := c.JSON(context.Background(), http.MethodPost, "/", map[string]int{}, nil,
		nil); err == nil || !strings.HasPrefix(err.Error(), "peer: ") {
		t.Errorf("%v", err)
	}

	if requests.Load() != 1 {
		t.Errorf("sent %d times", requests.Load())
	}

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := hop.New("peer", "http://127.0.0.1:1").JSON(ctx, http.MethodGet, "/", nil, nil,
		nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestReadiness(t *testing.T) {
	status, body := 503, `{"status":"not ready","checks":{"ollama":"refused"}}`
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})

	if r, err := c.Readiness(context.Background()); err != nil || r.Status != "not ready" ||
		r.Checks["ollama"] != "refused" {
		t.Errorf("%+v, %v", r, err)
	}

	for _, tc := range []struct {
		status int
		body   string
	}{{404, "{}"}, {200, "<html>"}, {200, "{}"}} {
		status, body = tc.status, tc.body
		if r, err := c.Readiness(context.Background()); err == nil {
			t.Errorf("%d %s gives %+v", status, body, r)
		}
	}

	if _, err := hop.New("peer", "http://127.0.0.1:1").Readiness(context.Background()); err == nil {
		t.Error("no error without a peer")
	}
}
