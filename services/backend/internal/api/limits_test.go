package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"
)

// Redis has reached its maxmemory: what is there can be read, stopped and deleted, answers go on,
// and nothing new is stored.
func TestRedisIsFull(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend, "--maxmemory-policy", "noeviction"), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{})
	i.follow(alice, i.send(alice, "", "An old one").ID, "").rest()
	goOn := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		s.Text("one ")
		<-goOn
		s.Text("two")
		s.Done()
	})

	running := i.send(alice, "", "Hi")
	r := i.follow(alice, running.ID, "")
	some(t, r, 4)
	ml.Chat(func(s *mltest.Stream) { s.Text("so far"); s.Hold() })
	endless := i.send(alice, "", "Hi")
	some(t, i.follow(alice, endless.ID, ""), 6)
	c := redis.Client(t)
	var status backendapi.Status
	if i.want(http.StatusOK, &status, http.MethodGet, "/api/status", nil,
		nil); status.Services[1].Status != backendapi.StatusReady {
		t.Errorf("%+v", status.Services[1])
	}

	used, err := strconv.ParseFloat(c.InfoMap(t.Context(), "memory").Val()["Memory"]["used_memory"], 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(int(used/0.9))).Err(); err != nil {
		t.Fatal(err)
	}
	i.want(http.StatusOK, &status, http.MethodGet, "/api/status", nil, nil)
	if s := status.Services[1]; s.Status != backendapi.StatusReady ||
		!regexp.MustCompile(`^Redis uses (8[5-9]|9[0-5]) % of its memory`).MatchString(s.Detail) {
		t.Errorf("nearly full: %+v", s)
	}

	if err := c.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}

	before := c.Keys(t.Context(), "*").Val()
	for range 2 {
		for _, body := range []backendapi.ChatRequest{{Message: "Hi"}, {Message: "Hi",
			ConversationID: running.ConversationID}} {
			if p := i.refused(http.StatusInsufficientStorage, http.MethodPost, "/api/chat", body,
				alice.with(wire.KeyHeader, "k")); p.Type != "/problems/storage-full" {
				t.Errorf("%+v", p)
			}
		}

		i.refused(http.StatusInsufficientStorage, http.MethodPost, "/api/conversations", nil, alice)
	}

	if after := c.Keys(t.Context(), "*").Val(); len(after) != len(before) {
		t.Errorf("something is stored: %v, before %v", after, before)
	}

	i.want(http.StatusOK, &status, http.MethodGet, "/api/status", nil, nil)
	if s := status.Services[1]; s.Name != "redis" || s.Status != backendapi.StatusDegraded ||
		!strings.Contains(s.Detail, "maxmemory") || status.Status != backendapi.StatusDegraded {
		t.Errorf("%+v", status)
	}

	if d := i.detail(alice, endless.ConversationID); len(d.Messages) != 2 {
		t.Errorf("%+v", d)
	}

	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+endless.ID, nil, alice)
	if d := i.detail(alice,
		endless.ConversationID); d.Messages[1].State != backendapi.MessageStopped ||
		d.Messages[1].Content != "so far" {
		t.Errorf("%+v", d)
	}

	close(goOn)
	if _, last, _ := r.rest(); last.Name != backendapi.EventDone {
		t.Errorf("%+v", last)
	}

	var page backendapi.ConversationPage
	i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	if len(page.Conversations) != 3 {
		t.Errorf("%+v", page)
	}

	i.follow(alice, endless.ID, "").rest()
	for _, conversation := range page.Conversations {
		i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+conversation.ID,
			nil, alice)
	}

	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}

	ml.Chat(func(s *mltest.Stream) { s.Done() })
	i.send(alice, "", "Hi")
}

// An orphan is taken over and completed although Redis is full.
func TestTakeoverWhenRedisIsFull(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend, "--maxmemory-policy", "noeviction"), mltest.Start(t)
	s := dead(t, store.Address{URL: redis.URL}, lease)
	b := orphan(t, s, "0 1 ")
	if err := redis.Client(t).ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}

	ml.Chat(mltest.Count(5, 0))
	newInstance(t, redis.URL, ml.URL, options{})
	if m := stored(t, s, b.ConversationID); m.State != backendapi.MessageComplete ||
		m.Content != mltest.Words(5) {
		t.Errorf("%+v", m)
	}
}

// What one person stores is bounded; deleting makes room, and so does time.
func TestOwnersBounds(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{store: func(o *store.Options) {
		o.MaxBytes,
			o.MaxConversations = 100<<10, 4
	}})

	ml.Chat(func(s *mltest.Stream) { s.Text(strings.Repeat("x", 10<<10)); s.Done() })
	long := backendapi.ChatRequest{Message: strings.Repeat("y", 30<<10)}
	var all []string
	for range 2 {
		g := i.send(alice, "", long.Message)
		i.follow(alice, g.ID, "").rest()
		all = append(all, g.ConversationID)
	}

	// 80 KiB of 100 are used: 30 more do not fit, neither here nor there.
	for _, id := range []string{"", all[0]} {
		p := i.refused(http.StatusRequestEntityTooLarge, http.MethodPost, "/api/chat",
			backendapi.ChatRequest{ConversationID: id, Message: long.Message}, alice)
		if p.Type != "/problems/too-much-stored" ||
			p.Detail != "Your conversations have together the 100 KiB that are kept: delete some." {
			t.Errorf("%+v", p)
		}
	}

	i.follow(header{wire.OwnerHeader: "bob"}, i.send(header{wire.OwnerHeader: "bob"},
		"", long.Message).ID, "").rest()
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+all[0], nil, alice)
	g := i.send(alice, "", long.Message)
	i.follow(alice, g.ID, "").rest()
	// One that has expired does not count.
	c := redis.Client(t)
	if err := c.ZAdd(t.Context(), "owner:alice:conversations", goredis.Z{Score: 1,
		Member: all[1]}).Err(); err != nil {
		t.Fatal(err)
	}

	if err := c.Del(t.Context(), "conversation:"+all[1],
		"conversation:"+all[1]+":messages").Err(); err != nil {
		t.Fatal(err)
	}

	i.follow(alice, i.send(alice, g.ConversationID, long.Message).ID, "").rest()

	i.refused(http.StatusRequestEntityTooLarge, http.MethodPost, "/api/chat", long, alice)
	var conversations []backendapi.Conversation
	for range 3 {
		var made backendapi.Conversation
		i.want(http.StatusCreated, &made, http.MethodPost, "/api/conversations", nil, alice)
		conversations = append(conversations, made)
	}

	for path, body := range map[string]any{"/api/conversations": nil,
		"/api/chat": backendapi.ChatRequest{Message: "Hi"}} {
		if p := i.refused(http.StatusTooManyRequests, http.MethodPost, path, body,
			alice); p.Type != "/problems/too-many-conversations" || !strings.Contains(p.Detail,
			"delete") || p.RetryAfter != 60 {
			t.Errorf("%+v", p)
		}
	}

	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+conversations[0].ID,
		nil, alice)
	i.want(http.StatusCreated, nil, http.MethodPost, "/api/conversations", nil, alice)
	// A refused message counts nothing.
	ml.Chat(func(s *mltest.Stream) { s.Refuse(problem.New(http.StatusNotFound, "no such model")) })
	usage := c.HGetAll(t.Context(), "owner:alice:usage").Val()
	i.refused(http.StatusNotFound, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "Hi"}, alice)
	if d := cmp.Diff(usage, c.HGetAll(t.Context(), "owner:alice:usage").Val()); d != "" {
		t.Errorf("the account changed (-before +after):\n%s", d)
	}
}

// Of a deleted conversation nothing can be read, by those who read it neither.
func TestDeleteLeavesNoText(t *testing.T) {
	i, ml, redis := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("an old secret"); s.Done() })
	old := i.send(alice, "", "Hi")
	i.follow(alice, old.ID, "").rest()
	ml.Chat(func(s *mltest.Stream) {
		s.Send(mlapi.Chunk{Thinking: "a secret"})
		s.Text("a secret")
		s.Hold()
	})

	running := i.send(alice, old.ConversationID, "Hi")
	r := i.follow(alice, running.ID, "")
	some(t, r, 8)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+old.ConversationID,
		nil, alice)
	if _, last, _ := r.rest(); last.Name != backendapi.EventStopped {
		t.Errorf("%+v", last)
	}

	for _, id := range []string{old.ID, running.ID} {
		i.refused(http.StatusNotFound, http.MethodGet, "/api/generations/"+id+"/events", nil, alice)
	}

	c := redis.Client(t)
	for _, key := range c.Keys(t.Context(), "*").Val() {
		if c.Type(t.Context(), key).Val() != "stream" {
			continue
		}

		for _, e := range c.XRange(t.Context(), key, "-", "+").Val() {
			if e.Values["e"] != backendapi.EventStopped {
				t.Errorf("%s has %v", key, e)
			}
		}
	}
}

// What a person sees of a stopped answer is what the model gets of it.
func TestStoppedAnswerIsHistory(t *testing.T) {
	i, ml, _ := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("half of it"); s.Hold() })
	g := i.send(alice, "", "Tell me")
	some(t, i.follow(alice, g.ID, ""), 10)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+g.ID, nil, alice)
	requests := make(chan mlapi.ChatRequest, 1)
	ml.Chat(func(s *mltest.Stream) { requests <- s.Request; s.Done() })
	i.send(alice, g.ConversationID, "And?")
	want := []mlapi.Message{{Role: "user", Content: "Tell me"}, {Role: "assistant",
		Content: "half of it"}, {Role: "user", Content: "And?"}}
	if d := cmp.Diff(want, soon(t, "the request", requests).Messages); d != "" {
		t.Errorf("ml was sent (-want +got):\n%s", d)
	}
}

// A refused message changes nothing of the conversation.
func TestRefusedMessageChangesNothing(t *testing.T) {
	i, ml, _ := stack(t)
	var empty backendapi.Conversation
	i.want(http.StatusCreated, &empty, http.MethodPost, "/api/conversations",
		map[string]string{"model": "m:1"}, alice)
	<-time.After(2 * time.Millisecond) // the list is in the order of milliseconds
	i.want(http.StatusCreated, nil, http.MethodPost, "/api/conversations",
		map[string]string{"title": "Newer"}, alice)
	list := func() (page backendapi.ConversationPage) {
		t.Helper()
		i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
		return page
	}

	before := list()
	ml.Chat(func(s *mltest.Stream) { s.Refuse(problem.New(http.StatusNotFound, "no such model")) })
	<-time.After(2 * time.Millisecond)
	i.refused(http.StatusNotFound, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{ConversationID: empty.ID, Model: "m:2", Message: "Hi"}, alice)
	if d := cmp.Diff(before, list()); d != "" {
		t.Errorf("the list changed (-before +after):\n%s", d)
	}
}

// A conversation of many long messages is read page by page.
func TestPagesOfMessages(t *testing.T) {
	i, ml, redis := stack(t)
	requests := make(chan mlapi.ChatRequest, 1)
	i.follow(alice, i.send(alice, "", "Hi").ID, "").rest()
	var page backendapi.ConversationPage
	i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	id, c := page.Conversations[0].ID, redis.Client(t)
	const turns = 260
	for n := range 2 * turns {
		role := []string{"user", "assistant"}[n%2]
		m, err := json.Marshal(backendapi.Message{ID: strconv.Itoa(n), Role: role,
			Content: strings.Repeat("x", 64<<10), State: backendapi.MessageComplete})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.RPush(t.Context(), "conversation:"+id+":messages", m).Err(); err != nil {
			t.Fatal(err)
		}
	}

	next, pages := 2*turns, 0
	for before := ""; ; pages++ {
		resp := i.do(http.MethodGet, "/api/conversations/"+id+"?before="+before, nil, alice)
		var d backendapi.ConversationDetail
		if err := json.NewDecoder(resp.Body).Decode(&d); err != nil ||
			resp.StatusCode != http.StatusOK || len(d.Messages) == 0 {
			t.Fatalf("%s, %v", resp.Status, err)
		}

		for k := len(d.Messages) - 1; k >= 0 && next > 0; k-- {
			if next--; d.Messages[k].ID != strconv.Itoa(next) {
				t.Fatalf("page %d: message %s, want %d", pages, d.Messages[k].ID, next)
			}
		}

		if before = d.Earlier; before == "" {
			break
		}
		if len(d.Messages) != 15 { // 1 MiB of messages of 64 KiB and some
			t.Fatalf("page %d has %d messages", pages, len(d.Messages))
		}
	}

	if next != 0 || pages != (2*turns+2)/15 {
		t.Errorf("%d pages, %d messages are missing", pages, next)
	}

	var d backendapi.ConversationDetail
	i.want(http.StatusOK, &d, http.MethodGet, "/api/conversations/"+id+"?limit=2&before=10", nil,
		alice)
	if len(d.Messages) != 2 || d.Messages[1].ID != "7" || d.Earlier != "8" {
		t.Errorf("%d messages, earlier %q", len(d.Messages), d.Earlier)
	}

	for _, cursor := range []string{"0", "-1", "x", "1.5", "01", "1 "} {
		i.refused(http.StatusBadRequest, http.MethodGet,
			fmt.Sprintf("/api/conversations/%s?before=%s", id, strings.ReplaceAll(cursor, " ",
				"%20")), nil, alice)
	}

	// Neither is all of it read for a prompt.
	ml.Chat(func(s *mltest.Stream) { requests <- s.Request; s.Done() })
	g := i.send(alice, id, "Short")
	if n := len(soon(t, "the request", requests).Messages); n != 2 {
		t.Errorf("ml was sent %d messages", n)
	}

	i.follow(alice, g.ID, "").rest()
	i.want(http.StatusOK, &d, http.MethodGet, "/api/conversations/"+id+"?limit=1", nil, alice)
	if m := d.Messages[0]; m.LeftOut != 2*turns+2-1 { // all but the one that it was sent
		t.Errorf("the answer says that %d messages were left out", m.LeftOut)
	}
}

// The backend works without ml: it is ready, and pages, reading and the status answer.
func TestWithoutModelService(t *testing.T) {
	redis := redistest.StartAs(t, stacks.Backend)
	i := newInstance(t, redis.URL, "http://127.0.0.1:1", options{})
	i.want(http.StatusOK, nil, http.MethodGet, "/api/conversations", nil, alice)
	var s backendapi.Status
	i.want(http.StatusOK, &s, http.MethodGet, "/api/status", nil, nil)
	if s.Services[0].Status != backendapi.StatusReady ||
		s.Services[2].Status != backendapi.StatusDown {
		t.Errorf("%+v", s)
	}
}
