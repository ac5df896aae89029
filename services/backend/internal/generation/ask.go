package generation

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	// problem is what a person is told when it stays at that.
	problem *problem.Problem

	// again says that the same request may be sent again.
	again bool

	// taken says that ml had taken the request, which it may have died of: that is borne a few
	// times only.
	taken bool
}

// ask asks ml until the answer is complete, cannot be, or is no longer this job's.
func (j *job) ask() outcome {
	var failing time.Time // since when ml takes no request
	pause := firstPause
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
		case !f.again:
			return j.fail(f.problem)
		case f.taken:
			if j.retries++; j.retries > store.MaxRetries {
				return j.fail(f.problem)
			}

			err := j.persistently(func(ctx context.Context) error {
				return j.m.store.Retry(ctx, j.g, j.retries)
			})
			if err != nil { // the next write tells whether the answer is this job's
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
		outage.Pause(j.ctx, pause) // if it is cut short, the next request tells why
		pause = min(2*pause, lastPause)
	}
}

// patience is how long ml may take no request: as long as an outage lasts, or, where it only has
// too many already, as long as an answer may wait for its turn.
func (j *job) patience(f *fault) time.Duration {
	if f.problem.Status == http.StatusTooManyRequests {
		return j.m.timing.Wait
	}
	return j.m.store.Outage()
}

// fail ends the answer with the problem, or takes the message back when its request still waits.
func (j *job) fail(p *problem.Problem) outcome {
	if j.refuse(p) {
		return outcome{}
	}
	e := j.failed(p)
	return outcome{ending: &e}
}

// request asks ml once, with the text so far when there is some. It reports whether ml took the
// request: to answer it, or to let it wait for its turn.
func (j *job) request() (took bool, f *fault) {
	admitted := false
	ctx, cancel := context.WithCancelCause(j.ctx)
	defer cancel(nil)
	waiting := time.AfterFunc(j.m.timing.Wait, func() { cancel(errWaited) })
	defer waiting.Stop()
	admit := func() {
		if admitted {
			return
		}

		// What it took ml to take the request is not part of the answer's time.
		admitted = true
		waiting.Stop()
		begun := time.Now()
		writing := time.AfterFunc(j.left, func() { cancel(errTimeout) })
		context.AfterFunc(ctx, func() { writing.Stop() })
		j.admittedAt = begun
	}

	defer func() {
		if admitted {
			j.left = max(0, j.left-time.Since(j.admittedAt))
		}
	}()

	messages, begun := j.prompt, sinceBegun(string(j.text))
	continued := begun != "" && !j.plain
	if continued {
		messages = append(messages[:len(messages):len(messages)],
			mlapi.Message{Role: "assistant", Content: begun})
	}

	ask := mlapi.ChatRequest{Model: j.model, Messages: messages}
	resp, err := j.m.ml.Do(ctx, http.MethodPost, "/chat", ask, http.Header{
		"Accept": {mlapi.NDJSON}, wire.OwnerHeader: {j.g.Owner}}) // ml is fair between owners
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
		// its place went to somebody else: a message that was taken before waits anew
		f.again = true
	}

	if f == nil {
		// To its end, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	}

	return true, f
}

// expired is the problem of an answer whose time is over.
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

// overtime is the problem of an answer that took as long as one may.
func (j *job) overtime() *problem.Problem {
	p := problem.New(http.StatusGatewayTimeout,
		"The answer took longer than %s, the longest that one may take. "+
			"What came so far is kept: ask the model to go on, or for a shorter answer.",
		j.m.timing.Answer)
	p.Type = problem.TypeTimeout
	return p
}

// refusal is the fault of a request that ml has not begun to answer.
func (j *job) refusal(err error, continued bool) *fault {
	var p *problem.Problem
	if !errors.As(err, &p) {
		j.m.log.WarnContext(j.detached, "ml", "error", err)
		var op *net.OpError
		var dns *net.DNSError
		unreachable := errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
		return &fault{problem: unreachableProblem(), again: true, taken: !unreachable}
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
		return &fault{problem: p, again: true}
	case status == http.StatusGatewayTimeout:
		return &fault{problem: p, again: true, taken: true}
	case continued && status == http.StatusBadRequest: // an ml of the former version
		j.plain = true
		return &fault{problem: p, again: true}
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		// Of a new message this is the answer. One that was taken before waits.
		return &fault{problem: p, again: j.resumed && j.answered.Load()}
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

// read passes on ml's answer; nil says that it is complete. again says that ml was not told the
// text so far.
func (j *job) read(body io.Reader, admit func(), again bool) *fault {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	thought := j.thinking > 0 // before, so that what comes begins anew
	for lines.Scan() {
		var c mlapi.Chunk
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return &fault{again: true, taken: true,
				problem: problem.New(http.StatusBadGateway,
					"The model service sent something that is not an answer: %v", err)}
		}

		if c.Queue > 0 {
			j.inbox.setQueue(c.Queue)
		}
		if c.LeftOut > 0 || c.Again || c.Thinking != "" || c.Text != "" || c.Done != nil {
			admit()
		}

		if n := j.dropped + c.LeftOut; c.LeftOut > 0 && n != j.leftOut {
			j.leftOut = n
			j.inbox.setLeftOut(n)
		}

		if c.Thinking != "" {
			if thought {
				c.Thinking = "\n\n" + c.Thinking
			}

			thought = false
			if j.thinking+len(c.Thinking) <= MaxThinking {
				j.thinking += len(c.Thinking)
				j.inbox.addThought(c.Thinking)
			}
		}

		again = again || c.Again
		if c.Text != "" {
			if again && sinceBegun(string(j.text)) != "" {
				j.add(beginAgain(string(j.text)))
			}

			again = false
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
				return &fault{problem: c.Error, again: true,
					taken: c.Error.Type != problem.TypeDraining && !formerlyDraining(c.Error)}
			}
			return &fault{problem: c.Error}
		case c.Done != nil:
			data, err := json.Marshal(c.Done)
			if err != nil {
				return &fault{problem: problem.New(http.StatusBadGateway,
					"The model service ended the answer in an unknown way: %v", err)}
			}
			j.done, j.doneData = c.Done, data
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

	return &fault{problem: unreachableProblem(), again: true, taken: true}
}

// add adds to the answer's text.
func (j *job) add(text string) {
	j.text = append(j.text, text...)
	j.inbox.addText(text)
}
