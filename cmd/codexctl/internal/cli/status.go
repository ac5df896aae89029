package cli

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/modelwait"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// askModel bounds how long status waits for the stack to answer about its model.
const askModel = 3 * time.Second

func (a *App) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [STACK]",
		Short: "Show what runs: health, image, limits, address, model",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.status(c.Context(), stackOf(args), asJSON)
		},
	}

	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *App) status(ctx context.Context, name string, asJSON bool) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}

	_, stack, err := t.load()
	if err != nil {
		// What runs can be shown whatever the settings say.
		a.say("%s: the settings are not valid, showing what runs: %s",
			a.err.Paint(console.Yellow, "warning"), err)
		stack = stacks.Stack{Name: t.file.Name}
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	way, err := p.Edge(ctx, stack)
	if err != nil {
		return err
	}
	defer way.Close()

	r, err := collect(ctx, p, stack, way, a.now())
	if err != nil {
		return err
	}

	h, held, err := p.Holder(ctx)
	switch {
	case err != nil:
		a.say("the lock: %v", err)
	case held:
		r.Lock = &h
		if !asJSON {
			defer a.say("lock: %s", a.holds(h))
		}
	}

	if r.Maintenance, err = a.notice(ctx, t, stack, p); err != nil {
		a.say("whether people see a page of maintenance is not known: %v", err)
	}

	if way.url != "" {
		ask, cancel := context.WithTimeout(ctx, askModel)
		defer cancel()
		if s, err := modelwait.Get(ask, way.client, way.url); err == nil {
			r.setModel(&s, stack.Model.Digest)
		} else if !asJSON {
			defer a.say("the address does not answer: %s", way.explain(err))
		}
	}

	if asJSON {
		return writeJSON(a.out, r)
	}

	if !slices.ContainsFunc(r.Services, func(s serviceReport) bool { return len(s.Containers) > 0 }) {
		a.say("stack %s is not up: `codexctl up %s`", stack.Name, name)
		return nil
	}

	r.print(a.out)
	if stack.InternalTLS() {
		for _, f := range doctor.Certificates(ctx, p, stack, a.now()) {
			if f.Status == doctor.Warn || f.Status == doctor.Fail {
				a.say("certificates: %s: %s", f.Detail, f.Fix)
			}
		}
	}

	for _, s := range r.Services {
		for _, c := range s.Containers {
			if !c.Healthy {
				a.say("%s: %s", c.Name, c.Condition)
			}
		}
	}

	return nil
}

func writeJSON(out *console.Console, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
