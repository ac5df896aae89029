package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/targets"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) planCommand() *cobra.Command {
	var on string
	var asJSON bool
	c := &cobra.Command{
		Use:   "plan [STACK]",
		Short: "Show what a stack is made of, and what each service gets",
		Long: `Shows what "up" would provision when nothing is there yet: the services with image,
limits, ports, networks, mounts, GPU and health, and the resources behind them.
It runs the stack's own program and asks nothing but the files: no engine, login,
passphrase or network. "codexctl preview" compares with what runs.

The JSON is the same on every machine. Secrets are marked and never opened.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			target, err := targetFlag(on)
			if err != nil {
				return err
			}
			return a.plan(c.Context(), stackOf(args), target, asJSON)
		},
	}

	c.Flags().StringVar(&on, "target", "",
		"plan for docker or kubernetes instead of the stack's own target")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *App) plan(ctx context.Context, name string, on stacks.Target, asJSON bool) error {
	_, p, err := a.planOf(ctx, name, on)
	if err != nil {
		return err
	}
	if asJSON {
		return plan.Encode(a.out, p.Document)
	}

	view, err := workload.Of(p.Document)
	if err != nil {
		return err
	}

	tree := planTree(p, view)
	a.out.Printf("%s", a.out.Paint(console.Bold, tree.title))
	printTree(a.out, tree.branches, "")
	return nil
}

// planOf finds the stack and plans it from the files alone, for its own target if on is empty.
func (a *App) planOf(
	ctx context.Context, name string, on stacks.Target,
) (target, plan.Plan, error) {
	t, err := a.target(name)
	if err != nil {
		return target{}, plan.Plan{}, err
	}

	p, err := plan.Of(ctx, t.project.Root, t.file.Name, plan.OfOptions{Target: on})
	return t, p, err
}

// branch is a node of a printed tree: a title, named facts, and branches of its own.
type branch struct {
	title    string
	facts    [][2]string
	branches []branch
}

// planTree returns the plan as a tree: a branch for each service with what it gets, then the model
// and the resources that belong to no service.
func planTree(p plan.Plan, view workload.View) branch {
	d := p.Document
	resources := 0
	for _, r := range d.Resources {
		if !r.Component {
			resources++
		}
	}

	services := view.Services()
	root := branch{title: fmt.Sprintf("%s on %s: %d services, %d resources", d.Stack, d.Target,
		len(services), resources)}
	below := map[string][]branch{} // resources by "type name" of their component
	for _, r := range d.Resources {
		if !r.Component {
			below[r.Parent] = append(below[r.Parent], branch{title: resourceTitle(r)})
		}
	}

	components := map[string]string{} // by service
	for _, r := range d.Resources {
		if r.Component && strings.HasSuffix(r.Type, ":Service") {
			components[r.Name] = r.Type + " " + r.Name
		}
	}

	gaps := map[string][]targets.Gap{} // by service
	for _, g := range targets.Gaps(p.Stack, d.Target) {
		gaps[g.Service] = append(gaps[g.Service], g)
	}

	for _, group := range services {
		name := group[0].Service
		b := branch{title: name, facts: serviceFacts(p.Stack.Service(name), group, view)}
		// Gaps that do not stop an update are shown to whoever reviews the plan.
		label := "not enforced"
		for _, g := range gaps[name] {
			b.facts = append(b.facts,
				[2]string{label, strings.TrimPrefix(g.Path, "services."+name+".") + ": " + g.Lets})
			label = ""
		}

		if c := components[name]; c != "" {
			b.branches = below[c]
			delete(below, c)
		}

		root.branches = append(root.branches, b)
	}

	if m := d.Model; m != nil {
		base := cmp.Or(m.Base, "the one that the Modelfile names")
		root.branches = append(root.branches, branch{title: "model " + m.Name, facts: [][2]string{
			{"modelfile", m.Modelfile}, {"base", base},
			{"digest", m.Digest[:min(12, len(m.Digest))]}}})
	}

	rest := branch{title: "for all services"}
	for _, key := range slices.Sorted(maps.Keys(below)) {
		rest.branches = append(rest.branches, below[key]...)
	}

	if len(rest.branches) > 0 {
		root.branches = append(root.branches, rest)
	}

	return root
}

// resourceTitle returns the kind and name of the resource.
func resourceTitle(r plan.Resource) string {
	title := r.Type[strings.LastIndex(r.Type, ":")+1:] + " " + r.Name
	if r.Options != nil && r.Options.RetainOnDelete {
		title += " (outlives the stack)"
	}
	return title
}

// serviceFacts returns what a service gets. Replicas that are containers of their own are all
// alike, so the first one stands for them.
func serviceFacts(svc *stacks.Service, group []workload.Workload, view workload.View) [][2]string {
	var out [][2]string
	add := func(name string, values ...string) {
		for _, v := range values {
			out = append(out, [2]string{name, v})
			name = ""
		}
	}

	replicas := 0
	for _, w := range group {
		if w.Kind == group[0].Kind {
			replicas += w.Replicas
		}
	}

	for _, w := range group {
		if w.Kind == group[0].Kind && w.Name != group[0].Name {
			continue
		}

		for _, c := range w.Containers {
			part := c.Name
			if w.Kind != group[0].Kind {
				part = strings.TrimSpace(w.Kind + " " + c.Name)
			} else if c.Name == w.Service || len(w.Containers) == 1 {
				part = ""
			}

			if part != "" {
				add("container", part)
			}

			image := c.Image
			if c.Built {
				image += ", built"
			}

			add("image", image)
			if part == "" {
				add("replicas", replicasText(svc, replicas))
			}

			add("limits", limitsText(c))
			if c.GPU != "" {
				add("gpu", c.GPU)
			}

			add("mounts", mountsText(c.Mounts)...)
			if len(c.Health) > 0 {
				add("health", healthText(svc, c))
			}
		}
	}

	if svc != nil {
		var ports []string
		for _, p := range svc.Ports {
			ports = append(ports, fmt.Sprintf("%d (%s)", p.Container, p.Name))
		}
		if len(ports) > 0 {
			add("ports", strings.Join(ports, ", "))
		}
	}

	for _, e := range view.Exposed {
		if e.Service == group[0].Service {
			who := "from other machines"
			if e.Loopback {
				who = "this machine alone"
			}
			add("published", fmt.Sprintf("%s %s, %s", e.How, e, who))
		}
	}

	if n := group[0].Networks; len(n) > 0 {
		add("networks", strings.Join(n, ", "))
	}
	if calls := group[0].Calls; len(calls) > 0 {
		add("calls", strings.Join(calls, ", "))
	}

	return out
}

func replicasText(svc *stacks.Service, n int) string {
	if svc != nil && svc.Autoscale != nil {
		return fmt.Sprintf("%d to %d, for %d%% of the CPU",
			svc.Autoscale.Min, svc.Autoscale.Max, svc.Autoscale.CPU)
	}
	return strconv.Itoa(n)
}

func limitsText(c workload.Container) string {
	var out []string
	if c.CPU > 0 {
		out = append(out, c.CPU.Cores()+" CPU")
	}
	if c.Memory > 0 {
		out = append(out, console.Size(int64(c.Memory)))
	}
	if c.PIDs > 0 {
		out = append(out, strconv.Itoa(c.PIDs)+" processes")
	}
	if len(out) == 0 {
		return "none"
	}

	return strings.Join(out, ", ")
}

func mountsText(mounts []workload.Mount) []string {
	var out []string
	for _, m := range mounts {
		text := m.Path + "  " + string(m.Kind)
		if m.Source != "" {
			text += " " + m.Source
		}
		if m.ReadOnly {
			text += ", read-only"
		}

		out = append(out, text)
	}

	return out
}

func healthText(svc *stacks.Service, c workload.Container) string {
	var words []string
	for _, w := range c.Health {
		if w != "CMD" {
			words = append(words, w)
		}
	}

	text := strings.Join(words, " ")
	if svc != nil && svc.Health.Interval > 0 {
		text += fmt.Sprintf(" every %s", svc.Health.Interval)
	}

	return text
}

// printTree prints the branches, each line within the width of the console.
func printTree(out *console.Console, branches []branch, indent string) {
	for i, b := range branches {
		fork, trunk := "├─ ", "│  "
		if i == len(branches)-1 {
			fork, trunk = "└─ ", "   "
		}

		room := max(out.Width()-len([]rune(indent))-3, 20)
		title := console.Cut(b.title, room)
		if len(b.facts) > 0 {
			title = out.Paint(console.Bold, title)
		}

		out.Printf("%s%s", out.Paint(console.Dim, indent+fork), title)
		stem := indent + trunk
		if len(b.branches) > 0 {
			stem += "│ "
		} else {
			stem += "  "
		}

		width := 0
		for _, f := range b.facts {
			width = max(width, len(f[0]))
		}

		for _, f := range b.facts {
			for j, line := range console.Wrap(f[1], max(out.Width()-len([]rune(stem))-width-2, 20)) {
				name := f[0]
				if j > 0 {
					name = ""
				}
				out.Printf("%s%s  %s", out.Paint(console.Dim, stem),
					out.Paint(console.Dim, fmt.Sprintf("%-*s", width, name)), line)
			}
		}

		printTree(out, b.branches, indent+trunk)
	}
}
