package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrSpread reports that two owners' keys lie on different nodes of a Cluster: no script touches
// both.
var ErrSpread = errors.New("conversations do not change their owner in a Redis Cluster")

// Move gives all conversations of one owner to another one, each at once, and stops the answers
// being written in them, whose ids it returns. The bounds of what an owner may store do not count.
// While it goes on, and for erasedMark afterwards, nothing new is stored for the first owner. What
// fails half-way can be done again.
func (s *Store) Move(ctx context.Context, from, to string) (stopped []string, err error) {
	switch {
	case s.key.tagged:
		return nil, ErrSpread
	case from == to:
		return nil, nil
	}

	move := func(id string) error {
		generation, err := s.moveOne(ctx, from, to, id)
		if generation != "" {
			stopped = append(stopped, generation)
		}
		return err
	}

	give := func(answer string) error { return s.giveSubmission(ctx, from, to, answer) }
	err = s.empty(ctx, from, move, give)
	return stopped, err
}

// moveOne gives a conversation to another owner. It returns the answer that was being written.
func (s *Store) moveOne(ctx context.Context, from, to, id string) (stopped string, err error) {
	for {
		c, ended, err := s.readable(ctx, from, id)
		if err != nil {
			return stopped, err
		}

		if c.Generation != "" {
			g := Generation{ID: c.Generation, Owner: from, ConversationID: id}
			if err := s.End(ctx, g, Stopped()); err != nil && !errors.Is(err, ErrEnded) {
				return stopped, err
			}
			stopped = c.Generation
		}

		keys := []string{
			s.key.conversation(from, id), s.key.list(from), s.key.usage(from), s.key.list(to),
			s.key.usage(to),
		}
		for _, g := range ended {
			if g != stopped { // its readers get the end
				keys = append(keys, s.key.own(from, g)...)
			}
		}

		reply, err := s.run(ctx, s.scripts.move, keys, id, from, to, millis(s.opts.TTL)).Text()
		if err != nil {
			return stopped, fmt.Errorf("move a conversation: %w", err)
		}

		if err := refusals[reply]; !errors.Is(err, ErrBusy) {
			return stopped, err
		}
		// An answer began in between, at an instance of a former version: look again.
	}
}
