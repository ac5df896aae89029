package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// maxOutput bounds the output of a command, in bytes.
const maxOutput = 1 << 20

// endTimeout bounds the wait until the engine knows that a command has ended whose output has.
const endTimeout = 5 * time.Second

// Exec runs a command inside a container and returns its exit code and output.
func (e *Engine) Exec(
	ctx context.Context, in running.Replica, command []string,
) (code int, output string, err error) {
	var b bytes.Buffer
	code, err = e.exec(ctx, in, command, maxOutput, &b, &b)
	return code, strings.TrimSpace(b.String()), err
}

// Stream is Exec of a command with an output of any size, which it writes as it comes.
func (e *Engine) Stream(
	ctx context.Context, in running.Replica, command []string, stdout, stderr io.Writer,
) (code int, err error) {
	return e.exec(ctx, in, command, math.MaxInt64, stdout, stderr)
}

func (e *Engine) exec(
	ctx context.Context, in running.Replica, command []string, most int64, stdout, stderr io.Writer,
) (code int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("engine: exec %s in %s: %w", command[0], in.Name, err)
		}
	}()

	x, err := e.api.ExecCreate(ctx, in.ID, client.ExecCreateOptions{
		Cmd:          command,
		AttachStdout: true,
		AttachStderr: true,
	})
	if err != nil {
		return 0, err
	}

	conn, err := e.api.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	// The hijacked connection does not follow the context.
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	_, err = stdcopy.StdCopy(stdout, stderr, io.LimitReader(conn.Reader, most))
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, err
	}

	// A connection that was cut ends as that of a command which has ended does.
	for deadline := time.Now().Add(endTimeout); ; {
		r, err := e.api.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
		if err != nil {
			return 0, err
		}
		if !r.Running {
			return r.ExitCode, nil
		}
		if time.Now().After(deadline) {
			return 0, errors.New("its output was cut, and it still runs")
		}
		time.Sleep(20 * time.Millisecond)
	}
}
