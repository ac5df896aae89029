// Package queue admits requests to Ollama: a bounded number at once, a bounded number waiting.
// Ollama's own bound covers only models that are being loaded; requests to a warm one would wait
// without end and without a word.
//
// Waiting is fair between owners: each in turn gets one request admitted, so nobody's hundred
// requests delay another's one by more than one. The places are shared fairly as well: when all are
// taken, a request of an owner who has fewer takes that of the last request of the owner who has
// most, so nobody can keep the others out.
//
// A semaphore of a library knows neither owners nor places in a queue.
//
// The queue is one for all ml of a stack: its places lie in Redis (see Share), and a script decides
// there. Without Redis each process admits its share by itself, by the same rules.
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

// ErrAtOnce refuses a request of an owner who has as many as one may have at once.
var ErrAtOnce = errors.New("the owner has too many requests already")

// FullError refuses a request that would have had to wait behind too many.
type FullError struct {
	// Position is the place it would have had, 1 is next.
	Position int

	// RetryAfter is how long the requests before it may take, judging by the recent ones. It is
	// whole seconds, one at least.
	RetryAfter time.Duration
}

func (e *FullError) Error() string { return "too many requests are waiting" }

// firstEstimate is how long a request is taken to last until one has ended.
const firstEstimate = 5 * time.Second

// Queue admits requests. The zero value is not usable.
type Queue struct {
	now    func() time.Time
	shared *shared // nil if the queue is this process's alone

	mu sync.Mutex

	// capacity and bound are how many requests of all processes may run and wait.
	capacity, bound int

	// atOnce is how many requests of one owner may run and wait; 0 is any number.
	atOnce int

	last    uint64            // the number of the request that came last
	running map[uint64]string // the owners of the requests that have their turn

	// waiting are this process's requests, in the order in which they will be admitted: by round,
	// then by arrival in the round.
	waiting []*waiter
	closed  bool

	// took is the moving average of how long a request takes.
	took time.Duration
}

// waiter is a request in the queue.
type waiter struct {
	id    uint64
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
	return &Queue{
		capacity: parallel,
		bound:    bound,
		running:  map[uint64]string{},
		took:     firstEstimate,
		now:      time.Now,
	}
}

// Limit bounds the requests of one owner that run and wait. It is called before the queue is used.
func (q *Queue) Limit(atOnce int) { q.atOnce = atOnce }

// Acquire waits for a turn. position is called with each new place while it waits, 1 is next; not
// at all when the turn comes at once. The caller calls release once when the work is done. The
// error is a *FullError, ErrAtOnce, ErrDraining, the cause of the context's end, or what position
// returned.
func (q *Queue) Acquire(
	ctx context.Context, owner string, position func(int) error,
) (release func(), err error) {
	w, err := q.enter(owner)
	if err != nil {
		return nil, err
	}

	return q.wait(ctx, w, position)
}

// Attempt is the attempt to take a turn that is free, see Try.
type Attempt struct {
	// Likely reports whether it gets one, judging by what this process knows.
	Likely bool

	q     *Queue
	taken chan *waiter
}

// Try begins to take a turn that is free. Redis is asked for it. Where that does not decide, none
// is taken, and Acquire is as fast. The caller calls If once.
func (q *Queue) Try(owner string) *Attempt {
	a := &Attempt{q: q, taken: make(chan *waiter, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || !q.sharing() {
		a.taken <- nil
		return a
	}

	a.Likely = q.free(owner)
	w := q.request(owner)
	q.shared.asking[w.id] = owner // from now on: no more are likely than there are turns
	go func() { a.taken <- q.take(w) }()
	return a
}

// If returns the turn, unless allowed refuses the request with its error: then it is given back.
// The turn is taken while allowed is asked, so the two cost the time of one. release is nil if
// there is no turn.
func (a *Attempt) If(allowed func() error) (release func(), err error) {
	err = allowed()
	switch w := <-a.taken; {
	case w == nil:
		return nil, err
	case err != nil:
		a.q.leave(w)
		return nil, err
	default:
		return a.q.releaser(w), nil
	}
}

// free reports whether Redis most likely gives the owner a turn at once: this process does not have
// its share of them yet, counting what it asks for, and was refused none a moment ago.
func (q *Queue) free(owner string) bool {
	s, has := q.shared, q.of(owner)
	for _, asks := range s.asking {
		if asks == owner {
			has++
		}
	}

	return len(q.waiting) == 0 && len(q.running)+len(s.asking) < s.part(q.capacity) &&
		(q.atOnce == 0 || has < q.atOnce) && q.now().Sub(s.refused) >= beat
}

// wait waits for the outcome of a request.
func (q *Queue) wait(
	ctx context.Context, w *waiter, position func(int) error,
) (release func(), err error) {
	for {
		select {
		case err := <-w.outcome:
			if err != nil {
				return nil, err
			}
			return q.releaser(w), nil
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

// enter takes a turn that is free, which is the request's outcome then, or joins those that wait.
func (q *Queue) enter(owner string) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrDraining
	}

	w := q.request(owner)
	if q.sharing() {
		if decided, err := q.enterShared(w); decided {
			return w, err
		}
	}

	return w, q.enterAlone(w)
}

// take takes a turn for the request, or returns nil if none is free.
func (q *Queue) take(w *waiter) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || !q.sharing() {
		delete(q.shared.asking, w.id)
		return nil
	}

	reply, err := q.askFor(w, "take")
	switch {
	case err != nil || q.closed:
		return nil // Redis forgets it at the next beat
	case reply[0] != 0:
		q.shared.refused = q.now()
		return nil
	}

	q.grant(w)
	return w
}

// request returns a new request of the owner.
func (q *Queue) request(owner string) *waiter {
	q.last++
	return &waiter{id: q.last, owner: owner, outcome: make(chan error, 1), moved: make(chan int, 1)}
}

// enterAlone is enter where this process decides.
func (q *Queue) enterAlone(w *waiter) error {
	if q.atOnce > 0 && q.of(w.owner) >= q.atOnce {
		return ErrAtOnce
	}

	if len(q.running) < q.parallel() { // then nobody waits: a turn that ends goes to the first who does
		q.grant(w)
		return nil
	}

	if len(q.waiting) >= q.places() && !q.displace(w.owner) {
		return q.full(len(q.waiting) + 1)
	}

	for _, x := range q.waiting {
		if x.owner == w.owner {
			w.round++
		}
	}

	q.waiting = append(q.waiting, w)
	q.order()
	return nil
}

// of returns how many requests of the owner run and wait here.
func (q *Queue) of(owner string) (n int) {
	for _, w := range q.waiting {
		if w.owner == owner {
			n++
		}
	}
	for _, o := range q.running {
		if o == owner {
			n++
		}
	}

	return n
}

// full refuses a request because too many wait already.
func (q *Queue) full(place int) *FullError {
	return &FullError{Position: place, RetryAfter: q.estimate(place)}
}

// displace refuses the last request of the owner who has most of them waiting, to make room for one
// of another owner. It reports whether it did. It does not if the other owner would then have as
// many: nobody gains a place by asking more often.
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
	w.outcome <- q.full(len(q.waiting) + 1)
	q.waiting = slices.Delete(q.waiting, last, last+1) // its owner has none behind it
	return true
}

// Waiting counts this process's requests that wait for their turn.
func (q *Queue) Waiting() int { q.mu.Lock(); defer q.mu.Unlock(); return len(q.waiting) }

// Running counts this process's requests that have their turn.
func (q *Queue) Running() int { q.mu.Lock(); defer q.mu.Unlock(); return len(q.running) }

// Resize changes how many requests may run at once. Those that run go on; with more turns, those
// that wait get theirs.
func (q *Queue) Resize(parallel int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.capacity = max(parallel, 1)
	q.admit()
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
	q.admit()
}

// Closed reports whether Close was called.
func (q *Queue) Closed() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.closed }

// order sorts those that wait and tells each its new place.
func (q *Queue) order() {
	slices.SortStableFunc(q.waiting, func(a, b *waiter) int { return a.round - b.round })
	for i, w := range q.waiting {
		w.move(i + 1)
	}
}

// move tells a request its place, if it has changed.
func (w *waiter) move(place int) {
	if w.position == place {
		return
	}

	w.position = place
	select {
	case <-w.moved: // it has not read the last one yet, and need not any more
	default:
	}

	w.moved <- place
}

// leave takes a request that gave up out of the queue, or gives its turn back if that came in the
// same moment. The requests of its owner that wait behind it inherit its place, so that all others
// only move forward.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	free := slices.Index(q.waiting, w)
	if free < 0 {
		if <-w.outcome == nil {
			q.release(w)
		}
		return
	}

	if q.sharing() {
		q.waiting = slices.Delete(q.waiting, free, free+1)
		q.leaveShared(w)
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

// release gives a turn back.
func (q *Queue) release(w *waiter) {
	delete(q.running, w.id)
	if q.sharing() {
		q.leaveShared(w)
		return
	}
	q.admit()
}

// admit gives the free turns to the first in the queue, if this process decides. Else it has Redis
// asked at once.
func (q *Queue) admit() {
	if q.sharing() {
		q.shared.hurry()
		return
	}
	for len(q.running) < q.parallel() && len(q.waiting) > 0 {
		q.next()
	}
}

// next gives the first in the queue its turn. Those of the same owner that wait behind it move up
// to the end of the round before theirs: all other owners of that round come first.
func (q *Queue) next() {
	w := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	for _, x := range q.waiting {
		if x.owner == w.owner {
			x.round--
		}
	}

	q.order()
	q.grant(w)
}

// grant gives a request that no longer waits its turn.
func (q *Queue) grant(w *waiter) {
	q.running[w.id] = w.owner
	w.outcome <- nil
}

func (q *Queue) releaser(w *waiter) func() {
	start := q.now()
	var once sync.Once
	return func() {
		once.Do(func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.took = (q.took*4 + q.now().Sub(start)) / 5
			q.release(w)
		})
	}
}

// estimate returns how long the request at that place would wait.
func (q *Queue) estimate(place int) time.Duration {
	parallel := q.parallel()
	rounds := (place + parallel - 1) / parallel
	return max(time.Second, (time.Duration(rounds) * q.took).Round(time.Second))
}
