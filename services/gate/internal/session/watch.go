package session

import (
	"context"
	"time"
)

const (
	// watchEvery is the time between two looks at the sessions that have streams open.
	watchEvery = 2 * time.Second

	// patience is how long streams stay open while Redis does not say whether their sessions last.
	patience = 15 * time.Second
)

// watch is a request that lasts no longer than its session.
type watch struct{ cancel context.CancelFunc }

// Watch returns a context that is done when the session has ended, within a few seconds, or ctx is.
// The caller calls stop when its request is over.
func (m *Manager) Watch(ctx context.Context, s *Session) (lasting context.Context, stop func()) {
	ctx, cancel := context.WithDeadline(ctx, s.Deadline)
	w := &watch{cancel}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched[s.Ref] == nil {
		m.watched[s.Ref] = make(map[*watch]struct{})
	}

	m.watched[s.Ref][w] = struct{}{}

	return ctx, func() {
		cancel()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watched[s.Ref], w)
		if len(m.watched[s.Ref]) == 0 {
			delete(m.watched, s.Ref)
		}
	}
}

// close ends what is watched of the session.
func (m *Manager) close(ref string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watched[ref] {
		w.cancel()
	}
}

// Run looks after the sessions that are watched, until ctx is done. However many there are, they
// are one request to Redis.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	known := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		look, cancel := context.WithTimeout(ctx, watchEvery)
		err := m.look(look, time.Since(known) > patience)
		cancel()
		if err == nil {
			known = time.Now()
		} else if ctx.Err() == nil {
			m.log.WarnContext(ctx, "sessions", "error", err)
		}
	}
}

// look closes what is watched of sessions that have ended, and of all if strict is set and
// Redis does not answer.
func (m *Manager) look(ctx context.Context, strict bool) error {
	m.mu.Lock()
	refs := make([]string, 0, len(m.watched))
	keys := make([]string, 0, len(m.watched))
	for ref := range m.watched {
		refs, keys = append(refs, ref), append(keys, key(ref))
	}

	m.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}

	present, err := m.store.Present(ctx, keys)
	for i, ref := range refs {
		if err == nil && !present[i] || err != nil && strict {
			m.close(ref)
		}
	}

	return err
}
