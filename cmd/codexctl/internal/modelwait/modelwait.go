// Package modelwait waits until the stack's model can be used. That is after its containers are
// healthy: the first time, gigabytes are downloaded. It reads GET /api/status at the edge, as
// the status page does.
package modelwait

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/status"
)

const (
	// requestTimeout bounds one request: the backend asks the services in turn.
	requestTimeout = 10 * time.Second

	// maxBody bounds the response, in bytes.
	maxBody = 1 << 20
)

// missingFor is how long a base model has to be missing: ml looks every second.
const missingFor = 3 * time.Second

// Get requests the status once.
func Get(ctx context.Context, client *http.Client, edge string) (status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	url := strings.TrimSuffix(edge, "/") + status.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return status.Status{}, err
	}

	resp, err := client.Do(req)
	if err != nil {
		return status.Status{}, err
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return status.Status{}, fmt.Errorf("%s: %w", url, err)
	}

	var s status.Status
	if err := json.Unmarshal(body, &s); err != nil || s.Status == "" {
		return status.Status{}, fmt.Errorf("%s: answered %s without a status", url, resp.Status)
	}

	return s, nil
}

// FailedError is returned when the model could not be made.
type FailedError struct{ Model status.Model }

func (e *FailedError) Error() string {
	return fmt.Sprintf("model %s: failed: %s", e.Model.Name, console.Plain(e.Model.Error))
}

// TimeoutError is returned when the model was not ready in time.
type TimeoutError struct {
	After time.Duration

	// Last is the last status; Err tells why there is none.
	Last status.Status
	Err  error
}

func (e *TimeoutError) Error() string {
	what := describe(e.Last)
	if e.Err != nil {
		what = "the stack's address does not answer: " + e.Err.Error()
	}
	return fmt.Sprintf("model: not ready after %s: %s", e.After, what)
}

// describe returns the status in one line for a person.
func describe(s status.Status) string {
	m := s.Model
	text := "model " + m.Name + ": " + m.State
	if m.State == status.ModelReady {
		var bad []string
		for _, svc := range s.Services {
			if svc.Status != status.Ready {
				bad = append(bad, strings.TrimSpace(svc.Name+" is "+svc.Status+" "+svc.Detail))
			}
		}

		if len(bad) > 0 {
			return "waiting for services: " + strings.Join(bad, "; ")
		}
	}

	if m.Detail != "" && m.Detail != m.State {
		text += ", " + m.Detail
	}

	return console.Plain(text)
}

// Waiter waits for the model and shows its progress.
type Waiter struct {
	Client  *http.Client
	Out     *console.Console
	Timeout time.Duration

	// Every is the time between two requests.
	Every time.Duration
	Now   func() time.Time
}

// Wait requests the status until the stack and its model are ready. It returns a *FailedError if
// the model cannot be made, and a *TimeoutError if it takes too long.
func (w Waiter) Wait(ctx context.Context, edge string) (status.Status, error) {
	start := w.Now()
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	v := view{out: w.Out, start: start, now: w.Now}
	defer v.clear()
	var last status.Status
	var missing time.Time // since when
	for {
		s, err := Get(ctx, w.Client, edge)
		switch {
		case err != nil || s.Model.Missing == "":
			missing = time.Time{}
		case missing.IsZero():
			missing = w.Now()
		}

		switch {
		case !missing.IsZero() && w.Now().Sub(missing) < missingFor:
			// ml may not have seen yet what was just put into Ollama
			last = s
			v.show(s)
		case err == nil && s.Model.State == status.ModelFailed:
			return s, &FailedError{Model: s.Model}
		case err == nil && s.Status == status.Ready && s.Model.State == status.ModelReady:
			return s, nil
		case err == nil:
			last = s
			v.show(s)
		case ctx.Err() == nil:
			v.unreachable(err)
		}

		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				e := &TimeoutError{After: w.Timeout, Last: last}
				if last.Status == "" {
					e.Err = err
				}
				return last, e
			}

			return last, ctx.Err()
		case <-tick.C:
		}
	}
}

// repeatEvery is the time after which an unchanged state is printed again without a terminal.
const repeatEvery = 15 * time.Second

type view struct {
	out       *console.Console
	now       func() time.Time
	start     time.Time
	drawn     bool
	key       string
	printedAt time.Time
}

func (v *view) clear() {
	if v.drawn {
		fmt.Fprint(v.out, "\r\x1b[K")
		v.drawn = false
	}
}

func (v *view) show(s status.Status) {
	text := describe(s)
	if s.Model.State != status.ModelReady && s.Model.Total > 0 {
		text += "  " + amount(s.Model)
	}
	v.line(s.Model.State+s.Model.Name, text, s.Model)
}

func (v *view) unreachable(err error) {
	v.line("unreachable", "waiting for the stack's address to answer: "+err.Error(), status.Model{})
}

// line redraws the line on a terminal. Elsewhere it prints when key has changed, or after a while.
func (v *view) line(key, text string, m status.Model) {
	head := fmt.Sprintf("%5s  ", console.Elapsed(v.now().Sub(v.start)))
	if v.out.Terminal {
		progress := ""
		if m.State != status.ModelReady && m.Total > 0 {
			progress = bar(m.Completed, m.Total, 20) + " "
		}

		v.clear()
		fmt.Fprint(v.out, head+console.Cut(progress+text, v.out.Width()-len(head)-1))
		v.drawn = true
		return
	}

	if key == v.key && v.now().Sub(v.printedAt) < repeatEvery {
		return
	}

	v.key, v.printedAt = key, v.now()
	v.out.Printf("%s%s", head, console.Cut(text, v.out.Width()-len(head)))
}

func amount(m status.Model) string {
	return fmt.Sprintf("%s of %s (%d%%)", console.Size(m.Completed), console.Size(m.Total),
		percent(m.Completed, m.Total))
}

func percent(done, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return max(0, min(100, done*100/total))
}

// bar returns a progress bar of the given number of columns.
func bar(done, total int64, width int) string {
	n := int(percent(done, total)) * width / 100
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}
