package api_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// complete sends a message and reads its answer to the end.
func (i *instance) complete(conversation, message string) backendapi.Generation {
	i.t.Helper()
	g := i.send(alice, conversation, message)
	i.follow(alice, g.ID, "").rest()
	return g
}

// replacing returns a request in the place of the answers from one to another.
func replacing(conversation, message, from, to string) backendapi.ChatRequest {
	return backendapi.ChatRequest{ConversationID: conversation, Message: message,
		Replaces: &backendapi.Replaces{From: from, To: to}}
}

func (i *instance) said(conversation string) (out []string) {
	i.t.Helper()
	for _, m := range i.detail(alice, conversation).Messages {
		out = append(out, m.Content)
	}
	return out
}

// TestAskAgain asks the last question again and then an earlier one in other words, each sent again
// with its key, of whichever instance, and sees what the model is sent.
func TestAskAgain(t *testing.T) {
	for name, start := range map[string]func(testing.TB) store.Address{
		"one Redis": func(t testing.TB) store.Address {
			return store.Address{URL: redistest.Start(t).URL}
		},
		"a Cluster": func(t testing.TB) store.Address {
			return store.Address{URL: "redis://unused:1",
				Cluster: redistest.StartCluster(t).Addrs()[:1]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, ml := start(t), mltest.Start(t)
			a := newInstanceAt(t, address, ml.URL, options{})
			b := newInstanceAt(t, address, ml.URL, options{})
			first := a.complete("", "one")
			second := a.complete(first.ConversationID, "two")

			var sent []string
			ml.Chat(func(s *mltest.Stream) {
				sent = nil
				for _, m := range s.Request.Messages {
					sent = append(sent, m.Content)
				}
				s.Text("better")
				s.Done()
			})

			again := replacing(first.ConversationID, "", second.ID, second.ID)
			third := a.sendKey("again", again)
			for _, i := range []*instance{a, b, a} {
				if got := i.sendKey("again", again); got != third {
					t.Errorf("sent again: %+v, want %+v", got, third)
				}
				i.follow(alice, third.ID, "").rest()
			}

			if want := []string{"one", "hello", "two"}; !slices.Equal(sent, want) {
				t.Errorf("the model got %q, want %q", sent, want)
			}

			want := []string{"one", "hello", "two", "better"}
			if got := a.said(first.ConversationID); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}

			a.refused(http.StatusNotFound, http.MethodGet,
				"/api/generations/"+second.ID+"/events", nil, alice)

			// The page that shows the old answer asks once more, without the key.
			p := b.refused(http.StatusConflict, http.MethodPost, "/api/chat", again, alice)
			if p.Type != backendapi.TypeChanged {
				t.Errorf("%+v", p)
			}

			edited := replacing(first.ConversationID, "uno", first.ID, third.ID)
			var g backendapi.Generation
			b.want(http.StatusAccepted, &g, http.MethodPost, "/api/chat", edited, alice)
			b.follow(alice, g.ID, "").rest()
			want = []string{"uno", "better"}
			if got := a.said(first.ConversationID); !slices.Equal(got, want) ||
				!slices.Equal(sent, want[:1]) {
				t.Errorf("%q, want %q; the model got %q", got, want, sent)
			}
		})
	}
}

// TestAskAgainWhileAnAnswerIsWritten is refused, says why and changes nothing. Many at once
// with one key are one.
func TestAskAgainWhileAnAnswerIsWritten(t *testing.T) {
	i, ml, _ := stack(t)
	first := i.complete("", "one")
	hold := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("so far"); <-hold; s.Done() })
	again := replacing(first.ConversationID, "", first.ID, first.ID)
	replies := make(chan backendapi.Generation, 8)
	for range cap(replies) {
		go func() {
			var g backendapi.Generation
			resp := i.do(http.MethodPost, "/api/chat", again, alice.with(wire.KeyHeader, "k"))
			if err := json.NewDecoder(resp.Body).Decode(&g); err != nil ||
				resp.StatusCode != http.StatusAccepted {
				t.Errorf("%s, %v", resp.Status, err)
			}
			replies <- g
		}()
	}

	g := soon(t, "a reply", replies)
	for range cap(replies) - 1 {
		if got := soon(t, "a reply", replies); got != g {
			t.Errorf("%+v, want %+v", got, g)
		}
	}

	for _, message := range []string{"", "other"} {
		p := i.refused(http.StatusConflict, http.MethodPost, "/api/chat",
			replacing(first.ConversationID, message, g.ID, g.ID), alice)
		if p.Type != "/problems/answer-running" {
			t.Errorf("%+v", p)
		}
	}

	close(hold)
	i.follow(alice, g.ID, "").rest()
	if got := i.said(first.ConversationID); !slices.Equal(got, []string{"one", "so far"}) {
		t.Errorf("%q", got)
	}
}

// TestAskAgainRefusedByTheModel leaves the conversation as it was: the answer that would have gone
// is there, and its key is free.
func TestAskAgainRefusedByTheModel(t *testing.T) {
	i, ml, redis := stack(t)
	first := i.complete("", "one")
	second := i.complete(first.ConversationID, "two")
	before := i.detail(alice, first.ConversationID)
	ml.Chat(func(s *mltest.Stream) { s.Refuse(problem.New(http.StatusTooManyRequests, "full")) })
	for _, req := range []backendapi.ChatRequest{
		replacing(first.ConversationID, "", second.ID, second.ID),
		replacing(first.ConversationID, "uno", first.ID, second.ID),
	} {
		i.refused(http.StatusTooManyRequests, http.MethodPost, "/api/chat", req,
			alice.with(wire.KeyHeader, "k"))
		after := i.detail(alice, first.ConversationID)
		if after.UpdatedAt != before.UpdatedAt || !slices.Equal(i.said(first.ConversationID),
			[]string{"one", "hello", "two", "hello"}) {
			t.Errorf("%+v, want %+v", after, before)
		}
	}

	left := redis.Client(t).Keys(t.Context(), "*replaced").Val()
	if left = append(left, redis.Client(t).Keys(t.Context(), "*:message:*").Val()...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("at last"); s.Done() })
	g := i.sendKey("k", replacing(first.ConversationID, "", second.ID, second.ID))
	i.follow(alice, g.ID, "").rest()
	if got := i.said(first.ConversationID); got[3] != "at last" {
		t.Errorf("%q", got)
	}
}

// TestAskAgainOfADeadBackend: the backend that asks again is killed, and another one goes on with
// its answer.
func TestAskAgainOfADeadBackend(t *testing.T) {
	redis, ml := redistest.Start(t), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{})
	first := i.complete("", "one")
	second := i.complete(first.ConversationID, "two")
	s := dead(t, store.Address{URL: redis.URL}, lease)
	replaced, err := s.Replaced(t.Context(), "alice", first.ConversationID,
		backendapi.Replaces{From: second.ID, To: second.ID})
	if err != nil {
		t.Fatal(err)
	}

	b, err := s.Begin(t.Context(), store.Turn{Owner: "alice", Key: "k", Replaces: &replaced,
		ConversationID: first.ConversationID, Model: "codexcontinue", Message: replaced.Question,
		Repeats: true}, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), b.Generation, 0, "so far, "); err != nil {
		t.Fatal(err)
	}

	sent := make(chan []string, 1)
	ml.Chat(func(s *mltest.Stream) {
		var got []string
		for _, m := range s.Request.Messages {
			got = append(got, m.Content)
		}
		sent <- got
		s.Text("and on")
		s.Done()
	})

	g := i.sendKey("k", replacing(first.ConversationID, "", second.ID, second.ID))
	if g.ID != b.ID {
		t.Errorf("%+v, want %+v", g, b.Generation)
	}

	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != "so far, and on" ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	want := []string{"one", "hello", "two", "so far, "}
	if got := soon(t, "the request to ml", sent); !slices.Equal(got, want) {
		t.Errorf("the model got %q, want %q", got, want)
	}

	if n := redis.Client(t).Exists(t.Context(),
		"conversation:"+first.ConversationID+":replaced").Val(); n != 0 {
		t.Error("what was replaced is kept after the end")
	}
}

// TestAskAgainValidation refuses what names nothing.
func TestAskAgainValidation(t *testing.T) {
	i, _, _ := stack(t)
	g := i.complete("", "one")
	for name, body := range map[string]string{
		"no conversation": `{"message":"x","replaces":{"from":"a","to":"b"}}`,
		"no answers":      `{"conversation_id":"` + g.ConversationID + `","message":"x","replaces":{}}`,
		"an empty text":   `{"conversation_id":"` + g.ConversationID + `","message":""}`,
		"only space": `{"conversation_id":"` + g.ConversationID +
			`","message":" ","replaces":{"from":"a","to":"b"}}`,
	} {
		if p := i.refused(http.StatusUnprocessableEntity, http.MethodPost, "/api/chat", body,
			alice); len(p.Errors) == 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}

	p := i.refused(http.StatusConflict, http.MethodPost, "/api/chat",
		replacing(g.ConversationID, "x", "a", "b"), alice)
	if p.Type != backendapi.TypeChanged {
		t.Errorf("%+v", p)
	}

	i.refused(http.StatusNotFound, http.MethodPost, "/api/chat",
		replacing("nowhere", "x", g.ID, g.ID), alice)
}
