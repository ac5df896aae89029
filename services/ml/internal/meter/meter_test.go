package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) set(t time.Time) { c.mu.Lock(); c.t = t; c.mu.Unlock() }

// noon is in the middle of a day.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// meters returns so many meters, each as of a process of its own, and their clock.
func meters(t *testing.T, url string, n int, l contract.Limits) ([]*Meter, *clock) {
	t.Helper()
	c := &clock{t: noon}
	var out []*Meter
	for range n {
		r, err := redis.New(contract.Redis{URL: url})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(r.Close)
		m := New(r, l, slog.New(slog.DiscardHandler))
		m.now, m.patience = c.now, 20*time.Second // also on a machine that is busy
		out = append(out, m)
	}

	return out, c
}

func days(t *testing.T, s *redistest.Server, owner string) []usage.Day {
	t.Helper()
	hash, err := s.Client(t).HGetAll(t.Context(), usage.Key(owner)).Result()
	if err != nil {
		t.Fatal(err)
	}

	list, err := usage.Days(hash)
	if err != nil {
		t.Fatal(err)
	}

	return list
}

func day(name string, questions, prompt, answer int64) usage.Day {
	return usage.Day{Day: name, Used: usage.Used{
		Questions: questions, PromptTokens: prompt, Tokens: answer,
	}}
}

func want(t *testing.T, s *redistest.Server, owner string, want ...usage.Day) {
	t.Helper()
	if d := cmp.Diff(want, days(t, s, owner)); d != "" {
		t.Errorf("%s has used (-want +got):\n%s", owner, d)
	}
}

func begin(t *testing.T, m *Meter, owner, id string) *Question {
	t.Helper()
	q, err := m.Begin(t.Context(), owner, id)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func refused(t *testing.T, m *Meter, owner string) *LimitError {
	t.Helper()
	_, err := m.Begin(t.Context(), owner, "")
	var limit *LimitError
	if !errors.As(err, &limit) {
		t.Fatalf("the question of %s: %v", owner, err)
	}
	return limit
}

// TestCounts: with limits and without, what is answered counts, by person and day, and what is not
// answered does not.
func TestCounts(t *testing.T) {
	for name, l := range map[string]contract.Limits{
		"without limits": {},
		"with limits":    {RequestsPerDay: 100, TokensPerDay: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartAs(t, stacks.ML)
			ms, clock := meters(t, s.URL, 2, l)
			for i, m := range ms {
				begin(t, m, "alice", "").End(t.Context(), 10, 5)
				begin(t, m, "alice", "").Undo(t.Context())
				begin(t, m, "bob", fmt.Sprint("q", i)).End(t.Context(), 1, 0)
			}

			want(t, s, "alice", day("2026-03-14", 2, 20, 10))
			want(t, s, "bob", day("2026-03-14", 2, 2, 0))

			clock.set(noon.AddDate(0, 0, 1))
			begin(t, ms[0], "alice", "").End(t.Context(), 3, 4)
			want(t, s, "alice", day("2026-03-15", 1, 3, 4), day("2026-03-14", 2, 20, 10))

			r := s.Client(t)
			if got := r.ZRange(t.Context(), usage.People, 0, -1).Val(); !cmp.Equal(got,
				[]string{"bob", "alice"}) {
				t.Errorf("those who have asked are %q", got)
			}

			for _, key := range []string{usage.People, usage.Key("bob")} {
				if left := r.TTL(t.Context(), key).Val(); left < 39*24*time.Hour ||
					left > usage.Kept*24*time.Hour {
					t.Errorf("%s stays for %s", key, left)
				}
			}
		})
	}
}

// TestCountsOnce: a question that is asked again, by whichever process, counts once, on the day of
// its first run. Its tokens are those of all runs.
func TestCountsOnce(t *testing.T) {
	for name, l := range map[string]contract.Limits{
		"without limits": {},
		"with limits":    {RequestsPerDay: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartAs(t, stacks.ML)
			ms, clock := meters(t, s.URL, 2, l)
			first := begin(t, ms[0], "alice", "q")
			first.End(t.Context(), 10, 5)
			clock.set(noon.Add(12 * time.Hour)) // the next day

			again := begin(t, ms[1], "alice", "q")
			again.End(t.Context(), 12, 1)
			again.End(t.Context(), 12, 1) // as if a reply of Redis was lost
			begin(t, ms[1], "alice", "q").Undo(t.Context())
			want(t, s, "alice", day("2026-03-14", 1, 22, 6))
		})
	}
}

// TestRemembers: a question is known again after 60 others, also where a former version of the
// script remembered it, which put a space between the questions alone.
func TestRemembers(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, _ := meters(t, s.URL, 1, contract.Limits{})
	r := s.Client(t)
	former := hash("older") + "=2026-03-14=x " + hash("old") + "=2026-03-14=x"
	r.HSet(t.Context(), usage.Key("alice"), "q:2026-03-14", 2, "asked", former)
	for i := range 60 {
		begin(t, ms[0], "alice", fmt.Sprint(i)).End(t.Context(), 1, 1)
	}

	for _, id := range []string{"old", "older", "0", "30", "59"} {
		begin(t, ms[0], "alice", id).End(t.Context(), 1, 1)
	}

	want(t, s, "alice", day("2026-03-14", 62, 65, 65))
}

// TestLimits: the limits of a day hold over all processes, and until its end.
func TestLimits(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, clock := meters(t, s.URL, 2, contract.Limits{RequestsPerDay: 3, TokensPerDay: 100})
	for i := range 3 {
		begin(t, ms[i%2], "alice", fmt.Sprint("q", i)).End(t.Context(), 1, 1)
	}

	clock.set(noon.Add(12*time.Hour - 90*time.Second))
	for _, m := range ms {
		if e := refused(t, m, "alice"); e.Limit != 3 || e.Tokens || e.RetryAfter != 90*time.Second {
			t.Errorf("%+v", e)
		}
	}

	begin(t, ms[0], "alice", "q1") // which is admitted already

	begin(t, ms[0], "bob", "").End(t.Context(), 90, 9)
	begin(t, ms[1], "bob", "").End(t.Context(), 1, 0)
	if e := refused(t, ms[0], "bob"); e.Limit != 100 || !e.Tokens {
		t.Errorf("%+v", e)
	}

	clock.set(noon.Add(12*time.Hour - time.Millisecond))
	if e := refused(t, ms[1], "bob"); e.RetryAfter != time.Second {
		t.Errorf("%+v", e)
	}

	clock.set(noon.Add(12 * time.Hour))
	for _, owner := range []string{"alice", "bob"} {
		begin(t, ms[1], owner, "")
	}
}

// TestRace: however many questions come at once, no more are admitted than a day may have.
func TestRace(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, _ := meters(t, s.URL, 2, contract.Limits{RequestsPerDay: 7})
	var all sync.WaitGroup
	errs := make(chan error, 50)
	for i := range 50 {
		all.Go(func() {
			q, err := ms[i%2].Begin(t.Context(), "alice", "")
			if err == nil && !q.known {
				err = errors.New("Redis did not answer in time")
			}
			errs <- err
		})
	}

	all.Wait()
	close(errs)
	admitted := 0
	for err := range errs {
		var limit *LimitError
		if err == nil {
			admitted++
		} else if !errors.As(err, &limit) {
			t.Error(err)
		}
	}

	if admitted != 7 {
		t.Errorf("%d of 50 are admitted, not 7", admitted)
	}

	want(t, s, "alice", day("2026-03-14", 7, 0, 0))
}

// TestUndo: a question that was taken back leaves its place to another.
func TestUndo(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, _ := meters(t, s.URL, 1, contract.Limits{RequestsPerDay: 1})
	q := begin(t, ms[0], "alice", "q")
	refused(t, ms[0], "alice")
	q.Undo(t.Context())
	q.Undo(t.Context())
	begin(t, ms[0], "alice", "q").End(t.Context(), 1, 2)
	want(t, s, "alice", day("2026-03-14", 1, 1, 2))
}

// TestForgets: what is older than the days that are kept goes, and the ids of old questions, too.
func TestForgets(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, clock := meters(t, s.URL, 1, contract.Limits{})
	begin(t, ms[0], "alice", "").End(t.Context(), 1, 1)
	begin(t, ms[0], "bob", "").End(t.Context(), 1, 1)
	clock.set(noon.AddDate(0, 0, usage.Kept-1))
	begin(t, ms[0], "alice", "").End(t.Context(), 1, 1)
	want(t, s, "alice", day("2026-04-22", 1, 1, 1), day("2026-03-14", 1, 1, 1))

	clock.set(noon.AddDate(0, 0, usage.Kept))
	for range 200 {
		begin(t, ms[0], "alice", "").End(t.Context(), 1, 1)
	}

	want(t, s, "alice", day("2026-04-23", 200, 200, 200), day("2026-04-22", 1, 1, 1))

	r := s.Client(t)
	if n := len(r.HGet(t.Context(), usage.Key("alice"), "asked").Val()); n > 64*80 {
		t.Errorf("the ids of questions take %d bytes", n)
	}
	if got := r.ZRange(t.Context(), usage.People, 0, -1).Val(); !cmp.Equal(got, []string{"alice"}) {
		t.Errorf("those who have asked are %q", got)
	}
}

// TestCluster: people whose counts lie on different nodes are counted as others.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	r, err := redis.New(contract.Redis{URL: "redis://unused:1", Cluster: cluster.Addrs()})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(r.Close)
	m := New(r, contract.Limits{RequestsPerDay: 1}, slog.New(slog.DiscardHandler))
	m.patience = 20 * time.Second
	for i := range 8 {
		owner := fmt.Sprint("person ", i)
		begin(t, m, owner, "").End(t.Context(), 1, 1)
		refused(t, m, owner)
	}
}

// TestShows: the headers say what is left, in OpenAI's words.
func TestShows(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	for name, tc := range map[string]struct {
		limits contract.Limits
		want   http.Header
	}{
		"none": {want: http.Header{}},
		"requests": {contract.Limits{RequestsPerDay: 5}, http.Header{
			"X-Ratelimit-Limit-Requests":     {"5"},
			"X-Ratelimit-Remaining-Requests": {"4"},
			"X-Ratelimit-Reset-Requests":     {"12h0m0s"},
		}},
		"tokens": {contract.Limits{TokensPerDay: 20}, http.Header{
			"X-Ratelimit-Limit-Tokens":     {"20"},
			"X-Ratelimit-Remaining-Tokens": {"20"},
			"X-Ratelimit-Reset-Tokens":     {"12h0m0s"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ms, _ := meters(t, s.URL, 1, tc.limits)
			q := begin(t, ms[0], name, "")
			h := http.Header{}
			q.Show(h)
			if d := cmp.Diff(tc.want, h); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWithoutRedis: questions are answered all the same, and soon.
func TestWithoutRedis(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, _ := meters(t, s.URL, 1, contract.Limits{RequestsPerDay: 1})
	ms[0].patience = patience
	begin(t, ms[0], "alice", "").End(t.Context(), 1, 1)
	resume := s.Pause(t)
	start := time.Now()
	q := begin(t, ms[0], "alice", "")
	q.Show(http.Header{})
	q.Undo(t.Context())
	if took := time.Since(start); took > 15*time.Second { // Redis says nothing at all
		t.Errorf("it took %s", took)
	}

	resume()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := ms[0].Begin(t.Context(), "alice", "")
		if err != nil {
			break // it holds again
		}
		if time.Now().After(end) {
			t.Fatal("the limit does not hold any more")
		}
	}

	if q, err := ms[0].Begin(context.Background(), "", ""); q != nil || err != nil {
		t.Errorf("nobody's question: %v, %v", q, err)
	}
}

// TestSpent: a meter knows whom it refused a question, until the day is over.
func TestSpent(t *testing.T) {
	s := redistest.StartAs(t, stacks.ML)
	ms, clock := meters(t, s.URL, 1, contract.Limits{RequestsPerDay: 1})
	m := ms[0]
	begin(t, m, "alice", "")
	if m.Spent("alice") {
		t.Error("alice was refused nothing yet")
	}

	if _, err := m.Begin(t.Context(), "alice", ""); err == nil {
		t.Fatal("the limit does not hold")
	}
	if !m.Spent("alice") || m.Spent("bob") {
		t.Errorf("spent: alice %v, bob %v", m.Spent("alice"), m.Spent("bob"))
	}

	clock.set(noon.AddDate(0, 0, 1))
	if m.Spent("alice") {
		t.Error("the day is over")
	}
	if none := (*Meter)(nil); none.Spent("alice") {
		t.Error("no meter refuses nobody")
	}
}

// BenchmarkBegin is what a question waits for its being counted, where a day has limits.
func BenchmarkBegin(b *testing.B) {
	r, err := redis.New(contract.Redis{URL: redistest.StartAs(b, stacks.ML).URL})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)

	m := New(r, contract.Limits{RequestsPerDay: 1 << 40}, slog.New(slog.DiscardHandler))
	for b.Loop() {
		if _, err := m.Begin(b.Context(), "alice", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// TestErased holds that the end of an answer brings back nothing of what was erased meanwhile.
func TestErased(t *testing.T) {
	for name, l := range map[string]contract.Limits{
		"without limits": {},
		"with limits":    {RequestsPerDay: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartAs(t, stacks.ML)
			ms, _ := meters(t, s.URL, 1, l)
			ended, undone := begin(t, ms[0], "alice", ""), begin(t, ms[0], "alice", "")

			r, ctx := s.Client(t), t.Context()
			r.Del(ctx, usage.Key("alice"), usage.People)
			r.HSet(ctx, usage.Key("alice"), usage.Erased, 1)
			r.PExpire(ctx, usage.Key("alice"), usage.ErasedMark)
			ended.End(ctx, 10, 5)
			undone.Undo(ctx)
			begin(t, ms[0], "alice", "").End(ctx, 10, 5)

			fields := r.HKeys(ctx, usage.Key("alice")).Val()
			left := r.TTL(ctx, usage.Key("alice")).Val()
			people := r.Exists(ctx, usage.People).Val()
			if d := cmp.Diff([]string{usage.Erased}, fields); d != "" || left > usage.ErasedMark ||
				left <= 0 || people != 0 {
				t.Errorf("for %s, %d people (-want +got):\n%s", left, people, d)
			}
		})
	}
}
