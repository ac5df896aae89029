package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/google/uuid"
)

// said stores a conversation with the title, and the messages as its question and answer.
func said(t testing.TB, s *store.Store, owner, title, question, answer string) string {
	t.Helper()
	b := ask(t, s, store.Turn{Owner: owner, Title: title, Model: "m", Message: question})
	finish(t, s, b.Generation, answer)
	return b.ConversationID
}

func search(t testing.TB, s *store.Store, owner, query string) []backendapi.Conversation {
	t.Helper()
	page, err := s.Search(t.Context(), owner, query, 50, "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if page.Next != "" || page.Partial {
		t.Errorf("%q: there is more: %+v", query, page)
	}

	return page.Conversations
}

// show writes the pieces with the hits in brackets.
func show(pieces []backendapi.Piece) string {
	var b strings.Builder
	for _, p := range pieces {
		if p.Hit {
			fmt.Fprintf(&b, "[%s]", p.Text)
		} else {
			b.WriteString(p.Text)
		}
	}

	return b.String()
}

func TestSearch(t *testing.T) {
	s, _ := open(t, nil)
	long := strings.Repeat("filler words before it ", 20)
	said(t, s, "alice", "Mutex or channel", "Which is faster?",
		"A mutex.\n\nA  channel <b>hands</b> over.")
	said(t, s, "alice", "Größe", "Wie groß ist die STRASSE in İzmir?",
		"ÄRGER / \"quoted\" 🎉 here")
	said(t, s, "alice", "Long", "x",
		long+"the Needle is here "+strings.Repeat("and more after it ", 20))
	said(t, s, "bob", "Mutex of bob", "mutex", "mutex needle")
	for _, tt := range []struct{ query, title, excerpt string }{
		{"mutex channel", "[Mutex] or [channel]", ""},
		{"MUTEX FASTER", "[Mutex] or channel", "Which is [faster]?"},
		{"over mutex", "[Mutex] or channel", "A [mutex]. A channel <b>hands</b> [over]."},
		{"hands channel", "Mutex or [channel]",
			"A mutex. A [channel] <b>[hands]</b> over."},
		{"muTEx mutex", "[Mutex] or channel", ""},
		{"ex", "Mut[ex] or channel", ""},
		{"ärger", "Größe", "[ÄRGER] / \"quoted\" 🎉 here"},
		{"/ \"quoted\"", "Größe", "ÄRGER [/] [\"quoted\"] 🎉 here"},
		{"🎉 here", "Größe", "ÄRGER / \"quoted\" [🎉] [here]"},
		{"i̇zmir", "", ""}, // of two characters, and so another word
		{"strasse", "Größe", "Wie groß ist die [STRASSE] in İzmir?"},
		{"größe groß", "[Größe]", "Wie [groß] ist die STRASSE in İzmir?"},
		{"needle", "Long", "…it filler words before it filler words before it the [Needle] is here" +
			strings.Repeat(" and more after it", 8) + " and…"},
		{"bob", "", ""},
		{"mutex nowhere", "", ""},
		{"content", "", ""}, // a name in the JSON, and no word of anybody
		{"complete", "", ""},
	} {
		got := search(t, s, "alice", tt.query)
		if tt.title == "" {
			if len(got) != 0 {
				t.Errorf("%q finds %+v", tt.query, got)
			}
			continue
		}

		if len(got) != 1 {
			t.Errorf("%q finds %d", tt.query, len(got))
			continue
		}

		title, excerpt := show(got[0].Found.Title), show(got[0].Found.Excerpt)
		if title != tt.title || excerpt != tt.excerpt {
			t.Errorf("%q finds %q with %q, want %q with %q", tt.query, title, excerpt, tt.title,
				tt.excerpt)
		}
	}

	if got := search(t, s, "bob", "mutex needle"); len(got) != 1 || got[0].Title != "Mutex of bob" {
		t.Errorf("bob finds %+v", got)
	}
}

// TestSearchPages finds each conversation once and the last changed first, whatever the limit is
// and however often the time is over.
func TestSearchPages(t *testing.T) {
	s, _ := open(t, nil)
	var want []string
	for n := range 120 {
		word := "needle"
		if n%3 == 0 {
			word = "hay"
		}

		id := said(t, s, "alice", fmt.Sprint(n), word, "x")
		if word == "needle" {
			want = append(want, id)
		}
	}

	slices.Reverse(want)
	for _, tt := range []struct {
		limit   int
		most    time.Duration
		partial bool
	}{{7, time.Minute, false}, {50, time.Minute, false}, {200, time.Minute, false},
		{7, 0, true}} {
		var got []string
		partial := false
		for cursor, pages := "", 0; ; pages++ {
			page, err := s.Search(t.Context(), "alice", "needle", tt.limit, cursor, tt.most)
			if err != nil {
				t.Fatal(err)
			}

			for _, c := range page.Conversations {
				got = append(got, c.ID)
			}

			if partial = partial || page.Partial; page.Partial && page.Next == "" {
				t.Error("a partial page is the last one")
			}
			if cursor = page.Next; cursor == "" {
				break
			}
			if pages > 200 {
				t.Fatal("it never ends")
			}
		}

		if !slices.Equal(got, want) || partial != tt.partial {
			t.Errorf("limit %d: %d of %d, partial: %v", tt.limit, len(got), len(want), partial)
		}
	}

	if _, err := s.Search(t.Context(), "alice", "x", 7, "!!", 0); !errors.Is(err, store.ErrCursor) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

// TestSearchWords bounds what is looked for.
func TestSearchWords(t *testing.T) {
	s, _ := open(t, nil)
	var words []string
	for n := range store.MaxWords + 1 {
		words = append(words, fmt.Sprintf("w%02d", n))
	}

	said(t, s, "alice", "T", strings.Join(words[:store.MaxWords], " "), "x")
	if got := search(t, s, "alice", strings.Join(words, " ")); len(got) != 1 {
		t.Errorf("found %d: one word more than are looked for counts", len(got))
	}
}

// TestMessages reads more than a batch, and says when some are gone.
func TestMessages(t *testing.T) {
	s, redis := open(t, nil)
	id, _ := talk(t, s, 20)
	c, err := s.Get(t.Context(), "alice", id)
	if err != nil {
		t.Fatal(err)
	}

	_, want := messages(t, s, id)
	var got []backendapi.Message
	for m, err := range s.Messages(t.Context(), c) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}

	if !slices.Equal(contents(got), contents(want)) {
		t.Errorf("%q", contents(got))
	}

	n := 0
	for _, err = range s.Messages(t.Context(), c) {
		if n++; n == 1 {
			redis.Client(t).Del(t.Context(), "conversation:"+id+":messages")
		}
	}

	if !errors.Is(err, store.ErrChanged) {
		t.Errorf("deleted while it is read: %d, %v", n, err)
	}
}

// large makes conversations of alice that together have so many bytes, of messages as
// people and models write them, with what is of the account. It returns their ids, and
// the answers of the last.
func large(
	t testing.TB, s *store.Store, redis *redistest.Server, conversations, bytes int,
) (ids, answers []string) {
	t.Helper()
	r := redis.Client(t)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, and says: \"x < y\".\n",
		200)
	if conversations == 1 { // as few messages as a conversation may have
		text = strings.Repeat(text, 10)
	}

	for range conversations {
		id, last := talk(t, s, 1)
		answers = nil
		pipe := r.Pipeline()
		for size := 0; size < bytes/conversations; {
			g, err := uuid.NewV7()
			if err != nil {
				t.Fatal(err)
			}

			answers = append(answers, g.String())
			for _, m := range []backendapi.Message{
				{Role: "user", Content: text, State: backendapi.MessageComplete},
				{Role: "assistant", Content: text, State: backendapi.MessageComplete,
					GenerationID: g.String()},
			} {
				raw, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}

				pipe.RPush(context.Background(), "conversation:"+id+":messages", raw)
				pipe.HIncrBy(context.Background(), "owner:alice:usage", id, int64(len(raw)))
				pipe.HIncrBy(context.Background(), "owner:alice:usage", "total", int64(len(raw)))
				size += len(raw)
			}
		}

		if _, err := pipe.Exec(context.Background()); err != nil {
			t.Fatal(err)
		}

		ids, answers = append(ids, id), append(last, answers...)
	}

	return ids, answers
}

// BenchmarkSearch looks for a word that is nowhere, in all that an owner may store.
func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{1, 100, store.DefaultMaxConversations} {
		b.Run(fmt.Sprintf("%d conversations", n), func(b *testing.B) {
			s, redis := open(b, func(o *store.Options) { o.MaxBytes = 2 * store.DefaultMaxBytes })
			large(b, s, redis, n, store.DefaultMaxBytes)
			for b.Loop() {
				page, err := s.Search(b.Context(), "alice", "needle", 20, "", time.Minute)
				if err != nil || len(page.Conversations) != 0 || page.Next != "" {
					b.Fatal(page, err)
				}
			}
		})
	}
}
