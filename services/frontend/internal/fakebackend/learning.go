package fakebackend

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// submission is what an owner has handed over.
type submission struct {
	owner string
	backendapi.Submission
}

// learning returns the routes by which answers are rated, handed over and reviewed.
func (b *Backend) learning() map[string]http.HandlerFunc {
	const rating = "/api/conversations/{id}/ratings/{answer}"
	return map[string]http.HandlerFunc{
		"PUT " + rating:                    b.rate,
		"DELETE " + rating:                 b.rate,
		"POST " + rating + "/submission":   b.submit,
		"GET /api/submissions":             b.handed(false),
		"DELETE /api/submissions":          b.withdrawAll,
		"DELETE /api/submissions/{answer}": b.withdraw,
		"GET /api/reviews":                 b.handed(true),
		"PUT /api/reviews/{answer}":        b.decide,
	}
}

// Submitted returns all that was handed over.
func (b *Backend) Submitted() (out []backendapi.Submission) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.submissions {
		out = append(out, s.Submission)
	}
	return out
}

func (b *Backend) rate(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.own(r, r.PathValue("id"))
	if c == nil {
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such conversation"))
		return
	}

	if r.Method == http.MethodDelete {
		delete(c.Ratings, r.PathValue("answer"))
		w.WriteHeader(http.StatusNoContent)
		return
	}

	var body backendapi.Rate
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		problem.Write(w, r, problem.New(http.StatusBadRequest, "%v", err))
		return
	}

	c.verdict(r.PathValue("answer"), body.Verdict)
	w.WriteHeader(http.StatusNoContent)
}

func (c *conversation) verdict(answer, verdict string) {
	if c.Ratings == nil {
		c.Ratings = map[string]string{}
	}
	c.Ratings[answer] = verdict
}

func (b *Backend) submit(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var body backendapi.Submit
	err := json.NewDecoder(r.Body).Decode(&body)
	c := b.own(r, r.PathValue("id"))
	if c == nil || err != nil || !body.Consent {
		problem.Write(w, r, problem.New(http.StatusUnprocessableEntity, "none of yours: %v", err))
		return
	}

	v := submission{ownerOf(r), backendapi.Submission{
		ID: r.PathValue("answer"), Verdict: body.Verdict, Reason: body.Reason, Note: body.Note,
		Correction: body.Correction, Model: "codexcontinue", Digest: "0123456789abcdef",
		State: backendapi.SubmissionWaiting, SubmittedAt: b.now,
		ExpiresAt: b.now.Add(backendapi.SubmissionKept),
	}}
	for i, m := range c.Messages {
		if m.GenerationID == v.ID && i > 0 {
			v.Question, v.Answer = c.Messages[i-1].Content, m.Content
		}
	}

	c.verdict(v.ID, v.Verdict)
	b.drop(v.ID)
	b.submissions = append(b.submissions, v)
	wire.WriteJSON(w, http.StatusOK, v.Submission)
}

func (b *Backend) drop(answer string) {
	b.submissions = slices.DeleteFunc(b.submissions, func(s submission) bool {
		return s.ID == answer
	})
}

// handed lists one's own submissions, or everybody's for an administrator.
func (b *Backend) handed(everybody bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if everybody && !admin(w, r) {
			return
		}

		b.mu.Lock()
		defer b.mu.Unlock()
		page := backendapi.Submissions{Submissions: []backendapi.Submission{}}
		state := r.URL.Query().Get("state")
		for _, s := range slices.Backward(b.submissions) {
			if everybody && (state == "" || s.State == state) || !everybody && s.owner == ownerOf(r) {
				page.Submissions = append(page.Submissions, s.Submission)
			}
		}

		wire.WriteJSON(w, http.StatusOK, page)
	}
}

func (b *Backend) withdraw(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submissions = slices.DeleteFunc(b.submissions, func(s submission) bool {
		return s.ID == r.PathValue("answer") && s.owner == ownerOf(r)
	})
	w.WriteHeader(http.StatusNoContent)
}

func (b *Backend) withdrawAll(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.submissions = slices.DeleteFunc(b.submissions, func(s submission) bool {
		return s.owner == ownerOf(r)
	})
	w.WriteHeader(http.StatusNoContent)
}

func (b *Backend) decide(w http.ResponseWriter, r *http.Request) {
	if !admin(w, r) {
		return
	}

	var d backendapi.Decision
	if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
		problem.Write(w, r, problem.New(http.StatusBadRequest, "%v", err))
		return
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.submissions, func(s submission) bool {
		return s.ID == r.PathValue("answer")
	})
	switch {
	case at < 0:
		problem.Write(w, r, problem.New(http.StatusNotFound, "there is no such answer"))
		return
	case !b.submissions[at].SubmittedAt.Equal(d.SubmittedAt):
		problem.Write(w, r, problem.New(http.StatusConflict, "it has changed"))
		return
	case d.Accept:
		b.submissions[at].State, b.submissions[at].Review = backendapi.SubmissionAccepted, d.Review
	default:
		b.drop(r.PathValue("answer"))
	}

	w.WriteHeader(http.StatusNoContent)
}

// admin reports whether the request is an administrator's. Others are refused.
func admin(w http.ResponseWriter, r *http.Request) bool {
	p, _ := identity.Peek(r.Header.Get("Authorization"))
	if !p.Admin {
		problem.Write(w, r, problem.New(http.StatusForbidden, "Only administrators read this."))
	}
	return p.Admin
}

// Hand stores what an owner hands over, a while ago.
func (b *Backend) Hand(owner string, v backendapi.Submission, ago time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.State, v.SubmittedAt = backendapi.SubmissionWaiting, b.now.Add(-ago)
	v.ExpiresAt = v.SubmittedAt.Add(backendapi.SubmissionKept)
	b.submissions = append(b.submissions, submission{owner, v})
}
