package library

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/outage"
)

// purger has the words of what was removed go from the disk. Requests that come while it works are
// one more turn.
type purger struct {
	mu      sync.Mutex
	next    chan struct{} // is closed when the next turn is over; nil if none is to be
	working bool
}

// requestPurge has a turn begin soon, and returns what is closed when it is over. It is asked for
// before something is removed, so that a crash cannot keep it from being done. The caller holds
// c.writing until it is removed, for which the turn waits.
func (l *Library) requestPurge(c *collection) (done <-chan struct{}, err error) {
	p := &c.purger
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		if err := writeSynced(c.path("purge"), nil); err != nil && !errors.Is(err, ErrFull) {
			return nil, err
		}
		p.next = make(chan struct{})
	}
	if !p.working {
		p.working = true
		l.working.Go(func() { l.purge(c) })
	}
	return p.next, nil
}

// purgePause is the time between a turn that failed and the next one.
const purgePause = 10 * time.Second

// purge does turns until none is asked for.
func (l *Library) purge(c *collection) {
	p := &c.purger
	for {
		p.mu.Lock()
		turn := p.next
		if turn == nil {
			p.working = false
			if err := os.Remove(c.path("purge")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.Log.Error("purge", "collection", c.name, "error", err)
			}
			p.mu.Unlock()
			return
		}
		p.next = nil
		p.mu.Unlock()

		c.awaitWriter() // what is being removed is removed first: the turn is for it
		begun := time.Now()
		for {
			err := c.words.Purge(l.ctx)
			if err == nil {
				break
			}
			if l.ctx.Err() != nil {
				return // Open goes on with it
			}
			l.Log.Error("purge", "collection", c.name, "error", err)
			if !outage.Pause(l.ctx, purgePause) {
				return
			}
		}
		l.Log.Debug("purged", "collection", c.name, "after", time.Since(begun).String())
		close(turn)
	}
}

// awaitWriter returns when nobody changes the collection.
func (c *collection) awaitWriter() {
	c.writing.Lock()
	defer c.writing.Unlock()
}
