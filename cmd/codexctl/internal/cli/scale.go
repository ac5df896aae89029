package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) scaleCommand() *cobra.Command {
	var stack string
	var others bool
	var o upOptions
	c := &cobra.Command{
		Use:   "scale SERVICE REPLICAS",
		Short: "Run more or fewer replicas of a service",
		Long: `Writes the number of replicas into the stack's settings, as
codexcontinue:services: {SERVICE: {replicas: REPLICAS}}, and brings the stack up, so
that settings, state and what runs agree.`,
		Args: scaleArgs,
		RunE: func(c *cobra.Command, args []string) error {
			n, _ := strconv.Atoi(args[1])
			return a.scale(c.Context(), stack, args[0], n, others, o)
		},
	}

	f := c.Flags()
	f.StringVarP(&stack, "stack", "s", defaultStack, "the stack")
	f.BoolVar(&others, "with-other-changes", false, "go on when up would change something else too")
	o.flags(f)
	return c
}

// scaleArgs accepts a service and a number of replicas.
func scaleArgs(c *cobra.Command, args []string) error {
	if len(args) != 2 {
		return usageError{fmt.Errorf("name one service and how many replicas it gets, such as "+
			"backend 3: see `%s --help`",
			c.CommandPath())}
	}

	if n, err := strconv.Atoi(args[1]); err != nil || n < 1 {
		return usageError{fmt.Errorf("%q is no number of replicas, which is 1 or more: see `%s --help`",
			args[1], c.CommandPath())}
	}

	return nil
}

func (a *App) scale(
	ctx context.Context, name, service string, replicas int, others bool, o upOptions,
) error {
	t, before, err := a.load(name)
	if err != nil {
		return err
	}
	if err := checkService(before, service); err != nil {
		return err
	}

	if s := before.Service(service).Autoscale; s != nil {
		return fmt.Errorf("%s:services.%s.autoscale: the number of replicas follows the load "+
			"(from %d to %d): change its min and max, or remove the key",
			stacks.Project, service, s.Min, s.Max)
	}

	// As up will, of the settings that are not written yet.
	planned, err := t.scaled(ctx, service, replicas)
	if err != nil {
		return err
	}
	if err := a.refuseViolations(planned); err != nil {
		return err
	}

	s, err := a.session(ctx, t, true)
	if err != nil {
		return a.explainError(err, t.name)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	// Before anything is written.
	if o.release, err = a.lock(ctx, p, t.name, "scale"); err != nil {
		return err
	}
	defer o.release()

	if !others {
		if err := a.onlyThis(ctx, s, t.name); err != nil {
			return err
		}
	}

	if err := s.Set(ctx, stacks.Project+":services."+service+".replicas", strconv.Itoa(replicas)); err != nil {
		return a.explainError(err, t.name)
	}

	a.say("%s: %s:services.%s.replicas is %d now", t.file.Path, stacks.Project, service, replicas)
	return a.up(ctx, name, o)
}

// scaled plans the stack with that many replicas of the service. It is an error if that cannot be
// provisioned.
func (t target) scaled(ctx context.Context, service string, replicas int) (plan.Plan, error) {
	key := deploy.Services
	config := program.Config{
		Plain: maps.Clone(t.file.Config.Plain), Secret: t.file.Config.Secret,
	}
	services := map[string]map[string]any{}
	if text := config.Plain[key]; text != "" {
		if err := json.Unmarshal([]byte(text), &services); err != nil {
			return plan.Plan{}, fmt.Errorf("%s: %w", key, err)
		}
	}

	if services[service] == nil {
		services[service] = map[string]any{}
	}

	services[service]["replicas"] = replicas
	text, err := json.Marshal(services)
	if err != nil {
		return plan.Plan{}, err
	}

	config.Plain[key] = string(text)
	return plan.OfConfig(ctx, t.project.Root, t.file.Name, config, plan.OfOptions{})
}

// onlyThis returns an error if up would change something already: who scales a service does not
// mean to deploy other changes of the checkout.
func (a *App) onlyThis(ctx context.Context, s *deploy.Session, name string) error {
	result, err := s.Preview(ctx, progress.Quiet(a.err, a.now))
	if err != nil {
		return a.explainError(err, name)
	}

	plan := merge(result.Steps)
	if len(plan) == 0 {
		return nil
	}

	printPlan(a.err, plan)
	var names []string
	for _, c := range plan[:min(3, len(plan))] {
		names = append(names, c.Kind+" "+c.Name)
	}

	return fmt.Errorf("scale: up would change more than that (%[2]s; %[1]d in all): run "+
		"`codexctl up %[3]s` first, or add --with-other-changes",
		len(plan), strings.Join(names, ", "), name)
}
