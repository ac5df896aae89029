// Package queue admits requests to Ollama: a bounded number at once, a bounded number waiting. Ollama's own bound covers
// only models that are being loaded; requests to a warm one would wait without end and without a word.
//
// Waiting is fair between owners: each in turn gets one request admitted, so nobody's hundred requests delay another's
// one by more than one. The places are shared fairly as well: when all are taken, a request of an
// owner who has fewer takes that of the last request of the owner who has most, so nobody can keep
// the others out.
package queue

import (
	"context"
	"errors"
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
	// RetryAfter is when to try again: the time that the requests before it take, judging by the recent ones. It is
	// whole seconds, one at least.
	RetryAfter time.Duration
}

func (e *FullError) Error() string { return "too many requests are waiting" }

// firstEstimate is how long a request is taken to last before one was seen to end.
const firstEstimate = 5 * time.Second

// Queue admits requests. The zero value is not usable.
type Queue struct {
	parallel, bound int
	now             func() time.Time

	mu      sync.Mutex
	running int
	waiting []*waiter // in the order in which they will be admitted: by round, then by arrival in the round
	closed  bool
	// took is how long a request takes, as a moving average.
	took time.Duration
}

// waiter is a request in the queue.
type waiter struct {
	owner string
	// round counts the requests of the same owner that wait before this one.
	round int
	// outcome gets the one word on how the wait ended: nil for a turn, else why there is none.
	outcome chan error
	// moved gets the place whenever it changes; only the newest one is kept.
	moved    chan int
	position int
}

// New makes a queue for so many requests at once and so many waiting.
func New(parallel, bound int) *Queue {
	return &Queue{parallel: parallel, bound: bound, took: firstEstimate, now: time.Now}
}

// Acquire waits for a turn. position is called with each new place while it waits, 1 is next; not at all when the turn
// comes at once. The caller calls release once when the work is done. The error is a *FullError, ErrDraining, the
// cause of the context's end, or what position returned.
func (q *Queue) Acquire(ctx context.Context, owner string, position func(int) error) (release func(), err error) {
	w, err := q.enter(owner)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return q.releaser(), nil
	}
	for {
		select {
		case err := <-w.outcome:
			if err != nil {
				return nil, err
			}
			return q.releaser(), nil
		case place := <-w.moved:
			if err := position(place); err != nil {
				q.leave(w)
				return nil, err
			}
		case <-ctx.Done():
			q.leave(w)
			return nil, context.Cause(ctx)
		}
	}
}

// enter takes a turn that is free, without a waiter, or joins those that wait.
func (q *Queue) enter(owner string) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrDraining
	}
	if q.running < q.parallel { // then nobody waits: a turn that ends goes to the first who does
		q.running++
		return nil, nil
	}
	if len(q.waiting) >= q.bound && !q.displace(owner) {
		return nil, q.full()
	}
	w := &waiter{owner: owner, outcome: make(chan error, 1), moved: make(chan int, 1)}
	for _, x := range q.waiting {
		if x.owner == owner {
			w.round++
		}
	}
	q.waiting = append(q.waiting, w)
	q.order()
	return w, nil
}

// full refuses a request because too many wait already.
func (q *Queue) full() *FullError {
	place := len(q.waiting) + 1
	return &FullError{Position: place, RetryAfter: q.estimate(place)}
}

// displace refuses the last request of the owner who has most of them waiting, to make room for one
// of another owner. It returns false when that one would have as many then: nobody gains a place by
// asking more often.
func (q *Queue) displace(owner string) bool {
	count := map[string]int{}
	for _, w := range q.waiting {
		count[w.owner]++
	}
	last := -1
	for i, w := range q.waiting {
		if last < 0 || count[w.owner] >= count[q.waiting[last].owner] {
			last = i
		}
	}
	if last < 0 || count[owner]+1 >= count[q.waiting[last].owner] {
		return false
	}
	w := q.waiting[last]
	w.outcome <- q.full()
	q.waiting = slices.Delete(q.waiting, last, last+1) // its owner has none behind it
	return true
}

// Waiting counts the requests that wait for their turn.
func (q *Queue) Waiting() int { q.mu.Lock(); defer q.mu.Unlock(); return len(q.waiting) }

// Running counts the requests that have their turn.
func (q *Queue) Running() int { q.mu.Lock(); defer q.mu.Unlock(); return q.running }

// Resize changes how many requests may run at once. Those that run go on; with more turns, those that wait get theirs.
func (q *Queue) Resize(parallel int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.parallel = max(parallel, 1)
	for q.running < q.parallel && len(q.waiting) > 0 {
		q.running++
		q.next()
	}
}

// Close refuses new requests and those that wait; running ones go on.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, w := range q.waiting {
		w.outcome <- ErrDraining
	}
	q.waiting = nil
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.closed }

// order sorts those that wait and tells each its new place.
func (q *Queue) order() {
	slices.SortStableFunc(q.waiting, func(a, b *waiter) int { return a.round - b.round })
	for i, w := range q.waiting {
		if w.position == i+1 {
			continue
		}
		w.position = i + 1
		select {
		case <-w.moved: // it has not read the last one yet, and need not any more
		default:
		}
		w.moved <- w.position
	}
}

// leave takes a request that gave up out of the queue, or gives its turn back when that came at the same time. Those of
// its owner that wait behind it inherit its place: nobody else moves but forward.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := slices.Index(q.waiting, w)
	if free < 0 {
		if <-w.outcome == nil {
			q.next()
		}
		return
	}
	for i := free + 1; i < len(q.waiting); i++ {
		if x := q.waiting[i]; x.owner == w.owner {
			x.round--
			q.waiting[free], free = x, i
		}
	}
	q.waiting = slices.Delete(q.waiting, free, free+1)
	q.order()
}

// next hands a turn that ended to the first in the queue. Those of the same owner that wait behind it move up a round,
// to that round's end: all other owners come first.
func (q *Queue) next() {
	if len(q.waiting) == 0 || q.running > q.parallel {
		q.running--
		return
	}
	w := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	for _, x := range q.waiting {
		if x.owner == w.owner {
			x.round--
		}
	}
	q.order()
	w.outcome <- nil
}

func (q *Queue) releaser() func() {
	start := q.now()
	var once sync.Once
	return func() {
		once.Do(func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.took = (q.took*4 + q.now().Sub(start)) / 5
			q.next()
		})
	}
}

// estimate is how long the request at that place would wait.
func (q *Queue) estimate(place int) time.Duration {
	rounds := (place + q.parallel - 1) / q.parallel
	return max(time.Second, (time.Duration(rounds) * q.took).Round(time.Second))
}
