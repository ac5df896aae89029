package hop_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
)

// onlyReader hides that a reader can be read again, and counts what is read of it.
type onlyReader struct {
	io.Reader
	n atomic.Int64
}

func (r *onlyReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// TestSend: a body goes out as it comes. What the peer refuses before it has read any of it is not
// read here, and can be sent again.
func TestSend(t *testing.T) {
	const text = "a document"
	refusals, asks := 0, 0
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks++
		if asks <= refusals {
			problem.Write(w, r, problem.Draining("Not here."))
			return
		}
		if r.URL.Path == "/never" {
			problem.Write(w, r, problem.New(http.StatusUnsupportedMediaType, "Not this."))
			return
		}

		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != text || r.Header.Get("X-A") != "b" {
			t.Errorf("it got %q: %v", b, err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer peer.Close()
	c := hop.NewStreaming("peer", peer.URL)
	send := func(path string, size int64) (int64, error) {
		body := &onlyReader{Reader: strings.NewReader(text)}
		resp, err := c.Send(t.Context(), http.MethodPut, path, body, size,
			http.Header{"X-A": {"b"}})
		if err == nil {
			resp.Body.Close()
		}
		return body.n.Load(), err
	}

	for _, size := range []int64{-1, int64(len(text))} {
		if _, err := send("/", size); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}

		refusals, asks = 2, 0
		if _, err := send("/", size); err != nil || asks != 3 {
			t.Errorf("%d bytes: %v after %d requests", size, err, asks)
		}

		refusals = 0
		var fault *problem.Problem
		n, err := send("/never", size)
		if !errors.As(err, &fault) || fault.Status != http.StatusUnsupportedMediaType || n > 0 {
			t.Errorf("%d bytes: %v after %d bytes", size, err, n)
		}
	}
}

// TestSendAgain: a body of which the peer has read a part is sent again if it can be read again.
func TestSendAgain(t *testing.T) {
	asks := 0
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks++
		if asks%2 == 1 {
			_, _ = io.CopyN(io.Discard, r.Body, 3)
			problem.Write(w, r, problem.Draining("Not here."))
			return
		}

		b, err := io.ReadAll(r.Body)
		if r.URL.Path == "/" && (err != nil || string(b) != "a document") {
			t.Errorf("it got %q: %v", b, err)
		}
	}))
	defer peer.Close()
	c := hop.NewStreaming("peer", peer.URL)
	resp, err := c.Send(t.Context(), http.MethodPut, "/", strings.NewReader("a document"), 10, nil)
	if err != nil || asks != 2 {
		t.Fatalf("%v after %d requests", err, asks)
	}
	resp.Body.Close()

	var fault *problem.Problem
	_, err = c.Send(t.Context(), http.MethodPut, "/",
		&onlyReader{Reader: strings.NewReader("a document")}, 10, nil)
	if !errors.As(err, &fault) || fault.Type != problem.TypeDraining || asks != 3 {
		t.Errorf("%v after %d requests", err, asks)
	}

	// An error of the body is that of the request.
	broken := io.MultiReader(strings.NewReader("half"), &failing{})
	_, err = c.Send(t.Context(), http.MethodPut, "/broken", broken, -1, nil)
	if !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}

var errBroken = errors.New("it is broken")

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errBroken }

// TestSendEnds: when Send has returned nobody reads the body, which its owner reads on.
func TestSendEnds(t *testing.T) {
	s := server.New("peer", slog.New(slog.DiscardHandler), time.Second)
	s.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1)
		problem.Write(w, r, problem.New(http.StatusUnsupportedMediaType, "Not this."))
	})
	peer := httptest.NewServer(s.Handler())
	defer peer.Close()
	c := hop.NewStreaming("peer", peer.URL)
	for range 4 {
		body := &onlyReader{Reader: io.LimitReader(zeros{}, 64<<20)}
		_, err := c.Send(context.Background(), http.MethodPut, "/", body, -1, nil)
		var fault *problem.Problem
		if !errors.As(err, &fault) || fault.Status != http.StatusUnsupportedMediaType {
			t.Fatalf("%v", err)
		}

		before := body.n.Load()
		http.DefaultClient.CloseIdleConnections()
		if n := body.n.Load(); n != before {
			t.Fatalf("%d bytes were read, then %d more", before, n-before)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
