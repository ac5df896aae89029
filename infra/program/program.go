// Package program is the Pulumi program: config, stack, target, outputs. `pulumi up` runs it
// through infra/main.go, codexctl runs it inline through the Automation API; project, config
// and state are the same.
package program

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Deploy is the program for the project at root. With an empty root the project is the one
// that the engine says, else the one around the working directory, which is infra when the
// CLI runs the program.
func Deploy(root string) pulumi.RunFunc { return DeployFrom(root, "") }

// DeployFrom is Deploy for a stack whose settings are in the file, which the engine has to be told
// as well. With an empty one they are in Pulumi.<stack>.yaml.
func DeployFrom(root, file string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		dir := root
		if dir == "" {
			dir = ctx.RootDirectory()
		}
		if dir == "" {
			dir = "."
		}

		dir, err := Root(dir)
		if err != nil {
			return err
		}

		plain, secret, err := values(ctx, dir, file)
		if err != nil {
			return err
		}

		settings, stack, err := Load(dir, ctx.Stack(), plain, secret)
		if err != nil {
			return err
		}

		rendered, err := Render(settings, stack, dir)
		if err != nil {
			return err
		}

		return Provision(ctx, stack, rendered, dir)
	}
}

// Rendered is a stack as its target runs it; the other target's is nil.
type Rendered struct {
	Docker     *docker.Rendering
	Kubernetes *kubernetes.Rendering
}

// Render renders the stack of the project at root for its target.
func Render(settings stacks.Settings, stack stacks.Stack, root string) (Rendered, error) {
	switch settings.Target {
	case stacks.Docker:
		r, err := docker.Render(os.DirFS(root), stack)
		return Rendered{Docker: r}, err
	case stacks.Kubernetes:
		at := settings.Kubernetes
		pods := map[string]stacks.PodSettings{stacks.ModelJob: settings.Pods(stacks.ModelJob)}
		for _, svc := range stack.Services {
			pods[svc.Name] = settings.Pods(svc.Name)
		}
		r, err := kubernetes.Render(stack, kubernetes.Options{
			Root: root, Context: at.Context, Namespace: at.Namespace, Domain: at.Domain,
			Pods: pods, PullSecrets: at.PullSecrets,
		})
		return Rendered{Kubernetes: r}, err
	}

	return Rendered{}, fmt.Errorf("%s:target: there is no target %q", stacks.Project,
		settings.Target)
}

// Provision is the program from where config and files are read: the target provisions the rendered
// stack of the project at root.
func Provision(ctx *pulumi.Context, stack stacks.Stack, rendered Rendered, root string) error {
	if rendered.Docker != nil {
		out, err := docker.Provision(ctx, rendered.Docker, root)
		if err != nil {
			return err
		}
		exportEngine(ctx, stack, out)
		return nil
	}

	out, err := kubernetes.Provision(ctx, rendered.Kubernetes)
	if err != nil {
		return err
	}

	exportCluster(ctx, stack, out)
	return nil
}

// Record returns what Provision would register of the rendered stack.
func Record(
	ctx context.Context, run recorder.Stack, stack stacks.Stack, rendered Rendered, root string,
) ([]recorder.Resource, error) {
	return recorder.Record(ctx, run, func(ctx *pulumi.Context) error {
		return Provision(ctx, stack, rendered, root)
	})
}

// Load makes the stack of the project at root out of its config, strictly, before anything is
// provisioned: what a command checks first is what the program checks. plain and secret are as
// DecodeSettings takes them.
func Load(
	root, stack string, plain map[string]string, secret []string,
) (stacks.Settings, stacks.Stack, error) {
	settings, err := stacks.DecodeSettings(plain, secret)
	if err != nil {
		return stacks.Settings{}, stacks.Stack{}, err
	}
	return load(stack, settings, checkout(root))
}

// LoadOffline is Load where nobody's secrets are at hand and it must not matter whose machine it
// is: secrets that the stack needs count as set, and nobody owns the checkout.
func LoadOffline(
	root, stack string, plain map[string]string, secret []string,
) (stacks.Settings, stacks.Stack, error) {
	settings, err := stacks.DecodeSettings(plain, secret)
	if err != nil {
		return stacks.Settings{}, stacks.Stack{}, err
	}
	settings.AssumeSecrets = true
	return load(stack, settings, stacks.Checkout{FS: os.DirFS(root)})
}

// LoadSources is Load for a command that runs in the development container of a service, whatever
// the target: it needs no secret, and a cluster's container is given a copy of the checkout.
func LoadSources(
	root, stack string, plain map[string]string, secret []string,
) (stacks.Settings, stacks.Stack, error) {
	settings, err := stacks.DecodeSettings(plain, secret)
	if err != nil {
		return stacks.Settings{}, stacks.Stack{}, err
	}

	settings.AssumeSecrets = true
	c := checkout(root)
	if settings.Target == stacks.Kubernetes {
		// The container has its own copy: there is no owner to keep.
		c = stacks.Checkout{FS: c.FS, Mountable: true}
	}
	return load(stack, settings, c)
}

func load(
	stack string, settings stacks.Settings, c stacks.Checkout,
) (stacks.Settings, stacks.Stack, error) {
	s, err := stacks.Load(stack, settings, c)
	if err != nil {
		return settings, stacks.Stack{}, err
	}
	return settings, s, s.Validate()
}

// checkout returns the copy of the repository at root, with its owner where the system has one.
func checkout(root string) stacks.Checkout {
	c := stacks.Checkout{FS: os.DirFS(root)}
	if info, err := os.Stat(root); err == nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			c.UID, c.GID = int(owner.Uid), int(owner.Gid)
		}
	}
	return c
}

// The program's outputs are what `pulumi stack output` and `codexctl outputs` show: on every target
// url, urls, images and model, and what only the target knows.

func exportEngine(ctx *pulumi.Context, stack stacks.Stack, out docker.Outputs) {
	if urls := out.URLs[stacks.Edge]; len(urls) > 0 {
		ctx.Export("url", pulumi.String(urls[0]))
	}

	urls, images := pulumi.StringArrayMap{}, pulumi.StringMap{}
	for name, list := range out.URLs {
		urls[name] = pulumi.ToStringArray(list)
	}

	for name, ref := range out.Images {
		images[name] = pulumi.String(ref)
	}

	ctx.Export("urls", urls)
	ctx.Export("images", images)
	ctx.Export("imageIds", out.ImageIDs)
	ctx.Export("containers", out.Containers)
	exportModel(ctx, stack)
}

func exportCluster(ctx *pulumi.Context, stack stacks.Stack, out kubernetes.Outputs) {
	urls := pulumi.StringArrayMap{}
	if out.URL != nil {
		ctx.Export("url", out.URL)
		urls[stacks.Edge] = pulumi.StringArray{out.URL}
	}

	if out.Forward != "" {
		ctx.Export("forward", pulumi.String(out.Forward))
	}

	ctx.Export("urls", urls)
	ctx.Export("images", out.Images)
	ctx.Export("namespace", out.Namespace)
	ctx.Export("context", pulumi.String(out.Context))
	exportModel(ctx, stack)
}

func exportModel(ctx *pulumi.Context, stack stacks.Stack) {
	ctx.Export("model", pulumi.StringMap{
		"name":      pulumi.String(stack.Model.Name),
		"modelfile": pulumi.String(stack.Model.Modelfile),
		"base":      pulumi.String(stack.Model.Base),
		"digest":    pulumi.String(stack.Model.Digest),
		"evals":     pulumi.String(stack.Model.Evals),
	})
}
