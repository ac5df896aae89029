package replicas

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"net/http"
	"slices"
	"sync"

	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
)

// Turn is a request's place at a replica.
type Turn struct {
	*Replica
	pool       *Pool
	model, key string

	erred bool // the replica failed the request
	once  sync.Once
}

// Acquire chooses the replica for a request to the model. Requests with the same key, which is a
// conversation's beginning, go to the same one while it has a free turn; without a key the least
// busy one is taken. It never waits: that is the queue's business, which counts the turns of all.
// Only where a model is at some of the replicas may these get more requests than turns; Ollama lets
// them wait. The caller calls Release once.
func (p *Pool) Acquire(model, key string) *Turn { return p.acquire(model, key, nil) }

func (p *Pool) acquire(model, key string, not *Replica) *Turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.choose(model, key, not)
	r.running++
	r.requests++
	return &Turn{Replica: r, pool: p, model: model, key: key}
}

// choose narrows the replicas down, by what matters most first, as long as some are left.
func (p *Pool) choose(model, key string, not *Replica) *Replica {
	if len(p.list) == 1 {
		return p.list[0]
	}

	prefer := func(list []*Replica, good func(*Replica) bool) []*Replica {
		out := make([]*Replica, 0, len(list))
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

	var home uint64
	if key != "" {
		home = hash(model + "\x00" + key)
	}

	highest := func(list []*Replica) *Replica {
		return slices.MaxFunc(list, func(a, b *Replica) int {
			return cmp.Compare(weight(home, a), weight(home, b))
		})
	}

	list := prefer(p.list, func(r *Replica) bool { return r != not })
	list = prefer(list, func(r *Replica) bool { return r.away.IsZero() && r.looked })
	list = prefer(list, func(r *Replica) bool { return !r.draining })
	list = prefer(list, func(r *Replica) bool { return r.models[model] })
	free := prefer(list, func(r *Replica) bool { return r.running < p.opts.Parallel })
	if model == p.opts.Everywhere {
		free = prefer(free, func(r *Replica) bool { return r.current })
	} else {
		// Loading it takes seconds, and may put another model out of memory.
		free = prefer(free, func(r *Replica) bool { return r.loaded[model] })
	}

	if key != "" && free[0].running < p.opts.Parallel {
		r := highest(free)
		if not == nil && len(free) < len(list) && r != highest(list) {
			p.moved++
		}
		return r
	}

	return slices.MinFunc(free, func(a, b *Replica) int {
		// Of those equally busy, a hash chooses: the first address is not everyone's.
		return cmp.Or(cmp.Compare(a.running, b.running), cmp.Compare(a.requests, b.requests),
			cmp.Compare(weight(home, b), weight(home, a)))
	})
}

func hash(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

// weight orders the replicas for a key's hash (highest random weight, Thaler and Ravishankar 1998).
// The finisher of MurmurHash3 makes each pair's number independent of the others'.
func weight(key uint64, r *Replica) uint64 {
	x := key*0x9e3779b97f4a7c15 ^ r.hash
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Release gives the place back.
func (t *Turn) Release() {
	t.once.Do(func() {
		t.pool.mu.Lock()
		defer t.pool.mu.Unlock()
		t.running--
		if !t.erred {
			t.errors = 0
		}
	})
}

// Elsewhere takes a request, of which the replica has answered nothing yet, to another replica if
// the error is this one's: it cannot be reached, it has lost the model, or it fails by itself. It
// gives the place back and returns the new one, or nil if there is no other replica or the error is
// the request's.
func (t *Turn) Elsewhere(ctx context.Context, err error) *Turn {
	if err == nil || ctx.Err() != nil || !Unreachable(err) && !itsOwn(err) {
		return nil
	}
	if !t.pool.blame(t, err) {
		return nil
	}

	select {
	case t.pool.wake <- struct{}{}:
	default:
	}

	t.Release()
	return t.pool.acquire(t.model, t.key, t.Replica)
}

// blame counts a replica's failure, and leaves the replica alone after too many. It reports whether
// there is another one.
func (p *Pool) blame(t *Turn, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.erred = true
	t.failed++
	if len(p.list) == 1 {
		return false
	}

	switch {
	case Unreachable(err):
		p.setAway(t.Replica, err)
	case ollama.NotFound(err):
		delete(t.models, t.model) // until the next look
	default:
		// A request may be why it fails, everywhere: half of the replicas stay whatever happens.
		if t.errors++; t.errors >= errorsAway && t.away.IsZero() && (p.here()-1)*2 >= len(p.list) {
			p.setAway(t.Replica, err)
		}
	}

	return true
}

// Unreachable reports whether an error is the connection's, and not an answer of Ollama.
func Unreachable(err error) bool {
	var status *ollama.StatusError
	return err != nil && !errors.As(err, &status) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded)
}

// itsOwn reports whether an answer of Ollama is an error of that replica: it lacks the model, its
// runner failed, or it has too much to do. Another may do better, while all of them refuse a
// request that is wrong.
func itsOwn(err error) bool {
	var status *ollama.StatusError
	if !errors.As(err, &status) {
		return false
	}
	// 200 is an error inside a stream.
	return status.Status == http.StatusNotFound || status.Status == http.StatusOK ||
		status.Status >= http.StatusInternalServerError
}
