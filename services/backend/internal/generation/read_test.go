package generation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/prometheus/client_golang/prometheus"
)

// alone is a manager without a store, and what it counts.
func alone(t *testing.T) (*Manager, func(metric, value string) float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	m := &Manager{
		log: slog.New(slog.DiscardHandler), metrics: newMetrics(reg), jobs: map[string]*job{},
	}
	m.closing, m.cut = context.WithCancel(t.Context())
	return m, func(metric, value string) float64 {
		t.Helper()
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range all {
			for _, x := range family.GetMetric() {
				if family.GetName() == metric && x.GetLabel()[0].GetValue() == value {
					return x.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
}

// TestRead holds what is passed on of ml's lines, and which of them begins the turn.
func TestRead(t *testing.T) {
	most, third := strings.Repeat("x", MaxThinking), strings.Repeat("x", MaxThinking/3+1)
	for name, tc := range map[string]struct {
		line     string
		admitted bool
		thinking string
		leftOut  int
	}{
		"a place":          {`{"queue":3}`, false, "", 0},
		"what is left out": {`{"left_out":2}`, true, "", 2},
		"a new beginning":  {`{"again":true}`, true, "", 0},
		"reasoning":        {`{"thinking":"hm"}`, true, "hm", 0},
		"text":             {`{"text":"hi"}`, true, "", 0},
		"the longest":      {`{"thinking":"` + most + `"}`, true, most, 0},
		"one byte more":    {`{"thinking":"` + most + `x"}`, true, "", 0},
		"three that are too much": {
			strings.Repeat(`{"thinking":"`+third+`"}`+"\n", 3), true, third + third, 0,
		},
		"more than the rest": {
			`{"thinking":"` + most + `"}` + "\n" + `{"thinking":"x"}`, true, most, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := alone(t)
			j := newJob(t.Context(), m, store.Generation{}, "m", nil)
			admitted := false
			j.read(strings.NewReader(tc.line), func() { admitted = true }, false)
			n := j.inbox.take()
			if admitted != tc.admitted {
				t.Errorf("its turn has come: %v", admitted)
			}
			if string(n.thinking) != tc.thinking || n.leftOut != tc.leftOut {
				t.Errorf("%d bytes of reasoning, %d left out", len(n.thinking), n.leftOut)
			}
		})
	}
}

// TestSaysWhatIsCut expects a log line for an answer that was cut, unless the job is over.
func TestSaysWhatIsCut(t *testing.T) {
	for _, over := range []bool{false, true} {
		m, _ := alone(t)
		var said bytes.Buffer
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		j := newJob(t.Context(), m, store.Generation{}, "m", nil)
		if over {
			j.cancel(errStopped)
		}
		j.read(strings.NewReader(""), func() {}, false)
		if got := strings.Contains(said.String(), "cut the answer"); got == over {
			t.Errorf("the job is over: %v, and it says %q", over, said.String())
		}
	}
}

// TestDrainSaysWhatItWaitsFor: an instance without answers stops without a word; one with some says
// so, and leaves them to others.
func TestDrainSaysWhatItWaitsFor(t *testing.T) {
	for _, jobs := range []int{0, 1} {
		m, _ := alone(t)
		var said bytes.Buffer
		m.log = slog.New(slog.NewTextHandler(&said, nil))
		j := newJob(t.Context(), m, store.Generation{}, "m", nil)
		if jobs > 0 {
			m.jobs["g"] = j
		}
		if err := m.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.release(t.Context())
		for _, words := range []string{"waiting for answers", "releasing answers"} {
			if strings.Contains(said.String(), words) != (jobs > 0) {
				t.Errorf("with %d answers it says %q", jobs, said.String())
			}
		}
		if left := errors.Is(context.Cause(j.ctx), errDraining); left != (jobs > 0) {
			t.Errorf("with %d answers, one is left to others: %v", jobs, left)
		}
	}
}

// TestNote ends the job where the answer is somebody else's, and bears every other failure.
func TestNote(t *testing.T) {
	for _, tc := range []struct {
		err   error
		goes  bool
		ended string
	}{
		{nil, true, ""}, {errors.New("Redis is away"), true, ""},
		{store.ErrEnded, false, backendapi.MessageStopped}, {store.ErrSuperseded, false, superseded},
	} {
		m, count := alone(t)
		j := newJob(t.Context(), m, store.Generation{}, "m", nil)
		if goes := j.note("it", func(context.Context) error { return tc.err }); goes != tc.goes {
			t.Errorf("%v: the job goes on: %v", tc.err, goes)
		}
		if tc.ended != "" && count("backend_generations_total", tc.ended) != 1 {
			t.Errorf("%v: no answer is counted as %s", tc.err, tc.ended)
		}
		if over := j.ctx.Err() != nil; over == tc.goes {
			t.Errorf("%v: the work with ml is over: %v", tc.err, over)
		}
	}
}

// TestCountsTokens of answers that are complete.
func TestCountsTokens(t *testing.T) {
	for state, want := range map[string]float64{
		backendapi.MessageComplete: 5, backendapi.MessageStopped: 0,
	} {
		m, count := alone(t)
		j := newJob(t.Context(), m, store.Generation{}, "m", nil)
		j.ended(state) // of an ml that did not count
		j.done.Store(&mlapi.Done{Tokens: 5, PromptTokens: 7})
		j.ended(state)
		if got := count("backend_tokens_total", "answer"); got != want {
			t.Errorf("%s: %v tokens, want %v", state, got, want)
		}
	}
}

// TestCountsRefusals by what a person can do about them.
func TestCountsRefusals(t *testing.T) {
	m, count := alone(t)
	m.drain = true
	_, err := m.Start(t.Context(), "alice", "", backendapi.ChatRequest{Message: "hi"})
	var p *problem.Problem
	if !errors.As(err, &p) || p.Type != problem.TypeDraining {
		t.Errorf("an instance that stops says %v", err)
	}
	if n := count("backend_chat_requests_total", "draining"); n != 1 {
		t.Errorf("%v are counted as draining", n)
	}
}

// TestNext joins text that is short enough for one event.
func TestNext(t *testing.T) {
	event := func(id, name, data string) store.Event {
		return store.Event{ID: id, Name: name, Data: data}
	}
	half := strings.Repeat("x", maxDelta/2)
	for name, tc := range map[string]struct {
		events []store.Event
		id     string
		left   int
	}{
		"alone": {[]store.Event{event("1", "delta", "a")}, "1", 0},
		"two": {
			[]store.Event{event("1", "delta", half), event("2", "delta", half)}, "2", 0,
		},
		"two long ones": {
			[]store.Event{event("1", "delta", half), event("2", "delta", half+"x")}, "1", 1,
		},
		"two kinds": {
			[]store.Event{event("1", "delta", "a"), event("2", "done", "{}")}, "1", 1,
		},
		"no text": {
			[]store.Event{event("1", "done", "{}"), event("2", "done", "{}")}, "1", 1,
		},
	} {
		e, rest, err := next(tc.events)
		if err != nil || e.ID != tc.id || len(rest) != tc.left {
			t.Errorf("%s: event %s, %d left, %v", name, e.ID, len(rest), err)
		}
	}
}

// TestDefaultTiming bears a long queue.
func TestDefaultTiming(t *testing.T) {
	d := DefaultTiming(time.Hour)
	if d.Answer != time.Hour || d.Wait != 30*time.Minute || d.Admission != 300*time.Millisecond ||
		d.KeepAlive != 15*time.Second || d.Write != 20*time.Second {
		t.Errorf("%+v", d)
	}
}

// TestTitleOfOneLongWord: a title is not cut at a word where less than half of it would be left.
func TestTitleOfOneLongWord(t *testing.T) {
	x, y := strings.Repeat("x", 29), strings.Repeat("y", 70)
	for words, want := range map[string]string{
		x + " " + y:  x + " " + y[:29] + "…",
		x + "x " + y: x + "x…",
	} {
		if got := Title(words); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
