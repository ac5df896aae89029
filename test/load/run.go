package load

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Run is a load that was started.
type Run struct {
	opts         Options
	base, origin string
	pace         *pace

	// soft ends when no more is to be begun, hard when everything is to end.
	soft, hard context.Context
	stop       context.CancelFunc
	people     sync.WaitGroup
	browsers   []*browser
	began      time.Time

	edgeAway atomic.Bool

	mu           sync.Mutex
	report       Report
	times        map[string][]time.Duration
	refusedSince time.Time
	requests     int

	verified sync.Once
}

// Start starts a load. Ending ctx breaks it off: what it would find then says nothing.
func Start(ctx context.Context, o Options) (*Run, error) {
	u, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}

	r := &Run{
		opts:   o,
		base:   u.String(),
		origin: (&url.URL{Scheme: u.Scheme, Host: u.Host}).String(),
		hard:   ctx,
		pace: &pace{
			every: time.Duration(float64(time.Second) / o.Rate),
		},
		times: map[string][]time.Duration{},
		began: time.Now(),
	}

	r.soft, r.stop = context.WithCancel(ctx)
	if o.Duration > 0 {
		var cancel context.CancelFunc
		r.soft, cancel = context.WithTimeout(r.soft, o.Duration)
		stop := r.stop
		r.stop = func() { cancel(); stop() }
	}

	r.report = Report{
		WrongAnswers: map[string]int{},
		URL:          r.base,
		Seed:         o.Seed,
		People:       o.People,
		LongAnswers:  o.Answers,
		StreamsHeld:  o.Streams,
		Started:      r.began.UTC().Truncate(time.Second),
	}

	for i := range o.People {
		b := r.newBrowser(fmt.Sprintf("p%d", i+1), i)
		r.browsers = append(r.browsers, b)
		r.people.Go(b.live)
	}

	for i := range o.Answers {
		b := r.newBrowser(fmt.Sprintf("a%d", i+1), o.People+i)
		r.browsers = append(r.browsers, b)
		streams := o.Streams / o.Answers
		if i < o.Streams%o.Answers {
			streams++
		}
		r.people.Go(func() { b.watch(streams) })
	}

	if o.Progress != nil {
		go r.tell()
	}

	return r, nil
}

// Done is closed when the load takes no more requests: its time or their number is reached, or it
// was stopped.
func (r *Run) Done() <-chan struct{} { return r.soft.Done() }

// Stop ends the load: what was begun is waited for, then every message and answer is looked for. It
// returns the report.
func (r *Run) Stop() *Report {
	r.stop()
	r.people.Wait()
	r.verified.Do(func() {
		r.count(func(rep *Report) { rep.Took = time.Since(r.began) })
		var all sync.WaitGroup
		for _, b := range r.browsers {
			all.Go(b.verify)
		}
		all.Wait()
	})

	return r.Report()
}

// Report returns what was counted so far; after Stop it is the whole.
func (r *Run) Report() *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report.with(r.times)
}

// count changes the report.
func (r *Run) count(change func(*Report)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.report)
}

// answered counts a request and its time. Refused connections are none; how long they went on is
// known by the first request that comes through again.
func (r *Run) answered(kind string, began time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if err != nil && r.refused(err) {
		r.report.Refused.Count++
		if r.refusedSince.IsZero() {
			r.refusedSince = began
		}
		r.report.Refused.Longest = max(r.report.Refused.Longest, now.Sub(r.refusedSince))
		return
	}

	if !r.refusedSince.IsZero() && began.After(r.refusedSince) {
		r.report.Refused.Longest = max(r.report.Refused.Longest, began.Sub(r.refusedSince))
		r.refusedSince = time.Time{}
	}

	r.times[kind] = append(r.times[kind], now.Sub(began))
	if r.requests++; r.opts.Requests > 0 && r.requests >= r.opts.Requests {
		r.stop()
	}
}

// fail counts a failure of a request of that kind.
func (r *Run) fail(kind, what, example string) {
	r.count(func(rep *Report) { rep.failed(kind, what, stamp(time.Now())+" "+example) })
}

// stamp tells a moment to the tenth of a second.
func stamp(t time.Time) string { return t.UTC().Format("15:04:05.0") }

// tell tells how far it is, every ten seconds.
func (r *Run) tell() {
	t := time.NewTicker(10 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-r.soft.Done():
			return
		case <-t.C:
			rep := r.Report()
			r.opts.Progress(
				fmt.Sprintf(
					"%4.0f s: %d requests, %d questions, %d answers, %d failures",
					time.Since(r.began).Seconds(),
					rep.RequestCount(),
					rep.Acknowledged,
					rep.Followed,
					rep.FailureCount(),
				),
			)
		}
	}
}

// pace lets requests through at a rate.
type pace struct {
	mu    sync.Mutex
	next  time.Time
	every time.Duration
}

// wait waits for the turn of one request.
func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}

	turn := p.next
	p.next = p.next.Add(p.every)
	p.mu.Unlock()
	if d := turn.Sub(now); d > 0 && !sleep(ctx, d) {
		return ctx.Err()
	}

	return ctx.Err()
}
