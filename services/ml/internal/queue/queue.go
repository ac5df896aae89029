// Package queue admits requests to Ollama: a bounded number at once, a bounded number waiting. Ollama's own bound covers
// only models that are being loaded; requests to a warm one would wait without end and without a word.
//
// Waiting is fair between owners: each in turn gets one request admitted, so nobody's hundred requests delay another's
// one by more than one.
package queue

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"
)

// ErrDraining refuses requests while the service stops.
var ErrDraining = errors.New("this instance is shutting down")

// FullError refuses a request that would have had to wait behind too many.
type FullError struct {
	// Position is the place it would have had, 1 is next.
	Position int
	// RetryAfter is when to try again: the time that the requests before it take, judging by the recent ones.
	RetryAfter time.Duration
}

func (e *FullError) Error() string { return "too many requests are waiting" }

// Queue admits requests. The zero value is not usable.
type Queue struct {
	parallel, bound int

	mu      sync.Mutex
	running int
	waiting []*waiter // in the order in which they will be admitted
	closed  bool
	// took is how long a request takes, as a moving average.
	took time.Duration
}

// waiter is a request in the queue.
type waiter struct {
	owner string
	// round counts the owner's requests that were waiting before this one when it came.
	round    int
	admitted chan struct{}
	moved    chan struct{}
	position int
}

// New makes a queue for so many requests at once and so many waiting.
func New(parallel, bound int) *Queue {
	return &Queue{parallel: parallel, bound: bound, took: 5 * time.Second}
}

// Acquire waits for a turn. position is called with each new place while it waits, 1 is next; not at all when the turn
// comes at once. The caller calls release once when the work is done. The error is a *FullError, ErrDraining or the
// context's.
func (q *Queue) Acquire(ctx context.Context, owner string, position func(int) error) (release func(), err error) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil, ErrDraining
	}
	if q.running < q.parallel && len(q.waiting) == 0 {
		q.running++
		q.mu.Unlock()
		return q.releaser(), nil
	}
	if len(q.waiting) >= q.bound {
		defer q.mu.Unlock()
		return nil, &FullError{Position: len(q.waiting) + 1, RetryAfter: q.estimate(len(q.waiting) + 1)}
	}
	w := q.enqueue(owner)
	q.mu.Unlock()
	for {
		select {
		case <-w.admitted:
			if q.drained(w) {
				return nil, ErrDraining
			}
			return q.releaser(), nil
		case <-w.moved:
			q.mu.Lock()
			p := w.position
			q.mu.Unlock()
			if p == 0 {
				continue // its turn has come
			}
			if err := position(p); err != nil {
				q.leave(w)
				return nil, err
			}
		case <-ctx.Done():
			q.leave(w)
			return nil, context.Cause(ctx)
		}
	}
}

// Waiting and Running count requests now.
func (q *Queue) Waiting() int { q.mu.Lock(); defer q.mu.Unlock(); return len(q.waiting) }

// Running counts the requests that have their turn.
func (q *Queue) Running() int { q.mu.Lock(); defer q.mu.Unlock(); return q.running }

// Close refuses new requests and those that wait; running ones go on.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, w := range q.waiting {
		w.position = -1
		close(w.admitted)
	}
	q.waiting = nil
}

func (q *Queue) drained(w *waiter) bool { q.mu.Lock(); defer q.mu.Unlock(); return w.position < 0 }

// enqueue puts a request where its owner's turn is: after every waiting request of the same or an earlier round.
func (q *Queue) enqueue(owner string) *waiter {
	w := &waiter{owner: owner, admitted: make(chan struct{}), moved: make(chan struct{}, 1)}
	for _, x := range q.waiting {
		if x.owner == owner {
			w.round = x.round + 1
		}
	}
	at := len(q.waiting)
	for at > 0 && q.waiting[at-1].round > w.round {
		at--
	}
	q.waiting = slices.Insert(q.waiting, at, w)
	q.tell()
	return w
}

// tell gives every waiting request its new place.
func (q *Queue) tell() {
	for i, w := range q.waiting {
		if w.position == i+1 {
			continue
		}
		w.position = i + 1
		select {
		case w.moved <- struct{}{}:
		default: // it has not read the last one yet, and will read this one
		}
	}
}

// leave takes a request that gave up out of the queue, or gives its turn back when that came at the same time.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.tell()
		return
	}
	if w.position == 0 {
		q.next()
	}
}

// next hands a free turn to the first in the queue.
func (q *Queue) next() {
	q.running--
	if len(q.waiting) == 0 || q.closed {
		return
	}
	w := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	// Those of the same owner that wait behind it move up a round, so that an owner who comes back is not behind itself.
	for _, x := range q.waiting {
		if x.owner == w.owner {
			x.round--
		}
	}
	slices.SortStableFunc(q.waiting, func(a, b *waiter) int { return a.round - b.round })
	w.position = 0
	q.running++
	close(w.admitted)
	q.tell()
}

func (q *Queue) releaser() func() {
	start := time.Now()
	var once sync.Once
	return func() {
		once.Do(func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.took = (q.took*4 + time.Since(start)) / 5
			q.next()
		})
	}
}

// estimate is how long the request at that place would wait, in whole seconds, one at least.
func (q *Queue) estimate(position int) time.Duration {
	rounds := math.Ceil(float64(position) / float64(q.parallel))
	return max(time.Second, time.Duration(rounds*float64(q.took)).Round(time.Second))
}
