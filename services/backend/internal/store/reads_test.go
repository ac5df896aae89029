package store_test

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
)

// TestCheckEventID takes the events up to the last one.
func TestCheckEventID(t *testing.T) {
	g := store.Generation{LastEvent: "5-3"}
	for id, fine := range map[string]bool{
		"5-3": true, "5-2": true, "4-9": true, "0-0": true,
		"5-4": false, "6-0": false, "5": false, "x-3": false, "5-x": false, "": false,
	} {
		if err := g.CheckEventID(id); (err == nil) != fine || !fine && !errors.Is(err, store.ErrEventID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestCursors refuses what no page ended with.
func TestCursors(t *testing.T) {
	s, _ := open(t, nil)
	id := begin(t, s).ConversationID
	for text, fine := range map[string]bool{
		"0:" + id: true, "5:" + id: true,
		"-1:" + id: false, "x:" + id: false, "5:other": false, "5:": false, "5": false,
	} {
		cursor := base64.RawURLEncoding.EncodeToString([]byte(text))
		_, err := s.List(t.Context(), turn.Owner, 10, cursor)
		if (err == nil) != fine || !fine && !errors.Is(err, store.ErrCursor) {
			t.Errorf("list after %q: %v", text, err)
		}
	}
	for before, fine := range map[string]bool{
		"": true, "1": true, "0": false, "-1": false, "01": false, "x": false,
	} {
		_, _, err := s.Detail(t.Context(), turn.Owner, id, 10, before)
		if (err == nil) != fine || !fine && !errors.Is(err, store.ErrCursor) {
			t.Errorf("messages before %q: %v", before, err)
		}
	}
}

// TestListForgetsWhatIsGone: a conversation that has expired goes from its owner's list when that
// is read.
func TestListForgetsWhatIsGone(t *testing.T) {
	s, redis := open(t, nil)
	gone, left := begin(t, s).ConversationID, begin(t, s).ConversationID
	r := redis.Client(t)
	if err := r.Del(t.Context(), "conversation:"+gone).Err(); err != nil {
		t.Fatal(err)
	}
	page, err := s.List(t.Context(), turn.Owner, 10, "")
	if err != nil || len(page.Conversations) != 1 || page.Conversations[0].ID != left {
		t.Errorf("%+v, %v", page.Conversations, err)
	}
	all := r.ZRange(t.Context(), "owner:"+turn.Owner+":conversations", 0, -1).Val()
	if !slices.Equal(all, []string{left}) {
		t.Errorf("the list holds %v, want %s alone", all, left)
	}
}

// TestTellsOfErrors tells of commands that fail, and of none that finds nothing.
func TestTellsOfErrors(t *testing.T) {
	var mu sync.Mutex
	var failed []error
	s, redis := open(t, func(o *store.Options) {
		o.Outage = 0
		o.OnError = func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		}
	})
	id := begin(t, s).ConversationID
	if _, _, err := s.Detail(t.Context(), "somebody else", id, 10, ""); err == nil {
		t.Error("another owner reads the conversation")
	}
	if mu.Lock(); len(failed) != 0 {
		t.Errorf("nothing has failed, and it is told of %v", failed)
	}
	mu.Unlock()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.List(ctx, turn.Owner, 10, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("one that gave up gets %v", err)
	}
	if mu.Lock(); len(failed) != 0 {
		t.Errorf("the caller gave up, and it is told of %v", failed)
	}
	mu.Unlock()

	redis.Kill(t)
	if _, err := s.List(t.Context(), turn.Owner, 10, ""); err == nil {
		t.Error("a list without Redis")
	}
	if mu.Lock(); len(failed) == 0 {
		t.Error("a command failed, and nobody is told")
	}
	mu.Unlock()
}

// TestWatch says what Redis lacks, and that it is back, once each time.
func TestWatch(t *testing.T) {
	s, redis := open(t, nil)
	said := &messageLog{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Watch(ctx, slog.New(said), 10*time.Millisecond); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })

	memory := func(bytes string) {
		if err := redis.Client(t).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, "Redis answers"},
		{func() { memory("1") }, "Redis has reached its maxmemory"},
		{func() { memory("0") }, "Redis answers"},
		{func() { redis.Kill(t) }, "Redis does not work"},
		{func() { redis.Restart(t) }, "Redis answers"},
	} {
		step.change()
		said.await(t, step.want)
	}
	time.Sleep(100 * time.Millisecond) // ten looks at a Redis that is well
	if more := said.take(); len(more) != 0 {
		t.Errorf("nothing has changed, and it says %q", more)
	}
}

// messageLog is a log that keeps its messages until they are taken.
type messageLog struct {
	mu  sync.Mutex
	all []string
}

func (m *messageLog) Enabled(context.Context, slog.Level) bool { return true }
func (m *messageLog) WithAttrs([]slog.Attr) slog.Handler       { return m }
func (m *messageLog) WithGroup(string) slog.Handler            { return m }
func (m *messageLog) Handle(_ context.Context, r slog.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, r.Message)
	return nil
}

func (m *messageLog) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.all
	m.all = nil
	return all
}

// await waits for the message. Redis may fail for several reasons one after the other.
func (m *messageLog) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, got := range m.take() {
			if strings.HasPrefix(got, want) {
				return
			}
			if !strings.HasPrefix(got, "Redis does not work") {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
	t.Fatalf("it never says that %s", want)
}
