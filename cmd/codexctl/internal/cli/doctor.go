package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor [STACK]",
		Short: "Find out why a stack does not, or would not, work here",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.doctor(c.Context(), stackOf(args), asJSON)
		},
	}

	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *App) doctor(ctx context.Context, name string, asJSON bool) error {
	t, err := a.target(name)
	if err != nil {
		return err
	}

	p := &doctor.Patient{
		Root:       t.project.Root,
		Name:       t.file.Name,
		Path:       filepath.SplitList(a.getenv("PATH")),
		PluginDirs: a.pluginDirs(),
	}

	_, p.Stack, p.StackErr = t.load()
	if place, err := t.place(); err == nil {
		p.OnCluster = place.Target == stacks.Kubernetes
	}

	where, err := a.connect(ctx, t)
	if err != nil {
		p.PlatformErr = err
	} else {
		defer where.Close()
		where.Patient(ctx, p)
	}

	if p.OnCluster && p.StackErr == nil {
		list, err := images.Of(p.Stack, t.project.Root)
		p.ImagesErr = err
		for _, x := range list {
			if x.Build != nil {
				p.Images = append(p.Images, x.Ref)
			}
		}
	}

	if p.Finder, err = a.finder(t); err != nil {
		return err
	}

	p.State, p.SecretsErr = a.stateOf(t)

	failed := 0
	all := []doctor.Finding{}
	doctor.Examine(ctx, p, func(f doctor.Finding) {
		if f.Status == doctor.Fail {
			failed++
		}
		all = append(all, f)
		if !asJSON {
			a.printFinding(f)
		}
	})

	if asJSON {
		if err := writeJSON(a.out, all); err != nil {
			return err
		}
	}

	if failed > 0 {
		return errReported
	}

	return ctx.Err()
}

// stateOf describes where the state is, or returns what is missing to open it.
func (a *App) stateOf(t target) (string, error) {
	host, err := a.engineHost(t)
	if err != nil {
		return "", err
	}

	backend, _, err := a.pulumiEnv(t, host)
	if err != nil {
		return "", err
	}
	if backend.Default {
		return backend.URL + ", as there is no Pulumi login", nil
	}
	if backend.URL == "" {
		return "Pulumi Cloud, by " + backend.Source, nil
	}

	return backend.URL + ", by " + backend.Source, nil
}

func (a *App) pluginDirs() []string {
	home := a.getenv("PULUMI_HOME")
	if home == "" {
		home = filepath.Join(a.getenv("HOME"), ".pulumi")
	}
	return []string{filepath.Join(home, "plugins")}
}

func (a *App) printFinding(f doctor.Finding) {
	paint := map[doctor.Status]console.Paint{
		doctor.OK:   console.Green,
		doctor.Warn: console.Yellow,
		doctor.Fail: console.Red,
		doctor.Skip: console.Dim,
	}[f.Status]

	head, name := fmt.Sprintf("%-6s", f.Status), fmt.Sprintf("%-17s", f.Check)
	a.out.Hanging(a.out.Paint(paint, head)+name, console.Plain(f.Detail))
	if f.Fix != "" {
		a.out.Hanging(strings.Repeat(" ", len(head+name))+"fix: ", console.Plain(f.Fix))
	}
}
