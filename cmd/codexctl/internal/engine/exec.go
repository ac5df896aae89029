package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// maxOutput bounds the output of a command, in bytes.
const maxOutput = 1 << 20

// Exec runs a command inside a container and returns its exit code and output.
func (e *Engine) Exec(
	ctx context.Context, in running.Replica, command []string,
) (code int, output string, err error) {
	fail := func(err error) (int, string, error) {
		return 0, "", fmt.Errorf("engine: exec %s in %s: %w", command[0], in.Name, err)
	}
	x, err := e.api.ExecCreate(ctx, in.ID, client.ExecCreateOptions{
		Cmd:          command,
		AttachStdout: true,
		AttachStderr: true,
	})
	if err != nil {
		return fail(err)
	}

	conn, err := e.api.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	if err != nil {
		return fail(err)
	}
	defer conn.Close()

	// The hijacked connection does not follow the context.
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	var b bytes.Buffer
	if _, err := stdcopy.StdCopy(&b, &b, io.LimitReader(conn.Reader, maxOutput)); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fail(err)
	}

	r, err := e.api.ExecInspect(ctx, x.ID, client.ExecInspectOptions{})
	if err != nil {
		return fail(err)
	}

	return r.ExitCode, strings.TrimSpace(b.String()), nil
}
