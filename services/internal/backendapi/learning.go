package backendapi

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/learning"
)

// What people think of answers, and what of it they hand over to those who review it:
//
//	PUT    /api/conversations/{id}/ratings/{answer}  Rate    204
//	DELETE /api/conversations/{id}/ratings/{answer}  204, also when there is none; what was
//	                                                 handed over of the answer goes with it
//	POST   /api/conversations/{id}/ratings/{answer}/submission  Submit  200 Submission
//	GET    /api/submissions                          200 Submissions: one's own
//	DELETE /api/submissions                          204: all of somebody whose account goes
//	DELETE /api/submissions/{answer}                 204, also when there is none
//	GET    /api/reviews?state&limit&before           200 Submissions: everybody's, for admins alone
//	GET    /api/reviews/{answer}                     200 Submission
//	PUT    /api/reviews/{answer}                     Decision  204; 409 if it has
//	                                                 another submitted_at now
//
// A rating is part of its conversation: nobody else sees it, and it goes with it. What is handed
// over is a copy of the question and the answer with what the person wrote, which stays for
// SubmissionKept, also when the conversation is gone, unless it is taken back, rejected or erased.

// The verdicts on an answer.
const (
	VerdictUp   = "up"
	VerdictDown = "down"
)

// SubmissionKept is how long it is kept at most what somebody has handed over.
const SubmissionKept = 180 * 24 * time.Hour

// What a person writes has these lengths at most: a note in characters, a correction in bytes.
const (
	MaxNote       = 300
	MaxCorrection = 16 << 10
)

// Rate is the body of PUT /api/conversations/{id}/ratings/{answer}.
type Rate struct {
	Verdict string `json:"verdict" enum:"up,down"`
}

// Submit hands a rated answer over, with its question.
type Submit struct {
	Verdict    string `json:"verdict" enum:"up,down"`
	Reason     string `json:"reason,omitempty" enum:"helpful,wrong,incomplete,unclear,unsafe,other"`
	Note       string `json:"note,omitempty" doc:"Why, in a line"`
	Correction string `json:"correction,omitempty" doc:"What the answer should have been"`

	// Consent has to be true: the person has been told what is kept, who reads it and how long.
	Consent bool `json:"consent" doc:"Whether the person agrees that it is kept and read"`
}

// What was handed over, and what an administrator makes of it.
type (
	Submission  = learning.Submission
	Submissions = learning.Submissions
	Review      = learning.Review
	Decision    = learning.Decision
)

// The states of what was handed over.
const (
	SubmissionWaiting  = learning.Waiting
	SubmissionAccepted = learning.Accepted
)
