package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/google/uuid"
)

// submission returns one of an answer, that expires in a while.
func submission(id string) backendapi.Submission {
	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	return backendapi.Submission{
		ID: id, Verdict: "down", Question: "a secret question", Answer: "a", State: "waiting",
		SubmittedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

// rated returns an answer of alice's that has ended, and that she has rated and handed over.
func rated(t *testing.T, s *store.Store) store.Begun {
	t.Helper()
	b, ctx := begin(t, s), t.Context()
	err := errors.Join(s.End(ctx, b.Generation, store.Stopped()),
		s.Rate(ctx, "alice", b.ConversationID, b.ID, "down"),
		s.Submit(ctx, "alice", submission(b.ID)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRatingsCount holds that ratings and submissions are in their owner's account, as long as they
// are there, and expire.
func TestRatingsCount(t *testing.T) {
	s, redis := open(t, nil)
	r, ctx := redis.Client(t), t.Context()
	b := begin(t, s)
	if err := s.End(ctx, b.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	before := r.HGetAll(ctx, "owner:alice:usage").Val()
	for _, verdict := range []string{"up", "down", "up"} {
		if err := s.Rate(ctx, "alice", b.ConversationID, b.ID, verdict); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Submit(ctx, "alice", submission(b.ID)); err != nil {
		t.Fatal(err)
	}

	size, err := r.StrLen(ctx, "owner:alice:submission:"+b.ID).Result()
	usage := r.HGetAll(ctx, "owner:alice:usage").Val()
	if err != nil || usage["submission:"+b.ID] != fmt.Sprint(size) ||
		usage["total"] == before["total"] {
		t.Errorf("%v, not %d more than %v: %v", usage, size, before, err)
	}

	for _, key := range []string{"owner:alice:submission:" + b.ID,
		"conversation:" + b.ConversationID + ":ratings"} {
		if left := r.PTTL(ctx, key).Val(); left <= 0 || left > time.Hour {
			t.Errorf("%s stays for %v", key, left)
		}
	}

	err = errors.Join(s.Unsubmit(ctx, "alice", b.ID),
		s.Rate(ctx, "alice", b.ConversationID, b.ID, ""))
	after := r.HGetAll(ctx, "owner:alice:usage").Val()
	if err != nil || after["total"] != before["total"] || len(after) != len(before) {
		t.Errorf("after: %v, before: %v, %v", after, before, err)
	}
}

// TestRatingGoesWithAnswer drops the verdict on an answer that is replaced.
func TestRatingGoesWithAnswer(t *testing.T) {
	s, _ := open(t, nil)
	ctx := t.Context()
	b := rated(t, s)
	replaced, err := s.Replaced(ctx, "alice", b.ConversationID,
		backendapi.Replaces{From: b.ID, To: b.ID})
	if err != nil {
		t.Fatal(err)
	}

	again := turn
	again.ConversationID, again.Replaces = b.ConversationID, &replaced
	next, err := s.Begin(ctx, again, "T")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.End(ctx, next.Generation, store.Stopped()); err != nil {
		t.Fatal(err)
	}

	if got, err := s.Ratings(ctx, "alice", b.ConversationID); len(got) > 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := s.Submissions(ctx, "alice"); len(got) != 1 || err != nil {
		t.Errorf("what was handed over: %v, %v", got, err)
	}
}

// TestSubmissionsBounded holds that an owner has not more than so many, and reviewers read in pages.
func TestSubmissionsBounded(t *testing.T) {
	s, _ := open(t, nil)
	ctx := t.Context()
	var ids []string
	for range store.MaxSubmissions {
		id := uuid.Must(uuid.NewV7()).String()
		if err := s.Submit(ctx, "alice", submission(id)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}

	one := submission(uuid.Must(uuid.NewV7()).String())
	if err := s.Submit(ctx, "alice", one); !errors.Is(err, store.ErrSubmissions) {
		t.Errorf("one more: %v", err)
	}
	if err := s.Submit(ctx, "alice", submission(ids[0])); err != nil {
		t.Errorf("one of them again: %v", err)
	}
	if err := s.Submit(ctx, "bob", one); err != nil {
		t.Errorf("of another owner: %v", err)
	}

	ids = append(ids, one.ID)
	for before := ""; ; {
		page, err := s.Reviews(ctx, "waiting", 30, before)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Submissions {
			if last := ids[len(ids)-1]; v.ID != last {
				t.Fatalf("%s, want %s", v.ID, last)
			}
			ids = ids[:len(ids)-1]
		}
		if before = page.Before; before == "" {
			break
		}
	}
	if len(ids) > 0 {
		t.Errorf("%d are on no page", len(ids))
	}
}

// TestUnsubmitAll takes back what an owner has handed over, who keeps the conversations; for a time
// nothing new is stored.
func TestUnsubmitAll(t *testing.T) {
	s, redis := open(t, nil)
	ctx, r := t.Context(), redis.Client(t)
	b := rated(t, s)
	other := submission(uuid.Must(uuid.NewV7()).String())
	if err := s.Submit(ctx, "bob", other); err != nil {
		t.Fatal(err)
	}

	if err := s.UnsubmitAll(ctx, "alice"); err != nil {
		t.Fatal(err)
	}

	if left := redistest.Find(t, r, "owner:alice:submission"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := s.Submitted(ctx, b.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it can be reviewed: %v", err)
	}
	if _, err := s.Submitted(ctx, other.ID); err != nil {
		t.Errorf("the other owner's: %v", err)
	}
	if _, err := s.Get(ctx, "alice", b.ConversationID); err != nil {
		t.Errorf("the conversation: %v", err)
	}
	if err := s.Submit(ctx, "alice", submission(b.ID)); !errors.Is(err, store.ErrErased) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNoListLeft holds that nobody is found by an answer after an erasure: also not by one that has
// expired before, with others handed over since, or that is handed over while all is erased.
func TestNoListLeft(t *testing.T) {
	s, redis := open(t, nil)
	ctx, r := t.Context(), redis.Client(t)
	newID := func() string { return uuid.Must(uuid.NewV7()).String() }
	brief := submission(newID())
	brief.ExpiresAt = time.Now().Add(50 * time.Millisecond)
	if err := s.Submit(ctx, "alice", brief); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if err := s.Submit(ctx, "alice", submission(newID())); err != nil {
		t.Fatal(err)
	}

	racing := openAt(t, store.Address{URL: redistest.Before(t, redis, "evalsha", func() {
		if _, err := s.Erase(ctx, "alice"); err != nil {
			t.Error(err)
		}
	})})
	if err := racing.Submit(ctx, "alice", submission(newID())); !errors.Is(err, store.ErrErased) {
		t.Errorf("while all is erased: %v", err)
	}
	if all := r.HGetAll(ctx, "owner:submitted").Val(); len(all) > 0 {
		t.Errorf("left: %v", all)
	}

	// What an erasure has taken before the submission was listed for the second time.
	late := submission(newID())
	taken := openAt(t, store.Address{URL: redistest.Before(t, redis, "exists", func() {
		r.Del(ctx, "owner:carol:submission:"+late.ID)
	})})
	if err := taken.Submit(ctx, "carol", late); err != nil {
		t.Error(err)
	}
	if all := r.HGetAll(ctx, "owner:submitted").Val(); len(all) > 0 {
		t.Errorf("left of what was taken: %v", all)
	}

	// What somebody else has handed over is still found.
	theirs := submission(newID())
	if err := errors.Join(s.Submit(ctx, "bob", theirs), s.Unsubmit(ctx, "eve", theirs.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Submitted(ctx, theirs.ID); err != nil {
		t.Error(err)
	}
}

// TestDecideOnWhatWasRead holds that a decision is about what the reviewer has read: neither an
// acceptance nor a rejection counts for what was handed over anew since.
func TestDecideOnWhatWasRead(t *testing.T) {
	s, _ := open(t, nil)
	ctx := t.Context()
	first := submission(uuid.Must(uuid.NewV7()).String())
	again := first
	again.SubmittedAt, again.Question = first.SubmittedAt.Add(time.Second), "another question"
	if err := errors.Join(s.Submit(ctx, "alice", first), s.Submit(ctx, "alice", again)); err != nil {
		t.Fatal(err)
	}

	review := &backendapi.Review{Question: "q", Answer: "a"}
	for _, d := range []backendapi.Decision{
		{SubmittedAt: first.SubmittedAt}, {SubmittedAt: first.SubmittedAt, Accept: true, Review: review},
	} {
		if err := s.Decide(ctx, first.ID, d); !errors.Is(err, store.ErrChanged) {
			t.Errorf("accept %t: %v", d.Accept, err)
		}
	}
	if v, err := s.Submitted(ctx, first.ID); err != nil || v.State != "waiting" ||
		v.Question != again.Question {
		t.Errorf("%+v, %v", v, err)
	}

	if err := s.Decide(ctx, first.ID, backendapi.Decision{SubmittedAt: again.SubmittedAt}); err != nil {
		t.Error(err)
	}
	if _, err := s.Submitted(ctx, first.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the rejection: %v", err)
	}
}

// TestMoveSubmissions gives what was handed over to the other owner, who can take it back.
func TestMoveSubmissions(t *testing.T) {
	s, redis := open(t, nil)
	ctx, r := t.Context(), redis.Client(t)
	b := rated(t, s)
	if _, err := s.Move(ctx, "alice", "bob"); err != nil {
		t.Fatal(err)
	}

	moved, err := s.Submitted(ctx, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decide(ctx, b.ID, backendapi.Decision{
		SubmittedAt: moved.SubmittedAt, Accept: true, Review: &backendapi.Review{Question: "q", Answer: "a"},
	}); err != nil {
		t.Error(err)
	}

	list, err := s.Submissions(ctx, "bob")
	if err != nil || len(list) != 1 || list[0].State != "accepted" {
		t.Errorf("%+v, %v", list, err)
	}
	if got, err := s.Ratings(ctx, "bob", b.ConversationID); got[b.ID] != "down" || err != nil {
		t.Errorf("ratings: %v, %v", got, err)
	}
	if left := redistest.Find(t, r, "owner:alice:submission"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}

	if _, err := s.Erase(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if left := redistest.Find(t, r, "a secret question"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := s.Submitted(ctx, b.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it can be reviewed: %v", err)
	}
	if err := s.Submit(ctx, "bob", submission(b.ID)); !errors.Is(err, store.ErrErased) {
		t.Errorf("after the erasure: %v", err)
	}
}
