package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	goredis "github.com/redis/go-redis/v9"
)

// TestErase leaves nothing of an owner but a mark and the ends of answers for their readers, both
// for a short time, and all of the other owner.
func TestErase(t *testing.T) {
	s, redis := open(t, nil)
	r, ctx := redis.Client(t), t.Context()
	const phrase = "a secret about pangolins"
	mine := turn
	mine.Message, mine.Title, mine.Key = phrase, phrase, "k1"
	ended, err := s.Begin(ctx, mine, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, ended.Generation, 0, phrase); err != nil {
		t.Fatal(err)
	}
	if err := s.End(ctx, ended.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	// One replaces it, and is being written.
	again := mine
	again.Key, again.ConversationID = "k2", ended.ConversationID
	replaced, err := s.Replaced(ctx, "alice", ended.ConversationID,
		backendapi.Replaces{From: ended.ID, To: ended.ID})
	if err != nil {
		t.Fatal(err)
	}

	again.Replaces = &replaced
	running, err := s.Begin(ctx, again, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Think(ctx, running.Generation, 0, phrase); err != nil {
		t.Fatal(err)
	}

	// One was deleted while it was being written; one list has a conversation that is gone.
	mine.Key = "k3"
	deleted, err := s.Begin(ctx, mine, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, "alice", deleted.ConversationID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "alice", "k4", phrase, "", "m"); err != nil {
		t.Fatal(err)
	}

	r.ZAdd(ctx, "owner:alice:conversations", goredis.Z{Score: 1, Member: ended.ID})
	other := turn
	other.Owner = "bob"
	if _, err := s.Begin(ctx, other, "T"); err != nil {
		t.Fatal(err)
	}

	if got := redistest.Find(t, r, phrase); len(got) < 4 {
		t.Fatalf("only %q have the phrase", got)
	}

	stopped, err := s.Erase(ctx, "alice")
	if err != nil || !slices.Equal(stopped, []string{running.ID}) {
		t.Fatalf("stopped %q, %v", stopped, err)
	}
	if got := redistest.Find(t, r, phrase); len(got) > 0 {
		t.Errorf("%q have the phrase", got)
	}

	// The writer is refused, whatever it does, and what follows does not come back.
	for what, err := range map[string]error{
		"append": s.Append(ctx, running.Generation, 0, phrase),
		"think":  s.Think(ctx, running.Generation, len(phrase), phrase),
		"end":    s.End(ctx, running.Generation, store.Stopped()),
		"renew":  s.Renew(ctx, running.Generation),
	} {
		if !errors.Is(err, store.ErrEnded) {
			t.Errorf("%s: %v", what, err)
		}
	}

	if _, err := s.Begin(ctx, mine, phrase); !errors.Is(err, store.ErrErased) {
		t.Errorf("a question: %v", err)
	}
	if _, err := s.Create(ctx, "alice", "", phrase, "", "m"); !errors.Is(err, store.ErrErased) {
		t.Errorf("a conversation: %v", err)
	}

	left := redistest.Find(t, r, "alice", phrase)
	for _, key := range left {
		if time := r.PTTL(ctx, key).Val(); time <= 0 || time > 3*60e9 {
			t.Errorf("%s stays for %v", key, time)
		}
		r.PExpire(ctx, key, time.Millisecond)
	}

	slices.Sort(left)
	if len(left) > 5 || !slices.Contains(left, "owner:alice:erased") {
		t.Errorf("left: %q", left)
	}

	if names := r.HKeys(ctx, "owner:bob:usage").Val(); len(names) != 2 {
		t.Errorf("of the other: %q", names)
	}

	time.Sleep(5 * time.Millisecond)
	if got := redistest.Find(t, r, "alice", phrase); len(got) > 0 {
		t.Errorf("left in the end: %q", got)
	}
	if _, err := s.Begin(ctx, mine, phrase); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestEraseAgain goes on with an erasure that a crash has cut: until it is done a second time the
// owner is marked, and the mark does not outlive its time.
func TestEraseAgain(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.TTL = 0 })
	r, ctx := redis.Client(t), t.Context()
	begin(t, s)

	const mark = "owner:alice:erased"
	r.Set(ctx, mark, 1, time.Minute)
	if _, err := s.Create(ctx, "alice", "", "T", "", "m"); !errors.Is(err, store.ErrErased) {
		t.Fatalf("marked: %v", err)
	}

	for range 2 {
		if _, err := s.Erase(ctx, "alice"); err != nil {
			t.Fatal(err)
		}
	}

	if fields := r.HKeys(ctx, "owner:alice:usage").Val(); len(fields) > 0 {
		t.Errorf("the account has %q", fields)
	}
	if left := r.PTTL(ctx, mark).Val(); left <= 0 || left > 3*time.Minute {
		t.Errorf("the mark stays for %v", left)
	}
}

// TestEraseRace erases while others ask: of what they ask nothing is left.
func TestEraseRace(t *testing.T) {
	s, redis := open(t, nil)
	ctx := t.Context()
	began, done := make(chan struct{}, 4), make(chan error)
	for range 4 {
		go func() {
			for first := true; ; first = false {
				_, err := s.Begin(ctx, turn, "T")
				if first {
					began <- struct{}{}
				}
				if err != nil {
					done <- err
					return
				}
			}
		}()
	}

	for range 4 {
		<-began
	}

	if _, err := s.Erase(ctx, "alice"); err != nil {
		t.Fatal(err)
	}

	for range 4 {
		if err := <-done; !errors.Is(err, store.ErrErased) {
			t.Errorf("a question: %v", err)
		}
	}

	page, err := s.List(ctx, "alice", 10, "")
	if err != nil || len(page.Conversations) > 0 {
		t.Errorf("%d are left, %v", len(page.Conversations), err)
	}
	if got := redistest.Find(t, redis.Client(t), turn.Message+`"`); len(got) > 0 {
		t.Errorf("%q have a message", got)
	}
}

// TestAll reads each conversation once, the last changed first, and leaves out what goes meanwhile.
func TestAll(t *testing.T) {
	s, _ := open(t, nil)
	var ids []string
	for range 5 {
		c, err := s.Create(t.Context(), "alice", "", "T", "", "m")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID)
		time.Sleep(2 * time.Millisecond)
	}

	var got []string
	for c, err := range s.All(t.Context(), "alice") {
		if err != nil {
			t.Fatal(err)
		}

		got = append(got, c.ID)
		if len(got) == 1 { // one is changed, and one deleted
			if _, err := s.Rename(t.Context(), "alice", ids[1], "U"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Delete(t.Context(), "alice", ids[2]); err != nil {
				t.Fatal(err)
			}
		}
	}

	if want := []string{ids[4], ids[3], ids[1], ids[0]}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
