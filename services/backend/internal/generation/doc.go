// Package generation writes answers: each is a job of the backend that lives on when its readers go away, and that
// any instance can be asked about. See docs/adr/0004-generation-jobs.md.
package generation
