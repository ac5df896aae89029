package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// maxOutput bounds the output that Exec returns, in bytes.
const maxOutput = 1 << 20

// endTimeout bounds the wait until the engine knows that a command has ended whose output has.
const endTimeout = 5 * time.Second

// Exec runs a command inside a container and returns its exit code and output.
func (e *Engine) Exec(
	ctx context.Context, in running.Replica, command []string,
) (code int, output string, err error) {
	var b bytes.Buffer
	w := &head{&b, maxOutput}
	code, err = e.Stream(ctx, in, command, running.Streams{Out: w, Err: w})
	if err != nil {
		return 0, "", err
	}

	return code, strings.TrimSpace(b.String()), nil
}

// head writes the first bytes and drops the rest.
type head struct {
	w    io.Writer
	left int
}

func (h *head) Write(p []byte) (int, error) {
	first := p[:min(h.left, len(p))]
	h.left -= len(first)
	if _, err := h.w.Write(first); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Stream runs a command inside a container, with the streams, and returns its exit code. When the
// context ends it stops to listen; the command may go on.
func (e *Engine) Stream(
	ctx context.Context, in running.Replica, command []string, s running.Streams,
) (code int, err error) {
	fail := func(err error) (int, error) {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return 0, fmt.Errorf("engine: exec %s in %s: %w", command[0], in.Name, err)
	}

	terminal := s.Sizes != nil
	x, err := e.api.ExecCreate(ctx, in.ID, client.ExecCreateOptions{
		Cmd:          command,
		TTY:          terminal,
		AttachStdin:  s.In != nil,
		AttachStdout: true,
		AttachStderr: true,
	})
	if err != nil {
		return fail(err)
	}

	conn, err := e.api.ExecAttach(ctx, x.ID, client.ExecAttachOptions{TTY: terminal})
	if err != nil {
		return fail(err)
	}
	defer conn.Close()

	// The hijacked connection does not follow the context.
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	if s.In != nil {
		go func() { // it ends with the connection, or never where In does not end, as a terminal
			_, _ = io.Copy(conn.Conn, s.In) // the command may end before it has read everything
			_ = conn.CloseWrite()
		}()
	}

	if terminal {
		go func() {
			for size := range s.Sizes {
				_, _ = e.api.ExecResize(ctx, x.ID, client.ExecResizeOptions{
					Height: uint(size.Height), Width: uint(size.Width),
				})
			}
		}()
		_, err = io.Copy(s.Out, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(s.Out, s.Err, conn.Reader)
	}
	if err != nil {
		return fail(err)
	}

	// A connection that was cut ends as that of a command that has ended does.
	for deadline := time.Now().Add(endTimeout); ; time.Sleep(20 * time.Millisecond) {
		r, err := e.api.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
		switch {
		case err != nil:
			return fail(err)
		case !r.Running:
			return r.ExitCode, nil
		case time.Now().After(deadline):
			return fail(errors.New("its output was cut, and it still runs"))
		}
	}
}
