package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) imagesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "images",
		Short: "Build a stack's images, and put them where they run",
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
	push := &cobra.Command{
		Use:   "push [STACK]",
		Short: "Build the images, and push what the registry lacks",
		Long: `Builds the stack's own images on the local Docker engine and pushes those that the
registry of its settings lacks, as "up" does. For several platforms an image is built
for each, and an index of them is pushed, of which every node takes its own. The
credentials are those of "docker login".`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.pushImages(c.Context(), stackOf(args))
		},
	}

	c.AddCommand(list, build, load, push, a.outdatedCommand(), a.updateLockCommand(),
		a.sbomCommand(), a.pruneImagesCommand())
	return c
}

// provideImages pushes images for several platforms, which the update does not make. Those for one
// it has the update make again if they are in its state and somebody pruned them from the engine or
// the registry: the state takes them for made.
func (a *App) provideImages(
	ctx context.Context, t target, s *deploy.Session, stack stacks.Stack,
) error {
	place, err := t.place()
	if err != nil || place.Target == stacks.Kubernetes && stack.Registry == "" {
		return err // the nodes have them by other ways
	}

	list, err := ownImages(stack, t.project.Root)
	if err != nil || len(list) == 0 {
		return err
	}
	if len(stack.Platforms) > 1 {
		_, err := a.pushMissing(ctx, t, list)
		return err
	}

	has := images.InRegistry
	if stack.Registry == "" {
		eng, err := a.localEngine(ctx, t)
		if err != nil {
			return err
		}
		defer eng.Close()
		has = eng.HasImage
	}
	missing, err := missingOf(ctx, list, has)
	if err != nil || len(missing) == 0 {
		return err
	}

	known, err := s.Resources(ctx)
	if err != nil {
		return err
	}
	for _, r := range known {
		if slices.ContainsFunc(missing, func(x images.Image) bool { return x.Ref == r.Image }) {
			a.say("%s is gone: building it again", r.Image)
			s.Replace(r)
		}
	}
	return nil
}

// missingOf returns the images of which has says that they are not there.
func missingOf(
	ctx context.Context, list []images.Image,
	has func(ctx context.Context, ref string) (bool, error),
) ([]images.Image, error) {
	var missing []images.Image
	for _, x := range list {
		there, err := has(ctx, x.Ref)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, x)
		}
	}
	return missing, nil
}

// pushMissing builds the images that their registry lacks and pushes them. It returns how many. It
// needs an engine only for these.
func (a *App) pushMissing(ctx context.Context, t target, list []images.Image) (int, error) {
	missing, err := missingOf(ctx, list, images.InRegistry)
	if err != nil || len(missing) == 0 {
		return 0, err
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return 0, err
	}
	defer eng.Close()

	return len(missing), a.makeImages(ctx, t, eng, missing)
}

// makeImages builds the images and pushes them to the stack's registry.
func (a *App) makeImages(
	ctx context.Context, t target, eng *engine.Engine, list []images.Image,
) error {
	for _, x := range list {
		variants := x.Variants()
		if err := a.ensureImages(ctx, t, eng, variants); err != nil {
			return err
		}
		for _, v := range variants {
			a.say("pushing %s", v.Ref)
			if err := images.Push(ctx, v.Ref, eng.Host.URL, a.environ); err != nil {
				return err
			}
		}

		if len(variants) > 1 {
			a.say("pushing %s for %s", x.Ref, x.Platform)
			if err := images.PushIndex(ctx, x.Ref, variants); err != nil {
				return err
			}
		}
	}

	return nil
}

// ownImages lists the images that the stack builds, under the names that the program gives them:
// not those of an earlier release, which the sources do not make.
func ownImages(stack stacks.Stack, root string) ([]images.Image, error) {
	list, err := images.Of(stack, root)
	if err != nil {
		return nil, err
	}

	var own []images.Image
	for _, x := range list {
		brought, err := image.IsBrought(os.DirFS(root), x.Ref)
		switch {
		case err != nil:
			return nil, err
		case x.Build != nil && !x.Kept && !brought:
			own = append(own, x.In(stack.Registry))
		}
	}
	return own, nil
}

// pushImages builds those of the stack's own images that its registry lacks, and pushes them.
func (a *App) pushImages(ctx context.Context, name string) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}
	if stack.Registry == "" {
		return fmt.Errorf("%s:registry: is not set: without one there is nowhere to push to",
			stacks.Project)
	}

	list, err := ownImages(stack, t.project.Root)
	if err != nil {
		return err
	}
	pushed, err := a.pushMissing(ctx, t, list)
	if err != nil {
		return err
	}

	a.say("%d images pushed to %s, %d were there", pushed, stack.Registry, len(list)-pushed)
	return nil
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
	t, stack, list, err := a.imagesOf(name)
	if err != nil {
		return err
	}
	if stack.Registry != "" {
		list = slices.DeleteFunc(list, func(x images.Image) bool {
			if x.Kept {
				a.say("%s is left to %s, which has it from an earlier release", x.Ref, stack.Registry)
			}
			return x.Kept
		})
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
	// A node knows no digest of what is put into it, so that pods would not find it by theirs.
	list = slices.DeleteFunc(list, func(x images.Image) bool {
		pulled := x.Tag() != x.Ref
		if pulled {
			a.say("%s is left to the nodes, which pull it by its digest", x.Ref)
		}
		return pulled
	})

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
		refs = append(refs, x.Tag())
	}

	has, err := to.Has(ctx, refs, nodes)
	if err != nil {
		return err
	}

	var missing []images.Image
	var names []string
	for _, x := range list {
		if !has[x.Tag()] {
			missing, names = append(missing, x), append(names, x.Tag())
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
