package store_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/redis/go-redis/v9"
)

// TestReplacedRedis holds that whoever asks while Redis is replaced waits for it: reading, changing
// and a message with a key. Redis keeps what it acknowledged, as that of the stack does.
func TestReplacedRedis(t *testing.T) {
	peers.Find(t, "redis", "redis-server")
	dir, port := t.TempDir(), peers.FreePort(t, "127.0.0.1")
	serve := func() *exec.Cmd {
		cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir,
			"--appendonly", "yes",
			"--appendfsync", "always", "--save", "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}

	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}

	server := serve()
	defer func() { kill(server) }()
	s, err := store.New(store.Options{
		Address: store.Address{URL: "redis://127.0.0.1:" + port},
		TTL:     time.Hour,
		Keep:    time.Hour,
		Lease:   time.Hour,
		Outage:  time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	c, err := s.Create(t.Context(), "alice", "", "T", "", "m") // bears that it has just been started
	if err != nil {
		t.Fatal(err)
	}

	kill(server)
	back := make(chan *exec.Cmd, 1)
	time.AfterFunc(2*time.Second, func() { back <- serve() })
	asked := map[string]func(context.Context) error{
		"get": func(ctx context.Context) error {
			_, err := s.Get(ctx, "alice", c.ID)
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := s.List(ctx, "alice", 10, "")
			return err
		},
		"detail": func(ctx context.Context) error {
			_, _, err := s.Detail(ctx, "alice", c.ID, 10, "")
			return err
		},
		"rename": func(ctx context.Context) error {
			_, err := s.Rename(ctx, "alice", c.ID, "New")
			return err
		},
		"message": func(ctx context.Context) error {
			keyed := turn
			keyed.Key = "key-of-the-message"
			_, err := s.Begin(ctx, keyed, "T")
			return err
		},
	}

	outcomes := make(chan error, len(asked))
	for name, ask := range asked {
		go func() {
			err := ask(t.Context())
			if err != nil {
				err = errors.Join(errors.New(name), err)
			}
			outcomes <- err
		}()
	}

	for range asked {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}

	server = <-back
	if got, err := s.Get(t.Context(), "alice", c.ID); err != nil || got.Title != "New" {
		t.Errorf("the conversation is %+v, %v", got, err)
	}
}

// notWaited is what one takes who does not wait for Redis, also on a busy machine: who does waits
// for eight seconds.
const notWaited = 5 * time.Second

// TestAwayForGood holds that a Redis that stays away is told in time, and at once
// to who asks how it is.
func TestAwayForGood(t *testing.T) {
	s, server := open(t, nil)
	server.Kill(t)
	start := time.Now()
	if err := s.Check(t.Context()); err == nil || time.Since(start) > notWaited {
		t.Errorf("the check ends with %v after %s, want an error at once", err, time.Since(start))
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := s.List(ctx, "alice", 10, ""); err == nil ||
		!strings.Contains(err.Error(), "refused") {
		t.Errorf("a list ends with %v, want what is wrong", err)
	}
}

// TestOrphansBesideALostNode holds that a Cluster's answers are looked for without waiting
// for a node that is gone.
func TestOrphansBesideALostNode(t *testing.T) {
	redis := redistest.StartCluster(t)
	for _, n := range redis.Nodes {
		if err := n.Client(t).ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
	}

	s, err := store.New(store.Options{
		Address: store.Address{URL: "redis://unused:1", Cluster: redis.Addrs()},
		TTL:     time.Hour,
		Keep:    time.Hour,
		Lease:   time.Millisecond,
		Outage:  time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	listed := redis.Owner(t, "running")
	lost := (listed + 1) % len(redis.Nodes)
	left, gone := 0, 0
	for n := 0; left < 2 || gone < 2; n++ {
		owned := turn
		owned.Owner = fmt.Sprintf("owner-%d", n)
		if _, err := s.Begin(t.Context(), owned, "T"); err != nil {
			t.Fatal(err)
		}

		if redis.Owner(t, "{"+owned.Owner+"}") == lost {
			gone++
		} else {
			left++
		}
	}

	redis.Nodes[lost].Kill(t)

	// One look that waits takes a second, and the fastest of many is none that a busy machine held
	// up. The node that is asked for its time may be the lost one: then nothing is found.
	found, fastest := 0, time.Minute
	for tries := 0; tries < 20 && fastest > 700*time.Millisecond; tries++ {
		begin := time.Now()
		orphans, _ := s.Orphans(t.Context())
		if found = max(found, len(orphans)); len(orphans) == left {
			fastest = min(fastest, time.Since(begin))
		}
	}

	if found != left || fastest > 700*time.Millisecond {
		t.Errorf("%d of %d answers were found, at best within %s", found, left, fastest)
	} else {
		t.Logf("found within %s", fastest)
	}
}

// TestRefusedByRedis holds that an error of Redis itself is not waited out.
func TestRefusedByRedis(t *testing.T) {
	s, server := open(t, nil)
	if err := server.Client(t).Set(t.Context(), "owner:alice:conversations", "no sorted set", 0).Err(); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	_, err := s.List(t.Context(), "alice", 10, "")
	var reply redis.Error
	if !errors.As(err, &reply) || time.Since(start) > notWaited {
		t.Errorf("a list ends with %v after %s, want Redis' error at once", err, time.Since(start))
	}
}
