package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestFullDisk: while Redis cannot write to its disk nothing new is taken, everybody is told why
// and can read, and an answer that is being written waits. It goes on by itself when there is room,
// and nothing that was acknowledged is lost.
func TestFullDisk(t *testing.T) {
	dir := peers.SmallDisk(t, 8<<20)
	redis, ml := redistest.StartOn(t, dir), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{outage: patience})
	done := i.send(alice, "", "Before")
	i.follow(alice, done.ID, "").rest()

	n := count(ml)
	running := i.send(alice, "", "Count")
	r := i.follow(alice, running.ID, "")
	text := some(t, r, 100)

	free := peers.Fill(t, dir)
	full := func() (*http.Response, string) {
		resp := i.do(http.MethodPost, "/api/conversations",
			map[string]string{"title": "taken"}, alice)
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}

	taken := 0
	resp, said := full()
	for deadline := time.Now().Add(patience); resp.StatusCode == http.StatusCreated &&
		time.Now().Before(deadline); resp, said = full() {
		taken++
	}

	if resp.StatusCode != http.StatusInsufficientStorage || !strings.Contains(said, "disk") {
		t.Fatalf("a change is answered with %s: %s", resp.Status, said)
	}

	for name, answer := range map[string]func() (status int, body string){
		"message": func() (int, string) {
			p := i.refused(http.StatusInsufficientStorage, http.MethodPost, "/api/chat",
				backendapi.ChatRequest{Message: "Hi"}, alice)
			return p.Status, p.Detail
		},
		"message with a key": func() (int, string) {
			p := i.refused(http.StatusInsufficientStorage, http.MethodPost, "/api/chat",
				backendapi.ChatRequest{Message: "Hi"},
				alice.with(wire.KeyHeader, "k"))
			return p.Status, p.Detail
		},
		"status": func() (int, string) {
			var s backendapi.Status
			i.want(http.StatusOK, &s, http.MethodGet, "/api/status", nil, nil)
			for _, x := range s.Services {
				if x.Name == "redis" && x.Status == backendapi.StatusDegraded {
					return http.StatusInsufficientStorage, x.Detail
				}
			}

			return 0, fmt.Sprintf("%+v", s)
		},
	} {
		if status, said := answer(); status != http.StatusInsufficientStorage ||
			!strings.Contains(said, "disk") {
			t.Errorf("%s: %d %s", name, status, said)
		}
	}

	// Reading works, also when the lease of the answer that cannot be written is over.
	<-time.After(2 * lease)
	var page backendapi.ConversationPage
	i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	if len(page.Conversations) != 2+taken {
		t.Errorf("%d conversations are listed, want %d", len(page.Conversations), 2+taken)
	}

	if d := i.detail(alice, done.ConversationID); len(d.Messages) != 2 ||
		d.Messages[1].Content != "hello" {
		t.Errorf("%+v", d)
	}

	other := newInstance(t, redis.URL, ml.URL, options{outage: patience})
	if d := other.detail(alice, running.ConversationID); d.Messages[1].State != backendapi.MessageStreaming {
		t.Errorf("%+v", d)
	}
	if seen := some(t, other.follow(alice, running.ID, ""), 100); !strings.HasPrefix(seen, text[:100]) {
		t.Errorf("a late reader gets %q", seen)
	}
	if err := dead(t, store.Address{URL: redis.URL}, lease).Check(t.Context()); err != nil {
		t.Errorf("the backend is not ready: %v", err)
	}

	free()
	begin := time.Now()
	text += some(t, r, 3000) // more than came before
	t.Logf("text comes again %s after there is room", time.Since(begin).Round(time.Millisecond))
	want := n.end(t)
	complete(t, r, text, want)
	ml.Chat(func(s *mltest.Stream) { s.Text("again"); s.Done() })
	after := i.send(alice, done.ConversationID, "After")
	i.follow(alice, after.ID, "").rest()

	<-time.After(1500 * time.Millisecond) // Redis writes what it has acknowledged within a second
	redis.Kill(t)
	back := newInstance(t, redistest.StartOn(t, dir).URL, ml.URL, options{})
	if d := back.detail(alice, done.ConversationID); len(d.Messages) != 4 ||
		d.Messages[3].Content != "again" {
		t.Errorf("after a restart: %+v", d)
	}

	if d := back.detail(alice, running.ConversationID); len(d.Messages) != 2 ||
		d.Messages[1].Content != want {
		t.Errorf("after a restart the answer has %d of %d bytes",
			len(d.Messages[1].Content), len(want))
	}

	back.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	if len(page.Conversations) != 2+taken {
		t.Errorf("after a restart %d conversations are listed, want %d",
			len(page.Conversations), 2+taken)
	}
}

// TestFullDiskForLong: the disk is full for longer than an answer bears. Another writer goes on
// with it when there is room.
func TestFullDiskForLong(t *testing.T) {
	dir := peers.SmallDisk(t, 8<<20)
	redis, ml := redistest.StartOn(t, dir), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{outage: 300 * time.Millisecond})
	words := make(chan int, 1) // of the answer, once another writer asks for the rest
	var all atomic.Int64
	ml.Chat(func(s *mltest.Stream) {
		n := strings.Count(s.SoFar(), " ")
		if n == 0 { // the disk fills before it has ended, however long that takes
			mltest.Count(1<<20, time.Millisecond)(s)
			return
		}

		if all.CompareAndSwap(0, int64(n)+1000) {
			words <- n + 1000
		}
		mltest.Count(int(all.Load()), time.Millisecond)(s)
	})
	g := i.send(alice, "", "Count")
	r := i.follow(alice, g.ID, "")
	text := some(t, r, 50)

	free := peers.Fill(t, dir)
	i.metric(`backend_generations_total{state="failed"} 1`) // the first writer
	free()
	complete(t, r, text, mltest.Words(soon(t, "the other writer", words)))
}
