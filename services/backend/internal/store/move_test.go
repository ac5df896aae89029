package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// TestMove gives all conversations to another owner, with what they count, and can be done again
// after a crash in between.
func TestMove(t *testing.T) {
	s, redis := open(t, nil)
	r, ctx := redis.Client(t), t.Context()
	running := begin(t, s)
	keyed := turn
	keyed.Key = "k"
	ended, err := s.Begin(ctx, keyed, "T")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.End(ctx, ended.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	own := turn
	own.Owner = "bob"
	if _, err := s.Begin(ctx, own, "T"); err != nil {
		t.Fatal(err)
	}

	if err := s.Append(ctx, running.Generation, 0, "half"); err != nil {
		t.Fatal(err)
	}

	before := r.HGet(ctx, "owner:alice:usage", ended.ConversationID).Val()
	stopped, err := s.Move(ctx, "alice", "bob")
	if err != nil || !slices.Equal(stopped, []string{running.ID}) {
		t.Fatalf("stopped %q, %v", stopped, err)
	}

	for _, id := range []string{running.ConversationID, ended.ConversationID} {
		c, page, err := s.Detail(ctx, "bob", id, 10, "")
		if err != nil || len(page.Messages) != 2 || c.Generation != "" {
			t.Errorf("%+v, %+v, %v", c, page, err)
		}
		if _, err := s.Get(ctx, "alice", id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the former owner reads it: %v", err)
		}
	}

	if _, page, _ := s.Detail(ctx, "bob", running.ConversationID, 10, ""); page.Messages[1].Content !=
		"half" {
		t.Errorf("the answer is %q", page.Messages[1].Content)
	}

	page, err := s.List(ctx, "bob", 10, "")
	if err != nil || len(page.Conversations) != 3 {
		t.Errorf("%d conversations, %v", len(page.Conversations), err)
	}

	usage := r.HGetAll(ctx, "owner:bob:usage").Val()
	if len(usage) != 4 || usage[ended.ConversationID] != before || before == "" {
		t.Errorf("the account: %v, not %s", usage, before)
	}
	if left := r.PTTL(ctx, "owner:bob:conversations").Val(); left <= 0 {
		t.Errorf("the list stays for %v", left)
	}

	if _, err := s.Begin(ctx, turn, "T"); !errors.Is(err, store.ErrErased) {
		t.Errorf("the former owner asks: %v", err)
	}
	if left := redistest.Find(t, r, "owner:alice:"); !slices.Equal(left,
		[]string{"owner:alice:erased"}) {
		t.Errorf("left: %q", left)
	}

	// Again, as after a crash; to oneself; and back.
	for _, to := range []string{"bob", "alice"} {
		if _, err := s.Move(ctx, "alice", to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}

	time.Sleep(2 * time.Millisecond)
	if _, err := s.Move(ctx, "bob", "alice"); err != nil {
		t.Errorf("back: %v", err)
	}
	if page, err := s.List(ctx, "alice", 10, ""); err != nil || len(page.Conversations) != 3 {
		t.Errorf("%d conversations, %v", len(page.Conversations), err)
	}
}

// TestEraseCluster erases in a Cluster, where an owner's keys lie together, and moves nothing
// there.
func TestEraseCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	s, ctx := openAt(t, store.Address{URL: "redis://unused:1", Cluster: cluster.Addrs()}), t.Context()
	keyed := turn
	keyed.Key = "k"
	if _, err := s.Begin(ctx, keyed, "T"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, "alice", "k2", "T", "", "m"); err != nil {
		t.Fatal(err)
	}

	if _, err := s.Move(ctx, "alice", "bob"); !errors.Is(err, store.ErrSpread) {
		t.Errorf("moved: %v", err)
	}
	if page, err := s.List(ctx, "alice", 10, ""); err != nil || len(page.Conversations) != 2 {
		t.Errorf("%d conversations, %v", len(page.Conversations), err)
	}

	if stopped, err := s.Erase(ctx, "alice"); err != nil || len(stopped) != 1 {
		t.Errorf("stopped %q, %v", stopped, err)
	}

	r := cluster.Nodes[cluster.Owner(t, "{alice}")].Client(t)
	if left := redistest.Find(t, r, "{alice}:owner"); !slices.Equal(left,
		[]string{"{alice}:owner:alice:erased"}) {
		t.Errorf("left: %q", left)
	}
}
