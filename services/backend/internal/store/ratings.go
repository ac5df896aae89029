package store

import (
	"context"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// Answered is a question and its answer.
type Answered struct{ Question, Answer backendapi.Message }

// Answered returns the answer with the id, and its question. It fails with ErrNotFound if the
// owner's conversation has no such answer.
func (s *Store) Answered(ctx context.Context, owner, id, answer string) (Answered, error) {
	var after backendapi.Message // the one behind the page that is looked at
	for before := ""; ; {
		_, page, err := s.Detail(ctx, owner, id, MaxMessages, before)
		if err != nil {
			return Answered{}, err
		}

		for i := len(page.Messages) - 1; i >= 0; i-- {
			m := page.Messages[i]
			if after.GenerationID == answer && m.Role == "user" {
				return Answered{m, after}, nil
			}
			after = m
		}

		if before = page.Earlier; before == "" || answer == "" {
			return Answered{}, ErrNotFound
		}
	}
}

// Rate stores the owner's verdict on an answer of the conversation, or drops it if it is empty. The
// caller has looked whether there is such an answer.
func (s *Store) Rate(ctx context.Context, owner, id, answer, verdict string) error {
	if !validID(id) || !validID(answer) {
		return ErrNotFound
	}

	keys := []string{
		s.key.conversation(owner, id), s.key.ratings(owner, id), s.key.list(owner),
		s.key.usage(owner),
	}
	reply, err := s.run(ctx, s.scripts.rate, keys, id, owner, answer, verdict, millis(s.opts.TTL),
		time.Now().UnixMilli(), s.opts.MaxBytes).Text()
	if err != nil {
		return fmt.Errorf("rate an answer: %w", err)
	}

	return refusals[reply]
}

// Ratings returns the verdicts on the answers of the conversation by the answers' ids, nil if there
// are none. The caller has read the conversation as the owner's.
func (s *Store) Ratings(ctx context.Context, owner, id string) (map[string]string, error) {
	key := s.key.ratings(owner, id)
	answers, err := s.rdb.HKeys(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("read ratings: %w", err)
	}
	if len(answers) == 0 {
		return nil, nil
	}

	values, err := s.rdb.HMGet(ctx, key, answers...).Result()
	if err != nil {
		return nil, fmt.Errorf("read ratings: %w", err)
	}

	out := map[string]string{}
	for i, answer := range answers {
		if verdict, ok := values[i].(string); ok {
			out[answer] = verdict
		}
	}

	return out, nil
}
