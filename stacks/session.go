package stacks

import (
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// SessionSettings are when people are signed out; 0 keeps what the stack says.
type SessionSettings struct {
	// Idle is how long a session lasts without use, Life how long in any case.
	Idle, Life time.Duration
}

// The bounds of how long a session lasts: who reads an answer is not signed out under it, and nobody
// stays signed in for ever.
const (
	shortestSession = time.Minute
	longestSession  = 366 * day
)

func (s *Settings) decodeSession(v string) error {
	length := func(into *time.Duration) func(string) error {
		return func(v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < shortestSession || d > longestSession {
				return fmt.Errorf("%q is no duration from a minute to 366 days: write it like 15m or "+
					"12h", v)
			}
			*into = d
			return nil
		}
	}
	return object(fields{"idle": length(&s.Session.Idle), "life": length(&s.Session.Life)})(v)
}

// applySession sets when people are signed out. It comes when it is known how they sign in.
func (s *Stack) applySession(v SessionSettings) error {
	if v == (SessionSettings{}) {
		return nil
	}
	if !s.Audited() {
		return fmt.Errorf("%s:session: is set, and nobody signs in to this stack: set signIn, or "+
			"remove the key", Project)
	}

	var err error
	edit(s, func(c *gateenv.Config) {
		if v.Idle != 0 {
			c.SessionIdle = v.Idle
		}
		if v.Life != 0 {
			c.SessionLife = v.Life
		}
		if c.SessionIdle > c.SessionLife {
			err = fmt.Errorf("%s:session: a session ends after %s without use, and after %s in any "+
				"case: set idle to no more than life", Project, c.SessionIdle, c.SessionLife)
		}
	})

	return err
}
