package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Dial runs a command inside a container and returns a connection to its standard input and output.
// The command ends with the connection.
func (e *Engine) Dial(
	ctx context.Context, in running.Replica, command []string,
) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, fmt.Errorf("engine: exec %s in %s: %w", command[0], in.Name, err)
	}
	x, err := e.api.ExecCreate(ctx, in.ID, client.ExecCreateOptions{
		Cmd:          command,
		AttachStdin:  true,
		AttachStdout: true,
		AttachStderr: true,
	})
	if err != nil {
		return fail(err)
	}

	attached, err := e.api.ExecAttach(ctx, x.ID, client.ExecAttachOptions{})
	if err != nil {
		return fail(err)
	}

	out, to := io.Pipe()
	go func() {
		var said bytes.Buffer
		_, err := stdcopy.StdCopy(to, &said, attached.Reader)
		if text := strings.TrimSpace(said.String()); text != "" {
			err = errors.New(text)
		}
		_ = to.CloseWithError(err)
	}()

	return &execConn{Conn: attached.Conn, out: out}, nil
}

// execConn is the hijacked connection of a command; what the command writes comes from out.
type execConn struct {
	net.Conn
	out *io.PipeReader
}

func (c *execConn) Read(p []byte) (int, error) { return c.out.Read(p) }

func (c *execConn) Close() error {
	_ = c.out.Close()
	return c.Conn.Close()
}
