// Package outage decides how long to wait for a peer that does not answer: one that has just
// gone away is being replaced and comes back, while callers of one that has been away for long
// should hear of it soon.
package outage

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Outage is the time in which a peer does not answer, as its callers see it. Setting the clock
// changes nothing: times of time.Now are compared.
type Outage struct {
	patience, impatience time.Duration

	mu          sync.Mutex
	since, last time.Time // the first and the last failure; zero when the peer answers
}

// New returns the outage of a peer that answers. Callers wait for patience if it goes away, and for
// impatience once it has been away for longer than that.
func New(patience, impatience time.Duration) *Outage {
	return &Outage{patience: patience, impatience: impatience}
}

// Answered notes that the peer answers.
func (o *Outage) Answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since, o.last = time.Time{}, time.Time{}
}

// Failed notes that the peer did not answer now, and returns how long to wait for it. A new outage
// begins if the one before is out of date.
func (o *Outage) Failed(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() || o.outOfDate(now) {
		o.since = now
	}

	o.last = now
	if now.Sub(o.since) > o.patience {
		return o.impatience
	}

	return o.patience
}

// OutOfDate reports whether nobody has asked the peer for longer than patience: the outage may have
// ended unseen.
func (o *Outage) OutOfDate(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outOfDate(now)
}

func (o *Outage) outOfDate(now time.Time) bool { return now.Sub(o.last) > o.patience }

// NeverSent reports whether err is for want of a connection, so that what was asked for cannot
// have been done.
func NeverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// Pause waits between two tries. It reports whether the pause is over before the context is.
func Pause(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
