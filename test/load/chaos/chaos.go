// Package chaos kills the services of a stack one after the other, in an order that a seed repeats,
// and waits between two until the first is whole again.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Kill ends the process of one instance of a service at once, and says which.
type Kill func(ctx context.Context, service string) (what string, err error)

// Healthy returns when a service is whole again after the last Kill, or why it is not.
type Healthy func(ctx context.Context, service string) error

// Schedule says what is killed when.
type Schedule struct {
	Seed uint64

	// Services are killed once in each of Rounds, each round in an order of its own.
	Services []string
	Rounds   int

	// Between is the shortest time from a service's recovery to the next kill, and Spread what a
	// part of is added.
	Between, Spread time.Duration

	// Timeout bounds the wait for a service. 0 is two minutes.
	Timeout time.Duration
}

// Event is one kill.
type Event struct {
	Service string    `json:"service"`
	What    string    `json:"what"`
	At      time.Time `json:"at"`

	// Back is how long it took until the service was whole again.
	Back time.Duration `json:"back"`

	// Problem says what went wrong with the kill or the recovery.
	Problem string `json:"problem,omitempty"`
}

func (e Event) String() string {
	text := fmt.Sprintf("%s killed %-8s %s", e.At.UTC().Format("15:04:05.0"), e.Service, e.What)
	if e.Problem != "" {
		return text + ": " + e.Problem
	}
	return fmt.Sprintf("%s, whole after %.1f s", text, e.Back.Seconds())
}

// Step is one kill of a schedule, before it is done.
type Step struct {
	Service string
	// Pause is the time before it.
	Pause time.Duration
}

// Steps are all kills in their order.
func (s Schedule) Steps() []Step {
	rng := rand.New(rand.NewPCG(s.Seed, 0))
	var out []Step
	for range s.Rounds {
		for _, i := range rng.Perm(len(s.Services)) {
			pause := s.Between
			if s.Spread > 0 {
				pause += time.Duration(rng.Int64N(int64(s.Spread)))
			}
			out = append(out, Step{s.Services[i], pause})
		}
	}

	return out
}

// Run does all kills, and tells each, if tell is not nil. It goes on after a service that does not
// come back, and returns an error that names each problem. The end of ctx ends it early, which is
// no problem.
func (s Schedule) Run(
	ctx context.Context,
	kill Kill,
	healthy Healthy,
	tell func(Event),
) ([]Event, error) {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 2 * time.Minute
	}

	var events []Event
	var errs []error
	for _, step := range s.Steps() {
		if !sleep(ctx, step.Pause) {
			break
		}

		e := Event{Service: step.Service, At: time.Now()}
		what, err := kill(ctx, step.Service)
		e.What = what
		if err == nil {
			waiting, cancel := context.WithTimeout(ctx, timeout)
			err = healthy(waiting, step.Service)
			cancel()
		}

		e.Back = time.Since(e.At)
		if ctx.Err() != nil {
			break
		}

		if err != nil {
			e.Problem = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", step.Service, err))
		}

		events = append(events, e)
		if tell != nil {
			tell(e)
		}
	}

	return events, errors.Join(errs...)
}

// await asks until the answer is yes.
func await(ctx context.Context, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if ok && err == nil {
			return nil
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return errors.Join(fmt.Errorf("not whole again: %w", ctx.Err()), err)
		}
	}
}

// sleep waits; it reports false when ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
