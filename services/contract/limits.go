package contract

import (
	"errors"
	"fmt"
)

// Limits are how much one person may use. 0 is no limit.
type Limits struct {
	// RequestsPerDay and TokensPerDay bound a day (UTC): its questions, and the tokens of their
	// prompts and answers.
	RequestsPerDay int64 `env:"REQUESTS_PER_DAY" optional:"true"`
	TokensPerDay   int64 `env:"TOKENS_PER_DAY" optional:"true"`

	// RequestsAtOnce bounds the questions that wait for their answers or get them.
	RequestsAtOnce int `env:"REQUESTS_AT_ONCE" optional:"true"`
}

// Validate checks the limits.
func (l *Limits) Validate() error {
	var errs []error
	for _, x := range []struct {
		variable string
		n        int64
	}{
		{"REQUESTS_PER_DAY", l.RequestsPerDay},
		{"TOKENS_PER_DAY", l.TokensPerDay},
		{"REQUESTS_AT_ONCE", int64(l.RequestsAtOnce)},
	} {
		if x.n < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative, got %d", x.variable, x.n))
		}
	}

	return errors.Join(errs...)
}
