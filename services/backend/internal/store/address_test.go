package store_test

import (
	"bytes"
	"errors"

	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/redis/go-redis/v9"
)

func openAt(t testing.TB, a store.Address) *store.Store {
	t.Helper()
	s, err := store.New(store.Options{
		Address: a,
		TTL:     time.Hour,
		Keep:    time.Hour,
		Lease:   time.Hour,
		Outage:  time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { s.Close() })
	return s
}

// Each wrong address is told what is wrong with it.
func TestCheckSaysWhatToDo(t *testing.T) {
	single, node := redistest.Start(t), redistest.StartNode(t)
	replica := redistest.Start(t, "--replicaof", strings.Replace(single.Addr, ":", " ", 1))
	sentinel := redistest.StartWatched(t, "correct-horse", false)
	acl := redistest.Start(t, "--user", "weak", "on", ">correct-horse", "~*", "+@read",
		"--user", "open", "on", "nopass", "~*", "+@all", "--user", "default", "off")
	chat := []string{sentinel.Sentinel.Addr}
	for name, tc := range map[string]struct {
		address store.Address
		want    string
	}{
		"right": {store.Address{URL: single.URL}, ""},
		"right, Sentinel": {store.Address{
			URL:       "redis://unused:1",
			Password:  "correct-horse",
			Sentinels: chat,
			Master:    redistest.MasterName,
		},
			""},
		"a node of a Cluster": {store.Address{URL: node.URL},
			"REDIS_URL: " + node.Addr + " is a node of a Redis Cluster: set REDIS_CLUSTER"},
		"a replica": {store.Address{URL: replica.URL}, "REDIS_URL: " + replica.Addr + " is a replica"},
		"no Cluster": {store.Address{URL: single.URL, Cluster: []string{single.Addr}},
			"REDIS_CLUSTER: " + single.Addr + ": the server is not part of a Redis Cluster"},
		"a Cluster half made": {store.Address{URL: single.URL, Cluster: []string{node.Addr}},
			"REDIS_CLUSTER: " + node.Addr},
		"no such master": {store.Address{URL: single.URL, Password: "correct-horse", Sentinels: chat, Master: "main"},
			`REDIS_MASTER: the Sentinels know no master "main"`},
		"a Sentinel's password": {store.Address{
			URL:       single.URL,
			Password:  "battery-staple",
			Sentinels: chat,
			Master:    redistest.MasterName,
		},
			"refuses the password"},
		"no password": {store.Address{URL: single.URL, Sentinels: chat, Master: redistest.MasterName},
			"asks for a password: set REDIS_PASSWORD_FILE"},
		"nobody there": {store.Address{URL: "redis://127.0.0.1:1"}, "REDIS_URL: 127.0.0.1:1 cannot be reached: "},
		"no Sentinel there": {store.Address{URL: single.URL, Sentinels: []string{"127.0.0.1:1"}, Master: "main"},
			`REDIS_SENTINELS: the master "main" of 127.0.0.1:1: no Sentinel answers`},
		"no node there": {store.Address{URL: single.URL, Cluster: []string{"127.0.0.1:1"}},
			"REDIS_CLUSTER: 127.0.0.1:1: 127.0.0.1:1 cannot be reached: "},
		"no such host": {store.Address{URL: "redis://redis.invalid:6379"},
			"REDIS_URL: redis.invalid:6379: the host redis.invalid does not resolve"},
		"a user without a password": {
			store.Address{URL: strings.Replace(acl.URL, "//", "//open@", 1)}, ""},
		"too few rights": {store.Address{URL: strings.Replace(acl.URL, "//", "//weak@", 1), Password: "correct-horse"},
			"the user may not do what the backend does"},
	} {
		t.Run(name, func(t *testing.T) {
			err := openAt(t, tc.address).Check(t.Context())
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %s", err, tc.want)
			case err != nil && (strings.Contains(err.Error(), "correct-horse") ||
				strings.Contains(err.Error(), "battery-staple")):
				t.Errorf("shows a password: %v", err)
			}
		})
	}
}

// In a Cluster a user needs the rights that docs/scaling.md names beside those of one server, and
// asks for no more.
func TestClusterUser(t *testing.T) {
	cluster := redistest.StartCluster(t)
	rules := stacks.RedisACL(stacks.Backend) + " ~{*}:* +command +cluster|slots +cluster|info"
	for _, n := range cluster.Nodes {
		user := []any{"acl", "setuser", "chat", "on", "nopass"}
		for rule := range strings.FieldsSeq(rules) {
			user = append(user, rule)
		}
		if err := n.Client(t).Do(t.Context(), user...).Err(); err != nil {
			t.Fatal(err)
		}
	}

	s := openAt(t, store.Address{URL: "redis://chat@unused:1", Cluster: cluster.Addrs()})
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	begin(t, s)

	for _, n := range cluster.Nodes {
		if denied := n.Client(t).ACLLog(t.Context(), 10).Val(); len(denied) > 0 {
			t.Errorf("refused: %s", denied[0].Object)
		}
	}
}

// What the version before Sentinels and Clusters wrote, by the names it used, is found and goes on,
// also an answer that was being written.
func TestFormerKeys(t *testing.T) {
	s, server := open(t, nil)
	r := server.Client(t)
	const (
		old     = "01996c3e-0000-7000-8000-000000000001"
		running = "01996c3e-0000-7000-8000-000000000002"
		answer  = "01996c3e-0000-7000-8000-000000000003"
	)

	now := time.Now()
	tx := r.TxPipeline()
	for _, id := range []string{old, running} {
		tx.HSet(t.Context(), "conversation:"+id, "owner", "alice", "title", "Trip", "model", "m",
			"created_at", now.UnixMilli(), "updated_at", now.UnixMilli())
		tx.ZAdd(t.Context(), "owner:alice:conversations", redis.Z{
			Score: float64(now.UnixMilli()), Member: id,
		})
		tx.RPush(t.Context(), "conversation:"+id+":messages",
			`{"id":"1","role":"user","content":"Hi","state":"complete","created_at":"2026-01-01T00:00:00Z"}`)
	}

	tx.RPush(t.Context(), "conversation:"+running+":messages",
		`{"id":"2","role":"assistant","content":"","state":"streaming","generation_id":"`+answer+
			`","created_at":"2026-01-01T00:00:00Z"}`)
	tx.HSet(t.Context(), "conversation:"+running, "generation", answer)
	tx.HSet(t.Context(), "generation:"+answer, "owner", "alice", "conversation", running, "state",
		"running", "lease", now.Add(time.Hour).UnixMilli())
	tx.XAdd(t.Context(), &redis.XAddArgs{
		Stream: "generation:" + answer + ":events", Values: []any{"e", "start", "d", "{}"},
	})
	if _, err := tx.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}

	page, err := s.List(t.Context(), "alice", 10, "")
	if err != nil || len(page.Conversations) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}

	c, detail, err := s.Detail(t.Context(), "alice", old, 10, "")
	if err != nil || c.Title != "Trip" || len(detail.Messages) != 1 ||
		detail.Messages[0].Content != "Hi" {
		t.Errorf("%+v %+v, %v", c, detail, err)
	}

	g, err := s.Generation(t.Context(), "alice", answer)
	if err != nil || g.Ended {
		t.Fatalf("%+v, %v", g, err)
	}
	if err := s.Append(t.Context(), g, 0, "text"); err != nil {
		t.Error(err)
	}
	if err := s.Reap(t.Context(), g); !errors.Is(err, store.ErrLeased) {
		t.Errorf("got %v, want that it is leased", err)
	}
	if err := s.End(t.Context(), g, store.Stopped()); err != nil {
		t.Error(err)
	}

	if _, said := messages(t, s, running); said[1].Content != "text" ||
		said[1].State != backendapi.MessageStopped {
		t.Errorf("%+v", said)
	}

	for _, id := range []string{old, running} {
		if _, err := s.Delete(t.Context(), "alice", id); err != nil {
			t.Error(err)
		}
	}

	if keys := r.Keys(t.Context(), "*conversation*").Val(); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}
}

// A slot is half moved: a change waits until its keys are together again, and is made once.
func TestHalfMovedSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	s := openAt(t, store.Address{URL: "redis://unused:1", Cluster: cluster.Addrs()})
	b := begin(t, s)
	if err := s.Append(t.Context(), b.Generation, 0, "one "); err != nil {
		t.Fatal(err)
	}

	source := cluster.Nodes[cluster.Owner(t, "{alice}")].Client(t)
	move := cluster.MoveSlot(t, "{alice}")
	keys := move.Keys()
	move.Key("{alice}:generation:" + b.ID)
	appended := make(chan error, 1)
	go func() { appended <- s.Append(t.Context(), b.Generation, len("one "), "two") }()
	refused := func() bool {
		return strings.Contains(source.Info(t.Context(), "errorstats").Val(), "TRYAGAIN")
	}
	for deadline := time.Now().Add(20 * time.Second); !refused(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was told to try again")
		}
	}

	for _, key := range keys {
		if key != "{alice}:generation:"+b.ID {
			move.Key(key)
		}
	}

	move.End()
	if err := <-appended; err != nil {
		t.Error(err)
	}
	if names, text := events(t, s, b.Generation); text != "one two" || len(names) != 3 {
		t.Errorf("%v %q", names, text)
	}
}

// A connection breaks after a change was made and before the reply: the Cluster's client
// must not make it again.
func TestSentOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	node := redistest.StartNode(t, "--cluster-announce-ip",
		"127.0.0.1", "--cluster-announce-port", port)
	r := node.Client(t)
	if err := r.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}

	var cut atomic.Bool
	proxy(t, l, node.Addr, &cut)
	s := openAt(t, store.Address{URL: "redis://unused:1", Cluster: []string{l.Addr().String()}})
	for deadline := time.Now().Add(20 * time.Second); s.Check(t.Context()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(s.Check(t.Context()))
		}
	}

	begin(t, s) // the script is loaded
	cut.Store(true)
	if _, err := s.Begin(t.Context(),
		store.Turn{Owner: "alice", Title: "T", Model: "m", Message: "Hi"}, "T"); err == nil {
		t.Error("the reply was lost, and nobody was told")
	}

	if cut.Load() {
		t.Fatal("nothing was cut")
	}

	lists := r.Keys(t.Context(), "*:messages").Val()
	for _, key := range lists {
		if n := r.LLen(t.Context(), key).Val(); n != 2 {
			t.Errorf("%s has %d messages", key, n)
		}
	}

	if len(lists) != 2 {
		t.Errorf("conversations: %v", lists)
	}
}

// proxy passes on what comes to l. When cut is set, the connection of the next script ends
// before its reply, once.
func proxy(t testing.TB, l net.Listener, addr string, cut *atomic.Bool) {
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})

	pass := func(client, server net.Conn) {
		defer client.Close()
		defer server.Close()
		var dropping atomic.Bool
		conns.Go(func() {
			defer client.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := server.Read(buf)
				if err != nil || dropping.Load() {
					return
				}
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
			}
		})

		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			if bytes.Contains(buf[:n], []byte("evalsha")) && cut.CompareAndSwap(true, false) {
				dropping.Store(true)
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
		}
	}

	conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}

			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}

			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			conns.Go(func() { pass(client, server) })
		}
	})
}

// BenchmarkConversationMemory is what a conversation of 20 messages of 1 kB costs in Redis.
func BenchmarkConversationMemory(b *testing.B) {
	s, server := open(b, nil)
	r := server.Client(b)
	text := strings.Repeat("0123456789abcdef", 64)[:1000]
	var settled, kept, writing float64
	for b.Loop() {
		if err := r.FlushAll(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}

		turn := store.Turn{Owner: "alice", Title: "T", Model: "m", Message: text}
		for range 10 {
			begun, err := s.Begin(b.Context(), turn, "T")
			if err != nil {
				b.Fatal(err)
			}

			turn.ConversationID = begun.ConversationID
			for n := 0; n < len(text); n += 5 { // as tokens come
				if err := s.Append(b.Context(), begun.Generation, n, text[n:n+5]); err != nil {
					b.Fatal(err)
				}
			}

			writing = usage(b, r, "generation:"+begun.ID+"*")
			if err := s.End(b.Context(), begun.Generation, store.Stopped()); err != nil {
				b.Fatal(err)
			}
		}

		settled, kept = usage(b, r, "conversation:*")+usage(b, r, "owner:*"), usage(b, r,
			"generation:*")
	}

	b.ReportMetric(settled, "B/conversation")
	b.ReportMetric(kept/10, "B/answer-kept")
	b.ReportMetric(writing, "B/answer-running")
	b.ReportMetric(0, "ns/op")
}

func usage(t testing.TB, r *redis.Client, pattern string) (total float64) {
	t.Helper()
	for _, key := range r.Keys(t.Context(), pattern).Val() {
		n, err := r.MemoryUsage(t.Context(), key, 0).Result() // 0: every element, none estimated
		if err != nil {
			t.Fatal(err)
		}
		total += float64(n)
	}

	return total
}
