package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"
)

// erasedMark is how long nothing new is stored for an owner whose data were erased. A request of
// before is over by then: its token is good for a minute, and half a minute more where clocks
// differ.
const erasedMark = 3 * time.Minute

// eraseBatch is how many names are read at once.
const eraseBatch = 200

// Erase deletes all that is stored of the owner, and stops the answers being written, whose ids it
// returns. From its beginning until erasedMark after its end it fails what would store something
// new, with ErrErased; so long is a mark left. The end of an answer that was
// stopped, without its text, is left for deletedKept. What fails half-way can be done again.
func (s *Store) Erase(ctx context.Context, owner string) (stopped []string, err error) {
	remove := func(id string) error {
		generation, err := s.Delete(ctx, owner, id)
		if generation != "" {
			stopped = append(stopped, generation)
		}
		return err
	}

	drop := func(answer string) error { return s.Unsubmit(ctx, owner, answer) }
	err = s.empty(ctx, owner, remove, drop)
	return stopped, err
}

// empty marks the owner, calls take for each conversation and submitted for each submission, after
// which the owner has it no more, and deletes what else is stored of the owner.
func (s *Store) empty(
	ctx context.Context, owner string, take, submitted func(id string) error,
) error {
	for {
		if err := s.markErased(ctx, owner, false); err != nil {
			return err
		}

		if err := s.emptyList(ctx, owner, take); err != nil {
			return err
		}

		if err := s.emptySubmissions(ctx, owner, submitted); err != nil {
			return err
		}

		if err := s.eraseRequests(ctx, owner); err != nil {
			return err
		}

		err := s.markErased(ctx, owner, true)
		if !errors.Is(err, ErrChanged) {
			return err
		}
		// An instance of a former version, which knows no mark, has stored something.
	}
}

// markErased marks the owner. When it is done nothing else may be left: else it fails with
// ErrChanged.
func (s *Store) markErased(ctx context.Context, owner string, done bool) error {
	flag := "0"
	if done {
		flag = "1"
	}

	keys := []string{s.key.usage(owner), s.key.list(owner), s.key.requests(owner)}
	n, err := s.run(ctx, s.scripts.erase, keys, millis(erasedMark), flag).Int()
	switch {
	case err != nil:
		return fmt.Errorf("erase an owner's data: %w", err)
	case n == 0:
		return ErrChanged
	}

	return nil
}

// emptyList calls take for each conversation of the owner's list.
func (s *Store) emptyList(ctx context.Context, owner string, take func(id string) error) error {
	for {
		ids, err := s.rdb.ZRange(ctx, s.key.list(owner), 0, eraseBatch-1).Result()
		if err != nil {
			return fmt.Errorf("list conversations: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}

		for _, id := range ids {
			err := take(id)
			if errors.Is(err, ErrNotFound) { // it has expired
				err = s.rdb.ZRem(ctx, s.key.list(owner), id).Err()
			}
			if err != nil {
				return err
			}
		}
	}
}

// eraseRequests deletes the keys of the owner's requests.
func (s *Store) eraseRequests(ctx context.Context, owner string) error {
	names, err := s.rdb.ZRange(ctx, s.key.requests(owner), 0, -1).Result()
	for len(names) > 0 && err == nil {
		n := min(len(names), eraseBatch)
		err = s.rdb.Unlink(ctx, names[:n]...).Err()
		names = names[n:]
	}

	if err != nil {
		return fmt.Errorf("erase an owner's data: %w", err)
	}
	return nil
}

// All reads the conversations that the owner has now, the last changed first. One that is deleted
// before it is read is left out.
func (s *Store) All(ctx context.Context, owner string) iter.Seq2[Conversation, error] {
	return func(yield func(Conversation, error) bool) {
		ids, err := s.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: s.key.list(owner), Start: 0, Stop: -1, Rev: true,
		}).Result()
		if err != nil {
			yield(Conversation{}, fmt.Errorf("list conversations: %w", err))
			return
		}

		for _, id := range ids {
			c, err := s.Get(ctx, owner, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}

			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}
