package openai

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// TestLimits: what ml says of the limits is in each answer, also in one that refuses, and an error
// is one that OpenAI's clients know.
func TestLimits(t *testing.T) {
	left := map[string]string{
		"X-Ratelimit-Limit-Requests":     "3",
		"X-Ratelimit-Remaining-Requests": "2",
		"X-Ratelimit-Reset-Requests":     "6m0s",
		"X-Ratelimit-Limit-Tokens":       "100",
		"X-Ratelimit-Remaining-Tokens":   "90",
		"X-Ratelimit-Reset-Tokens":       "6m0s",
	}

	var refusal *problem.Problem
	i := start(t, func(w http.ResponseWriter, r *http.Request) {
		for name, value := range left {
			w.Header().Set(name, value)
		}

		w.Header().Set("X-Ratelimit-Other", "1")
		if refusal != nil {
			problem.Write(w, r, refusal)
			return
		}

		reply(said+done)(w, r)
	})

	day := problem.Typed(mlapi.TypeDayLimit, http.StatusTooManyRequests, "Used up.")
	day.RetryAfter = 360
	atOnce := problem.Typed(mlapi.TypeAtOnce, http.StatusTooManyRequests, "Too many.")
	atOnce.RetryAfter = 2
	for _, tt := range []struct {
		refusal           *problem.Problem
		status            int
		kind, code, after string
	}{
		{nil, http.StatusOK, "", "", ""},
		{day, http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota", "360"},
		{atOnce, http.StatusTooManyRequests, "requests", "rate_limit_exceeded", "2"},
	} {
		refusal = tt.refusal
		for _, x := range []struct{ path, body string }{
			{"/v1/chat/completions", ask}, {"/v1/chat/completions", askStream},
			{"/v1/completions", askComplete}, {"/v1/embeddings", askEmbed},
		} {
			resp, body := i.post(x.path, x.body)
			if resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != tt.after ||
				resp.Header.Get("X-Ratelimit-Other") != "" {
				t.Errorf("%s: %s %v", x.body, resp.Status, resp.Header)
			}

			for name, value := range left {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s, %d: %s is %q", x.body, tt.status, name, got)
				}
			}

			if tt.refusal == nil {
				continue
			}

			if f := i.faultOf(body); f.Type != tt.kind || code(f) != tt.code ||
				f.Message != tt.refusal.Detail {
				t.Errorf("%s: %s", x.body, body)
			}
		}
	}
}

// TestQuestionIsOne: however often ml is asked for one answer, it is one question, and
// another answer is another.
func TestQuestionIsOne(t *testing.T) {
	var mu sync.Mutex
	var ids []string
	i := start(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.Header.Get(wire.QuestionHeader))
		if len(ids)%2 == 1 {
			_, _ = io.WriteString(w, `{"queue":1}`+"\n") // and the answer is cut
			return
		}

		reply(said+done)(w, r)
	})

	for range 2 {
		if resp, body := i.post("/v1/chat/completions", ask); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", resp.Status, body)
		}
	}

	if len(ids) != 4 || ids[0] == "" || ids[0] != ids[1] || ids[2] != ids[3] ||
		len(slices.Compact(slices.Clone(ids))) != 2 {
		t.Errorf("ml was asked for %q", ids)
	}
}

// TestAtOnceAgain: a question whose answer was cut is asked again also if ml still counts it among
// those at once. The first time that is a refusal.
func TestAtOnceAgain(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	i := start(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tries++
		switch tries {
		case 1:
			_, _ = io.WriteString(w, `{"queue":1}`+"\n") // and the answer is cut
		case 2, 4:
			p := problem.Typed(mlapi.TypeAtOnce, http.StatusTooManyRequests, "Too many.")
			p.RetryAfter = 1
			problem.Write(w, r, p)
		default:
			reply(said+done)(w, r)
		}
	})

	begun := time.Now()
	resp, body := i.post("/v1/chat/completions", ask)
	if resp.StatusCode != http.StatusOK || tries != 3 || time.Since(begun) < 1500*time.Millisecond {
		t.Errorf("%s after %d tries in %s: %s", resp.Status, tries, time.Since(begun), body)
	}

	resp, body = i.post("/v1/chat/completions", ask)
	if resp.StatusCode != http.StatusTooManyRequests || tries != 4 {
		t.Errorf("%s after %d tries: %s", resp.Status, tries, body)
	}
}
