package replicas_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// fleet is so many servers that speak as much of Ollama as the pool asks for, on one
// port of 127.0.0.2 and up.
type fleet struct {
	t         *testing.T
	port      string
	addresses []string
	servers   []*http.Server
	models    []string // names, JSON-quoted, by server
	hosts     atomic.Value
	versions  atomic.Value // map[int]string: the digest of m:1 by server
}

func newFleet(t *testing.T, models ...string) *fleet {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs the whole of 127.0.0.0/8 on the loopback interface")
	}

	f := &fleet{t: t, models: models}
	for i := range models {
		address := fmt.Sprintf("127.0.0.%d", i+2)
		l, err := net.Listen("tcp",
			net.JoinHostPort(address, f.port+map[bool]string{true: "0"}[f.port == ""]))
		if err != nil {
			t.Fatal(err)
		}

		f.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		f.addresses = append(f.addresses, address)
		s := &http.Server{Handler: f.handler(i)}
		f.servers = append(f.servers, s)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}

	return f
}

func (f *fleet) handler(i int) http.Handler {
	mux := http.NewServeMux()
	list := func(w http.ResponseWriter, r *http.Request) {
		f.hosts.Store(r.Host)
		version := ""
		if all, ok := f.versions.Load().(map[int]string); ok && all[i] != "" {
			version = fmt.Sprintf(`,{"name":"m:1","digest":%q}`, all[i])
		}
		fmt.Fprintf(w, `{"models":[{"name":%q,"digest":"d%d"}%s]}`, f.models[i], i, version)
	}

	mux.HandleFunc("GET /api/tags", list)
	mux.HandleFunc("GET /api/ps", list)
	mux.HandleFunc("GET /api/version", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"version":"1"}`)
	})
	return mux
}

// pool knows the fleet by a name.
func (f *fleet) pool(parallel int, turns func(int)) *replicas.Pool {
	f.t.Helper()
	p, err := replicas.New(replicas.Options{
		URL:        "http://ollama.test:" + f.port,
		Parallel:   parallel,
		Everywhere: "m:latest",
		Version:    "m:1",
		Turns:      turns,
		Log:        quiet,
		Lookup: func(context.Context, string) ([]string, error) {
			return append([]string{"::1"}, f.addresses...), nil
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}

	p.Refresh(f.t.Context())
	return p
}

func TestAffinity(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest", "m:latest")
	turns := 0
	p, q := f.pool(4, func(n int) { turns = n }), f.pool(4, nil)
	if turns != 12 {
		t.Errorf("the queue may let %d requests through, want 12", turns)
	}
	if got := f.hosts.Load(); got != "ollama.test:"+f.port {
		t.Errorf("the replicas are asked as %v", got)
	}

	home := map[string]int{}
	for i := range 300 {
		key := fmt.Sprintf("conversation %d", i)
		a, b := p.Acquire("m:latest", key), q.Acquire("m:latest", key)
		if a.Address != b.Address {
			t.Fatalf("two instances send %q to %s and %s", key, a.Address, b.Address)
		}

		home[a.Address]++
		a.Release()
		b.Release()
	}

	for _, a := range f.addresses {
		if home[a] < 60 {
			t.Errorf("%s is the home of %d conversations of 300: %v", a, home[a], home)
		}
	}

	// One that goes takes its own conversations with it, and moves no other.
	before := map[string]string{}
	for i := range 100 {
		key := fmt.Sprint(i)
		turn := p.Acquire("m:latest", key)
		before[key] = turn.Address
		turn.Release()
	}

	gone := f.addresses[0]
	f.addresses = f.addresses[1:]
	p.Refresh(t.Context())
	for key, was := range before {
		turn := p.Acquire("m:latest", key)
		if was != gone && turn.Address != was {
			t.Errorf("%q moved from %s to %s", key, was, turn.Address)
		}
		turn.Release()
	}
}

func TestBoundedLoad(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest")
	p := f.pool(2, nil)
	at := map[string]int{}
	var all []*replicas.Turn
	for range 4 { // one conversation, as if a crowd asked the same
		turn := p.Acquire("m:latest", "the same")
		at[turn.Address]++
		all = append(all, turn)
	}

	if at[f.addresses[0]] != 2 || at[f.addresses[1]] != 2 {
		t.Errorf("the load is %v", at)
	}

	for _, turn := range all {
		turn.Release()
		turn.Release() // a second time counts for nothing
	}

	for _, s := range p.Status() {
		if s.Running != 0 {
			t.Errorf("%s still has %d requests", s.Address, s.Running)
		}
	}

	// Without a conversation the less busy one is taken.
	first, second := p.Acquire("m:latest", ""), p.Acquire("m:latest", "")
	if first.Address == second.Address {
		t.Errorf("both went to %s", first.Address)
	}
}

func TestModelAffinity(t *testing.T) {
	f := newFleet(t, "m:latest", "rare:latest", "m:latest")
	p := f.pool(1, nil)
	for i := range 20 {
		turn := p.Acquire("rare:latest", fmt.Sprint(i))
		if turn.Address != f.addresses[1] {
			t.Errorf("a request for the rare model went to %s", turn.Address)
		}

		turn.Release()
		turn = p.Acquire("m:latest", fmt.Sprint(i))
		if turn.Address == f.addresses[1] {
			t.Errorf("a request went to %s, which has not the model", turn.Address)
		}

		turn.Release()
	}
}

func TestElsewhere(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest")
	turns := make(chan int, 10)
	p := f.pool(1, func(n int) { turns <- n })
	<-turns
	turn := p.Acquire("m:latest", "x")
	lost := turn.Address
	if other := turn.Elsewhere(t.Context(), &ollama.StatusError{
		Status: 400, Message: "the request's own",
	}); other != nil {
		t.Error("a wrong request was taken elsewhere")
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if other := turn.Elsewhere(ended, errors.New("refused")); other != nil {
		t.Error("a request that ended was taken elsewhere")
	}

	for i, a := range f.addresses {
		if a == lost {
			_ = f.servers[i].Close()
		}
	}

	_, err := turn.Client.Version(t.Context())
	other := turn.Elsewhere(t.Context(), err)
	if other == nil || other.Address == lost {
		t.Fatalf("%v led to %v", err, other)
	}

	other.Release()
	for range 5 {
		turn := p.Acquire("m:latest", "x")
		if turn.Address == lost {
			t.Error("a replica that is away got a request")
		}
		turn.Release()
	}

	p.Refresh(t.Context())
	if n := <-turns; n != 1 {
		t.Errorf("with one of two replicas away, %d requests at once", n)
	}
	if v, err := p.Version(t.Context()); v != "1" || err != nil {
		t.Errorf("the version is %q, %v", v, err)
	}
}

// TestLostModel: a replica that came back with an empty volume gets no further request for the
// model before it was asked.
func TestLostModel(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest")
	p := f.pool(1, nil)
	turn := p.Acquire("m:latest", "x")
	other := turn.Elsewhere(t.Context(), &ollama.StatusError{
		Status: http.StatusNotFound, Message: "model 'm' not found",
	})
	if other == nil || other.Address == turn.Address {
		t.Fatalf("the request stayed at %s", turn.Address)
	}

	other.Release()
	again := p.Acquire("m:latest", "x")
	if again.Address == turn.Address {
		t.Error("a replica without the model got a request for it")
	}

	again.Release()
	p.Refresh(t.Context())
	if again = p.Acquire("m:latest", "x"); again.Address != turn.Address {
		t.Error("the conversation did not come home")
	}
}

// TestFailing leaves a replica alone that answers errors, such as one whose GPU is gone, and never
// more than half of all: the requests may be why.
func TestFailing(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest", "m:latest", "m:latest")
	p := f.pool(4, nil)
	broken := &ollama.StatusError{
		Status: http.StatusInternalServerError, Message: "llama runner process has terminated",
	}
	fail := func(key string) {
		turn := p.Acquire("m:latest", key)
		other := turn.Elsewhere(t.Context(), broken)
		if other == nil || other.Address == turn.Address {
			t.Fatalf("the request stayed at %s", turn.Address)
		}
		other.Release()
	}

	away := func() (n int) {
		for _, s := range p.Status() {
			if s.Away {
				n++
			}
		}
		return n
	}

	fail("x")
	fail("x")
	answered := p.Acquire("m:latest", "x")
	answered.Release()
	if fail("x"); away() != 0 {
		t.Error("a replica is left alone for errors with an answer between them")
	}

	fail("x")
	if fail("x"); away() != 1 {
		t.Errorf("after three errors in a row %d replicas are left alone, want 1", away())
	}

	for i := range 200 { // a request that no replica can take
		fail(fmt.Sprint(i))
	}

	if away() != 2 {
		t.Errorf("%d replicas of 4 are left alone, want 2", away())
	}

	var failed uint64
	for _, s := range p.Status() {
		failed += s.Failed
	}

	if failed != 205 {
		t.Errorf("%d failures are counted, want 205", failed)
	}
}

// TestWantedVersion: while an update goes round, requests go where the new version is, as long as
// there are free turns.
func TestWantedVersion(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest", "m:latest")
	f.versions.Store(map[int]string{1: "d1"}) // the second has it, the third another
	p := f.pool(1, nil)
	turn := p.Acquire("m:latest", "")
	if turn.Address != f.addresses[1] {
		t.Errorf("a request went to %s, which has another version", turn.Address)
	}

	for i := range 20 {
		second := p.Acquire("m:latest", fmt.Sprint(i))
		if second.Address == f.addresses[1] {
			t.Error("a full replica got a request that others could have taken")
		}
		second.Release()
	}

	turn.Release()
	f.versions.Store(map[int]string{0: "d0", 1: "d1", 2: "d2"})
	p.Refresh(t.Context())
	got := map[string]bool{}
	for i := range 50 {
		turn := p.Acquire("m:latest", fmt.Sprint(i))
		got[turn.Address] = true
		turn.Release()
	}

	if len(got) != 3 {
		t.Errorf("after the update requests go to %v", got)
	}
	if p.Moved() == 0 {
		t.Error("no request is counted that found its home full")
	}
}

// TestComesBack waits until a replica that was away is asked again, in made-up time.
func TestComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		p, err := replicas.New(replicas.Options{
			URL:      "http://ollama.test:1",
			Parallel: 1,
			Log:      quiet,
			Lookup: func(context.Context, string) ([]string, error) {
				n++
				return nil, errors.New("no such host")
			},
		})
		if err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		<-done
		if n < 3 || n > 5 {
			t.Errorf("the name was looked up %d times in ten seconds", n)
		}
		if s := p.Status(); len(s) != 1 || s[0].Address != "ollama.test" {
			t.Errorf("without an answer the pool is %v", s)
		}
	})
}

func TestOneAddress(t *testing.T) {
	p, err := replicas.New(replicas.Options{URL: "http://127.0.0.1:11434", Parallel: 2, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}

	p.Run(t.Context()) // returns at once
	turn := p.Acquire("m:latest", "x")
	if other := turn.Elsewhere(t.Context(), errors.New("refused")); other != nil {
		t.Error("there is nowhere else")
	}

	turn.Release()
	if s := p.Status(); len(s) != 1 || s[0].Away {
		t.Errorf("the only one is %v", s)
	}
}

// TestDraining: a replica that is being stopped gets no new request while there is another one, and
// has no turns to give.
func TestDraining(t *testing.T) {
	f := newFleet(t, "m:latest", "m:latest")
	turns := 0
	p := f.pool(2, func(n int) { turns = n })
	port, _ := strconv.Atoi(f.port)
	telling := func(address string) net.Listener {
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port+1)))
		if err != nil {
			t.Skip("somebody has the port: ", err)
		}
		return l
	}

	gets := func() map[string]int {
		p.Refresh(t.Context())
		got := map[string]int{}
		for i := range 40 {
			a := p.Acquire("m:latest", fmt.Sprint("conversation ", i))
			got[a.Address]++
			a.Release()
		}

		return got
	}

	old := telling(f.addresses[0])
	if got := gets(); got[f.addresses[0]] > 0 || turns != 2 {
		t.Errorf("requests by replica %v, %d turns", got, turns)
	}

	// When all are, any may still do.
	other := telling(f.addresses[1])
	if got := gets(); len(got) != 2 || turns != 2 {
		t.Errorf("requests by replica %v, %d turns", got, turns)
	}

	old.Close()
	other.Close()
	if got := gets(); len(got) != 2 || turns != 4 {
		t.Errorf("requests by replica %v, %d turns", got, turns)
	}
}
