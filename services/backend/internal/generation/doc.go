// Package generation writes answers: each is a job of a backend that lives on when its readers go
// away, that any instance can be asked about, and that another one goes on with when its backend or
// the model dies. See docs/adr/0004-generation-jobs.md and docs/adr/0008-answers-are-taken-over.md.
package generation
