package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/meter"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// metered are so many instances on one Redis, which hold people to the limits.
func metered(
	t *testing.T, s *redistest.Server, ollamaURL string, n int, l contract.Limits,
) []*instance {
	t.Helper()
	var out []*instance
	for range n {
		r, err := redis.New(contract.Redis{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(r.Close)
		out = append(out, start(t, ollamaURL, func(o *Options) {
			o.Meter = meter.New(r, l, slog.New(slog.DiscardHandler))
			o.Queue = queue.New(4, 8)
			o.Queue.Limit(l.RequestsAtOnce)
		}))
	}

	return out
}

// used waits until Redis has what somebody has used today, which is counted after the answer.
func used(t *testing.T, s *redistest.Server, owner string, want usage.Used) {
	t.Helper()
	var got usage.Used
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		days, err := usage.Days(s.Client(t).HGetAll(t.Context(), usage.Key(owner)).Val())
		if err != nil {
			t.Fatal(err)
		}

		got = usage.Used{}
		for _, d := range days {
			got.Add(d.Used)
		}

		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has used %+v, not %+v", owner, got, want)
		}
	}
}

// TestUse: what people use is counted, whatever they ask for, and the day's limit holds over all
// instances.
func TestUse(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/embed":
			tell(w, `{"embeddings":[[1]],"prompt_eval_count":4}`)
		case "/api/generate":
			tell(w, `{"response":"x","done":true,"done_reason":"stop",`+
				`"prompt_eval_count":5,"eval_count":6}`)
		default:
			answers(w, r)
		}
	})

	s := redistest.StartAs(t, stacks.ML)
	is := metered(t, s, f.URL, 2, contract.Limits{RequestsPerDay: 3})

	resp := is[0].post(t.Context(), "/chat", ask)
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), `"done"`) ||
		resp.Header.Get("X-Ratelimit-Limit-Requests") != "3" ||
		resp.Header.Get("X-Ratelimit-Remaining-Requests") != "2" {
		t.Fatalf("%s %v: %s", resp.Status, resp.Header, b)
	}

	used(t, s, "alice", usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})

	is[1].post(t.Context(), "/generate", `{"prompt":"x"}`)
	used(t, s, "alice", usage.Used{Questions: 2, PromptTokens: 12, Tokens: 8})

	resp = is[0].post(t.Context(), "/embed", `{"input":["x"]}`)
	if resp.Header.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Errorf("%v", resp.Header)
	}

	used(t, s, "alice", usage.Used{Questions: 3, PromptTokens: 16, Tokens: 8})

	for _, i := range is {
		for path, body := range map[string]string{
			"/chat": ask, "/generate": `{"prompt":"x"}`, "/embed": `{"input":["x"]}`,
		} {
			resp := i.post(t.Context(), path, body)
			p := i.refused(http.StatusTooManyRequests, resp)
			after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			if p.Type != mlapi.TypeDayLimit || after < 1 || after > 24*60*60 ||
				!strings.HasPrefix(p.Detail, "You have used the 3 questions that a day may") ||
				resp.Header.Get("X-Ratelimit-Remaining-Requests") != "0" {
				t.Errorf("%s: %v %+v", path, resp.Header, p)
			}
		}
	}

	used(t, s, "alice", usage.Used{Questions: 3, PromptTokens: 16, Tokens: 8})
}

// TestUseOfWhatEndsEarly: an answer that is stopped counts with what was written, and one that
// fails before its first word does not count.
func TestUseOfWhatEndsEarly(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		tell(w, hello, `{"message":{"content":" you"}}`)
		<-r.Context().Done()
	})

	s := redistest.StartAs(t, stacks.ML)
	i := metered(t, s, f.URL, 1, contract.Limits{RequestsPerDay: 10})[0]

	ctx, stop := context.WithCancel(t.Context())
	c := i.chat(ctx, ask)
	c.next()
	c.next()
	used(t, s, "alice", usage.Used{Questions: 1}) // it is counted, and not ended
	stop()
	used(t, s, "alice", usage.Used{Questions: 1, Tokens: 2})

	f.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}
	i.refused(http.StatusBadGateway, i.post(t.Context(), "/chat", ask))
	i.refused(http.StatusBadGateway, i.post(t.Context(), "/embed", `{"input":["x"]}`))
	used(t, s, "alice", usage.Used{Questions: 1, Tokens: 2})
}

// TestAskedAgain: a question that the backend asks again, at another instance, counts once.
func TestAskedAgain(t *testing.T) {
	f := newFake(t, answers)
	s := redistest.StartAs(t, stacks.ML)
	for _, i := range metered(t, s, f.URL, 2, contract.Limits{RequestsPerDay: 1}) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.url+"/chat",
			strings.NewReader(ask))
		if err != nil {
			t.Fatal(err)
		}

		req.Header.Set(wire.OwnerHeader, "alice")
		req.Header.Set(wire.QuestionHeader, "the same")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}

		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("got %s", resp.Status)
		}
	}

	used(t, s, "alice", usage.Used{Questions: 1, PromptTokens: 14, Tokens: 4})
}

// TestAtOnce: the question beyond those that a person may have at once is refused, and counts for
// nothing.
func TestAtOnce(t *testing.T) {
	open := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		tell(w, hello)
		<-open
		tell(w, done)
	})

	s := redistest.StartAs(t, stacks.ML)
	i := metered(t, s, f.URL, 1, contract.Limits{RequestsPerDay: 10, RequestsAtOnce: 1})[0]
	first := i.chat(t.Context(), ask)
	first.next()

	resp := i.post(t.Context(), "/chat", ask)
	p := i.refused(http.StatusTooManyRequests, resp)
	if p.Type != mlapi.TypeAtOnce || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("%v %+v", resp.Header, p)
	}

	close(open)
	first.rest()
	used(t, s, "alice", usage.Used{Questions: 1, PromptTokens: 7, Tokens: 2})
	i.chat(t.Context(), ask).rest()
}
