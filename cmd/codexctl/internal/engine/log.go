package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
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
func (e *Engine) LastLines(ctx context.Context, r running.Replica, n int) ([]string, error) {
	var out []string
	err := e.stream(ctx, r, running.LogOptions{Tail: n}, func(_ running.Replica, text string) {
		out = append(out, text)
	})
	return out, errors.Join(err, ctx.Err())
}

// Logs calls line for each line that the service's containers log, one at a time. The lines of one
// container keep their order; without Follow the containers' logs follow one another.
func (e *Engine) Logs(
	ctx context.Context, service string, o running.LogOptions, line running.Line,
) error {
	return running.Logs(ctx, o, line, func(ctx context.Context) ([]running.Log, error) {
		list, err := e.Containers(ctx, service)
		if err != nil {
			return nil, err
		}

		var out []running.Log
		for _, c := range list {
			out = append(out, running.Log{
				Source:  c.ID,
				Started: c.StartedAt,
				Before:  c.FinishedAt,
				Copy: func(ctx context.Context, o running.LogOptions, line running.Line) error {
					return e.stream(ctx, c.Replica, o, line)
				},
			})
		}

		return out, nil
	})
}

// stream calls line for each line of one container's log until it ends.
func (e *Engine) stream(
	ctx context.Context, c running.Replica, o running.LogOptions, line running.Line,
) error {
	r, err := e.api.ContainerLogs(ctx, c.ID, logsOf(o))
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
	err = running.ReadLines(ctx, pr, func(text string) { line(c, text) })
	if err != nil {
		return fmt.Errorf("engine: logs of %s: %w", c.Name, err)
	}

	return nil
}
