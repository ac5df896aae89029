package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// target identifies the stack that a command works on.
type target struct {
	name    string // as Pulumi's, possibly with organisation and project
	project project.Project
	file    project.StackFile

	// from is a file with other settings, which the program reads in the place of the stack's own.
	from string
}

// target finds the project and the stack's settings file.
func (a *App) target(name string) (target, error) {
	p, err := project.Find(a.dir)
	if err != nil {
		return target{}, err
	}

	f, err := p.Stack(name)
	if err != nil {
		return target{}, err
	}

	return target{name: name, project: p, file: f}, nil
}

// load reads and checks the settings and returns the stack they describe, as the program does,
// without Pulumi or an engine.
func (t target) load() (stacks.Settings, stacks.Stack, error) {
	plain, secret := t.file.Config.Own()
	return program.Load(t.project.Root, t.file.Name, plain, secret)
}

// place decodes only the settings that say where the stack runs: what runs can be shown even if the
// other settings are invalid.
func (t target) place() (stacks.Settings, error) {
	plain, _ := t.file.Config.Own()
	only := map[string]string{}
	for _, key := range []string{"target", "kubernetes", "registry"} {
		if v, ok := plain[key]; ok {
			only[key] = v
		}
	}

	return stacks.DecodeSettings(only, nil)
}

// engineHost returns the engine of the stack. A stack on a cluster uses one only to build the
// images that it pushes to a registry.
func (a *App) engineHost(t target) (engine.Host, error) {
	if s, err := t.place(); err == nil && s.Target == stacks.Kubernetes && s.Registry == "" {
		return engine.Host{}, nil
	}
	return engine.ResolveHost(t.file.Config.Plain["docker:host"], a.getenv)
}

// connect connects to the engine or cluster of the stack; the caller closes it.
func (a *App) connect(ctx context.Context, t target) (platform, error) {
	place, err := t.place()
	if err != nil {
		return nil, err
	}

	if place.Target == stacks.Kubernetes {
		c, err := a.connectCluster(ctx, t, place)
		if err != nil {
			return nil, err
		}
		return &onCluster{Cluster: c, t: t, say: a.say}, nil
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return nil, err
	}

	return &onEngine{Engine: eng, root: t.project.Root, say: a.say}, nil
}

func (a *App) connectCluster(
	ctx context.Context, t target, place stacks.Settings,
) (*cluster.Cluster, error) {
	namespace := place.Kubernetes.Namespace
	if namespace == "" {
		namespace = stacks.Project + "-" + t.file.Name
	}

	return cluster.Connect(ctx, cluster.Options{
		Context:   place.Kubernetes.Context,
		Namespace: namespace,
		Stack:     t.file.Name,
		Getenv:    a.getenv,
	})
}

// attach finds the stack and connects to its engine or cluster, which the caller closes.
func (a *App) attach(ctx context.Context, name string) (target, platform, error) {
	t, err := a.target(name)
	if err != nil {
		return target{}, nil, err
	}
	p, err := a.connect(ctx, t)
	return t, p, err
}

// load finds the stack and loads it.
func (a *App) load(name string) (target, stacks.Stack, error) {
	t, err := a.target(name)
	if err != nil {
		return t, stacks.Stack{}, err
	}

	_, stack, err := t.load()
	return t, stack, err
}

// open also loads the stack, whose settings have to be valid.
func (a *App) open(ctx context.Context, name string) (target, stacks.Stack, platform, error) {
	t, stack, err := a.load(name)
	if err != nil {
		return t, stack, nil, err
	}

	p, err := a.connect(ctx, t)
	return t, stack, p, err
}

// errNoContainer is returned for a service of the stack that does not run.
var errNoContainer = errors.New("has no container")

// replicas lists the replicas of a service. Without any it returns errNoContainer, or a usage error
// if the stack's settings have no such service.
func (t target) replicas(
	ctx context.Context, p platform, service string,
) ([]running.Replica, error) {
	list, err := p.Replicas(ctx, service)
	if err != nil || len(list) > 0 {
		return list, err
	}

	if _, stack, err := t.load(); err == nil {
		if err := checkService(stack, service); err != nil {
			return nil, err
		}
	}

	return nil, fmt.Errorf("%s of stack %s %w: `codexctl up %s`",
		service, t.file.Name, errNoContainer, t.name)
}

func namesOf(list []running.Replica) []string {
	var names []string
	for _, r := range list {
		names = append(names, r.Name)
	}
	return names
}

// finder looks for the Pulumi CLI.
func (a *App) finder(t target) (pulumicli.Finder, error) {
	f := pulumicli.Finder{
		Root:     t.project.Root,
		CacheDir: a.cacheDir(),
		Environ:  a.environ,
		Say:      a.say,
	}
	if f.CacheDir == "" {
		return f, errors.New("cache: there is no home: set XDG_CACHE_HOME")
	}

	return f, nil
}

// pulumiEnv returns the backend of the state, and the variables that Pulumi needs in
// addition to the environment.
func (a *App) pulumiEnv(t target, host engine.Host) (project.Backend, map[string]string, error) {
	backend, err := t.project.Backend(a.environ)
	if err != nil {
		return backend, nil, err
	}

	env, err := project.PassphraseEnv(t.file, backend, a.environ)
	if err != nil {
		return backend, nil, err
	}
	if env == nil {
		env = map[string]string{}
	}
	if backend.Default {
		env[project.BackendVar] = backend.URL
	}

	if host.Export {
		// The docker provider does not read the docker command's configured context.
		env["DOCKER_HOST"], env["DOCKER_CONTEXT"] = host.URL, ""
	}

	return backend, env, nil
}

// everUp opens a stack that has been up in the state, with its target.
func (a *App) everUp(ctx context.Context, name string) (target, *deploy.Session, error) {
	t, err := a.target(name)
	if err != nil {
		return target{}, nil, err
	}

	s, err := a.session(ctx, t, false)
	switch {
	case errors.Is(err, deploy.ErrNoStack):
		return target{}, nil, fmt.Errorf("stack %q has never been up: `codexctl up %s`",
			t.file.Name, name)
	case err != nil:
		return target{}, nil, a.explainError(err, t.name)
	}

	return t, s, nil
}

// session opens the stack in the state. It prints where the state is if nobody chose the place.
func (a *App) session(ctx context.Context, t target, create bool) (*deploy.Session, error) {
	host, err := a.engineHost(t)
	if err != nil {
		return nil, err
	}

	backend, env, err := a.pulumiEnv(t, host)
	if err != nil {
		return nil, err
	}
	if err := t.project.Prepare(backend); err != nil {
		return nil, err
	}

	if backend.Default && !a.stateAnnounced {
		a.stateAnnounced = true
		a.say("state: no Pulumi login: using %s (see `codexctl env`)", backend.URL)
	}

	find, err := a.finder(t)
	if err != nil {
		return nil, err
	}

	command, err := find.Get(ctx)
	if err != nil {
		return nil, err
	}

	if host.Export {
		// The program runs in this process and connects to the engine by the
		// environment, like the provider.
		if err := os.Setenv("DOCKER_HOST", host.URL); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}

	return deploy.Open(ctx, deploy.Options{
		Root:    t.project.Root,
		Stack:   t.name,
		Command: command,
		Env:     env,
		Program: program.DeployFrom(t.project.Root, t.from),
		Create:  create,
	})
}

// serviceNames returns the names of the stack's services in their order of start.
func serviceNames(s stacks.Stack) []string {
	var out []string
	for _, svc := range s.Services {
		out = append(out, svc.Name)
	}
	return out
}

// checkService returns a usage error if the stack has no such service.
func checkService(s stacks.Stack, name string) error {
	names := serviceNames(s)
	if !slices.Contains(names, name) {
		return usageError{fmt.Errorf("stack %q has no service %q: it has %s", s.Name, name,
			strings.Join(names, ", "))}
	}
	return nil
}
