package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/learning"
	"github.com/danielgtaylor/huma/v2"
)

// maxLearning is the greatest size of a submission or a decision in bytes: a question, an answer,
// and what is written beside them.
const maxLearning = 256 << 10

type answerInput struct {
	Owned
	ID     string `path:"id" doc:"The conversation"`
	Answer string `path:"answer" doc:"The answer's generation_id"`
}

type rateInput struct {
	Owned
	ID     string `path:"id" doc:"The conversation"`
	Answer string `path:"answer" doc:"The answer's generation_id"`
	Body   backendapi.Rate
}

type submitInput struct {
	Owned
	ID     string `path:"id" doc:"The conversation"`
	Answer string `path:"answer" doc:"The answer's generation_id"`
	Body   backendapi.Submit
}

// Resolve implements huma.Resolver.
func (in *submitInput) Resolve(huma.Context) []error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, &huma.ErrorDetail{
			Location: "body." + field, Message: fmt.Sprintf(format, args...),
		})
	}

	if !in.Body.Consent {
		fault("consent", "must be true: nothing is handed over without the person's consent")
	}
	if utf8.RuneCountInString(in.Body.Note) > backendapi.MaxNote ||
		strings.ContainsFunc(in.Body.Note, unicode.IsControl) {
		fault("note", "must be one line of %d characters at most", backendapi.MaxNote)
	}
	if len(in.Body.Correction) > backendapi.MaxCorrection {
		fault("correction", "has more than %d bytes", backendapi.MaxCorrection)
	}

	return errs
}

type ownAnswerInput struct {
	Owned
	Answer string `path:"answer" doc:"The answer's generation_id"`
}

type reviewInput struct {
	Answer string `path:"answer" doc:"The answer's generation_id"`
}

type reviewsInput struct {
	State  string `query:"state" enum:"waiting,accepted" doc:"Only those in this state"`
	Limit  int    `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"The greatest number"`
	Before string `query:"before" maxLength:"64" doc:"before of the page before"`
}

type decideInput struct {
	Answer string `path:"answer" doc:"The answer's generation_id"`
	Body   backendapi.Decision
}

// Resolve implements huma.Resolver.
func (in *decideInput) Resolve(huma.Context) []error {
	r := in.Body.Review
	switch {
	case in.Body.SubmittedAt.IsZero():
		return []error{&huma.ErrorDetail{Location: "body.submitted_at", Message: "is missing: it is " +
			"that of what was read"}}
	case !in.Body.Accept:
		return nil
	case r == nil:
		return []error{&huma.ErrorDetail{Location: "body.review", Message: "is missing"}}
	}

	for _, text := range append([]string{r.Question, r.Answer}, append(r.Must, r.MustNot...)...) {
		if strings.TrimSpace(text) == "" {
			return []error{&huma.ErrorDetail{Location: "body.review", Message: "has an empty text"}}
		}
	}

	for field, text := range map[string]string{"question": r.Question, "answer": r.Answer} {
		if err := learning.CheckText(text); err != nil {
			return []error{&huma.ErrorDetail{Location: "body.review." + field, Message: err.Error()}}
		}
	}

	return nil
}

func (a *API) learningRoutes() {
	const tag, path = "learning", "/api/conversations/{id}/ratings/{answer}"
	op := operation("rateAnswer", "PUT "+path, tag, "Say what an answer is worth")
	op.Description = "Nobody else sees it. It goes with the conversation."
	op.DefaultStatus, op.MaxBodyBytes = http.StatusNoContent, maxBody
	op.Errors = []int{http.StatusNotFound, http.StatusInsufficientStorage}
	register(a, op, a.rate)

	op = operation("unrateAnswer", "DELETE "+path, tag, "Take that back")
	op.Description = "What was handed over of the answer goes with it."
	op.DefaultStatus, op.Errors = http.StatusNoContent, []int{http.StatusNotFound}
	register(a, op, a.unrate)

	op = operation("submitAnswer", "POST "+path+"/submission", tag,
		"Hand an answer over for review, with its question")
	op.Description = "Administrators read it, for 180 days at most. It takes the place of what " +
		"was handed over of the answer before."
	op.MaxBodyBytes = maxLearning
	op.Errors = []int{http.StatusNotFound, http.StatusConflict, http.StatusInsufficientStorage}
	register(a, op, a.submit)

	op = operation("listSubmissions", "GET /api/submissions", tag, "List what was handed over")
	register(a, op, a.submissions)

	op = operation("withdrawSubmission", "DELETE /api/submissions/{answer}", tag,
		"Take back what was handed over")
	op.DefaultStatus = http.StatusNoContent
	register(a, op, a.withdraw)

	op = operation("withdrawSubmissions", "DELETE /api/submissions", tag,
		"Take back all that was handed over, for good")
	op.Description = "For three minutes nothing new is stored. Who is signed in may not send it: " +
		"it is for the removal of an account."
	op.DefaultStatus = http.StatusNoContent
	register(a, op, a.withdrawAll)

	op = operation("listReviews", "GET /api/reviews", tag,
		"List what everybody has handed over, for administrators")
	op.Errors = []int{http.StatusForbidden}
	register(a, op, a.reviews)

	op = operation("getReview", "GET /api/reviews/{answer}", tag,
		"Read what somebody has handed over, for administrators")
	op.Errors = []int{http.StatusForbidden, http.StatusNotFound}
	register(a, op, a.review)

	op = operation("decideReview", "PUT /api/reviews/{answer}", tag,
		"Accept what was handed over, in words without people's names, or reject it, which deletes it")
	op.DefaultStatus, op.MaxBodyBytes = http.StatusNoContent, maxLearning
	op.Errors = []int{http.StatusForbidden, http.StatusNotFound, http.StatusConflict}
	register(a, op, a.decide)
}

// errUnfinished is the error of an answer that cannot be rated.
var errUnfinished = problem.New(http.StatusConflict,
	"Only an answer that is complete can be rated.")

// answered returns the answer of the owner's conversation that may be rated.
func (a *API) answered(ctx context.Context, owner, id, answer string) (store.Answered, error) {
	if !a.Ratings {
		return store.Answered{}, problem.New(http.StatusNotFound,
			"Answers are not rated in this stack.")
	}

	turn, err := a.Store.Answered(ctx, owner, id, answer)
	if err == nil && turn.Answer.State != backendapi.MessageComplete {
		err = errUnfinished
	}

	return turn, err
}

func (a *API) rate(ctx context.Context, in *rateInput) (*struct{}, error) {
	if _, err := a.answered(ctx, in.owner(), in.ID, in.Answer); err != nil {
		return nil, err
	}

	act, err := a.Audit.Begin(ctx,
		a.record(ctx, auditlog.Rating, in.owner(), anAnswer, in.Answer))
	if err == nil {
		err = a.Store.Rate(ctx, in.owner(), in.ID, in.Answer, in.Body.Verdict)
		act.End(result(err))
	}

	return nil, err
}

func (a *API) unrate(ctx context.Context, in *answerInput) (*struct{}, error) {
	if _, err := a.Store.Get(ctx, in.owner(), in.ID); err != nil {
		return nil, err
	}

	ratings, err := a.Store.Ratings(ctx, in.owner(), in.ID)
	if err != nil {
		return nil, err
	}
	if ratings[in.Answer] == "" {
		return a.withdraw(ctx, &ownAnswerInput{in.Owned, in.Answer})
	}

	act := a.Audit.BeginAnyway(ctx,
		a.record(ctx, auditlog.Withdrawal, in.owner(), anAnswer, in.Answer))
	err = errors.Join(a.Store.Rate(ctx, in.owner(), in.ID, in.Answer, ""),
		a.Store.Unsubmit(ctx, in.owner(), in.Answer))
	act.End(result(err))
	return nil, err
}

func (a *API) submit(ctx context.Context, in *submitInput) (*body[backendapi.Submission], error) {
	turn, err := a.answered(ctx, in.owner(), in.ID, in.Answer)
	if err != nil {
		return nil, err
	}

	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	v := backendapi.Submission{
		ID:          in.Answer,
		Verdict:     in.Body.Verdict,
		Reason:      in.Body.Reason,
		Note:        strings.TrimSpace(in.Body.Note),
		Correction:  strings.TrimSpace(in.Body.Correction),
		Question:    turn.Question.Content,
		Answer:      turn.Answer.Content,
		Model:       turn.Answer.Model,
		Digest:      turn.Answer.Digest,
		Sources:     sourceNames(turn.Answer.Sources),
		SubmittedAt: now,
		ExpiresAt:   now.Add(backendapi.SubmissionKept),
		State:       backendapi.SubmissionWaiting,
	}

	record := a.record(ctx, auditlog.Submission, in.owner(), anAnswer, in.Answer)
	record.Model, record.Digest = v.Model, v.Digest
	act, err := a.Audit.Begin(ctx, record)
	if err != nil {
		return nil, err
	}

	err = a.Store.Rate(ctx, in.owner(), in.ID, in.Answer, v.Verdict)
	if err == nil {
		err = a.Store.Submit(ctx, in.owner(), v)
	}
	act.End(result(err))

	return &body[backendapi.Submission]{v}, err
}

// sourceNames returns the names of the documents, each once.
func sourceNames(s *backendapi.Sources) (names []string) {
	if s == nil {
		return nil
	}

	for _, source := range s.Sources {
		if name := source.Collection + "/" + source.File; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (a *API) submissions(
	ctx context.Context, in *ownedInput,
) (*body[backendapi.Submissions], error) {
	list, err := a.Store.Submissions(ctx, in.owner())
	return &body[backendapi.Submissions]{backendapi.Submissions{Submissions: list}}, err
}

func (a *API) withdraw(ctx context.Context, in *ownAnswerInput) (*struct{}, error) {
	there, err := a.Store.HasSubmitted(ctx, in.owner(), in.Answer)
	if err != nil || !there {
		return nil, err // nothing is done, and nothing recorded
	}

	act := a.Audit.BeginAnyway(ctx,
		a.record(ctx, auditlog.Withdrawal, in.owner(), anAnswer, in.Answer))
	err = a.Store.Unsubmit(ctx, in.owner(), in.Answer)
	act.End(result(err))
	return nil, err
}

// withdrawAll takes back all that a person has handed over whose account is being removed.
func (a *API) withdrawAll(ctx context.Context, in *ownedInput) (*struct{}, error) {
	act := a.Audit.BeginAnyway(ctx, a.record(ctx, auditlog.Withdrawal, in.owner(), "", ""))
	err := a.Store.UnsubmitAll(ctx, in.owner())
	act.End(result(err))
	return nil, err
}

// reviewed begins an act of an administrator about the answer, any if it is empty. Nobody else may
// do it: that somebody else wanted to is recorded, without the answer, of which there are many.
func (a *API) reviewed(
	ctx context.Context, action auditlog.Action, answer, what string,
) (*audit.Act, error) {
	me := identity.From(ctx)
	if !me.Admin {
		a.Audit.Refuse(ctx, auditlog.Record{
			Action: action, Actor: me.ID, Address: me.Address,
			Detail: map[string]string{"why": "not an admin"},
		})
		return nil, problem.New(http.StatusForbidden,
			"Only administrators read what people have handed over.")
	}

	r := auditlog.Record{
		Action: action, Object: a.Audit.Name(anAnswer, answer), Detail: map[string]string{"what": what},
	}
	if me.By != "" {
		r.By = me.By
	} else {
		r.Actor, r.Address = me.ID, me.Address
	}

	return a.Audit.Begin(ctx, r)
}

func (a *API) reviews(
	ctx context.Context, in *reviewsInput,
) (*body[backendapi.Submissions], error) {
	what := in.State
	if what == "" {
		what = "all"
	}

	act, err := a.reviewed(ctx, auditlog.ReviewRead, "", what)
	if err != nil {
		return nil, err
	}

	page, err := a.Store.Reviews(ctx, in.State, in.Limit, in.Before)
	act.End(result(err))
	return &body[backendapi.Submissions]{page}, err
}

func (a *API) review(
	ctx context.Context, in *reviewInput,
) (*body[backendapi.Submission], error) {
	act, err := a.reviewed(ctx, auditlog.ReviewRead, in.Answer, "one")
	if err != nil {
		return nil, err
	}

	v, err := a.Store.Submitted(ctx, in.Answer)
	act.End(result(err))
	return &body[backendapi.Submission]{v}, err
}

func (a *API) decide(ctx context.Context, in *decideInput) (*struct{}, error) {
	what := "rejected"
	if in.Body.Accept {
		what = "accepted"
	}

	act, err := a.reviewed(ctx, auditlog.Review, in.Answer, what)
	if err != nil {
		return nil, err
	}

	err = a.Store.Decide(ctx, in.Answer, in.Body)
	act.End(result(err))
	return nil, err
}
