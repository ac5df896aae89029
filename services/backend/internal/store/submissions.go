package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/redis/go-redis/v9"
)

// MaxSubmissions is how many answers an owner may have handed over at once.
const MaxSubmissions = 100

// Submit stores what the owner hands over, until it expires. It takes the place of what was handed
// over of the same answer before.
func (s *Store) Submit(ctx context.Context, owner string, v backendapi.Submission) error {
	return s.submit(ctx, owner, v, s.opts.MaxBytes, MaxSubmissions)
}

func (s *Store) submit(
	ctx context.Context, owner string, v backendapi.Submission, bytes int64, count int,
) error {
	life := millis(time.Until(v.ExpiresAt))
	if !validID(v.ID) || life <= 0 {
		return ErrNotFound
	}

	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}

	// An entry whose submission is not there yet may be dropped by who lists them.
	note := func() error { return s.rdb.HSet(ctx, submitted, v.ID, owner).Err() }
	if err := note(); err != nil {
		return fmt.Errorf("submit: %w", full(err))
	}

	keys := []string{
		s.key.list(owner), s.key.usage(owner), s.key.submission(owner, v.ID),
		s.key.submissions(owner),
	}
	reply, err := s.run(ctx, s.scripts.submit, keys, v.ID, text, life, time.Now().UnixMilli(),
		millis(s.opts.TTL), bytes, count).Text()
	if err == nil {
		err = refusals[reply]
	}
	if err == nil {
		err = note()
	}
	// It may have been refused, or erased before the second note.
	err = errors.Join(err, s.unlist(context.WithoutCancel(ctx), owner, v.ID))
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}

	return nil
}

// unlist has nobody find the owner by the answer, unless the owner has handed it over.
func (s *Store) unlist(ctx context.Context, owner, answer string) error {
	n, err := s.rdb.Exists(ctx, s.key.submission(owner, answer)).Result()
	if err != nil || n > 0 {
		return err
	}

	switch of, err := s.submitter(ctx, answer); {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil || of != owner:
		return err
	}

	return s.rdb.HDel(ctx, submitted, answer).Err()
}

// unlistAll is unlist for each answer by which the owner is found, also of what has expired.
func (s *Store) unlistAll(ctx context.Context, owner string) error {
	ids, err := s.rdb.HKeys(ctx, submitted).Result()
	if err != nil {
		return err
	}

	for some := range slices.Chunk(ids, eraseBatch) {
		owners, err := s.rdb.HMGet(ctx, submitted, some...).Result()
		if err != nil {
			return err
		}

		for i, of := range owners {
			if of == owner {
				if err := s.unlist(ctx, owner, some[i]); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

// Unsubmit deletes what the owner has handed over of the answer, if there is anything.
func (s *Store) Unsubmit(ctx context.Context, owner, answer string) error {
	return s.unsubmit(ctx, owner, answer, "")
}

// unsubmit is Unsubmit. Unless was is empty, that is what it deletes, as it is stored, or it fails
// with ErrChanged.
func (s *Store) unsubmit(ctx context.Context, owner, answer, was string) error {
	if !validID(answer) {
		return nil
	}

	keys := []string{
		s.key.usage(owner), s.key.submission(owner, answer), s.key.submissions(owner),
	}
	n, err := s.run(ctx, s.scripts.unsubmit, keys, answer, was).Int()
	switch {
	case err == nil && n < 0:
		return ErrChanged
	case err == nil:
		err = s.unlist(ctx, owner, answer)
	}
	if err != nil {
		return fmt.Errorf("delete a submission: %w", err)
	}

	return nil
}

// UnsubmitAll deletes all that the owner has handed over. As with Erase, nothing new is stored for
// the owner until erasedMark afterwards.
func (s *Store) UnsubmitAll(ctx context.Context, owner string) error {
	if err := s.markErased(ctx, owner, false); err != nil {
		return err
	}

	return s.emptySubmissions(ctx, owner, func(answer string) error {
		return s.Unsubmit(ctx, owner, answer)
	})
}

// Submissions returns what the owner has handed over, the last first.
func (s *Store) Submissions(ctx context.Context, owner string) ([]backendapi.Submission, error) {
	ids, err := s.rdb.ZRange(ctx, s.key.submissions(owner), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list submissions: %w", err)
	}

	out := []backendapi.Submission{}
	for _, id := range slices.Backward(ids) {
		v, _, err := s.submission(ctx, owner, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}

	return out, nil
}

// HasSubmitted reports whether the owner has handed over the answer.
func (s *Store) HasSubmitted(ctx context.Context, owner, answer string) (bool, error) {
	_, _, err := s.submission(ctx, owner, answer)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// submission returns what the owner has handed over of the answer, and how it is stored.
func (s *Store) submission(
	ctx context.Context, owner, answer string,
) (v backendapi.Submission, text string, err error) {
	text, err = s.rdb.Get(ctx, s.key.submission(owner, answer)).Result()
	if errors.Is(err, redis.Nil) {
		return v, "", ErrNotFound
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &v)
	}
	if err != nil {
		return v, "", fmt.Errorf("read a submission: %w", err)
	}

	return v, text, nil
}

// submitter returns who has handed over the answer.
func (s *Store) submitter(ctx context.Context, answer string) (string, error) {
	if !validID(answer) {
		return "", ErrNotFound
	}

	owner, err := s.rdb.HGet(ctx, submitted, answer).Result()
	if errors.Is(err, redis.Nil) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("read a submission: %w", err)
	}

	return owner, nil
}

// Submitted returns what anybody has handed over of the answer.
func (s *Store) Submitted(ctx context.Context, answer string) (backendapi.Submission, error) {
	owner, err := s.submitter(ctx, answer)
	if err != nil {
		return backendapi.Submission{}, err
	}

	v, _, err := s.submission(ctx, owner, answer)
	return v, err
}

// MaxReviewPage bounds a page of Reviews in bytes; one submission is always there.
const MaxReviewPage = 1 << 20

// Reviews returns up to limit of what people have handed over and is in the state, any if that is
// empty: those of the last answers, or of those before the answer with the id.
func (s *Store) Reviews(
	ctx context.Context, state string, limit int, before string,
) (backendapi.Submissions, error) {
	page := backendapi.Submissions{Submissions: []backendapi.Submission{}}
	ids, err := s.rdb.HKeys(ctx, submitted).Result()
	if err != nil {
		return page, fmt.Errorf("list submissions: %w", err)
	}

	slices.Sort(ids) // ids are in the order of their creation
	size, last := 0, ""
	for _, id := range slices.Backward(ids) {
		if before != "" && id >= before {
			continue
		}

		owner, err := s.submitter(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return page, err
		}

		v, text, err := s.submission(ctx, owner, id)
		if errors.Is(err, ErrNotFound) { // it has expired
			if err := s.rdb.HDel(ctx, submitted, id).Err(); err != nil {
				return page, fmt.Errorf("list submissions: %w", err)
			}
			continue
		}
		if err != nil {
			return page, err
		}
		if state != "" && v.State != state {
			continue
		}

		size += len(text)
		if n := len(page.Submissions); n == limit || n > 0 && size > MaxReviewPage {
			page.Before = last
			break
		}
		page.Submissions, last = append(page.Submissions, v), id
	}

	return page, nil
}

// Decide accepts what was handed over of an answer, or deletes it. It fails with ErrNotFound if
// there is nothing, and with ErrChanged if its author has changed it since the reviewer has read it.
func (s *Store) Decide(ctx context.Context, answer string, d backendapi.Decision) error {
	owner, err := s.submitter(ctx, answer)
	if err != nil {
		return err
	}

	v, was, err := s.submission(ctx, owner, answer)
	if err != nil {
		return err
	}

	if !v.SubmittedAt.Equal(d.SubmittedAt) {
		return ErrChanged
	}

	if !d.Accept {
		return s.unsubmit(ctx, owner, answer, was)
	}

	v.State, v.Review = backendapi.SubmissionAccepted, d.Review
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("review: %w", err)
	}

	keys := []string{s.key.usage(owner), s.key.submission(owner, answer)}
	reply, err := s.run(ctx, s.scripts.review, keys, answer, was, text).Text()
	if err != nil {
		return fmt.Errorf("review: %w", err)
	}

	return refusals[reply]
}

// emptySubmissions calls take for each of the owner's submissions, and has nobody find the owner by
// an answer any more.
func (s *Store) emptySubmissions(
	ctx context.Context, owner string, take func(answer string) error,
) error {
	for {
		ids, err := s.rdb.ZRange(ctx, s.key.submissions(owner), 0, eraseBatch-1).Result()
		if err != nil {
			return fmt.Errorf("list submissions: %w", err)
		}
		if len(ids) == 0 {
			if err := s.unlistAll(ctx, owner); err != nil {
				return fmt.Errorf("list submissions: %w", err)
			}
			return nil
		}

		for _, id := range ids {
			if err := take(id); err != nil {
				return err
			}
		}
	}
}

// giveSubmission gives what one owner has handed over of an answer to another one.
func (s *Store) giveSubmission(ctx context.Context, from, to, answer string) error {
	v, _, err := s.submission(ctx, from, answer)
	if err == nil {
		err = s.submit(ctx, to, v, math.MaxInt64, math.MaxInt32)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}

	keys := []string{s.key.usage(from), s.key.submission(from, answer), s.key.submissions(from)}
	if err := s.run(ctx, s.scripts.unsubmit, keys, answer, "").Err(); err != nil {
		return fmt.Errorf("move a submission: %w", err)
	}

	return nil
}
