// Package replicas spreads requests over the replicas of Ollama that one name stands for: the pods behind a headless
// Service, the containers behind a network alias. One address behaves as if this package were not there.
//
// A request goes to a replica that has its model and a free turn. Which of them, the conversation decides by rendezvous
// hashing: its next turn finds the replica that still holds its prefix in the KV cache, and several instances of ml agree
// on that without a word. When that replica is full, the next in the conversation's own order takes the turn (consistent
// hashing with bounded loads), so an order that is lucky for nobody cannot pile up anywhere.
package replicas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/ollama/ollama/api"
)

// Defaults of Options.
const (
	// refreshEvery is how often the name is resolved and the replicas are asked what they have.
	refreshEvery = 3 * time.Second
	// lookTimeout bounds each such question.
	lookTimeout = 2 * time.Second
	// A replica that cannot be reached is left alone for awayFirst, and twice as long after each further failure.
	awayFirst, awayMost = time.Second, 30 * time.Second
)

// Options say what to spread over.
type Options struct {
	// URL is Ollama's base URL; the addresses of its host are the replicas.
	URL string
	// Parallel is how many requests may be with each replica at once.
	Parallel int
	// Everywhere is the model that every replica is to hold in memory. Others go where they are loaded already.
	Everywhere string
	// Lookup resolves a host; nil is the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Turns is called with the number of requests that may be with all replicas at once, whenever it changes; may be nil.
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
}

// Replica is one Ollama.
type Replica struct {
	// Address is its IP address; the URL's host where that stands for one Ollama.
	Address string
	Client  *ollama.Client

	running        int
	looked         bool
	models, loaded map[string]bool
	failures       int
	away           time.Time
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
	port := cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")
	named := &Replica{Address: u.Hostname(), Client: ollama.New(o.URL)}
	return &Pool{opts: o, host: u.Hostname(), port: port, list: []*Replica{named}, turns: o.Parallel, wake: make(chan struct{}, 1)}, nil
}

// Run keeps the pool up to date until ctx is done. A host that is an address is one replica for ever.
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
	here := 0
	for _, r := range p.list {
		if r.away.IsZero() {
			here++
		}
	}
	turns, changed := p.opts.Parallel*max(here, 1), false
	if turns != p.turns {
		p.turns, changed = turns, true
	}
	p.mu.Unlock()
	if changed {
		p.opts.Turns(turns)
	}
}

// Addresses are those that the URL's host has at this moment, sorted.
func (p *Pool) Addresses(ctx context.Context) ([]string, error) {
	if net.ParseIP(p.host) != nil {
		return []string{p.host}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	addresses, err := p.opts.Lookup(ctx, p.host)
	if err != nil {
		return nil, err
	}
	return onePerReplica(addresses), nil
}

// onePerReplica sorts the addresses. Where the network has both kinds, each replica has one of either: those of IPv4 count
// then.
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

// Client is a client of the replica at an address, which the URL's name stands for.
func (p *Pool) Client(address string) *ollama.Client {
	return ollama.NewAt(p.opts.URL, net.JoinHostPort(address, p.port))
}

// keep makes the list that of the addresses, and keeps what is known of those that stay.
func (p *Pool) keep(addresses []string) {
	if len(addresses) == 1 {
		if len(p.list) != 1 || p.list[0].Address != p.host {
			p.list = []*Replica{{Address: p.host, Client: ollama.New(p.opts.URL)}}
		}
		return
	}
	var list []*Replica
	for _, a := range addresses {
		i := slices.IndexFunc(p.list, func(r *Replica) bool { return r.Address == a })
		if i >= 0 {
			list = append(list, p.list[i])
			continue
		}
		p.opts.Log.Info("a replica of Ollama", "address", a)
		list = append(list, &Replica{Address: a, Client: p.Client(a)})
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
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	models, err := r.Client.List(ctx)
	var loaded []api.ProcessModelResponse
	if err == nil {
		loaded, err = r.Client.Running(ctx)
	}
	if err != nil {
		if context.Cause(ctx) != context.Canceled {
			p.failed(r, err)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r.looked, r.models, r.loaded = true, map[string]bool{}, map[string]bool{}
	for _, m := range models {
		r.models[m.Name] = true
	}
	for _, m := range loaded {
		r.loaded[m.Name] = true
	}
	if !r.away.IsZero() {
		p.opts.Log.Info("a replica of Ollama is back", "address", r.Address)
	}
	r.failures, r.away = 0, time.Time{}
}

// failed leaves a replica alone for a while.
func (p *Pool) failed(r *Replica, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.failures == 0 {
		p.opts.Log.Warn("a replica of Ollama is away", "address", r.Address, "error", err)
	}
	pause := awayFirst << min(r.failures, 5)
	r.failures++
	r.away = time.Now().Add(min(pause, awayMost))
}

// Turn is a request's place at a replica.
type Turn struct {
	*Replica
	pool  *Pool
	model string
	key   string
	once  sync.Once
}

// Acquire chooses the replica for a request to the model. Requests with the same key, which is a conversation's
// beginning, go to the same one while it has a free turn; without a key the least busy one is taken. It never waits:
// that is the queue's business, which counts the turns of all. The caller calls Release once.
func (p *Pool) Acquire(model, key string) *Turn { return p.acquire(model, key, nil) }

func (p *Pool) acquire(model, key string, not *Replica) *Turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.choose(model, key, not)
	r.running++
	return &Turn{Replica: r, pool: p, model: model, key: key}
}

func (p *Pool) choose(model, key string, not *Replica) *Replica {
	if len(p.list) == 1 {
		return p.list[0]
	}
	prefer := func(list []*Replica, good func(*Replica) bool) []*Replica {
		var out []*Replica
		for _, r := range list {
			if good(r) {
				out = append(out, r)
			}
		}
		if len(out) == 0 {
			return list // none is as wanted: any may still do
		}
		return out
	}
	free := func(r *Replica) bool { return r.running < p.opts.Parallel }
	list := prefer(p.list, func(r *Replica) bool { return r != not })
	list = prefer(list, func(r *Replica) bool { return r.away.IsZero() && r.looked })
	list = prefer(list, func(r *Replica) bool { return r.models[model] })
	list = slices.Clone(prefer(list, free))
	if model != p.opts.Everywhere {
		// Loading it takes seconds, and may put another model out of memory.
		list = slices.Clone(prefer(list, func(r *Replica) bool { return r.loaded[model] }))
	}
	if key != "" && free(list[0]) {
		return slices.MaxFunc(list, func(a, b *Replica) int { return cmp.Compare(weight(key, a.Address), weight(key, b.Address)) })
	}
	return slices.MinFunc(list, func(a, b *Replica) int {
		// Of those equally busy, a hash chooses: the first address is not everyone's.
		return cmp.Or(cmp.Compare(a.running, b.running), -cmp.Compare(weight(key, a.Address), weight(key, b.Address)))
	})
}

// weight orders the replicas for a key (highest random weight, Thaler and Ravishankar 1998).
func weight(key, address string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write([]byte(address))
	// FNV alone leaves the last bytes in the low bits; the finisher of MurmurHash3 spreads them.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Release gives the place back.
func (t *Turn) Release() {
	t.once.Do(func() {
		t.pool.mu.Lock()
		t.running--
		t.pool.mu.Unlock()
	})
}

// Elsewhere takes a request, of which the replica has answered nothing yet, to another replica when the error says that
// this one cannot be reached. It returns nil where there is no other, or the error is the model's. The place is given
// back in any case but the last.
func (t *Turn) Elsewhere(ctx context.Context, err error) *Turn {
	if err == nil || ctx.Err() != nil || !Unreachable(err) {
		return nil
	}
	t.pool.mu.Lock()
	alone := len(t.pool.list) == 1
	t.pool.mu.Unlock()
	if alone {
		return nil
	}
	t.pool.failed(t.Replica, err)
	select {
	case t.pool.wake <- struct{}{}:
	default:
	}
	t.Release()
	return t.pool.acquire(t.model, t.key, t.Replica)
}

// Unreachable says that an error is the connection's, not an answer of Ollama.
func Unreachable(err error) bool {
	var status *ollama.StatusError
	return err != nil && !errors.As(err, &status) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// Status is what is known of a replica.
type Status struct {
	Address string
	// Running is the number of requests with it; Away says that it cannot be reached.
	Running int
	Away    bool
}

// Status is what is known of each replica, in the order of their addresses.
func (p *Pool) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Status
	for _, r := range p.list {
		out = append(out, Status{r.Address, r.running, !r.away.IsZero()})
	}
	return out
}

// clients are those of the replicas that can be reached, or of all where none can.
func (p *Pool) clients() []*ollama.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	var here, all []*ollama.Client
	for _, r := range p.list {
		all = append(all, r.Client)
		if r.away.IsZero() {
			here = append(here, r.Client)
		}
	}
	if len(here) == 0 {
		return all
	}
	return here
}

// Version is that of the first replica that answers.
func (p *Pool) Version(ctx context.Context) (string, error) {
	var errs []error
	for _, c := range p.clients() {
		v, err := c.Version(ctx)
		if err == nil {
			return v, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// List is every model that some replica has.
func (p *Pool) List(ctx context.Context) ([]api.ListModelResponse, error) {
	return union(ctx, p.clients(), (*ollama.Client).List, func(m api.ListModelResponse) string { return m.Name })
}

// Running is every model in the memory of some replica.
func (p *Pool) Running(ctx context.Context) ([]api.ProcessModelResponse, error) {
	return union(ctx, p.clients(), (*ollama.Client).Running, func(m api.ProcessModelResponse) string { return m.Name })
}

// union asks all at once; it fails when none answers.
func union[T any](ctx context.Context, clients []*ollama.Client, ask func(*ollama.Client, context.Context) ([]T, error), name func(T) string) ([]T, error) {
	lists, errs := make([][]T, len(clients)), make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { lists[i], errs[i] = ask(c, ctx) })
	}
	wg.Wait()
	if !slices.Contains(errs, nil) {
		return nil, errors.Join(errs...)
	}
	if len(lists) == 1 {
		return lists[0], nil
	}
	seen := map[string]bool{}
	var out []T
	for _, x := range slices.Concat(lists...) {
		if !seen[name(x)] {
			seen[name(x)] = true
			out = append(out, x)
		}
	}
	return out, nil
}
