package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (i *instance) sendKey(key string, req backendapi.ChatRequest) backendapi.Generation {
	i.t.Helper()
	var g backendapi.Generation
	i.want(http.StatusAccepted, &g, http.MethodPost, "/api/chat", req,
		alice.with(wire.KeyHeader, key))
	return g
}

// A message that is sent again with its key, on whichever instance, is one message.
func TestMessageKey(t *testing.T) {
	for name, start := range map[string]func(testing.TB) store.Address{
		"one Redis": func(t testing.TB) store.Address {
			return store.Address{URL: redistest.StartAs(t, stacks.Backend).URL}
		},
		"a Cluster": func(t testing.TB) store.Address {
			return store.Address{URL: "redis://unused:1",
				Cluster: redistest.StartCluster(t).Addrs()[:1]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, ml := start(t), mltest.Start(t)
			a, b := newInstanceAt(t, address, ml.URL, options{}), newInstanceAt(t, address, ml.URL,
				options{})
			release := make(chan struct{})
			ml.Chat(func(s *mltest.Stream) { s.Text("one "); <-release; s.Text("two"); s.Done() })
			first := backendapi.ChatRequest{Message: "Hi"}
			g := a.sendKey("key-1", first)
			for _, i := range []*instance{a, b} {
				if again := i.sendKey("key-1", first); again != g {
					t.Errorf("while it is written: %+v, want %+v", again, g)
				}
			}

			resp := b.do(http.MethodPost, "/api/chat", first, alice.with(wire.KeyHeader,
				"key-1").with("Accept", sse.ContentType))
			close(release)
			r := &reader{t: t, resp: resp, events: sse.NewReader(resp.Body)}
			if text, last, _ := r.rest(); text != "one two" || last.Name != backendapi.EventDone {
				t.Errorf("%q, %+v", text, last)
			}
			if again := b.sendKey("key-1", first); again != g {
				t.Errorf("after its end: %+v, want %+v", again, g)
			}

			p := b.refused(http.StatusUnprocessableEntity, http.MethodPost, "/api/chat",
				backendapi.ChatRequest{Message: "Other"}, alice.with(wire.KeyHeader, "key-1"))
			if p.Type != "/problems/key-reused" {
				t.Errorf("%+v", p)
			}

			var others backendapi.Generation
			bob := header{wire.OwnerHeader: "bob", wire.KeyHeader: "key-1"}
			if a.want(http.StatusAccepted, &others, http.MethodPost, "/api/chat", first,
				bob); others.ID == g.ID {
				t.Error("another owner got the answer")
			}

			// In a conversation: many at once are one.
			hold := make(chan struct{})
			ml.Chat(func(s *mltest.Stream) { s.Open(); <-hold; s.Text("on"); s.Done() })
			second := backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "On"}
			replies := make(chan backendapi.Generation, 8)
			for k := range cap(replies) {
				go func() {
					resp := []*instance{a, b}[k%2].do(http.MethodPost, "/api/chat", second,
						alice.with(wire.KeyHeader, "key-2"))
					var g backendapi.Generation
					if err := json.NewDecoder(resp.Body).Decode(&g); err != nil ||
						resp.StatusCode != http.StatusAccepted {
						t.Errorf("%s, %v", resp.Status, err)
					}

					replies <- g
				}()
			}

			want := soon(t, "a reply", replies)
			for range cap(replies) - 1 {
				if got := soon(t, "a reply", replies); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			}

			a.refused(http.StatusConflict, http.MethodPost, "/api/chat", second,
				alice.with(wire.KeyHeader, "key-3"))
			close(hold)
			a.follow(alice, want.ID, "").rest()
			if d := a.detail(alice, g.ConversationID); len(d.Messages) != 4 {
				t.Errorf("%d messages, want 4", len(d.Messages))
			}

			var page backendapi.ConversationPage
			a.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
			if len(page.Conversations) != 1 {
				t.Errorf("%d conversations, want 1", len(page.Conversations))
			}
		})
	}
}

// A message that ml refused leaves its key free.
func TestKeyOfARefusedMessage(t *testing.T) {
	i, ml, redis := stack(t)
	ml.Chat(func(s *mltest.Stream) {
		s.Refuse(&problem.Problem{Type: problem.TypeTooLong, Title: "Too long", Status: 413})
	})
	h := alice.with(wire.KeyHeader, "k")
	if p := i.refused(http.StatusRequestEntityTooLarge, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi"}, h); p.Type != problem.TypeTooLong {
		t.Errorf("%+v", p)
	}

	if keys := redis.Client(t).Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys are left: %v", keys)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("hello"); s.Done() })
	g := i.sendKey("k", backendapi.ChatRequest{Message: "Another"})
	if ttl := redis.Client(t).TTL(t.Context(), "owner:alice:message:k").Val(); ttl < time.Hour {
		t.Errorf("the key is known for %s", ttl)
	}

	i.follow(alice, g.ID, "").rest()
}

// A message is sent again while it is not decided whether ml takes it: whoever hears that it is
// stored can rely on it.
func TestKeyWhileUndecided(t *testing.T) {
	i, ml, _ := stack(t)
	asked, refuse := make(chan struct{}), make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		close(asked)
		<-refuse
		s.Refuse(problem.New(http.StatusTooManyRequests, "full"))
	})

	first := make(chan backendapi.Generation, 1)
	go func() {
		var g backendapi.Generation
		resp := i.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"},
			alice.with(wire.KeyHeader, "k"))
		if err := json.NewDecoder(resp.Body).Decode(&g); err != nil ||
			resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s, %v", resp.Status, err)
		}

		first <- g
	}()

	soon(t, "the request to ml", asked)
	g := i.sendKey("k", backendapi.ChatRequest{Message: "Hi"})
	close(refuse)
	if got := soon(t, "the first reply", first); got != g {
		t.Errorf("%+v, want %+v", got, g)
	}

	if _, last, _ := i.follow(alice, g.ID, "").rest(); last.Name != backendapi.EventError ||
		!strings.Contains(last.Data, `"status":429`) {
		t.Errorf("%+v", last)
	}

	if d := i.detail(alice, g.ConversationID); len(d.Messages) != 2 ||
		d.Messages[1].State != backendapi.MessageFailed {
		t.Errorf("%+v", d)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	i, _, redis := stack(t)
	for _, key := range []string{strings.Repeat("k", 65), "a b", "a:b", "ä", "{a}"} {
		i.refused(http.StatusUnprocessableEntity, http.MethodPost, "/api/chat",
			backendapi.ChatRequest{Message: "Hi"}, alice.with(wire.KeyHeader, key))
	}

	if n := redis.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys are stored", n)
	}

	i.sendKey(strings.Repeat("k", 64), backendapi.ChatRequest{Message: "Hi"})
}

// The reply to a message is lost with its backend: sent again, it is the message whose answer
// another one goes on with.
func TestKeyOfADeadBackend(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	s := dead(t, store.Address{URL: redis.URL}, lease)
	b, err := s.Begin(t.Context(), store.Turn{Owner: "alice", Key: "k",
		Title: generation.Title("Hi"), Model: "codexcontinue", Message: "Hi"}, "Hi")
	if err != nil {
		t.Fatal(err)
	}

	i := newInstance(t, redis.URL, ml.URL, options{})
	if g := i.sendKey("k", backendapi.ChatRequest{Message: "Hi"}); g.ID != b.ID ||
		g.ConversationID != b.ConversationID {
		t.Errorf("%+v, want %+v", g, b.Generation)
	}

	if text, last, _ := i.follow(alice, b.ID, "").rest(); text != "hello" ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}
}

// Redis stores a message and its reply is lost: the backend that sends it again finds its own
// answer and writes it at once, without one of the answer's takeovers being spent.
func TestBegunWithoutAReply(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	url, lose := redis.Lossy(t)
	i := newInstance(t, url, ml.URL, options{})
	// Redis knows the scripts now
	i.follow(alice, i.sendKey("k1", backendapi.ChatRequest{Message: "Hi"}).ID, "").rest()

	lose("stored and lost")
	g := i.sendKey("k2", backendapi.ChatRequest{Message: "stored and lost"})
	if text, last, _ := i.follow(alice, g.ID, "").rest(); text != "hello" ||
		last.Name != backendapi.EventDone {
		t.Errorf("%q, %+v", text, last)
	}

	if n := redis.Client(t).HGet(t.Context(), "generation:"+g.ID, "retries").Val(); n != "" {
		t.Errorf("the answer was begun anew %s times", n)
	}
	if d := i.detail(alice, g.ConversationID); len(d.Messages) != 2 {
		t.Errorf("%+v", d.Messages)
	}
}

// A conversation that is created again with the same key, because the reply was lost, is one.
func TestCreatedOnce(t *testing.T) {
	i, ml, redis := stack(t)
	h := alice.with(wire.KeyHeader, "create-1")
	create := func(title string, h header) (c backendapi.Conversation) {
		t.Helper()
		i.want(http.StatusCreated, &c, http.MethodPost, "/api/conversations",
			map[string]string{"title": title}, h)
		return c
	}

	first := create("Trip", h)
	if again := create("Trip", h); again.ID != first.ID || again.Title != "Trip" {
		t.Errorf("%+v is another one than %+v", again, first)
	}
	if other := create("Trip", header{wire.OwnerHeader: "bob", wire.KeyHeader: "create-1"}); other.ID == first.ID {
		t.Error("another owner got the conversation")
	}

	// The stack's model changes, and then Redis is full.
	i = newInstance(t, redis.URL, ml.URL, options{model: "other"})
	config := func(name, value string) {
		t.Helper()
		if err := redis.Client(t).ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}

	for _, limit := range []string{"0", "1mb"} {
		config("maxmemory", limit)
		if again := create("Trip", h); again != first {
			t.Errorf("with maxmemory %s: %+v, want %+v", limit, again, first)
		}
	}

	config("maxmemory", "0")
	var page backendapi.ConversationPage
	i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	if len(page.Conversations) != 1 {
		t.Errorf("there are %d conversations", len(page.Conversations))
	}

	for path, body := range map[string]any{
		"/api/conversations": map[string]string{"title": "Other"},
		"/api/chat":          backendapi.ChatRequest{Message: "Hi"},
	} {
		p := i.refused(http.StatusUnprocessableEntity, http.MethodPost, path, body, h)
		if p.Type != "/problems/key-reused" {
			t.Errorf("%s: %+v", path, p)
		}
	}

	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+first.ID, nil, alice)
	i.refused(http.StatusNotFound, http.MethodPost, "/api/conversations",
		map[string]string{"title": "Trip"}, h)
}
