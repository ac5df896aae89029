package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/google/go-cmp/cmp"
)

// talk makes a conversation of so many questions and answers, and returns the answers.
func talk(t testing.TB, s *store.Store, turns int) (conversation string, answers []string) {
	t.Helper()
	for n := range turns {
		b := ask(t, s, store.Turn{Owner: "alice", Title: "T", Model: "m",
			ConversationID: conversation, Message: fmt.Sprint("question ", n)})
		finish(t, s, b.Generation, fmt.Sprint("answer ", n, strings.Repeat(" and more", n)))
		conversation, answers = b.ConversationID, append(answers, b.ID)
	}

	return conversation, answers
}

func ask(t testing.TB, s *store.Store, turn store.Turn) store.Begun {
	t.Helper()
	b, err := s.Begin(t.Context(), turn, "T")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func finish(t testing.TB, s *store.Store, g store.Generation, text string) {
	t.Helper()
	if err := s.Append(t.Context(), g, 0, text); err != nil {
		t.Fatal(err)
	}

	if err := s.End(t.Context(), g, store.Ending{Event: backendapi.EventDone, Data: []byte("{}"),
		State: backendapi.MessageComplete}); err != nil {
		t.Fatal(err)
	}
}

// replacing returns a turn in the place of the answers from one to another.
func replacing(
	t testing.TB, s *store.Store, conversation, message, from, to string,
) store.Turn {
	t.Helper()
	r, err := s.Replaced(t.Context(), "alice", conversation,
		backendapi.Replaces{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}

	return store.Turn{Owner: "alice", Model: "m2", ConversationID: conversation, Replaces: &r,
		Message: message}
}

func contents(all []backendapi.Message) (out []string) {
	for _, m := range all {
		out = append(out, m.Content)
	}
	return out
}

// accounted checks that the account of alice says what her messages need, to the byte.
func accounted(t testing.TB, redis *redistest.Server, conversations ...string) {
	t.Helper()
	r, want, total := redis.Client(t), map[string]string{}, 0
	for _, id := range conversations {
		n := 0
		for _, m := range r.LRange(t.Context(), "conversation:"+id+":messages", 0, -1).Val() {
			n += len(m)
		}
		want[id], total = strconv.Itoa(n), total+n
	}

	want["total"] = strconv.Itoa(total)
	if d := cmp.Diff(want, r.HGetAll(t.Context(), "owner:alice:usage").Val()); d != "" {
		t.Errorf("the account (-want +got):\n%s", d)
	}
}

// TestReplace asks again and in other words, at the end, in the middle and from the beginning. What
// goes is out of the account and of Redis, and what was before it is what the model gets.
func TestReplace(t *testing.T) {
	for name, tt := range map[string]struct {
		from, before int
	}{
		"the last":  {3, 6},
		"the third": {2, 4},
		"the first": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, redis := open(t, nil)
			r := redis.Client(t)
			other, _ := talk(t, s, 1)
			id, answers := talk(t, s, 4)
			_, all := messages(t, s, id)
			turn := replacing(t, s, id, "in other words", answers[tt.from], answers[3])
			if want := all[2*tt.from].Content; turn.Replaces.Question != want {
				t.Errorf("the question is %q, want %q", turn.Replaces.Question, want)
			}

			b := ask(t, s, turn)
			if d := cmp.Diff(all[:tt.before], b.History); len(b.History) != tt.before || d != "" {
				t.Errorf("the history (-want +got):\n%s", d)
			}

			accounted(t, redis, id, other)
			for n, answer := range answers {
				_, err := s.Generation(t.Context(), "alice", answer)
				if gone := errors.Is(err, store.ErrNotFound); gone != (n >= tt.from) {
					t.Errorf("answer %d: %v", n, err)
				}
			}

			finish(t, s, b.Generation, "another answer")
			accounted(t, redis, id, other)
			want := append(contents(all[:tt.before]), "in other words", "another answer")
			c, now := messages(t, s, id)
			if d := cmp.Diff(want, contents(now)); d != "" || c.Model != "m2" || c.Title != "T" {
				t.Errorf("%+v (-want +got):\n%s", c, d)
			}
			if n := r.Exists(t.Context(), "conversation:"+id+":replaced").Val(); n != 0 {
				t.Error("what was replaced is kept after the end")
			}
			if ttl := r.TTL(t.Context(), "conversation:"+id+":messages").Val(); ttl <= 0 {
				t.Errorf("the messages live for %s", ttl)
			}
			if _, err := s.Delete(t.Context(), "alice", id); err != nil {
				t.Fatal(err)
			}

			accounted(t, redis, other)
		})
	}
}

// TestReplaceTakenBack takes back a turn that ml refused: what it replaced is there again as it
// was, and in the account.
func TestReplaceTakenBack(t *testing.T) {
	for _, from := range []int{0, 2} {
		s, redis := open(t, nil)
		id, answers := talk(t, s, 3)
		r := redis.Client(t)
		c, all := messages(t, s, id)
		turn := replacing(t, s, id, "again", answers[from], answers[2])
		b := ask(t, s, turn)
		if err := s.Withdraw(t.Context(), b, turn); err != nil {
			t.Fatal(err)
		}

		back, now := messages(t, s, id)
		if d := cmp.Diff(all, now); d != "" || back != c {
			t.Errorf("%+v, want %+v (-want +got):\n%s", back, c, d)
		}

		accounted(t, redis, id)
		if ttl := r.TTL(t.Context(), "conversation:"+id+":messages").Val(); ttl <= 0 {
			t.Errorf("the messages live for %s", ttl)
		}

		// A turn behind it that is taken back brings nothing else, not even what an instance of the
		// former version has left, which knows nothing of it.
		if err := r.RPush(t.Context(), "conversation:"+id+":replaced", "{}").Err(); err != nil {
			t.Fatal(err)
		}
		plain := store.Turn{Owner: "alice", Model: "m", ConversationID: id, Message: "plain"}
		if err := s.Withdraw(t.Context(), ask(t, s, plain), plain); err != nil {
			t.Fatal(err)
		}
		if _, now = messages(t, s, id); len(now) != len(all) {
			t.Errorf("%d messages, want %d", len(now), len(all))
		}
	}
}

// TestReplaceRefused changes nothing where the conversation ends with something else, where an
// answer is being written, and for whoever it does not belong to.
func TestReplaceRefused(t *testing.T) {
	s, redis := open(t, nil)
	id, answers := talk(t, s, 3)
	_, foreign := talk(t, s, 1)
	_, all := messages(t, s, id)
	const none = "01890000-0000-7000-8000-000000000001"
	for name, r := range map[string][2]string{
		"not its last":         {answers[1], answers[1]},
		"the wrong way round":  {answers[2], answers[1]},
		"no answer":            {none, answers[2]},
		"no last one":          {answers[2], none},
		"of another":           {foreign[0], answers[2]},
		"a question":           {all[4].ID, answers[2]},
		"nothing":              {"", ""},
		"a text that is JSON":  {answers[2], answers[2] + `","created_at":"`},
		"what a pattern finds": {strings.Repeat(".", 36), answers[2]},
	} {
		turn := replacing(t, s, id, "x", r[0], r[1])
		if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := s.Replaced(t.Context(), "bob", id, backendapi.Replaces{From: answers[2],
		To: answers[2]}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of bob: %v", err)
	}

	turn := replacing(t, s, id, "x", answers[2], answers[2])
	stolen := turn
	stolen.Owner = "bob"
	if _, err := s.Begin(t.Context(), stolen, "T"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("begun by bob: %v", err)
	}
	if _, now := messages(t, s, id); !cmp.Equal(all, now) {
		t.Errorf("refused, and the messages are %q", contents(now))
	}

	b := ask(t, s, turn)
	if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrBusy) {
		t.Errorf("while an answer is written: %v", err)
	}
	if err := s.End(t.Context(), b.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrChanged) {
		t.Errorf("what is gone is replaced again: %v", err)
	}
	if n := redis.Client(t).LLen(t.Context(), "conversation:"+id+":messages").Val(); n != 6 {
		t.Errorf("%d messages", n)
	}
}

// TestReplaceAtTheBounds: a turn that replaces others needs only the room that they do not leave.
func TestReplaceAtTheBounds(t *testing.T) {
	s, redis := open(t, func(o *store.Options) { o.MaxBytes = 4 << 10 })
	id, answers := talk(t, s, 2)
	plain := store.Turn{Owner: "alice", Model: "m", ConversationID: id,
		Message: strings.Repeat("x", 3<<10)}
	if _, err := s.Begin(t.Context(), plain, "T"); !errors.Is(err, store.ErrTooMuch) {
		t.Fatalf("more than fits: %v", err)
	}

	turn := replacing(t, s, id, plain.Message, answers[0], answers[1])
	b := ask(t, s, turn)
	accounted(t, redis, id)
	finish(t, s, b.Generation, "y")
	turn = replacing(t, s, id, strings.Repeat("x", 4<<10), b.ID, b.ID)
	if _, err := s.Begin(t.Context(), turn, "T"); !errors.Is(err, store.ErrTooMuch) {
		t.Errorf("more than fits in its place: %v", err)
	}

	accounted(t, redis, id)

	// A conversation that is full has room for what takes a place in it.
	s, redis = open(t, nil)
	id, answers = talk(t, s, 1)
	r := redis.Client(t)
	key := "conversation:" + id + ":messages"
	for range store.MaxMessages - 2 {
		if err := r.LPush(t.Context(), key, `{"role":"user","content":"x"}`).Err(); err != nil {
			t.Fatal(err)
		}
	}

	b = ask(t, s, replacing(t, s, id, "again", answers[0], answers[0]))
	if n := r.LLen(t.Context(), key).Val(); n != store.MaxMessages || b.Earlier == 0 {
		t.Errorf("%d messages, %d of them too early", n, b.Earlier)
	}
}

// TestReplaceTakenOver: another writer goes on with the answer from what was asked in the end.
func TestReplaceTakenOver(t *testing.T) {
	s, _ := open(t, func(o *store.Options) { o.Lease = 50 * time.Millisecond })
	var id string
	var answers []string
	for n := range 3 { // leases are short, and nothing takes these over
		b := ask(t, s, store.Turn{Owner: "alice", Title: "T", Model: "m", ConversationID: id,
			Message: fmt.Sprint("question ", n)})
		finish(t, s, b.Generation, fmt.Sprint("answer ", n))
		id, answers = b.ConversationID, append(answers, b.ID)
	}

	b := ask(t, s, replacing(t, s, id, "in other words", answers[1], answers[2]))
	if err := s.Append(t.Context(), b.Generation, 0, "so far"); err != nil {
		t.Fatal(err)
	}

	c := claim(t, s, b.Generation)
	want := []string{"question 0", "answer 0", "in other words"}
	if got := contents(c.History); !slices.Equal(got, want) || c.Text != "so far" ||
		c.Model != "m2" {
		t.Errorf("%q, %+v", got, c)
	}
}

// TestReplaceKey: a turn that replaces others and is sent again with its key is one, also when what
// it replaced is gone, and another one is not.
func TestReplaceKey(t *testing.T) {
	s, _ := open(t, nil)
	id, answers := talk(t, s, 2)
	turn := replacing(t, s, id, "question 1", answers[1], answers[1])
	turn.Key, turn.Repeats = "k", true
	b := ask(t, s, turn)
	finish(t, s, b.Generation, "again")

	again := replacing(t, s, id, "", answers[1], answers[1])
	again.Key, again.Repeats = "k", true
	if got, err := s.Known(t.Context(), again); err != nil || got.ID != b.ID {
		t.Errorf("known: %+v, %v", got, err)
	}
	if got, err := s.Begin(t.Context(), again, "T"); err != nil || got.ID != b.ID || !got.Again {
		t.Errorf("begun again: %+v, %v", got, err)
	}

	for name, change := range map[string]func(*store.Turn){
		"another text":   func(t *store.Turn) { t.Message, t.Repeats = "other", false },
		"nothing":        func(t *store.Turn) { t.Replaces = nil },
		"another answer": func(t *store.Turn) { t.Replaces = &store.Replaced{} },
		"another end": func(t *store.Turn) {
			r := *t.Replaces
			r.To = answers[0]
			t.Replaces = &r
		},
	} {
		other := again
		change(&other)
		if _, err := s.Known(t.Context(), other); !errors.Is(err, store.ErrKeyReused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkReplace is the longest that a turn holds Redis up: one that replaces all that an owner
// may store.
func BenchmarkReplace(b *testing.B) {
	s, redis := open(b, nil)
	ids, answers := large(b, s, redis, 1, store.DefaultMaxBytes)
	turn := replacing(b, s, ids[0], "again", answers[0], answers[len(answers)-1])
	for b.Loop() {
		begun, err := s.Begin(b.Context(), turn, "T")
		b.StopTimer()
		if err == nil {
			err = s.Withdraw(b.Context(), begun, turn)
		}
		if err != nil {
			b.Fatal(err)
		}

		b.StartTimer()
	}
}
