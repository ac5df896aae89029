package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) forwardCommand() *cobra.Command {
	var port int
	c := &cobra.Command{
		Use:   "forward [STACK]",
		Short: "Open a cluster's stack on this machine's loopback address",
		Long: `Forwards the edge of a stack on a cluster to this machine, until it is interrupted:
to 127.0.0.1 and the port of codexcontinue:edge.port, or --port. It goes on when the
edge's pods are replaced.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.forward(c.Context(), stackOf(args), port)
		},
	}

	c.Flags().IntVar(&port, "port", 0,
		"the port on this machine; 0 is the one of the stack's settings")
	return c
}

func (a *App) forward(ctx context.Context, name string, port int) error {
	t, p, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	k, ok := p.(*onCluster)
	if !ok {
		return fmt.Errorf("stack %s runs on Docker, which publishes its edge itself: `codexctl "+
			"status %s` shows the address",
			t.file.Name, name)
	}

	if port < 0 || port > 65535 {
		return usageError{fmt.Errorf("--port: must be from 1 to 65535, got %d", port)}
	}

	if _, stack, err := t.load(); port == 0 && err == nil {
		if e := stack.Service(stacks.Edge); e != nil && len(e.Ports) > 0 {
			port = e.Ports[0].Host
		}
	}

	if _, err := t.replicas(ctx, p, stacks.Edge); err != nil {
		return err
	}

	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("forward: 127.0.0.1:%d is taken: choose another with --port", port)
	}
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}

	f := k.Forward(stacks.Edge)
	defer f.Close()
	a.out.Printf("http://%s", l.Addr())
	a.say("forwards to the edge of stack %s until it is interrupted", t.file.Name)
	return f.Serve(ctx, l, func(err error) { a.say("%s", err) })
}
