package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) imagesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "images",
		Short: "Build a stack's images, and put them into a cluster",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	list := &cobra.Command{
		Use:   "list [STACK]",
		Short: "Print the references of the images that the stack runs",
		Args:  stackArg,
		RunE:  func(c *cobra.Command, args []string) error { return a.listImages(stackOf(args)) },
	}

	build := &cobra.Command{
		Use:   "build [STACK]",
		Short: "Build or pull the images that the local engine lacks",
		Args:  stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.buildImages(c.Context(), stackOf(args))
		},
	}

	var into string
	load := &cobra.Command{
		Use:   "load [STACK]",
		Short: "Put the images into a cluster that cannot pull them",
		Long: `Builds what is missing on the local Docker engine and puts the stack's images into
the cluster of its settings: by kind, k3d or minikube, or into a containerd of this
machine. What is there already is left out.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.loadImages(c.Context(), stackOf(args), into)
		},
	}

	load.Flags().StringVar(&into, "into", "",
		"kind[=CLUSTER], k3d[=CLUSTER], minikube[=PROFILE] or containerd[=SOCKET]; found out "+
			"when left out")
	c.AddCommand(list, build, load)
	return c
}

// imagesOf loads the stack and lists its images.
func (a *App) imagesOf(name string) (target, stacks.Stack, []images.Image, error) {
	t, stack, err := a.load(name)
	if err != nil {
		return t, stack, nil, err
	}

	list, err := images.Of(stack, t.project.Root)
	return t, stack, list, err
}

func (a *App) listImages(name string) error {
	_, _, list, err := a.imagesOf(name)
	for _, x := range list {
		a.out.Printf("%s", x.Ref)
	}
	return err
}

func (a *App) buildImages(ctx context.Context, name string) error {
	t, _, list, err := a.imagesOf(name)
	if err != nil {
		return err
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()

	return a.ensureImages(ctx, t, eng, list)
}

// localEngine connects to the Docker engine that builds images, whatever the stack runs on.
func (a *App) localEngine(ctx context.Context, t target) (*engine.Engine, error) {
	host, err := engine.ResolveHost(t.file.Config.Plain["docker:host"], a.getenv)
	if err != nil {
		return nil, err
	}
	return engine.Connect(ctx, host, t.file.Name)
}

func (a *App) ensureImages(
	ctx context.Context, t target, eng *engine.Engine, list []images.Image,
) error {
	b := images.Builder{Engine: eng, Root: t.project.Root, Say: a.say, Output: func(line string) {
		if a.err.Terminal {
			a.say("%s",
				a.err.Paint(console.Dim, console.Cut("  "+console.Plain(line), a.err.Width())))
		}
	}}

	err := b.Ensure(ctx, list)
	var failed *engine.BuildError
	if errors.As(err, &failed) {
		for _, line := range failed.Log {
			a.say("  %s", console.Plain(line))
		}
		return fmt.Errorf("%w: the lines above name the failing step of its Dockerfile", failed)
	}

	return err
}

func (a *App) loadImages(ctx context.Context, name, into string) error {
	t, stack, list, err := a.imagesOf(name)
	if err != nil {
		return err
	}

	place, err := t.place()
	if err != nil {
		return err
	}

	if place.Target != stacks.Kubernetes {
		return fmt.Errorf("stack %s runs on Docker, which builds its images where they run: "+
			"`codexctl up %s`",
			t.file.Name, name)
	}

	if stack.Registry != "" {
		return fmt.Errorf("%s:registry: up pushes the images to %s, from where the cluster pulls "+
			"them: remove the key to load them instead",
			stacks.Project, stack.Registry)
	}

	c, err := a.connectCluster(ctx, t, place)
	if err != nil {
		return err
	}

	return a.putImages(ctx, t, c, list, into)
}

// putImages builds and loads the images that the cluster lacks.
func (a *App) putImages(
	ctx context.Context, t target, c *cluster.Cluster, list []images.Image, into string,
) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}

	to, err := images.Find(into, c.Context, nodes, a.environ)
	if err != nil {
		return err
	}
	if err := to.Ready(); err != nil {
		return err
	}

	var refs []string
	for _, x := range list {
		refs = append(refs, x.Ref)
	}

	has, err := to.Has(ctx, refs, nodes)
	if err != nil {
		return err
	}

	var missing []images.Image
	var names []string
	for _, x := range list {
		if !has[x.Ref] {
			missing, names = append(missing, x), append(names, x.Ref)
		}
	}

	if to.Tool == "engine" { // what it builds is there
		missing = list
	}

	if len(missing) == 0 {
		a.say("all %d images are in %s", len(list), to)
		return nil
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()

	if err := a.ensureImages(ctx, t, eng, missing); err != nil {
		return err
	}

	if to.Tool == "engine" {
		a.say("all %d images are on %s", len(list), to)
		return nil
	}

	a.say("putting %s into %s", strings.Join(names, ", "), to)
	if err := to.Load(ctx, func(w io.Writer) error {
		return eng.SaveImages(ctx, names, w)
	}); err != nil {
		return err
	}

	a.say("%d images put into %s, %d were there", len(names), to, len(list)-len(names))
	return nil
}
