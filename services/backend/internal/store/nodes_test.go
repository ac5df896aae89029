package store

import (
	"context"
	"testing"
	"time"
)

// TestOutageOfOneNode holds that how long one node of a Cluster has been away says nothing of the
// others, and that those that answer do not make it look well.
func TestOutageOfOneNode(t *testing.T) {
	w := newRetrier(nil)
	w.node = func(_ context.Context, key string) string { return key[:1] }

	now := time.Now()
	for end := now.Add(gap + time.Second); now.Before(end); now = now.Add(time.Second) {
		w.failed(t.Context(), "a:1", now)
		w.answered(t.Context(), "b:1")
	}

	if got := w.failed(t.Context(), "a:2", now); got != impatience {
		t.Errorf("callers of the node that is away wait %s, want %s", got, impatience)
	}
	if got := w.failed(t.Context(), "b:2", now); got != gap {
		t.Errorf("callers of the other one wait %s, want %s", got, gap)
	}
}

// A node that has left the Cluster never answers again: it is forgotten.
func TestOutageOfNodesThatLeft(t *testing.T) {
	w := newRetrier(nil)
	w.node = func(_ context.Context, key string) string { return key }

	now := time.Now()
	for _, node := range []string{"a", "b", "c"} {
		w.failed(t.Context(), node, now)
	}

	w.failed(t.Context(), "d", now.Add(time.Hour))
	if len(w.nodes) != 1 {
		t.Errorf("%d nodes are known to be away, want the last one", len(w.nodes))
	}
}
