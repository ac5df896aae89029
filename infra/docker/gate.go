package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// gate waits, once, until every container of the stack is healthy.
//
// Containers are made in the order of their dependencies, and none waits for the health of another:
// the services bear each other's absence, so they come up side by side. The gate stands between the
// last container that is made and the first that is removed: the stack's outputs depend on it, so a
// container that does not become healthy fails the program, and a program that fails removes
// nothing. It looks at every `up`, whatever has changed: a container that failed once fails the
// next `up` too. A preview does not wait. See docs/adr/0010-start-together.md.
type gate struct {
	ctx        *pulumi.Context
	stack      stacks.Stack
	containers []gated
}

// gated is a container that the gate waits for.
type gated struct {
	service stacks.Service

	// stopped is set if a predecessor of the container is stopped before it starts.
	stopped bool
	id      pulumi.IDOutput
}

func newGate(ctx *pulumi.Context, stack stacks.Stack) *gate { return &gate{ctx: ctx, stack: stack} }

// add makes the gate wait for a container of the service. stopped is set if its
// predecessor is stopped first.
func (g *gate) add(svc stacks.Service, c *docker.Container, stopped bool) {
	g.containers = append(g.containers, gated{service: svc, stopped: stopped, id: c.ID()})
}

// pass returns the names by service as outputs that resolve when every container is healthy, and
// fail with the cause when one is not.
func (g *gate) pass(names pulumi.StringArrayMap) pulumi.StringArrayMap {
	if g.ctx.DryRun() {
		return names
	}

	ids := make(pulumi.IDArray, len(g.containers))
	for i, d := range g.containers {
		ids[i] = d.id
	}

	healthy := ids.ToIDArrayOutput().ApplyTWithContext(g.ctx.Context(),
		func(ctx context.Context, ids []pulumi.ID) (bool, error) {
			waits := make([]wait, len(ids))
			for i, d := range g.containers {
				waits[i] = wait{service: d.service, stopped: d.stopped, id: string(ids[i])}
			}
			err := g.await(ctx, waits)
			return err == nil, err
		})

	out := pulumi.StringArrayMap{}
	for service, list := range names {
		out[service] = pulumi.All(healthy, list).ApplyT(func(all []any) []string {
			return all[1].([]string)
		}).(pulumi.StringArrayOutput)
	}

	return out
}

// wait is a container that exists.
type wait struct {
	service stacks.Service
	stopped bool
	id      string
}

// await returns when all containers are healthy. Its error names those that are not and why,
// without the services that only suffer from another one.
func (g *gate) await(ctx context.Context, waits []wait) error {
	api, err := newClient(engineHost(g.ctx))
	if err != nil {
		return err
	}
	defer api.Close()

	// Most `up`s find them healthy: only a wait that can be felt is worth a word.
	said := time.AfterFunc(time.Second, func() {
		_ = g.ctx.Log.Info("waiting until every container is healthy", nil)
	})
	defer said.Stop()

	type outcome struct {
		wait
		err error
	}

	results := make(chan outcome, len(waits))
	for _, w := range waits {
		go func() { results <- outcome{w, awaitHealth(ctx, api, w)} }()
	}

	failed := map[string][]error{} // by service
	for range waits {
		if o := <-results; o.err != nil {
			failed[o.service.Name] = append(failed[o.service.Name], o.err)
		}
	}

	return g.cause(failed)
}

// cause joins the errors of the services that failed, but for those that depend on
// another one that failed.
func (g *gate) cause(failed map[string][]error) error {
	var errs []error
	for _, svc := range g.stack.Services {
		if len(failed[svc.Name]) == 0 || g.suffers(svc, failed, map[string]bool{}) {
			continue
		}
		errs = append(errs, failed[svc.Name]...)
	}

	return errors.Join(errs...)
}

// suffers reports whether the service depends on one that failed, directly or through others.
func (g *gate) suffers(svc stacks.Service, failed map[string][]error, seen map[string]bool) bool {
	seen[svc.Name] = true
	return slices.ContainsFunc(svc.DependsOn, func(name string) bool {
		dep := g.stack.Service(name)
		return len(failed[name]) > 0 || dep != nil && !seen[name] && g.suffers(*dep, failed, seen)
	})
}

const (
	// lookEvery is the time between two looks at a container: the engine has no call
	// that waits for health.
	lookEvery = 250 * time.Millisecond

	// lookTimeout bounds one look.
	lookTimeout = 10 * time.Second

	// maxCrashes is how often a container may end and be started again before the gate gives up
	// on it. The services wait for what they lack; one that ends again and again lacks
	// something that does not come.
	maxCrashes = 5
)

// look inspects the container once, in bounded time.
func look(
	ctx context.Context, api *client.Client, id string,
) (client.ContainerInspectResult, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
}

// awaitHealth waits until the container is healthy, at most for the service's StartTimeout.
func awaitHealth(ctx context.Context, api *client.Client, w wait) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()

	start, before := time.Now(), -1
	for {
		res, err := look(ctx, api, w.id)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && time.Since(start) < w.service.StartTimeout:
			continue // the engine is busy with it
		case err != nil:
			return fmt.Errorf("services.%s: wait for health: %w", w.service.Name, err)
		}

		c := res.Container
		if c.State == nil || c.State.Health == nil {
			return fmt.Errorf("services.%s: wait for health: the container has no health check",
				w.service.Name)
		}

		if before < 0 {
			before = c.RestartCount
		}

		switch after := time.Since(start); {
		case c.State.Running && c.State.Health.Status == container.Healthy:
			return nil
		case c.RestartCount-before >= maxCrashes, c.State.Status == container.StateExited,
			c.State.Status == container.StateDead:
			return w.failed(c, fmt.Sprintf("exited with code %d", c.State.ExitCode), after)
		case after >= w.service.StartTimeout:
			return w.failed(c, string(c.State.Health.Status), after)
		}

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// failed returns the error of a container that is not healthy.
func (w wait) failed(c container.InspectResponse, state string, after time.Duration) error {
	name := strings.TrimPrefix(c.Name, "/")
	down := ""
	if w.stopped {
		down = fmt.Sprintf("; %s is down until an `up` succeeds: no other container of it runs meanwhile",
			w.service.Name)
	}

	return fmt.Errorf("services.%s: container %s is %s after %s: read `docker logs %s`%s",
		w.service.Name, name, state, after.Round(time.Second), name, down)
}
