package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func logsOf(o running.LogOptions) client.ContainerLogsOptions {
	out := client.ContainerLogsOptions{
		ShowStdout: true,
		ShowStderr: true,
		Follow:     o.Follow,
		Tail:       "all",
	}
	if o.Tail >= 0 {
		out.Tail = strconv.Itoa(o.Tail)
	}
	if !o.Since.IsZero() {
		out.Since = o.Since.Format(time.RFC3339Nano)
	}

	return out
}

// LastLines returns the last lines that a container logged, without their line ends.
func (e *Engine) LastLines(ctx context.Context, id string, n int) ([]string, error) {
	r, err := e.api.ContainerLogs(ctx, id, logsOf(running.LogOptions{Tail: n}))
	if err != nil {
		return nil, fmt.Errorf("engine: logs of %.12s: %w", id, err)
	}
	defer r.Close()

	var b bytes.Buffer
	if _, err := stdcopy.StdCopy(&b, &b, r); err != nil {
		return nil, fmt.Errorf("engine: logs of %.12s: %w", id, err)
	}

	text := strings.TrimRight(b.String(), "\n")
	if text == "" {
		return nil, nil
	}

	return strings.Split(text, "\n"), nil
}

// Logs calls line for each line that the service's containers log, one at a time. The lines of one
// container keep their order; without Follow the containers' logs follow one another.
func (e *Engine) Logs(
	ctx context.Context, stack, service string, opts running.LogOptions,
	line func(c Container, text string),
) error {
	// Events are subscribed to before the list is made: a container that starts in between is in
	// one of them, or both.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var started client.EventsResult
	if opts.Follow {
		started = e.api.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).
			Add("type", string(events.ContainerEventType)).Add("event", string(events.ActionStart)).
			Add("label", stacks.LabelProject+"="+stacks.Project, stacks.LabelStack+"="+stack,
				stacks.LabelService+"="+service)})
	}

	list, err := e.Containers(ctx, stack, service)
	if err != nil {
		return err
	}
	if len(list) == 0 && !opts.Follow {
		return nil
	}

	var mu sync.Mutex // one line at a time
	emit := func(c Container, text string) {
		mu.Lock()
		defer mu.Unlock()
		line(c, text)
	}
	if !opts.Follow {
		for _, c := range list {
			if err := e.stream(ctx, c, opts, emit); err != nil {
				return err
			}
		}
		return nil
	}

	return e.follow(ctx, list, started, opts, emit)
}

func (e *Engine) follow(
	ctx context.Context, list []Container, started client.EventsResult, opts running.LogOptions,
	emit func(Container, string),
) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	streams := map[string]bool{} // by container ID; streams that have ended are taken out
	ended := make(chan string)
	failed := make(chan error, 1)
	open := func(c Container, o running.LogOptions) {
		if streams[c.ID] {
			return
		}

		streams[c.ID] = true
		wg.Go(func() {
			if err := e.stream(ctx, c, o, emit); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
			}

			select {
			case ended <- c.ID:
			case <-ctx.Done():
			}
		})
	}

	for _, c := range list {
		open(c, opts)
	}

	restarted := map[string]time.Time{} // started again while its stream was still open
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case id := <-ended:
			delete(streams, id)
			if at, ok := restarted[id]; ok {
				delete(restarted, id)
				if c, err := e.Inspect(ctx, id); err == nil {
					open(c, running.LogOptions{Tail: -1, Follow: true, Since: at})
				}
			}
		case m := <-started.Messages:
			at := time.Unix(0, m.TimeNano)
			if streams[m.Actor.ID] {
				restarted[m.Actor.ID] = at
				continue
			}

			if c, err := e.Inspect(ctx, m.Actor.ID); err == nil {
				open(c, running.LogOptions{Tail: -1, Follow: true, Since: at})
			}
		case err := <-started.Err:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("engine: events: %w", err)
		}
	}
}

// stream emits one container's log until it ends.
func (e *Engine) stream(
	ctx context.Context, c Container, opts running.LogOptions, emit func(Container, string),
) error {
	r, err := e.api.ContainerLogs(ctx, c.ID, logsOf(opts))
	if err != nil {
		return fmt.Errorf("engine: logs of %s: %w", c.Name, err)
	}
	defer r.Close()

	pr, pw := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(pw, pw, r)
		pw.CloseWithError(err)
	}()
	defer pr.Close()
	err = running.ReadLines(ctx, pr, func(text string) { emit(c, text) })
	if err != nil {
		return fmt.Errorf("engine: logs of %s: %w", c.Name, err)
	}
	return nil
}
