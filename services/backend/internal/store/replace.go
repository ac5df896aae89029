package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// replacedKept is how long the messages that a turn replaces can come back: longer than a job tries
// to withdraw the turn.
const replacedKept = 10 * time.Minute

// Replaced is the end of a conversation that a turn takes the place of.
type Replaced struct {
	backendapi.Replaces

	// Question is the first question that goes.
	Question string

	place   int      // of the question among the messages; -1 if it is not there
	answers []string // those that go whose events may be there yet
}

// Replaced looks for the messages of the owner's conversation that a turn replaces. It fails with
// ErrNotFound for the conversation. If they are not there Begin says what the turn fails with, as
// it may have been stored a moment ago.
func (s *Store) Replaced(
	ctx context.Context, owner, id string, which backendapi.Replaces,
) (Replaced, error) {
	r := Replaced{Replaces: which, place: -1}
	oldest, found := s.oldestEvents(), false
	for before := ""; ; {
		_, page, err := s.Detail(ctx, owner, id, MaxMessages, before)
		if err != nil {
			return r, err
		}

		first := 0
		if page.Earlier != "" {
			if first, err = strconv.Atoi(page.Earlier); err != nil {
				return r, fmt.Errorf("read a conversation: %w", err)
			}
		}

		for i := len(page.Messages) - 1; i >= 0; i-- {
			m := page.Messages[i]
			if found {
				r.Question, r.place = m.Content, first+i
				return r, nil
			}

			if m.GenerationID != "" && m.CreatedAt.After(oldest) {
				r.answers = append(r.answers, m.GenerationID)
			}

			found = m.GenerationID != "" && m.GenerationID == which.From
		}

		if before = page.Earlier; before == "" {
			return r, nil
		}
	}
}
