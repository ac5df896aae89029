package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/sources"
	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) testCommand() *cobra.Command {
	d := development{name: "test"}
	c := &cobra.Command{
		Use:   "test SERVICE [-- FLAGS]",
		Short: "Run a service's tests, with go test's flags after --",
		Long: `Runs go test over the service's packages, with the flags after --, in a container
of its own: the development image, user, limits and caches are those that the
service has in the stack. The stack may be up or down. On a cluster it is a Job,
which gets the files that git tracks or does not ignore. Tests whose peers are not
there, such as Redis, skip. The output and the exit code are go test's.`,
		Args: func(c *cobra.Command, args []string) error {
			if n := c.ArgsLenAtDash(); n >= 0 {
				args = args[:n]
			}
			return serviceArg(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			d.service = args[0]
			// Packages first: go test takes what follows an unknown flag for the test's own.
			d.args = append([]string{"go", "test", d.packages()}, args[1:]...)
			return a.develop(c.Context(), d)
		},
	}

	d.flags(c)
	return c
}

func (a *App) lintCommand() *cobra.Command {
	d := development{name: "lint"}
	c := &cobra.Command{
		Use:   "lint SERVICE",
		Short: "Run gofmt, go vet and staticcheck on a service",
		Long: `Runs gofmt, go vet and staticcheck over the service's packages, as "codexctl test"
runs its tests. The exit code is 1 if one of them found something.`,
		Args: serviceArg,
		RunE: func(c *cobra.Command, args []string) error {
			d.service = args[0]
			d.args = []string{"sh", "-c", lintScript, "lint", d.folder(), d.packages()}
			return a.develop(c.Context(), d)
		},
	}

	d.flags(c)
	return c
}

// lintScript runs every linter on the folder and the packages in it, also when one found something.
const lintScript = `
found=0
unformatted=$(gofmt -l "$1") || found=1
if [ -n "$unformatted" ]; then
	printf "not gofmt'ed:\n%s\n" "$unformatted"
	found=1
fi
go vet "$2" || found=1
staticcheck "$2" || found=1
exit $found
`

// development is a command that runs in a development container of a service.
type development struct {
	// name is that of codexctl's command.
	name           string
	service, stack string

	// into is the value of --into; see images.Find.
	into string

	// args are the program and its arguments.
	args []string
}

// folder is that of the service's packages, from the root of the checkout.
func (d *development) folder() string   { return "services/" + d.service }
func (d *development) packages() string { return "./" + d.folder() + "/..." }

func (d *development) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&d.stack, "stack", "s", defaultStack, "the stack, of the overlay dev")
	f.StringVar(&d.into, "into", "",
		"where a cluster without a registry takes images from, as in \"images load\"")
}

// develop runs the command on the target of its stack.
func (a *App) develop(ctx context.Context, d development) error {
	t, err := a.target(d.stack)
	if err != nil {
		return err
	}

	plain, secret := t.file.Config.Own()
	settings, stack, err := program.LoadSources(t.project.Root, t.file.Name, plain, secret)
	if err != nil {
		return err
	}

	svc, err := developed(stack, d.service)
	if err != nil {
		return err
	}

	var code int
	if settings.Target == stacks.Kubernetes {
		code, err = a.runOnCluster(ctx, t, settings, stack, svc, d)
	} else {
		code, err = a.runOnEngine(ctx, t, stack, svc, d)
	}
	if err == nil && code != 0 {
		return exitError{code}
	}
	return err
}

// developed returns the service of that name, which has to be one that is built from the sources in
// its container.
func developed(stack stacks.Stack, name string) (stacks.Service, error) {
	if !stack.Development {
		return stacks.Service{}, fmt.Errorf("stack %s runs production images, which have neither "+
			"sources nor a compiler: name a stack of the overlay dev with --stack", stack.Name)
	}

	var names []string
	for _, svc := range stack.Services {
		if b := svc.Image.Build; b == nil || b.Target != stacks.DevelopmentStage {
			continue
		}
		if svc.Name == name {
			return svc, nil
		}
		names = append(names, svc.Name)
	}

	return stacks.Service{}, usageError{fmt.Errorf("%q is no service with tests of its own: "+
		"name one of %s", name, strings.Join(names, ", "))}
}

// runOnEngine runs the command in a container of the stack's engine and returns its exit code.
func (a *App) runOnEngine(
	ctx context.Context, t target, stack stacks.Stack, svc stacks.Service, d development,
) (int, error) {
	r, err := docker.Render(os.DirFS(t.project.Root), stack)
	if err != nil {
		return 0, err
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return 0, err
	}
	defer eng.Close()

	c := r.Project.Services[svc.Name]
	err = a.ensureImages(ctx, t, eng, []images.Image{
		{Service: svc.Name, Ref: c.Image, Build: svc.Image.Build, Platform: stack.Platform()},
	})
	if err != nil {
		return 0, err
	}

	return eng.Run(ctx, engine.Command{
		Args:    d.args,
		Name:    strings.Join([]string{r.Project.Name, d.name, d.service}, "-"),
		Service: c,
		Volumes: r.Project.Volumes,
		Root:    t.project.Root,
		Labels:  commandLabels(c.Labels),
		Stdout:  a.out,
		Stderr:  a.err,
	})
}

// commandLabels returns the labels of a container that is like one of a service's, and none of its
// replicas.
func commandLabels(service types.Labels) map[string]string {
	out := maps.Clone(service)
	delete(out, stacks.LabelService)
	return out
}

// runOnCluster runs the command in a Job of the stack's cluster and returns its exit code.
func (a *App) runOnCluster(
	ctx context.Context, t target, settings stacks.Settings, stack stacks.Stack, svc stacks.Service,
	d development,
) (int, error) {
	c, err := a.connectCluster(ctx, t, settings)
	if err != nil {
		return 0, err
	}

	// Before the image, which takes a while. Who may not see namespaces is told later.
	switch state, err := c.NamespaceState(ctx); {
	case err != nil:
	case state == "absent":
		return 0, fmt.Errorf("cluster: there is no namespace %s: `codexctl up %s` makes it",
			c.Namespace, t.name)
	case state == string(corev1.NamespaceTerminating):
		return 0, fmt.Errorf("cluster: the namespace %s is being deleted: when it is gone, "+
			"`codexctl up %s` makes it", c.Namespace, t.name)
	}

	ref, err := a.deliverImage(ctx, t, c, stack, svc, d.into)
	if err != nil {
		return 0, err
	}

	cache := a.cacheDir()
	if cache == "" {
		return 0, errors.New("modules: there is no folder to keep them in: set HOME or " +
			"XDG_CACHE_HOME")
	}

	job, claims := kubernetes.Command{
		Name:      d.name + "-" + d.service,
		Args:      d.args,
		Env:       map[string]string{"GOPROXY": "file://" + stacks.SourcesDir + "/" + sources.Modules},
		Service:   svc,
		Image:     ref,
		Stack:     stack,
		Namespace: c.Namespace,

		Pods:        settings.Pods(d.service),
		PullSecrets: settings.Kubernetes.PullSecrets,
	}.Objects()
	checkout := sources.Checkout{
		Root:      t.project.Root,
		Cache:     filepath.Join(cache, "codexcontinue", "modules"),
		Processor: path.Base(stack.Platform()),
		Environ:   a.environ,
	}
	a.say("waiting for the job's pod")
	return c.Run(ctx, cluster.Command{
		Job:    job,
		Claims: claims,
		Stdin:  func(w io.Writer) error { return checkout.Pack(ctx, d.packages(), w) },
		Stdout: a.out,
		Stderr: a.err,
	})
}

// deliverImage builds the service's image if it is not there, puts it where the cluster takes its
// images from, and returns its reference.
func (a *App) deliverImage(
	ctx context.Context, t target, c *cluster.Cluster, stack stacks.Stack, svc stacks.Service,
	into string,
) (string, error) {
	list, err := images.Of(stacks.Stack{
		Services: []stacks.Service{svc}, Platforms: stack.Platforms,
	}, t.project.Root)
	if err != nil {
		return "", err
	}

	x := &list[0]
	if stack.Registry == "" {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return "", err
		}
		if has, _ := cluster.HasImage(nodes, x.Ref); has {
			return x.Ref, nil
		}
		return x.Ref, a.putImages(ctx, t, c, list, into)
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return "", err
	}
	defer eng.Close()

	*x = x.In(stack.Registry)
	return x.Ref, a.makeImages(ctx, t, eng, list)
}
