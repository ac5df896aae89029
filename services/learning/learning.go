// Package learning is the form of what people hand over for review, and of what an administrator
// makes of it. The backend keeps it, and codexctl learn turns it into a change of the model.
package learning

import "time"

// The states of what was handed over. What is rejected is deleted.
const (
	Waiting  = "waiting"
	Accepted = "accepted"
)

// Submission is what somebody has handed over.
type Submission struct {
	// ID is that of the answer, its generation_id.
	ID         string `json:"id"`
	Verdict    string `json:"verdict"`
	Reason     string `json:"reason,omitempty"`
	Note       string `json:"note,omitempty"`
	Correction string `json:"correction,omitempty"`

	// Question and Answer are as they were written. Digest is that of the model's version, where
	// it is the stack's own.
	Question string `json:"question"`
	Answer   string `json:"answer"`
	Model    string `json:"model,omitempty"`
	Digest   string `json:"digest,omitempty"`

	// Sources name the documents that the model got passages of.
	Sources []string `json:"sources,omitempty"`

	SubmittedAt time.Time `json:"submitted_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	State       string    `json:"state"`

	// Review is what whoever accepted it has made of it.
	Review *Review `json:"review,omitempty"`
}

// Review is a question with the answer that a model should give, fit to be read by others: without
// the names of people.
type Review struct {
	Question string `json:"question" minLength:"1"`
	Answer   string `json:"answer" minLength:"1"`

	// Must and MustNot are texts that an answer has to contain, each of them, and of which it may
	// contain none. Letters count in either case.
	Must    []string `json:"must,omitempty" maxItems:"20"`
	MustNot []string `json:"must_not,omitempty" maxItems:"20"`
}

// Decision is the body of PUT /api/reviews/{answer}: it is accepted as the review says, or rejected
// without one.
type Decision struct {
	// SubmittedAt is that of the submission as the reviewer has read it.
	SubmittedAt time.Time `json:"submitted_at"`

	Accept bool    `json:"accept"`
	Review *Review `json:"review,omitempty"`
}

// Submissions are a page of what was handed over, the last first.
type Submissions struct {
	Submissions []Submission `json:"submissions"`

	// Before is where the next page begins; empty on the last one.
	Before string `json:"before,omitempty"`
}
