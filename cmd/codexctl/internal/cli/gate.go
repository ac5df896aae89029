package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// gate is a container in which the gate's commands run.
type gate struct {
	platform platform
	replica  running.Replica
	program  string
}

// gate returns one of the gates of the stack that runs well. The caller closes its platform.
func (a *App) gate(ctx context.Context, t target, stack stacks.Stack) (gate, error) {
	p, err := a.connect(ctx, t)
	if err != nil {
		return gate{}, err
	}

	g, err := healthyGate(ctx, t, stack, p)
	if err != nil {
		p.Close()
	}

	return g, err
}

// healthyGate returns one of the stack's gates that runs well.
func healthyGate(
	ctx context.Context, t target, stack stacks.Stack, p platform,
) (gate, error) {
	service := stack.Service(stacks.Gate)
	if service == nil {
		return gate{}, fmt.Errorf("stack %s has no %s", t.file.Name, stacks.Gate)
	}

	list, err := t.replicas(ctx, p, stacks.Gate)
	if err != nil {
		return gate{}, err
	}

	for _, r := range list {
		if r.Healthy {
			return gate{p, r, service.Health.Command[0]}, nil
		}
	}

	return gate{}, fmt.Errorf("%s of stack %s does not run well yet: `codexctl status %s`",
		stacks.Gate, t.file.Name, t.name)
}

// run runs the gate's command with the words, and returns what it prints.
func (g gate) run(ctx context.Context, words ...string) (string, error) {
	code, output, err := g.platform.Exec(ctx, g.replica, append([]string{g.program}, words...))
	if err != nil {
		return "", err
	}

	output = strings.TrimRight(output, "\n")
	if code != 0 {
		return "", errors.New(strings.TrimPrefix(output, stacks.Gate+": "))
	}

	return output, nil
}

// stream runs the gate's command with the words, which reads in, and writes what it prints to w.
func (g gate) stream(ctx context.Context, in io.Reader, w io.Writer, words ...string) error {
	var said bytes.Buffer
	code, err := g.platform.Stream(ctx, g.replica, append([]string{g.program}, words...),
		running.Streams{In: in, Out: w, Err: &said})
	if err != nil {
		return err
	}

	if code != 0 {
		return errors.New(strings.TrimPrefix(strings.TrimSpace(said.String()), stacks.Gate+": "))
	}

	return nil
}
