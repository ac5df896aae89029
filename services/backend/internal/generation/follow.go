package generation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
)

// MaxOwnReaders bounds the readers of one owner.
const MaxOwnReaders = 128

// Admit takes a place for a reader of the owner, which release gives back. A reader holds a
// connection to Redis while it waits, so their number is bounded. The error is a *problem.Problem.
func (m *Manager) Admit(owner string) (release func(), err error) {
	leave, ok := m.owners.Take(owner, 1)
	if !ok {
		return nil, tooManyReaders(http.StatusTooManyRequests,
			"You follow %d answers at once already. Close some of their pages, or try again "+
				"shortly.", MaxOwnReaders)
	}

	select {
	case m.readers <- struct{}{}:
	default:
		leave()
		return nil, tooManyReaders(http.StatusServiceUnavailable,
			"Too many answers are being followed here. Try again shortly.")
	}

	m.metrics.readers.Inc()
	return func() {
		m.metrics.readers.Dec()
		<-m.readers
		leave()
	}, nil
}

// tooManyReaders returns the refusal of a reader.
func tooManyReaders(status int, format string, args ...any) *problem.Problem {
	p := problem.Typed("/problems/too-many-readers", status, format, args...)
	p.RetryAfter = 5
	return p
}

// outagePause is how long a reader waits after Redis has failed.
const outagePause = 250 * time.Millisecond

// Follow sends the answer's events after the one with the id, or all of them if it is empty, to the
// reader, up to the answer's last event or the end of ctx. It bears an outage of Redis and goes on
// where it was. Deltas that are there at once are sent as one, with the id of the last, so that a
// reader that comes late or is slow gets few big events. After an error the reader can resume the
// stream.
func (m *Manager) Follow(
	ctx context.Context, g store.Generation, after string, w *sse.Writer,
) error {
	if after == "" {
		after = "0-0"
	}

	sent := time.Now()
	var ended bool        // the answer has ended, so an event must be left to read
	var failing time.Time // since when Redis does not answer
	for ctx.Err() == nil {
		if m.closing.Err() != nil {
			return nil // the reader goes on at another instance
		}

		events, err := m.store.Read(ctx, g, after, m.timing.Poll)
		if err == nil && len(events) == 0 {
			if ended {
				// The reader has seen more than there is: another server took
				// over that lacks the end.
				return m.gone(ctx, w)
			}

			err = m.Revive(ctx, g)
			if errors.Is(err, store.ErrNotFound) {
				return m.gone(ctx, w)
			}
			if ended = errors.Is(err, store.ErrEnded); ended {
				err = nil
			}
		}

		switch {
		case err == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > m.store.Outage():
			return err
		}

		if len(events) == 0 && time.Since(sent) >= m.timing.KeepAlive {
			if err := w.Comment("keep-alive"); err != nil {
				return err
			}
			sent = time.Now()
		}

		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(min(m.timing.Poll, outagePause)):
			}
			continue
		}

		if len(events) > 0 {
			sent = time.Now()
		}

		for len(events) > 0 {
			var e sse.Event
			if e, events, err = next(events); err != nil {
				return err
			}
			if err := w.Send(e); err != nil {
				return err
			}

			after = e.ID
			if backendapi.Final(e.Name) {
				return nil
			}
		}
	}

	return context.Cause(ctx)
}

// next returns the first event, and the events after it. A text comes with the texts of the same
// kind that follow it.
func next(events []store.Event) (sse.Event, []store.Event, error) {
	first := events[0]
	text, ok := added(first)
	if !ok {
		return sse.Event{ID: first.ID, Name: first.Name, Data: first.Data}, events[1:], nil
	}

	n, all := 1, []byte(text)
	for ; n < len(events) && events[n].Name == first.Name; n++ {
		more, ok := added(events[n])
		if !ok || len(all)+len(more) > maxDelta {
			break
		}
		all = append(all, more...)
	}

	data, err := json.Marshal(backendapi.Delta{Text: string(all)})
	if err != nil {
		return sse.Event{}, nil, fmt.Errorf("follow an answer: %w", err)
	}

	return sse.Event{ID: events[n-1].ID, Name: first.Name, Data: string(data)}, events[n:], nil
}

// added returns the text that an event adds to the answer or to its reasoning.
func added(e store.Event) (text string, ok bool) {
	switch e.Name {
	case backendapi.EventDelta:
		return e.Data, true
	case backendapi.EventThinking:
		// JSON in the store as well: instances of the former version pass it on as it is.
		var d backendapi.Delta
		err := json.Unmarshal([]byte(e.Data), &d)
		return d.Text, err == nil
	}

	return "", false
}

// gone ends the stream of an answer of which nothing is left in Redis.
func (m *Manager) gone(ctx context.Context, w *sse.Writer) error {
	p := problem.New(http.StatusGone,
		"The answer is not stored any more: read the conversation again.")
	data, err := json.Marshal(withRequestID(ctx, *p))
	if err != nil {
		return fmt.Errorf("follow an answer: %w", err)
	}
	return w.Send(sse.Event{Name: backendapi.EventError, Data: string(data)})
}

// WriteTimeout bounds a single write to a reader.
func (m *Manager) WriteTimeout() time.Duration { return m.timing.Write }
