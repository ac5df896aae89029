package generation

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// TestRefusal holds what becomes of a request that ml has not begun to answer: whether it is sent
// again, whether ml may have died of it, and what a person is told when it stays at that.
func TestRefusal(t *testing.T) {
	type said struct {
		status       int
		again, taken bool
	}
	of := func(status int, kind string) error { return &problem.Problem{Status: status, Type: kind} }
	dial, read := &net.OpError{Op: "dial", Err: io.EOF}, &net.OpError{Op: "read", Err: io.EOF}
	const other = "/problems/other"
	for name, tc := range map[string]struct {
		err error
		// taken is set if ml took an earlier request of this answer, continued if that had text.
		taken, continued bool
		want             said
	}{
		"nobody is there":         {dial, false, false, said{502, true, false}},
		"no such host":            {&net.DNSError{}, false, false, said{502, true, false}},
		"it went away":            {read, false, false, said{502, true, true}},
		"its answer broke off":    {io.ErrUnexpectedEOF, false, false, said{502, true, true}},
		"it took too long":        {of(504, problem.TypeTimeout), false, false, said{504, false, false}},
		"it broke":                {of(500, ""), false, false, said{502, false, false}},
		"what it asks broke":      {of(502, ""), false, false, said{502, true, false}},
		"what it asks took long":  {of(504, ""), false, false, said{502, true, true}},
		"it drains":               {of(503, problem.TypeDraining), false, false, said{503, true, false}},
		"it starts":               {of(503, problem.TypeStarting), false, false, said{503, true, false}},
		"a former one drains":     {of(503, ""), false, false, said{503, true, false}},
		"not ready":               {of(503, other), false, false, said{503, false, false}},
		"not ready for one taken": {of(503, other), true, false, said{503, true, false}},
		"full":                    {of(429, other), false, false, said{429, false, false}},
		"full for one taken":      {of(429, other), true, false, said{429, true, false}},
		"it does not understand":  {of(400, other), true, false, said{400, false, false}},
		"it cannot continue":      {of(400, other), true, true, said{400, true, false}},
		"no such model":           {of(404, other), true, true, said{404, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			j := &job{m: &Manager{log: slog.New(slog.DiscardHandler)}, detached: t.Context()}
			j.resumed = tc.taken
			j.answered.Store(tc.taken)
			f := j.refusal(tc.err, tc.continued)
			if got := (said{f.problem.Status, f.mayRepeat, f.taken}); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			cannot := tc.continued && f.problem.Status == http.StatusBadRequest
			if j.cannotContinue != cannot {
				t.Errorf("it is asked without the text so far: %v", j.cannotContinue)
			}
		})
	}
}

// TestRefusalOfASecondRequest: one that is asked for again, but was never taken, is not borne.
func TestRefusalOfASecondRequest(t *testing.T) {
	for _, tc := range []struct{ resumed, answered bool }{{true, false}, {false, true}} {
		j := &job{m: &Manager{log: slog.New(slog.DiscardHandler)}, detached: t.Context()}
		j.resumed = tc.resumed
		j.answered.Store(tc.answered)
		var busy error = &problem.Problem{Status: http.StatusTooManyRequests}
		if f := j.refusal(busy, false); f.mayRepeat || !errors.Is(f.problem, busy) {
			t.Errorf("%+v: sent again: %v", tc, f.mayRepeat)
		}
	}
}
