package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"
	redislog "github.com/redis/go-redis/v9/logging"
)

func TestMain(m *testing.M) {
	redislog.Disable() // as main does
	os.Exit(m.Run())
}

func open(t testing.TB, change func(*store.Options)) (*store.Store, *redistest.Server) {
	t.Helper()
	redis := redistest.StartAs(t, stacks.Backend)
	o := store.Options{
		Address: store.Address{URL: redis.URL},
		TTL:     time.Hour,
		Keep:    time.Hour,
		Lease:   time.Hour,
		Outage:  time.Minute,
	}
	if change != nil {
		change(&o)
	}

	s, err := store.New(o)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { s.Close() })
	return s, redis
}

// turn begins a conversation.
var turn = store.Turn{Owner: "alice", Title: "T", Model: "m", Message: "Hi"}

func begin(t testing.TB, s *store.Store) store.Begun {
	t.Helper()
	b, err := s.Begin(t.Context(), turn, "T")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// messages reads the last messages of a conversation.
func messages(t testing.TB, s *store.Store, id string) (store.Conversation, []backendapi.Message) {
	t.Helper()
	c, page, err := s.Detail(t.Context(), "alice", id, 100, "")
	if err != nil {
		t.Fatal(err)
	}
	return c, page.Messages
}

// former makes the answer one that an instance of the former version writes.
func former(t testing.TB, r *goredis.Client, g store.Generation, lease time.Time) {
	t.Helper()
	if err := r.HDel(t.Context(), "generation:"+g.ID, "fence", "expires").Err(); err != nil {
		t.Fatal(err)
	}

	if err := r.HSet(t.Context(), "generation:"+g.ID, "lease",
		lease.UnixMilli()).Err(); err != nil {
		t.Fatal(err)
	}
}

func events(t testing.TB, s *store.Store, g store.Generation) (names []string, text string) {
	t.Helper()
	all, err := s.Read(t.Context(), g, "0-0", time.Second)
	if err != nil {
		t.Fatal(err)
	}

	for _, e := range all {
		names = append(names, e.Name)
		if e.Name == backendapi.EventDelta {
			text += e.Data
		}
	}

	return names, text
}

// A write whose reply was lost is sent again: it must not count twice, and one that
// leaves a gap is refused.
func TestAppendTwice(t *testing.T) {
	s, _ := open(t, nil)
	b := begin(t, s)
	for _, w := range []struct {
		from int
		text string
	}{{0, "ab"}, {0, "ab"}, {2, "cd"}, {2, "cd"}} {
		if err := s.Append(t.Context(), b.Generation, w.from, w.text); err != nil {
			t.Fatal(err)
		}
	}

	for _, from := range []int{1, 3, 9} {
		if err := s.Append(t.Context(), b.Generation, from, "xyz"); err == nil ||
			errors.Is(err, store.ErrEnded) {
			t.Errorf("appended at %d: %v", from, err)
		}
	}

	if names, text := events(t, s, b.Generation); text != "abcd" || len(names) != 3 {
		t.Errorf("%v %q", names, text)
	}
}

// An instance of the former version ends an answer and leaves its reasoning, of which it knows
// nothing: it goes when the writer ends the answer.
func TestEndedByTheFormerVersion(t *testing.T) {
	s, redis := open(t, nil)
	b := begin(t, s)
	if err := s.Think(t.Context(), b.Generation, 0, "hm"); err != nil {
		t.Fatal(err)
	}

	r := redis.Client(t)
	if err := r.HSet(t.Context(), "generation:"+b.ID, "state", "ended").Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.End(t.Context(), b.Generation, store.Stopped()); !errors.Is(err, store.ErrEnded) {
		t.Errorf("end: %v", err)
	}
	if n := r.Exists(t.Context(), "generation:"+b.ID+":thinking").Val(); n != 0 {
		t.Error("the reasoning is left")
	}
}

// The clock is set by an hour, so a lease that is held seems to be over for long, or to end in an
// hour: its writer gets the time to renew it all the same.
func TestClockIsSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			s, redis := open(t, func(o *store.Options) {
				o.Lease, o.Outage = 2*time.Second, 40*time.Second
			})
			b := begin(t, s)
			r := redis.Client(t)
			expires, err := r.HGet(t.Context(), "generation:"+b.ID, "expires").Int64()
			if err != nil {
				t.Fatal(err)
			}

			// To Redis a clock that is set is the same as times that were set the other way.
			if err := r.HSet(t.Context(), "generation:"+b.ID, "expires", expires-by.Milliseconds()).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Claim(t.Context(), b.Generation); !errors.Is(err, store.ErrLeased) {
				t.Errorf("the first to look takes the answer over: %v", err)
			}
			if err := s.Renew(t.Context(), b.Generation); err != nil {
				t.Errorf("the writer renews its lease: %v", err)
			}
			if _, err := s.Claim(t.Context(), b.Generation); !errors.Is(err, store.ErrLeased) {
				t.Errorf("the next one takes it over: %v", err)
			}
		})
	}
}

// However many end an answer at once, it ends once, and nothing is written after that.
func TestEndsOnce(t *testing.T) {
	s, redis := open(t, nil)
	b := begin(t, s)
	if err := s.Append(t.Context(), b.Generation, 0, "text / \"quoted\" \x7f 🎉\n"); err != nil {
		t.Fatal(err)
	}

	var wins atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch err := s.End(context.Background(), b.Generation, store.Stopped()); {
			case err == nil:
				wins.Add(1)
			case !errors.Is(err, store.ErrEnded):
				t.Error(err)
			}
		})
	}

	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("ended %d times", wins.Load())
	}

	for name, err := range map[string]error{
		"append":   s.Append(t.Context(), b.Generation, 0, "x"),
		"queue":    s.Queue(t.Context(), b.Generation, 1),
		"renew":    s.Renew(t.Context(), b.Generation),
		"withdraw": s.Withdraw(t.Context(), b, turn),
	} {
		if !errors.Is(err, store.ErrEnded) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}

	if names, _ := events(t, s, b.Generation); !cmp.Equal(names, []string{"start", "delta", "stopped"}) {
		t.Errorf("%v", names)
	}

	_, said := messages(t, s, b.ConversationID)
	if messages := said; messages[1].Content != "text / \"quoted\" \x7f 🎉\n" ||
		messages[1].State != backendapi.MessageStopped || messages[1].CreatedAt.IsZero() {
		t.Errorf("%+v", messages)
	}

	r := redis.Client(t)
	for _, key := range []string{"generation:" + b.ID, "generation:" + b.ID + ":events"} {
		if ttl := r.TTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s lives for %s", key, ttl)
		}
	}

	if r.Exists(t.Context(), "generation:"+b.ID+":text").Val() != 0 {
		t.Error("the text is kept twice")
	}
}

// What an instance of the former version writes is ended when its lease is over, as that version
// does.
func TestReap(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.Lease = 50 * time.Millisecond })
	b := begin(t, s)
	r := redis.Client(t)
	former(t, r, b.Generation, time.Now().Add(50*time.Millisecond))
	if err := s.Append(t.Context(), b.Generation, 0, "so far"); err != nil {
		t.Fatal(err)
	}

	for deadline := time.Now().Add(20 * time.Second); ; {
		err := s.Reap(t.Context(), b.Generation)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrLeased) {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), b.Generation, 0, "so far"); err != nil {
			t.Fatalf("the lease is held and the writer is refused: %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatal("the lease does not expire")
		}
	}

	if err := s.Renew(t.Context(), b.Generation); !errors.Is(err, store.ErrEnded) {
		t.Errorf("the dead writer renews: %v", err)
	}

	c, said := messages(t, s, b.ConversationID)
	if c.Generation != "" || said[1].State != backendapi.MessageFailed ||
		said[1].Content != "so far" || said[1].Error.Status != 503 {
		t.Errorf("%+v %+v", c, said)
	}

	// Of an answer whose keys are gone the message is left: it is settled as well.
	again, err := s.Begin(t.Context(),
		store.Turn{Owner: "alice", ConversationID: b.ConversationID, Model: "m", Message: "Hi"},
		"T")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Del(t.Context(), "generation:"+again.ID, "generation:"+again.ID+":events").Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.Reap(t.Context(), again.Generation); err != nil {
		t.Error(err)
	}
	if _, said = messages(t, s, b.ConversationID); said[3].State != backendapi.MessageFailed {
		t.Errorf("%+v", said)
	}
	if err := s.Reap(t.Context(), again.Generation); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("reaped twice: %v", err)
	}
}

// An expired lease may mean that Redis was away and its writer waits for it: the writer gets
// the time to renew it.
func TestReapGivesGrace(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.Lease = time.Minute })
	r := redis.Client(t)
	expire := func(g store.Generation, ago time.Duration) {
		t.Helper()
		former(t, r, g, time.Now().Add(-ago))
	}

	reap := func(g store.Generation) bool {
		t.Helper()
		err := s.Reap(t.Context(), g)
		if err != nil && !errors.Is(err, store.ErrLeased) {
			t.Fatal(err)
		}
		return err != nil
	}

	g := begin(t, s).Generation
	for range 2 { // each outage anew
		expire(g, time.Second)
		for range 2 { // also when it is looked at again
			if !reap(g) {
				t.Fatal("the writer got no time to renew the lease")
			}
		}

		if err := s.Renew(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}

	expire(g, time.Second)
	reap(g)
	expire(g, time.Second)
	if reap(g) {
		t.Error("the grace is given again and again")
	}

	// A writer does not bear an outage of that length: nobody is there.
	long := begin(t, s).Generation
	expire(long, 2*time.Minute)
	if reap(long) {
		t.Error("waited for a writer that cannot be there")
	}
}

// claim takes the answer over, as soon as its writer has had its time.
func claim(t testing.TB, s *store.Store, g store.Generation) store.Claim {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := s.Claim(t.Context(), g)
		if err == nil {
			return c
		}
		if !errors.Is(err, store.ErrLeased) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// A takeover refuses the writer before it whatever it tries, and what it had written is the new
// one's.
func TestClaim(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.Lease = 50 * time.Millisecond })
	old := begin(t, s)
	if err := s.Append(t.Context(), old.Generation, 0, "so far"); err != nil {
		t.Fatal(err)
	}
	if err := s.Think(t.Context(), old.Generation, 0, "hm"); err != nil {
		t.Fatal(err)
	}
	if err := s.LeftOut(t.Context(), old.Generation, 4); err != nil {
		t.Fatal(err)
	}

	c := claim(t, s, store.Generation{ID: old.ID, Owner: "alice",
		ConversationID: old.ConversationID})
	if c.Text != "so far" || c.Thinking != 2 || c.LeftOut != 4 || c.Model != "m" ||
		c.Retries != 1 || c.Fence != 2 || len(c.History) != 1 || c.History[0].Content != "Hi" {
		t.Errorf("%+v", c)
	}

	refused := func() {
		t.Helper()
		for name, err := range map[string]error{
			"append": s.Append(t.Context(), old.Generation, 6, "x"), "think": s.Think(t.Context(),
				old.Generation, 2, "x"),
			"queue": s.Queue(t.Context(), old.Generation, 1), "left out": s.LeftOut(t.Context(),
				old.Generation, 1),
			"renew": s.Renew(t.Context(), old.Generation), "retry": s.Retry(t.Context(),
				old.Generation, 1),
			"release": s.Release(t.Context(), old.Generation), "withdraw": s.Withdraw(t.Context(),
				old, turn),
			"end": s.End(t.Context(), old.Generation, store.Stopped()),
		} {
			if !errors.Is(err, store.ErrSuperseded) {
				t.Errorf("%s of the old writer: %v", name, err)
			}
		}
	}

	for range 2 { // also when the new one is gone as well
		refused()
		if err := redis.Client(t).HSet(t.Context(), "generation:"+old.ID, "expires",
			1).Err(); err != nil {
			t.Fatal(err)
		}
	}

	if err := s.Append(t.Context(), c.Generation, 6, ", on"); err != nil {
		t.Error(err)
	}

	if err := s.End(t.Context(), c.Generation, store.Ending{Event: backendapi.EventDone,
		Data: []byte("{}"), State: backendapi.MessageComplete}); err != nil {
		t.Error(err)
	}
	refused() // it was not this one that was stopped

	if names, text := events(t, s, old.Generation); text != "so far, on" ||
		names[len(names)-1] != backendapi.EventDone {
		t.Errorf("%v %q", names, text)
	}

	_, said := messages(t, s, old.ConversationID)
	if m := said[1]; m.Content != "so far, on" || m.Thinking != "hm" || m.LeftOut != 4 ||
		m.State != backendapi.MessageComplete {
		t.Errorf("%+v", m)
	}

	if _, err := s.Claim(t.Context(), old.Generation); !errors.Is(err, store.ErrEnded) {
		t.Errorf("an answer that has ended is taken over: %v", err)
	}
}

// Redis's clock is set back or forth: an answer is neither held for ever nor lost to its writer.
func TestClaimWhenTheClockJumps(t *testing.T) {
	s, redis := open(t, func(o *store.Options) {
		o.Lease, o.Grace = time.Second,
			10*time.Millisecond
	})

	for name, by := range map[string]time.Duration{"back": time.Hour, "forth": -time.Hour} {
		b := begin(t, s)
		if err := redis.Client(t).HSet(t.Context(), "generation:"+b.ID, "expires",
			time.Now().Add(by).UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}

		if orphans, err := s.Orphans(t.Context()); err != nil || len(orphans) != 1 ||
			orphans[0].ID != b.ID {
			t.Errorf("%s: %v, %v", name, orphans, err)
		}

		c := claim(t, s, b.Generation)
		if err := s.End(t.Context(), c.Generation, store.Stopped()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is among the running answers and is none is put up with, and goes in time.
func TestStaleEntries(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.Lease = time.Minute })
	r, b := redis.Client(t), begin(t, s)
	ago := func(d time.Duration) float64 { return float64(time.Now().Add(-d).UnixMilli()) }
	id := func(n int) string {
		return "alice:" + b.ConversationID + ":01890000-0000-7000-8000-00000000000" + string(rune('0'+n))
	}
	ended := begin(t, s)
	if err := s.End(t.Context(), ended.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	for _, z := range []goredis.Z{{Score: ago(0), Member: id(1)}, {Score: ago(time.Hour),
		Member: id(2)}, {Score: ago(0), Member: "what"},
		{Score: ago(0), Member: "alice:" + ended.ConversationID + ":" + ended.ID}} {
		if err := r.ZAdd(t.Context(), "running", z).Err(); err != nil {
			t.Fatal(err)
		}
	}

	if orphans, err := s.Orphans(t.Context()); err != nil || len(orphans) != 0 {
		t.Errorf("%v, %v", orphans, err)
	}

	// One that is about to begin is left, and the one that runs.
	want := []string{id(1), "alice:" + b.ConversationID + ":" + b.ID}
	got := r.ZRange(t.Context(), "running", 0, -1).Val()
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestConversationIsFull(t *testing.T) {
	s, redis := open(t, nil)
	b := begin(t, s)
	if err := s.End(t.Context(), b.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	m, err := json.Marshal(backendapi.Message{
		Role: "user", Content: "x", State: backendapi.MessageComplete,
	})
	if err != nil {
		t.Fatal(err)
	}

	r := redis.Client(t)
	turn := store.Turn{Owner: "alice", ConversationID: b.ConversationID, Model: "m", Message: "Hi"}
	for n := 2; n < store.MaxMessages-2; n++ {
		if err := r.RPush(t.Context(), "conversation:"+b.ConversationID+":messages", m).Err(); err != nil {
			t.Fatal(err)
		}
	}

	last, err := s.Begin(t.Context(), turn, "T")
	if err != nil || len(last.History) != store.HistoryMessages {
		t.Fatalf("%d messages of history, %v", len(last.History), err)
	}

	if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrBusy) &&
		!errors.Is(err, store.ErrFull) {
		t.Errorf("%v", err)
	}

	if err := s.End(t.Context(), last.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrFull) {
		t.Errorf("%v", err)
	}
}

// With a TTL everything goes by itself, also from the list; without one all is kept.
func TestTTL(t *testing.T) {
	s, redis := open(t, func(o *store.Options) {
		o.TTL, o.Keep = 150*time.Millisecond, 10*time.Millisecond
	})
	begin(t, s)
	r := redis.Client(t)
	deadline := time.Now().Add(20 * time.Second)
	for ; r.DBSize(t.Context()).Val() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", r.Keys(t.Context(), "*").Val())
		}
	}

	if page, err := s.List(t.Context(), "alice", 10, ""); err != nil ||
		len(page.Conversations) != 0 {
		t.Errorf("%+v, %v", page, err)
	}

	forever, redis := open(t, func(o *store.Options) { o.TTL = 0 })
	b := begin(t, forever)
	if ttl := redis.Client(t).TTL(t.Context(), "conversation:"+b.ConversationID).Val(); ttl >= 0 {
		t.Errorf("lives for %s", ttl)
	}

	if page, err := forever.List(t.Context(), "alice", 10, ""); err != nil ||
		len(page.Conversations) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestKeysAreOurs(t *testing.T) {
	s, _ := open(t, nil)
	b := begin(t, s)
	for _, id := range []string{
		"", "*", b.ConversationID + ":messages", strings.ToUpper(b.ConversationID),
		"{" + b.ConversationID + "}", "urn:uuid:" + b.ConversationID,
	} {
		if _, err := s.Get(t.Context(), "alice", id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get(%q): %v", id, err)
		}
		if _, err := s.Generation(t.Context(), "alice", id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Generation(%q): %v", id, err)
		}
	}
}

// BenchmarkAppend is what one token costs the writer: one script in Redis.
func BenchmarkAppend(b *testing.B) {
	s, _ := open(b, nil)
	g := begin(b, s).Generation
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := s.Append(b.Context(), g, n, "token "); err != nil {
			b.Fatal(err)
		}
		n += len("token ")
	}
}
