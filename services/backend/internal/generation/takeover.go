package generation

import (
	"context"
	"errors"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
)

// Sweep looks for answers whose writer is gone and takes them over, again and again until ctx ends:
// nobody may visit them.
func (m *Manager) Sweep(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		orphans, err := m.store.Orphans(ctx)
		if err != nil {
			continue // Store.Watch logs it
		}

		for _, g := range orphans {
			if err := m.Revive(ctx, g); err != nil && !errors.Is(err, store.ErrEnded) &&
				!errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
				m.log.WarnContext(ctx, "an answer could not be taken over",
					"generation", g.ID, "error", err)
			}
		}
	}
}

// Revive sees to it that somebody writes the answer: if its writer is gone, a new job of this
// instance takes it over. It fails with store.ErrEnded or store.ErrNotFound if there is
// nothing left to write.
func (m *Manager) Revive(ctx context.Context, g store.Generation) error {
	m.mu.Lock()
	_, mine := m.jobs[g.ID]
	m.mu.Unlock()
	if mine {
		return nil // Redis was away, and this instance is about to renew the lease
	}

	if !m.enter() { // an instance that is being stopped takes nothing over
		g, err := m.store.Generation(ctx, g.Owner, g.ID)
		if err == nil && g.Ended {
			err = store.ErrEnded
		}
		return err
	}

	started := false
	defer func() {
		if !started {
			m.running.Done()
		}
	}()

	c, err := m.store.Claim(ctx, g)
	switch {
	case errors.Is(err, store.ErrLeased):
		return nil
	case errors.Is(err, store.ErrDiskFull): // nobody can write now
		return nil
	case errors.Is(err, store.ErrExhausted):
		return m.exhausted(ctx, c)
	case err != nil:
		return err
	}

	m.metrics.takenOver.WithLabelValues("taken").Inc()
	// The request that asked for the answer is over, and not of this instance.
	ctx = logging.WithRequestID(ctx, g.ID)
	ctx = identity.NewContext(ctx, identity.Person{ID: g.Owner, Groups: c.Groups})
	m.log.WarnContext(ctx, "took over an answer whose backend is gone", "generation", g.ID,
		"conversation", g.ConversationID, "fence", c.Fence, "retries", c.Retries,
		"bytes", len(c.Text))

	started = true
	m.work(resumedJob(ctx, m, c))
	return nil
}

// exhausted ends an answer that was interrupted too often.
func (m *Manager) exhausted(ctx context.Context, c store.Claim) error {
	m.metrics.takenOver.WithLabelValues("exhausted").Inc()
	p := store.Interrupted("/problems/interrupted",
		"The answer was interrupted too often and is not complete. "+
			"What came so far is kept: press \"Try again\" to send the message again.")
	p.RequestID = c.ID
	m.log.ErrorContext(ctx, "an answer failed: it was interrupted too often", "generation", c.ID,
		"conversation", c.ConversationID)
	m.metrics.ended.WithLabelValues("failed").Inc()
	if err := m.store.End(ctx, c.Generation, store.Failed(p)); err != nil {
		return err // if nobody ended it meanwhile, the next sweep does
	}

	m.record(ctx, c.Generation, backendapi.MessageFailed, c.Model, len(c.Text), nil)
	return store.ErrEnded
}

// Settle calls Revive for the answer that is being written in a conversation. It reports whether
// one is.
func (m *Manager) Settle(ctx context.Context, c store.Conversation) (running bool, err error) {
	if c.Generation == "" {
		return false, nil
	}

	err = m.Revive(ctx, store.Generation{ID: c.Generation, Owner: c.Owner, ConversationID: c.ID})
	if errors.Is(err, store.ErrEnded) || errors.Is(err, store.ErrNotFound) {
		return false, nil // it has ended in this moment
	}

	return err == nil, err
}
