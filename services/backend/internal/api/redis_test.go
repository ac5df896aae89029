package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	goredis "github.com/redis/go-redis/v9"
)

// numbers is an answer in flight: numbered words, one after the other, until stop is closed.
type numbers struct {
	stop  chan struct{}
	total chan int
	mu    sync.Mutex // held: none is sent
	sent  int
}

func count(ml *mltest.Server) *numbers {
	n := &numbers{stop: make(chan struct{}), total: make(chan int, 1)}
	ml.Chat(func(s *mltest.Stream) {
		for {
			select {
			case <-n.stop:
				s.Done()
				n.total <- n.sent
				return
			case <-s.HTTP.Context().Done():
				n.total <- n.sent
				return
			case <-time.After(2 * time.Millisecond):
				n.mu.Lock()
				s.Text(fmt.Sprintf("%d ", n.sent))
				n.sent++
				n.mu.Unlock()
			}
		}
	})

	return n
}

// words is what the answer must be.
func words(n int) string {
	var all strings.Builder
	for k := range n {
		fmt.Fprintf(&all, "%d ", k)
	}
	return all.String()
}

// kill kills the master while nothing is on its way to the replica: what the master took and did
// not pass on would be lost. text is the key of the answer's text.
func (n *numbers) kill(
	t testing.TB, master *redistest.Server, replica *goredis.Client, text string,
) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	follows(t, replica, text, len(words(n.sent)))
	master.Kill(t)
}

// follows returns when the replica, which it closes in the end, has that many bytes of the text.
func follows(t testing.TB, replica *goredis.Client, text string, bytes int) {
	t.Helper()
	t.Cleanup(func() { replica.Close() })
	if err := replica.Do(t.Context(),
		"readonly").Err(); err != nil && !strings.Contains(err.Error(), "cluster support disabled") {
		t.Fatal(err)
	}

	for deadline := time.Now().Add(patience); replica.StrLen(t.Context(),
		text).Val() < int64(bytes); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replica does not follow")
		}
	}
}

// end ends the answer and returns what it must be.
func (n *numbers) end(t testing.TB) string {
	t.Helper()
	close(n.stop)
	return words(soon(t, "the end of the answer", n.total))
}

// complete reads the rest of an answer that has been read up to text: it must
// be whole and in order.
func complete(t testing.TB, r *reader, text, want string) {
	t.Helper()
	rest, last, ids := r.rest()
	if got := text + rest; got != want || last.Name != backendapi.EventDone {
		t.Errorf("the answer has %d bytes and ends with %q, want %d bytes: %+v", len(got),
			got[max(0, len(got)-20):], len(want), last)
	}

	for k := range ids[1:] {
		if !laterID(t, ids[k+1], ids[k]) {
			t.Errorf("event %s comes after %s", ids[k+1], ids[k])
		}
	}
}

func laterID(t testing.TB, a, b string) bool {
	t.Helper()
	var ams, aseq, bms, bseq int64
	_, err1 := fmt.Sscanf(a, "%d-%d", &ams, &aseq)
	_, err2 := fmt.Sscanf(b, "%d-%d", &bms, &bseq)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}

	return ams > bms || ams == bms && aseq > bseq
}

// some reads events until the reader has some text.
func some(t testing.TB, r *reader, bytes int) (text string) {
	t.Helper()
	for len(text) < bytes {
		if e := r.next(); e.Name == backendapi.EventDelta {
			text += delta(t, e)
		}
	}
	return text
}

// The master dies while an answer is written and two read it: the replica takes over, and the
// answer goes on where it was, for those readers and for one that comes then.
func TestSentinelFailover(t *testing.T) {
	for name, open := range map[string]bool{"a Sentinel with the password": false, "a Sentinel without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis, ml := redistest.StartWatched(t, "correct-horse", open), mltest.Start(t)
			address := store.Address{
				URL:       "redis://unused:1/0",
				Password:  "correct-horse",
				Sentinels: []string{redis.Sentinel.Addr},
				Master:    redistest.MasterName,
			}

			writer := newInstanceAt(t, address, ml.URL, options{outage: patience})
			other := newInstanceAt(t, address, ml.URL, options{outage: patience})
			n := count(ml)
			g := writer.send(alice, "", "Hi")
			near, far := writer.follow(alice, g.ID, ""), other.follow(alice, g.ID, "")
			nearText, farText := some(t, near, 100), some(t, far, 100)
			n.kill(t, redis.Master,
				goredis.NewClient(&goredis.Options{
					Addr: redis.Replica.Addr, Password: "correct-horse",
				}),
				"generation:"+g.ID+":text")

			killed := time.Now()
			nearText += some(t, near, 1000)
			farText += some(t, far, 1000)
			t.Logf("text comes again %s after the kill", time.Since(killed).Round(time.Millisecond))
			late := other.follow(alice, g.ID, "")
			want := n.end(t)
			complete(t, near, nearText, want)
			complete(t, far, farText, want)
			complete(t, late, "", want)
			if m := other.detail(alice,
				g.ConversationID).Messages[1]; m.Content != want ||
				m.State != backendapi.MessageComplete {
				t.Errorf("stored are %d bytes, %s", len(m.Content), m.State)
			}

			ml.Chat(func(s *mltest.Stream) { s.Text("on"); s.Done() })
			writer.follow(alice, writer.send(alice, g.ConversationID, "Go on").ID, "").rest()
			if d := other.detail(alice, g.ConversationID); len(d.Messages) != 4 ||
				d.Messages[3].Content != "on" {
				t.Errorf("%d messages", len(d.Messages))
			}
		})
	}
}

// An operator lets the replica take over while the master is well: what the master takes
// until it hears of it is lost. The answer goes on or ends with the reason, and its readers
// never get a wrong text.
func TestSentinelSwitch(t *testing.T) {
	redis, ml := redistest.StartWatched(t, "correct-horse", false), mltest.Start(t)
	address := store.Address{
		URL:       "redis://unused:1/0",
		Password:  "correct-horse",
		Sentinels: []string{redis.Sentinel.Addr},
		Master:    redistest.MasterName,
	}

	i := newInstanceAt(t, address, ml.URL, options{outage: patience})
	n := count(ml)
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	text := some(t, r, 100)
	// What a replica that lags loses is as much as it lags: it has the question here.
	follows(t, goredis.NewClient(&goredis.Options{
		Addr: redis.Replica.Addr, Password: "correct-horse",
	}), "generation:"+g.ID+":text", len(text))
	sentinel := goredis.NewSentinelClient(&goredis.Options{
		Addr: redis.Sentinel.Addr, Password: "correct-horse",
	})
	defer sentinel.Close()
	if err := sentinel.Failover(t.Context(), redistest.MasterName).Err(); err != nil {
		t.Fatal(err)
	}

	var last sse.Event
	for last.Name = backendapi.EventDelta; last.Name == backendapi.EventDelta &&
		len(text) < 10_000; {
		if last = r.next(); last.Name == backendapi.EventDelta {
			text += delta(t, last)
		}
	}

	close(n.stop)
	rest, end, _ := r.rest()
	if end.Name == "" {
		end = last
	}

	want := words(n.sent)
	switch text += rest; {
	case end.Name == backendapi.EventDone && text == want:
	case end.Name == backendapi.EventError &&
		strings.Contains(end.Data, "/problems/redis-lost-data") && strings.HasPrefix(want, text):
	default:
		t.Errorf("%d bytes of %d, then %+v", len(text), len(want), end)
	}

	t.Logf("the answer ended as %s", end.Name)
	i.idle()
	if m := i.detail(alice, g.ConversationID).Messages[1]; !strings.HasPrefix(want, m.Content) ||
		m.State == backendapi.MessageStreaming {
		t.Errorf("stored are %d bytes, %s", len(m.Content), m.State)
	}
}

// Redis answers nothing for longer than a lease: the answer goes on when it does again, and
// nobody ends it meanwhile.
func TestOutageLongerThanALease(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	address := store.Address{URL: redis.URL}
	writer := newInstanceAt(t, address, ml.URL, options{outage: patience})
	n := count(ml)
	g := writer.send(alice, "", "Hi")
	r := writer.follow(alice, g.ID, "")
	text := some(t, r, 50)
	resume := redis.Pause(t)
	<-time.After(2 * lease)
	resume()
	// Somebody looks before the writer is back: the lease has expired.
	newcomer := newInstanceAt(t, address, ml.URL, options{outage: patience})
	newcomer.refused(http.StatusConflict, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "Hi"}, alice)
	text += some(t, r, 500)
	complete(t, r, text, n.end(t))
}

// A server takes over that has not got all of the answer: writer and reader are told,
// nothing is shown twice.
func TestLostText(t *testing.T) {
	i, ml, redis := stack(t)
	goOn := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Text("what is kept, "); <-goOn; s.Text("more"); s.Done() })
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	some(t, r, 10)
	if err := redis.Client(t).Set(t.Context(), "generation:"+g.ID+":text", "what is",
		goredis.KeepTTL).Err(); err != nil {
		t.Fatal(err)
	}

	close(goOn)
	text, last, _ := r.rest()
	if text != "" || last.Name != backendapi.EventError ||
		!strings.Contains(last.Data, "/problems/redis-lost-data") {
		t.Errorf("%q, %+v", text, last)
	}

	if m := i.detail(alice,
		g.ConversationID).Messages[1]; m.State != backendapi.MessageFailed ||
		m.Content != "what is" || m.Error == nil {
		t.Errorf("%+v", m)
	}
}

// A reader has seen events that are gone, and the answer has ended before them.
func TestReaderBeyondTheEnd(t *testing.T) {
	i, ml, redis := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("text"); s.Hold() })
	g := i.send(alice, "", "Hi")
	r := i.follow(alice, g.ID, "")
	some(t, r, 4)
	c := redis.Client(t)
	events := "generation:" + g.ID + ":events"
	tx := c.TxPipeline()
	tx.Del(t.Context(), events)
	tx.XAdd(t.Context(), &goredis.XAddArgs{
		Stream: events, ID: "1-1", Values: []any{"e", "start", "d", "{}"},
	})
	tx.XAdd(t.Context(), &goredis.XAddArgs{
		Stream: events, ID: "1-2", Values: []any{"e", "stopped", "d", "{}"},
	})
	tx.HSet(t.Context(), "generation:"+g.ID, "state", "ended")
	if _, err := tx.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}

	if _, last, _ := r.rest(); last.Name != backendapi.EventError ||
		!strings.Contains(last.Data, `"status":410`) {
		t.Errorf("%+v", last)
	}
}

// Everything of the API works in a Cluster, for owners whose keys lie on any of its nodes.
func TestCluster(t *testing.T) {
	t.Parallel()
	redis, ml := redistest.StartCluster(t), mltest.Start(t)
	i := newInstanceAt(t, store.Address{URL: "redis://unused:1", Cluster: redis.Addrs()[:1]},
		ml.URL, options{drain: time.Second, outage: patience})
	t.Run("every node", func(t *testing.T) {
		i, used := i.in(t), map[int]bool{}
		for k := 0; len(used) < 3 || k < 6; k++ {
			h := header{wire.OwnerHeader: fmt.Sprintf("owner-%d", k)}
			used[redis.Owner(t, fmt.Sprintf("owner-%d", k))] = true
			ml.Chat(func(s *mltest.Stream) { s.Text("one "); s.Text("two"); s.Done() })
			g := i.send(h, "", "Hi")
			if text, last, _ := i.follow(h, g.ID, "").rest(); text != "one two" ||
				last.Name != backendapi.EventDone {
				t.Errorf("%q, %+v", text, last)
			}

			ml.Chat(func(s *mltest.Stream) { s.Text("so far"); s.Hold() })
			second := i.send(h, g.ConversationID, "Go on")
			r := i.follow(h, second.ID, "")
			some(t, r, 6)
			i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/generations/"+second.ID, nil,
				h)
			if _, last, _ := r.rest(); last.Name != backendapi.EventStopped {
				t.Errorf("%+v", last)
			}

			ml.Chat(func(s *mltest.Stream) {
				s.Refuse(problem.New(http.StatusTooManyRequests, "full"))
			})
			i.refused(http.StatusTooManyRequests, http.MethodPost, "/api/chat",
				backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "x"}, h)
			i.want(http.StatusOK, nil, http.MethodPatch, "/api/conversations/"+g.ConversationID,
				backendapi.Rename{Title: "Trip"}, h)
			if d := i.detail(h,
				g.ConversationID); d.Title != "Trip" || len(d.Messages) != 4 ||
				d.Messages[3].Content != "so far" {
				t.Errorf("%+v", d)
			}

			var empty backendapi.Conversation
			i.want(http.StatusCreated, &empty, http.MethodPost, "/api/conversations",
				map[string]string{}, h)
			var page backendapi.ConversationPage
			i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, h)
			if len(page.Conversations) != 2 {
				t.Errorf("%+v", page)
			}

			ml.Chat(func(s *mltest.Stream) { s.Text("x"); s.Hold() })
			running := i.send(h, empty.ID, "Hi")
			r = i.follow(h, running.ID, "")
			some(t, r, 1)
			i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+empty.ID,
				nil, h)
			if _, last, _ := r.rest(); last.Name != backendapi.EventStopped {
				t.Errorf("%+v", last)
			}
		}

		for _, n := range redis.Nodes {
			for _, key := range n.Client(t).Keys(t.Context(), "*").Val() {
				if key != "running" && !strings.HasPrefix(key, "{owner-") {
					t.Errorf("key %s is bound to no owner", key)
				}
			}
		}
	})

	t.Run("a slot moves", func(t *testing.T) {
		i := i.in(t)
		n := count(ml)
		g := i.send(alice, "", "Hi")
		r := i.follow(alice, g.ID, "")
		text := some(t, r, 100)
		move := redis.MoveSlot(t, "{alice}")
		keys := move.Keys()
		if len(keys) < 5 {
			t.Fatalf("only %v are in the slot", keys)
		}

		for _, key := range keys {
			move.Key(key)
		}

		move.End()
		text += some(t, r, 1000)
		complete(t, r, text, n.end(t))
		if left := move.Keys(); len(left) > 0 {
			t.Errorf("written to the old node: %v", left)
		}
		if d := i.detail(alice, g.ConversationID); d.Messages[1].State != backendapi.MessageComplete {
			t.Errorf("%+v", d.Messages[1])
		}
	})

	node := redis.Owner(t, "{alice}")
	replica := redis.AddReplica(t, node)
	t.Run("a replica takes over", func(t *testing.T) {
		i := i.in(t)
		n := count(ml)
		g := i.send(alice, "", "Hi")
		r := i.follow(alice, g.ID, "")
		text := some(t, r, 100)
		n.kill(t, redis.Nodes[node], goredis.NewClient(&goredis.Options{Addr: replica.Addr}),
			"{alice}:generation:"+g.ID+":text")
		killed := time.Now()
		text += some(t, r, 1000)
		t.Logf("text comes again %s after the kill", time.Since(killed).Round(time.Millisecond))
		complete(t, r, text, n.end(t))
		i.idle() // the reader may have the last event before the job has the reply to it
		redis.Nodes[node] = replica
	})

	t.Run("a node is gone", func(t *testing.T) {
		i := i.in(t)
		ml.Chat(func(s *mltest.Stream) { s.Text("x"); s.Done() })
		redis.Nodes[node].Kill(t)
		p := i.refused(http.StatusServiceUnavailable, http.MethodPost, "/api/chat",
			backendapi.ChatRequest{Message: "Hi"}, alice)
		if p.RetryAfter == 0 {
			t.Errorf("%+v", p)
		}

		b, err := io.ReadAll(i.do(http.MethodGet, "/api/status", nil, nil).Body)
		if err != nil || !strings.Contains(string(b), "REDIS_CLUSTER: ") {
			t.Errorf("%s, %v", b, err)
		}
	})
}
