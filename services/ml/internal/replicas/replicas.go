// Package replicas spreads requests over the replicas of Ollama that one name stands for: the pods
// behind a headless Service, or the containers behind a network alias. A name with one address is
// one replica, which gets all requests.
//
// A request goes to a replica that has its model and a free turn. Which of them, the conversation
// decides by rendezvous hashing: its next turn finds the replica that still holds its prefix in
// the KV cache, and several instances of ml agree on that without a word. When that replica is
// full, the next in the conversation's own order takes the turn, so that a beginning that many
// conversations share cannot pile up anywhere. The bound is the replica's turns, not a share of
// the mean load: a GPU writes two answers at once hardly slower than one, while reading a long
// prefix anew takes seconds.
package replicas

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

const (
	// refreshEvery is how often the name is resolved and the replicas are asked what they have.
	refreshEvery = 3 * time.Second

	// lookupTimeout bounds resolving the name, lookTimeout asking a replica: one that writes
	// answers with every core may take its time for that, and connecting to one that is gone is
	// bounded by the transport.
	lookupTimeout, lookTimeout = 2 * time.Second, 5 * time.Second

	// A replica that cannot be reached is left alone for awayFirst, and twice as long after
	// each further failure.
	awayFirst, awayMax = time.Second, 30 * time.Second

	// drainTimeout bounds asking whether a replica is being stopped: where a policy drops the
	// question, it is not.
	drainTimeout = 300 * time.Millisecond

	// errorsAway is after how many errors of its own in a row a replica is left alone.
	errorsAway = 3
)

// Options say what to spread over.
type Options struct {
	// URL is Ollama's base URL; the addresses of its host are the replicas.
	URL string

	// TLS is what the replicas of a URL of https are asked with; nil is for one of http.
	TLS *tls.Config

	// Parallel is how many requests may be with each replica at once.
	Parallel int

	// Everywhere is the model that every replica is to hold in memory. Others go where
	// they are loaded already.
	Everywhere string

	// Version is the name of the version that Everywhere is to be. While an update goes from
	// replica to replica, requests prefer those that have it; empty prefers none.
	Version string

	// Lookup resolves a host; nil is the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)

	// Turns is called with the number of requests that may be with all replicas at once, whenever
	// it changes; may be nil.
	Turns func(int)

	// Every is the time between two looks; 0 is three seconds.
	Every time.Duration
	Log   *slog.Logger
}

// Pool knows the replicas. It is safe for concurrent use.
type Pool struct {
	opts       Options
	host, port string

	// wake makes Run look at once.
	wake chan struct{}

	mu    sync.Mutex
	list  []*Replica // sorted by address; never empty
	turns int
	moved uint64
}

// Replica is one Ollama.
type Replica struct {
	// Address is its IP address; the URL's host where that stands for one Ollama.
	Address string
	Client  *ollama.Client

	hash    uint64 // of Address
	running int

	// What it replied when it was last asked.
	looked         bool // it was asked
	models, loaded map[string]bool
	current        bool // it has the version that is wanted
	draining       bool // it is being stopped, and finishes what it has

	failures         int       // in a row
	errors           int       // its own, without an answer in between
	away             time.Time // until then it is left alone; zero if it is not
	requests, failed uint64
}

// New makes a pool that knows the URL's host as its only replica until Run has looked.
func New(o Options) (*Pool, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("OLLAMA_API_URL: %q is no URL with a host", o.URL)
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupHost
	}
	if o.Turns == nil {
		o.Turns = func(int) {}
	}
	if o.Every == 0 {
		o.Every = refreshEvery
	}

	p := &Pool{opts: o, host: u.Hostname(), turns: o.Parallel, wake: make(chan struct{}, 1),
		port: cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")}
	p.list = []*Replica{p.named()}
	return p, nil
}

// named returns the replica of a name that stands for one.
func (p *Pool) named() *Replica {
	client := ollama.New(p.opts.URL)
	client.Secure(p.opts.TLS)
	return &Replica{Address: p.host, Client: client, hash: hash(p.host)}
}

// Run keeps the pool up to date until ctx is done. A host that is an address is
// one replica for ever.
func (p *Pool) Run(ctx context.Context) {
	if net.ParseIP(p.host) != nil {
		return
	}

	tick := time.NewTicker(p.opts.Every)
	defer tick.Stop()
	for {
		p.Refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.wake:
		}
	}
}

// Refresh resolves the name and, when there are several replicas, asks each what it has.
func (p *Pool) Refresh(ctx context.Context) {
	addresses, err := p.Addresses(ctx)
	if err != nil || len(addresses) == 0 {
		return // those known may still be there: requests find out
	}

	p.mu.Lock()
	p.keep(addresses)
	list := slices.Clone(p.list)
	p.mu.Unlock()
	if len(list) > 1 {
		var wg sync.WaitGroup
		for _, r := range list {
			wg.Go(func() { p.look(ctx, r) })
		}
		wg.Wait()
	}

	p.mu.Lock()
	turns := p.opts.Parallel * max(p.staying(), 1)
	changed := turns != p.turns
	p.turns = turns
	p.mu.Unlock()
	if changed {
		p.opts.Turns(turns)
	}
}

// here returns how many replicas are not away.
func (p *Pool) here() int { return p.count(func(r *Replica) bool { return r.away.IsZero() }) }

// staying returns how many of them are not being stopped.
func (p *Pool) staying() int {
	return p.count(func(r *Replica) bool { return r.away.IsZero() && !r.draining })
}

func (p *Pool) count(is func(*Replica) bool) int {
	n := 0
	for _, r := range p.list {
		if is(r) {
			n++
		}
	}
	return n
}

// Addresses returns the addresses that the URL's host has at this moment, sorted.
func (p *Pool) Addresses(ctx context.Context) ([]string, error) {
	if net.ParseIP(p.host) != nil {
		return []string{p.host}, nil
	}

	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := p.opts.Lookup(ctx, p.host)
	if err != nil {
		return nil, err
	}

	return onePerReplica(addresses), nil
}

// onePerReplica sorts the addresses. Where the network has both kinds, each replica has one of
// either: those of IPv4 count then.
func onePerReplica(addresses []string) []string {
	four := slices.DeleteFunc(slices.Clone(addresses), func(a string) bool {
		ip := net.ParseIP(a)
		return ip == nil || ip.To4() == nil
	})
	if len(four) > 0 {
		addresses = four
	}

	addresses = slices.Clone(addresses)
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

// Client returns a client of the replica at an address of the URL's host.
func (p *Pool) Client(address string) *ollama.Client {
	client := ollama.NewAt(p.opts.URL, net.JoinHostPort(address, p.port))
	client.Secure(p.opts.TLS)
	return client
}

// keep makes the list that of the addresses, and keeps what is known of those that stay. Requests
// at those that go end as they may.
func (p *Pool) keep(addresses []string) {
	var list []*Replica
	if len(addresses) == 1 {
		addresses = []string{p.host}
	}

	for _, a := range addresses {
		i := slices.IndexFunc(p.list, func(r *Replica) bool { return r.Address == a })
		switch {
		case i >= 0:
			list = append(list, p.list[i])
		case len(addresses) == 1:
			list = append(list, p.named())
		default:
			p.opts.Log.Info("a replica of Ollama", "address", a)
			list = append(list, &Replica{Address: a, Client: p.Client(a), hash: hash(a)})
		}
	}

	p.list = list
}

// look asks a replica what it has. A replica that is away is not asked before its time.
func (p *Pool) look(ctx context.Context, r *Replica) {
	p.mu.Lock()
	wait := time.Now().Before(r.away)
	p.mu.Unlock()
	if wait {
		return
	}

	asked, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	models, err := r.Client.List(asked)
	var loaded []api.ProcessModelResponse
	if err == nil {
		loaded, err = r.Client.Running(asked)
	}

	draining := err == nil && p.draining(ctx, r.Address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			p.setAway(r, err)
		}
		return
	}

	if draining && !r.draining {
		p.opts.Log.Info("a replica of Ollama is being stopped", "address", r.Address)
	}

	r.draining = draining
	r.looked, r.models, r.loaded = true, map[string]bool{}, map[string]bool{}
	digests := map[string]string{}
	for _, m := range models {
		r.models[m.Name], digests[m.Name] = true, m.Digest
	}

	for _, m := range loaded {
		r.loaded[m.Name] = true
	}

	r.current = digests[p.opts.Version] != "" &&
		digests[p.opts.Version] == digests[p.opts.Everywhere]
	if !r.away.IsZero() {
		p.opts.Log.Info("a replica of Ollama is back", "address", r.Address)
	}

	r.away = time.Time{}
	if r.errors == 0 { // one that lists its models and fails to answer is left alone for longer each time
		r.failures = 0
	}
}

// draining reports whether a replica is being stopped: then its container accepts connections at
// the port after Ollama's.
func (p *Pool) draining(ctx context.Context, address string) bool {
	port, err := strconv.Atoi(p.port)
	if err != nil {
		return false
	}

	d := net.Dialer{Timeout: drainTimeout}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port+1)))
	if err != nil {
		return false
	}

	return c.Close() == nil
}

// setAway leaves a replica alone for a while.
func (p *Pool) setAway(r *Replica, err error) {
	if r.failures == 0 {
		p.opts.Log.Warn("a replica of Ollama is away", "address", r.Address, "error", err)
	}
	pause := awayFirst << min(r.failures, 5)
	r.failures++
	r.away = time.Now().Add(min(pause, awayMax))
}

// Status is what is known of a replica.
type Status struct {
	Address string

	// Running is the number of requests with it. Away reports whether it cannot be reached, or
	// fails.
	Running int
	Away    bool

	// Requests is the number of those that it got, Failed that of those that it failed before their
	// first token.
	Requests, Failed uint64
}

// Status returns what is known of each replica, in the order of their addresses.
func (p *Pool) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Status
	for _, r := range p.list {
		out = append(out, Status{
			Address:  r.Address,
			Running:  r.running,
			Away:     !r.away.IsZero(),
			Requests: r.requests,
			Failed:   r.failed,
		})
	}

	return out
}

// Moved returns how many requests of conversations did not go to the replica that holds their
// prefix, because it was full or lacks the version that is wanted.
func (p *Pool) Moved() uint64 { p.mu.Lock(); defer p.mu.Unlock(); return p.moved }
