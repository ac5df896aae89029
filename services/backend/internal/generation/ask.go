package generation

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// MaxAnswer is the greatest length of an answer in bytes, and MaxThinking that of its reasoning
// that is kept. They bound what an answer costs in Redis and in memory; the models' own limits are
// far below.
const (
	MaxAnswer   = 512 << 10
	MaxThinking = 256 << 10
)

// maxLine is the greatest length of a line of ml's stream in bytes.
const maxLine = 1 << 20

// The pauses between two requests to ml, which grow from the first to the last.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
)

// fault is why a request to ml has not completed the answer.
type fault struct {
	// problem is what a person is told if the answer fails for it.
	problem *problem.Problem

	// mayRepeat is set if the same request may be sent again.
	mayRepeat bool

	// taken is set if ml had taken the request. It may have died of it, so the request is repeated
	// store.MaxRetries times only.
	taken bool
}

// ask asks ml until the answer is complete, cannot be, or is no longer this job's.
func (j *job) ask() outcome {
	var failing time.Time // since when ml takes no request
	pause := firstPause
	j.find()
	for {
		took, f := j.request()
		if f == nil {
			return outcome{ending: &store.Ending{Event: backendapi.EventDone, Data: j.doneData,
				State: backendapi.MessageComplete}}
		}

		switch cause := context.Cause(j.ctx); {
		case errors.Is(cause, errDraining):
			return outcome{release: true}
		case errors.Is(cause, errStopped):
			e := store.Stopped()
			return outcome{ending: &e}
		case errors.Is(cause, errSuperseded):
			return outcome{superseded: true}
		case cause != nil: // the answer cannot be stored
			return outcome{}
		}

		if took {
			failing, pause = time.Time{}, firstPause
		}

		switch {
		case !f.mayRepeat:
			return j.fail(f.problem)
		case f.taken:
			if j.retries++; j.retries > store.MaxRetries {
				return j.fail(f.problem)
			}

			err := j.persistently(func(ctx context.Context) error {
				return j.m.store.Retry(ctx, j.g, j.retries)
			})
			if err != nil { // if the answer is another job's now, the next write fails with that
				j.m.log.WarnContext(j.detached, "an interruption of an answer could not be counted",
					"generation", j.g.ID, "error", err)
			}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > j.patience(f):
			return j.fail(f.problem)
		}

		j.m.metrics.askedAgain.Inc()
		j.m.log.WarnContext(j.detached, "asking ml again", "generation", j.g.ID, "bytes",
			len(j.text), "retries", j.retries, "error", f.problem.Error())
		j.resumed = true
		outage.Pause(j.ctx, pause) // if the context ends it, the next request fails with the cause
		pause = min(2*pause, lastPause)
	}
}

// patience returns how long ml may take no request: as long as an outage may last, or as long as an
// answer may wait for its turn if ml only has too many requests.
func (j *job) patience(f *fault) time.Duration {
	if f.problem.Status == http.StatusTooManyRequests {
		return j.m.timing.Wait
	}
	return j.m.store.Outage()
}

// fail ends the answer with the problem, or takes the message back if its request still waits for a
// reply.
func (j *job) fail(p *problem.Problem) outcome {
	if j.refuse(p) {
		return outcome{}
	}
	e := j.failed(p)
	return outcome{ending: &e}
}

// request asks ml once, with the text so far if there is some. It reports whether ml took the
// request: to answer it, or to let it wait for its turn. f is nil if the answer is complete.
func (j *job) request() (took bool, f *fault) {
	var admitted time.Time // what ml took to begin is not part of the answer's time
	ctx, cancel := context.WithCancelCause(j.ctx)
	defer cancel(nil)
	waiting := time.AfterFunc(j.m.timing.Wait, func() { cancel(errWaited) })
	defer waiting.Stop()
	admit := func() {
		if !admitted.IsZero() {
			return
		}

		admitted = time.Now()
		waiting.Stop()
		writing := time.AfterFunc(j.left, func() { cancel(errTimeout) })
		context.AfterFunc(ctx, func() { writing.Stop() })
	}

	defer func() {
		if !admitted.IsZero() {
			j.left = max(0, j.left-time.Since(admitted))
		}
	}()

	messages, begun := j.prompt, sinceBegun(string(j.text))
	continued := begun != "" && !j.cannotContinue
	if continued {
		messages = append(messages[:len(messages):len(messages)],
			mlapi.Message{Role: "assistant", Content: begun})
	}

	ask := mlapi.ChatRequest{Model: j.model, Messages: messages, Passages: j.passages()}
	resp, err := j.m.ml.Do(ctx, http.MethodPost, "/chat", ask, http.Header{
		"Accept":         {mlapi.NDJSON},
		wire.OwnerHeader: {j.g.Owner}, // ml is fair between owners, and counts what each asks,
		// once however often it is asked.
		wire.QuestionHeader: {j.g.ID},
	})
	if err != nil {
		if p := j.expired(ctx); p != nil {
			return false, &fault{problem: p}
		}
		return false, j.refusal(err, continued)
	}
	defer resp.Body.Close()

	acknowledged := j.answered.Load()
	j.accept()
	f = j.read(resp.Body, admit, begun != "" && !continued)
	if p := j.expired(ctx); f != nil && p != nil {
		return true, &fault{problem: p}
	}

	if f != nil && f.problem.Status == http.StatusTooManyRequests && acknowledged {
		// Its place in the queue went to somebody else. A message that was taken waits anew.
		f.mayRepeat = true
	}

	if f == nil {
		// To its end, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	}

	return true, f
}

// expired returns the problem of an answer whose time is over, or nil.
func (j *job) expired(ctx context.Context) *problem.Problem {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		return j.overtime()
	case errors.Is(cause, errWaited):
		return problem.New(http.StatusGatewayTimeout,
			"The answer waited for the model for %s. Try again when fewer people ask.",
			j.m.timing.Wait)
	}

	return nil
}

// overtime returns the problem of an answer that took as long as one may.
func (j *job) overtime() *problem.Problem {
	return problem.Typed(problem.TypeTimeout, http.StatusGatewayTimeout,
		"The answer took longer than %s, the longest that one may take. "+
			"What came so far is kept: ask the model to go on, or for a shorter answer.",
		j.m.timing.Answer)
}

// refusal returns the fault of a request that ml has not begun to answer.
func (j *job) refusal(err error, continued bool) *fault {
	var p *problem.Problem
	if !errors.As(err, &p) {
		j.m.log.WarnContext(j.detached, "ml", "error", err)
		return &fault{
			problem: unreachableProblem(), mayRepeat: true, taken: !outage.NeverSent(err),
		}
	}

	if p.Type == problem.TypeTimeout {
		return &fault{problem: j.overtime()}
	}

	status := p.Status
	if status >= 500 && status != http.StatusServiceUnavailable {
		p = &problem.Problem{Type: p.Type, Title: p.Title, Status: http.StatusBadGateway,
			Detail: p.Error()}
	}

	switch {
	case p.Type == problem.TypeDraining, p.Type == problem.TypeStarting, formerlyDraining(p),
		status == http.StatusBadGateway:
		return &fault{problem: p, mayRepeat: true}
	case status == http.StatusGatewayTimeout:
		return &fault{problem: p, mayRepeat: true, taken: true}
	case len(j.passages()) > 0 && status == http.StatusBadRequest: // an ml of the former version
		j.unquoted = true
		j.tell(backendapi.Sources{Unsearched: true})
		return &fault{problem: p, mayRepeat: true}
	case continued && status == http.StatusBadRequest: // one of an earlier one
		j.cannotContinue = true
		return &fault{problem: p, mayRepeat: true}
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		// A new message is refused. One that was taken waits.
		return &fault{problem: p, mayRepeat: j.resumed && j.answered.Load()}
	}

	return &fault{problem: p}
}

// formerlyDraining reports whether the problem is that of an ml of the former version that is being
// stopped: it had no type for that. Every other 503 of ml has one.
func formerlyDraining(p *problem.Problem) bool {
	return p.Status == http.StatusServiceUnavailable && p.Type == ""
}

func unreachableProblem() *problem.Problem {
	return problem.New(http.StatusBadGateway, "The model service cannot be reached or cut the "+
		"answer. Try again; the status page shows whether it is up.")
}

// read passes ml's answer on, and returns nil once it is complete. anew is set if ml does not know
// the text so far, so that what it sends begins the answer anew.
func (j *job) read(body io.Reader, admit func(), anew bool) *fault {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	newThought := j.thinking > 0 // the reasoning of an earlier request ends here
	for lines.Scan() {
		var c mlapi.Chunk
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return &fault{mayRepeat: true, taken: true,
				problem: problem.New(http.StatusBadGateway,
					"The model service sent something that is not an answer: %v", err)}
		}

		if c.Queue > 0 {
			j.inbox.setQueue(c.Queue)
		}
		if c.LeftOut > 0 || c.Passages != nil || c.Again || c.Thinking != "" || c.Text != "" || c.Done != nil {
			admit()
		}

		if c.Passages != nil && j.found != nil {
			j.tell(j.found.got(c.Passages, j.sources))
		}

		if n := j.dropped + c.LeftOut; c.LeftOut > 0 && n != j.leftOut {
			j.leftOut = n
			j.inbox.setLeftOut(n)
		}

		if c.Thinking != "" {
			if newThought {
				c.Thinking = "\n\n" + c.Thinking
			}

			newThought = false
			if j.thinking+len(c.Thinking) <= MaxThinking {
				j.thinking += len(c.Thinking)
				j.inbox.addThought(c.Thinking)
			}
		}

		anew = anew || c.Again
		if c.Text != "" {
			if anew && sinceBegun(string(j.text)) != "" {
				j.add(beginAgain(string(j.text)))
			}

			anew = false
			if len(j.text)+len(c.Text) > MaxAnswer {
				return &fault{problem: problem.New(http.StatusBadGateway,
					"The answer grew beyond %d KiB and was ended there.", MaxAnswer>>10)}
			}

			j.add(c.Text)
		}

		switch {
		case c.Error != nil && c.Error.Type == problem.TypeTimeout:
			return &fault{problem: j.overtime()}
		case c.Error != nil:
			switch c.Error.Status {
			case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
				// Ollama is gone or has fallen silent, or ml stops before it has begun.
				return &fault{problem: c.Error, mayRepeat: true,
					taken: c.Error.Type != problem.TypeDraining && !formerlyDraining(c.Error)}
			}
			return &fault{problem: c.Error}
		case c.Done != nil:
			data, err := json.Marshal(c.Done)
			if err != nil {
				return &fault{problem: problem.New(http.StatusBadGateway,
					"The model service ended the answer in an unknown way: %v", err)}
			}
			j.done.Store(c.Done)
			j.doneData = data
			return nil
		}
	}

	err := lines.Err()
	if err == nil {
		err = errors.New("it ended without the last line")
	}

	if j.ctx.Err() == nil {
		j.m.log.WarnContext(j.detached, "ml", "error",
			fmt.Errorf("the model service cut the answer: %w", err))
	}

	return &fault{problem: unreachableProblem(), mayRepeat: true, taken: true}
}

// add adds to the answer's text.
func (j *job) add(text string) {
	j.text = append(j.text, text...)
	j.inbox.addText(text)
}
