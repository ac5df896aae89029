package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// person is somebody who asks backends.
type person struct {
	client *http.Client

	// url returns the URL of the backend to ask next.
	url func() string
}

func newPerson(t testing.TB, redis contract.Redis, url func() string) *person {
	t.Helper()
	return &person{identitytest.Client(t, redis, "tester", identity.Backend), url}
}

// send sends a message until somebody acknowledges it; it goes to another backend each time.
func (p *person) send(ctx context.Context, key string,
	req backendapi.ChatRequest) (g backendapi.Generation, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return g, err
	}

	for ctx.Err() == nil {
		err = func() error {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url()+"/api/chat",
				bytes.NewReader(body))
			if err != nil {
				return err
			}

			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(wire.KeyHeader, key)
			resp, err := p.client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()

			b, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != http.StatusAccepted {
				err = fmt.Errorf("%s: %s", resp.Status, b)
			}
			if err != nil {
				return err
			}

			return json.Unmarshal(b, &g)
		}()
		if err == nil {
			return g, nil
		}

		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}

	return g, errors.Join(ctx.Err(), err)
}

// read reads an answer to its end. A stream that is cut is taken up at another backend.
func (p *person) read(ctx context.Context, id string, piece func(string)) (last sse.Event,
	err error) {
	after := ""
	for ctx.Err() == nil {
		err = func() error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet,
				p.url()+"/api/generations/"+id+"/events", nil)
			if err != nil {
				return err
			}
			if after != "" {
				r.Header.Set("Last-Event-ID", after)
			}

			resp, err := p.client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()

			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}

			for events := sse.NewReader(bufio.NewReader(resp.Body)); ; {
				e, err := events.Next()
				if err != nil {
					return err
				}

				last, after = e, e.ID
				switch e.Name {
				case backendapi.EventDelta:
					var d backendapi.Delta
					if err := json.Unmarshal([]byte(e.Data), &d); err != nil {
						return err
					}
					piece(d.Text)
				case backendapi.EventDone, backendapi.EventError, backendapi.EventStopped:
					return nil
				}
			}
		}()
		if err == nil {
			return last, nil
		}

		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}

	return last, errors.Join(ctx.Err(), err)
}

// get reads the JSON at the path into out.
func (p *person) get(ctx context.Context, path string, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url()+path, nil)
	if err != nil {
		return err
	}

	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}

	return json.NewDecoder(resp.Body).Decode(out)
}

// A backend is killed while it writes an answer: for the reader on another instance text goes on
// within five seconds, and nothing of it is missing or twice there.
func TestKilledBackend(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	env := environ(t, func(b *backendenv.Config) { b.RedisURL, b.MLServiceURL = redis.URL, ml.URL })
	survivor, _ := serveHere(t, env)
	const most, tries = 5 * time.Second, 4 // a machine that is busy each time is too slow
	for n := 1; ; n++ {
		gap := killWriter(t, redis, ml, env, survivor)
		t.Logf("text went on %s after the kill", gap.Round(time.Millisecond))
		if gap > 0 && gap <= most {
			return
		}
		if n == tries {
			t.Fatalf("text went on %s after the kill, want at most %s", gap, most)
		}
	}
}

// killWriter kills the backend that writes an answer, and returns after which time text came to a
// reader at the survivor, where all of the answer must come.
func killWriter(
	t *testing.T, redis *redistest.Server, ml *mltest.Server, env []string, survivor string,
) (gap time.Duration) {
	t.Helper()
	victim := startProcess(t, env)
	const words = 500
	ml.Chat(mltest.Count(words, 10*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	asks := newPerson(t, contract.Redis{URL: "redis://" + redis.Addr}, func() string { return victim.url })
	g, err := asks.send(ctx, fmt.Sprint("key-", victim.cmd.Process.Pid),
		backendapi.ChatRequest{Message: "Count"})
	if err != nil {
		t.Fatal(err)
	}

	text := ""
	var killed time.Time
	asks.url = func() string { return survivor }
	last, err := asks.read(ctx, g.ID, func(piece string) {
		// what was under way has come
		if !killed.IsZero() && gap == 0 && time.Since(killed) > 200*time.Millisecond {
			gap = time.Since(killed)
		}
		if text += piece; len(text) > 100 && killed.IsZero() {
			victim.kill()
			killed = time.Now()
		}
	})
	if err != nil || last.Name != backendapi.EventDone || text != mltest.Words(words) {
		t.Errorf("%d bytes, %+v, %v", len(text), last, err)
	}

	var d backendapi.ConversationDetail
	if err := asks.get(ctx, "/api/conversations/"+g.ConversationID, &d); err != nil {
		t.Fatal(err)
	}
	if m := d.Messages[1]; m.State != backendapi.MessageComplete || m.Content != text {
		t.Errorf("message %+v", m)
	}

	return gap
}

var seed = flag.Uint64("seed", 1, "of the schedule of TestRandomKills")

// fleet are backends of which one is killed now and then.
type fleet struct {
	mu      sync.Mutex
	members []*process
	next    int
}

// url is that of the next one, which may be dead.
func (f *fleet) url() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	return f.members[f.next%len(f.members)].url
}

func (f *fleet) replace(at int, p *process) (old *process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, f.members[at] = f.members[at], p
	return old
}

// Backends and ml are killed, and backends stopped, at random, by a schedule that -seed repeats:
// every acknowledged message is in its conversation exactly once, with its answer, of which no word
// is missing or twice there.
func TestRandomKills(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}

	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	env := environ(t, func(b *backendenv.Config) { b.RedisURL, b.MLServiceURL = redis.URL, ml.URL })
	f := &fleet{}
	for range 3 {
		f.members = append(f.members, startProcess(t, env))
	}

	const (
		people, turns, words = 6, 8, 150
		kills                = 8
	)

	ml.Chat(mltest.Count(words, 15*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	asks := newPerson(t, contract.Redis{URL: "redis://" + redis.Addr}, f.url)
	for person := range people {
		random := rand.New(rand.NewPCG(*seed, uint64(person)))
		wg.Go(func() {
			id := ""
			var said []string
			for turn := range turns {
				key, message := fmt.Sprintf("p%d-t%d", person, turn),
					fmt.Sprintf("message %d of %d", turn, person)
				g, err := asks.send(ctx, key, backendapi.ChatRequest{ConversationID: id,
					Message: message})
				if err != nil {
					t.Errorf("%s: %v", message, err)
					return
				}

				id, said = g.ConversationID, append(said, message)
				text := ""
				last, err := asks.read(ctx, g.ID, func(piece string) { text += piece })
				if err != nil || last.Name != backendapi.EventDone || text != mltest.Words(words) {
					t.Errorf("%s: read %d bytes, %+v, %v", message, len(text), last, err)
				}

				if again, err := asks.send(ctx, key, backendapi.ChatRequest{
					ConversationID: map[bool]string{false: id}[turn == 0], Message: message,
				}); err != nil || again != g {
					t.Errorf("%s, sent again: %+v, %v, want %+v", message, again, err, g)
				}

				time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			}

			var d backendapi.ConversationDetail
			for ctx.Err() == nil { // one may be dead
				if asks.get(ctx, "/api/conversations/"+id, &d) == nil {
					break
				}
			}

			if len(d.Messages) != 2*len(said) {
				t.Errorf("person %d has %d messages, want %d", person, len(d.Messages), 2*len(said))
				return
			}

			for k, message := range said {
				user, answer := d.Messages[2*k], d.Messages[2*k+1]
				if user.Content != message || answer.Content != mltest.Words(words) ||
					answer.State != backendapi.MessageComplete {
					t.Errorf("%q and %d bytes, %s; want %q",
						user.Content, len(answer.Content), answer.State, message)
				}
			}
		})
	}

	random := rand.New(rand.NewPCG(*seed, 1000))
	for kill := range kills {
		// An answer of two seconds bears three of them: they are that far apart.
		time.Sleep(3*time.Second + time.Duration(random.IntN(2000))*time.Millisecond)
		if kill%4 == 3 {
			ml.Kill()
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
			ml.Restart(t)
			continue
		}

		at := random.IntN(len(f.members))
		if kill%4 == 1 {
			f.members[at].stop()
		} else {
			f.members[at].kill()
		}

		time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
		f.replace(at, startProcess(t, env))
	}

	wg.Wait()
	client := redis.Client(t)
	var page backendapi.ConversationPage
	err := asks.get(t.Context(), "/api/conversations?limit=200", &page)
	if err != nil || len(page.Conversations) != people {
		t.Errorf("%d conversations, want %d: %v", len(page.Conversations), people, err)
	}

	taken := 0
	for _, key := range client.Keys(t.Context(), "generation:*").Val() {
		if !strings.HasSuffix(key, ":events") && client.HGet(t.Context(), key,
			"fence").Val() != "1" {
			taken++
		}
	}

	t.Logf("%d of %d answers were taken over", taken, people*turns)
	if taken == 0 {
		t.Error("no answer was taken over: the test shows nothing")
	}
}
