package modelwait

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/status"
)

// serve answers each request with the next of the bodies, and then always with the last one.
func serve(t *testing.T, bodies ...string) *httptest.Server {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/status" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, bodies[min(int(n.Add(1))-1, len(bodies)-1)])
	}))

	t.Cleanup(s.Close)
	return s
}

func wait(t *testing.T, url string, timeout time.Duration) (status.Status, string, error) {
	t.Helper()
	var out bytes.Buffer
	w := Waiter{Client: http.DefaultClient, Out: console.New(&out, func(string) string {
		return ""
	}), Timeout: timeout,
		Every: time.Millisecond, Now: time.Now}

	s, err := w.Wait(t.Context(), url)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > console.DefaultWidth {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}

	return s, out.String(), err
}

const (
	pulling = `{"status":"degraded","model":{"name":"codexcontinue","state":"pulling",` +
		`"detail":"pulling 6a0746a1ec1a","completed":1073741824,"total":4294967296}}`
	isReady = `{"status":"ready","services":[{"name":"ml","status":"ready"}],` +
		`"model":{"name":"codexcontinue","state":"ready"}}`
)

func TestWaitUntilReady(t *testing.T) {
	s, out, err := wait(t, serve(t, "bad gateway", pulling, pulling, isReady).URL, time.Minute)
	if err != nil || s.Model.State != "ready" {
		t.Fatalf("got %+v, %v", s, err)
	}

	if !strings.Contains(out, "waiting for the stack's address to answer") ||
		!strings.Contains(out, "1Gi of 4Gi (25%)") {
		t.Errorf("it told:\n%s", out)
	}

	if n := strings.Count(out, "pulling 6a0746a1ec1a"); n != 1 {
		t.Errorf("an unchanged state was told %d times", n)
	}
}

func TestWaitFails(t *testing.T) {
	url := serve(t, pulling,
		`{"status":"degraded","model":{"name":"m","state":"failed",`+
			`"error":"pull llama9: no such model: correct FROM"}}`).URL
	_, _, err := wait(t, url, time.Minute)
	var failed *FailedError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(),
		"model m: failed: pull llama9: no such model: correct FROM") {
		t.Errorf("got %v", err)
	}
}

// TestWaitMissing: a base model that is missing ends the wait, unless it was just put there.
func TestWaitMissing(t *testing.T) {
	const missing = `{"status":"degraded","model":{"name":"m","state":"failed",` +
		`"error":"the base model llama3 is not in Ollama","missing":"llama3"}}`
	for name, tc := range map[string]struct {
		step   time.Duration // at each look at the clock
		bodies []string
		fails  bool
	}{
		"put there":     {time.Millisecond, []string{missing, missing, pulling, isReady}, false},
		"stays missing": {time.Second, []string{missing, missing, missing, missing, missing}, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			w := Waiter{
				Client: http.DefaultClient, Timeout: time.Minute, Every: time.Millisecond,
				Out: console.New(&bytes.Buffer{}, func(string) string { return "" }),
				Now: func() time.Time { now = now.Add(tc.step); return now },
			}

			_, err := w.Wait(t.Context(), serve(t, tc.bodies...).URL)
			failed, ok := errors.AsType[*FailedError](err)
			if ok != tc.fails || ok && failed.Model.Missing != "llama3" || !ok && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// answers is a transport over which everything is answered with a text.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	fmt.Fprint(w, string(a))
	return w.Result(), nil
}

// TestWaitTimesOut has a clock of its own: on a busy machine an answer may take longer than the wait.
func TestWaitTimesOut(t *testing.T) {
	for want, body := range map[string]string{
		"model codexcontinue: pulling": pulling,
		"waiting for services: redis is down connection refused": `{"status":"degraded",` +
			`"services":[{"name":"redis","status":"down","detail":"connection refused"}],` +
			`"model":{"name":"m","state":"ready"}}`,
		"the stack's address does not answer": `no JSON`,
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			w := Waiter{
				Client: &http.Client{Transport: answers(body)}, Timeout: time.Minute,
				Every: time.Second, Now: time.Now,
				Out: console.New(&bytes.Buffer{}, func(string) string { return "" }),
			}

			_, err := w.Wait(t.Context(), "http://edge")
			var timeout *TimeoutError
			if !errors.As(err, &timeout) || !strings.Contains(err.Error(), want) ||
				time.Since(begin) != time.Minute {
				t.Errorf("after %s: %v, want a timeout with %q", time.Since(begin), err, want)
			}
		})
	}
}

func TestWaitIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := Waiter{Client: http.DefaultClient, Out: console.New(&bytes.Buffer{}, func(string) string {
		return ""
	}), Timeout: time.Minute, Every: time.Millisecond, Now: time.Now}
	if _, err := w.Wait(ctx, serve(t, pulling).URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBar(t *testing.T) {
	for want, done := range map[string]int64{"[....]": 0, "[##..]": 50, "[####]": 100} {
		if got := bar(done, 100, 4); got != want {
			t.Errorf("%d%%: %s, want %s", done, got, want)
		}
	}
}
