package running

import (
	"bufio"
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// LogOptions select a part of the logs.
type LogOptions struct {
	// Tail is how many of the last lines of each replica are shown first; negative means all.
	Tail int

	// Since leaves out older lines, unless it is zero.
	Since time.Time

	// Follow continues with new lines, also of replicas that replace the current ones,
	// until the context ends.
	Follow bool
}

// Line is called for each line that a replica logs.
type Line func(r Replica, text string)

// Log is the log of a container.
type Log struct {
	// Source identifies the container.
	Source string

	// Started is when the container started last; zero if it is another one after each start.
	Started time.Time

	// Before is when its run before ended, or zero. Engines set Started a moment after the start,
	// when the program may have logged already.
	Before time.Time

	// Copy calls line for each line until the log ends.
	Copy func(ctx context.Context, o LogOptions, line Line) error
}

// lookEvery is the time between two looks for containers that have started. Of maxFailures looks in
// a row that fail, the last one's error ends the logs.
const (
	lookEvery   = time.Second
	maxFailures = 10
)

// Logs calls line for each line of the logs that list returns, one at a time. The lines of one log
// keep their order. Without Follow the logs follow one another. With it they are copied side by
// side, and those of containers that start later from their start.
func Logs(
	ctx context.Context, o LogOptions, line Line, list func(context.Context) ([]Log, error),
) error {
	logs, err := list(ctx)
	if err != nil {
		return err
	}

	if !o.Follow {
		for _, l := range logs {
			if err := l.Copy(ctx, o, line); err != nil {
				return err
			}
		}
		return nil
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	copies, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex // one line at a time
	locked := func(r Replica, text string) {
		mu.Lock()
		defer mu.Unlock()
		line(r, text)
	}

	started, open := map[string]time.Time{}, map[string]bool{} // by source
	ended := make(chan string)
	begin := func(l Log, o LogOptions) {
		last, known := started[l.Source]
		if open[l.Source] || known && !l.Started.After(last) {
			return
		}

		started[l.Source], open[l.Source] = l.Started, true
		copies.Go(func() error {
			err := l.Copy(ctx, o, locked)
			select {
			case <-ctx.Done():
				return nil
			case ended <- l.Source:
				return err
			}
		})
	}

	for _, l := range logs {
		begin(l, o)
	}

	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failures := 0 // in a row
	for {
		select {
		case <-ctx.Done():
			return copies.Wait()
		case source := <-ended:
			delete(open, source)
			continue
		case <-tick.C:
		}

		if logs, err = list(ctx); err != nil && ctx.Err() == nil {
			if failures++; failures < maxFailures {
				continue
			}

			cancel()
			_ = copies.Wait() // the list's error is the first
			return err
		}

		failures = 0
		for _, l := range logs {
			begin(l, LogOptions{Tail: -1, Follow: true, Since: l.Before})
		}
	}
}

// ReadLines calls line for each line of r, without its end, until r or the context ends.
func ReadLines(ctx context.Context, r io.Reader, line func(text string)) error {
	b := bufio.NewReader(r)
	for {
		text, err := b.ReadString('\n')
		if text != "" {
			line(strings.TrimRight(text, "\r\n"))
		}

		if err == io.EOF || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
