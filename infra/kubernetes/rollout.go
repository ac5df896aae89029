package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/internals"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// What Pulumi waits for at a workload: that its controller has seen the change, not that its pods
// are ready. All workloads start together that way, and the program waits once at its end (await).
// pulumi.com/skipAwait would do so too, but it also skips the wait for pods that are being deleted,
// and with it the order in which a stack goes down.
const (
	annotationWaitFor = "pulumi.com/waitFor"
	waitForController = "jsonpath={.metadata.generation}"
	waitForAddress    = "jsonpath={.status.loadBalancer.ingress}"
)

const (
	// lookEvery is the time between two looks at the workloads.
	lookEvery = 500 * time.Millisecond
	// silenceLimit is how long the API server may fail to answer before the wait is given up.
	silenceLimit = time.Minute
)

// rollout is how far a workload's newest revision has come.
type rollout struct {
	// done is set if all of its pods are ready and none of an older revision is left.
	done bool
	// text is what is missing.
	text string
}

// waiting is the wait for services that were started together. Time counts for a service while it
// is not ready and everything that it needs is, so that the one that fails is named, and not those
// that suffer from it.
type waiting struct {
	plans []plan

	// needs are what has to be ready before a service can be, by its name; model is the Job.
	needs map[string][]string

	// made are what the cluster has in its new version: services, and the Job when it is done.
	made map[string]bool

	// spent is the time that counted for a service so far, counting whether it counts since looked.
	// It is added up: one that is ready now and then would keep the wait going for ever.
	spent    map[string]time.Duration
	counting map[string]bool
	looked   time.Time
}

func newWaiting(plans []plan, model *modelPlan) *waiting {
	w := &waiting{plans: plans, needs: map[string][]string{}, made: map[string]bool{},
		spent: map[string]time.Duration{}, counting: map[string]bool{}}
	for _, p := range plans {
		needs := slices.Clone(p.DependsOn)
		if model != nil && model.client.Name == p.Name {
			needs = append(needs, stacks.ModelJob)
		}
		w.needs[p.Name] = needs
	}

	return w
}

// look counts the time until now, at which the rollouts were seen. It returns the services that are
// not ready, in start order, and an error when the time of one has run out.
func (w *waiting) look(now time.Time, seen map[string]rollout) (left []string, err error) {
	done := map[string]bool{stacks.ModelJob: w.made[stacks.ModelJob]}
	for _, p := range w.plans {
		done[p.Name] = w.made[p.Name] && seen[p.Name].done
	}

	var errs []error
	for _, p := range w.plans {
		if !done[p.Name] {
			left = append(left, p.Name)
		}

		suffers := slices.ContainsFunc(w.needs[p.Name], func(name string) bool {
			return !done[name]
		})
		counts := !done[p.Name] && !suffers && w.made[p.Name]
		if w.counting[p.Name] {
			w.spent[p.Name] += now.Sub(w.looked)
		}

		w.counting[p.Name] = counts

		if spent := w.spent[p.Name]; counts && spent >= p.rolloutTime() {
			errs = append(errs, fmt.Errorf("services.%s: it is not ready after %s: %s",
				p.Name, spent.Round(time.Second), seen[p.Name].text))
		}
	}

	w.looked = now
	return left, errors.Join(errs...)
}

// await returns when the services are ready: all pods of their newest revision, and none of an
// older one. It is given up when the time of any service has run out, or when one could not be
// made. A preview waits for nothing.
//
// The engine removes what was replaced after the program's end, so an old Secret or ConfigMap is
// there as long as a pod that may be started again with it.
func (d *deployment) await(names ...string) error {
	if d.ctx.DryRun() || len(names) == 0 {
		return nil
	}

	ctx, stop := context.WithCancel(d.ctx.Context())
	defer stop()
	made, failed := d.follow(ctx)
	cluster, err := connect(d.opts.Context, d.placeOf())
	if err != nil {
		return err
	}

	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	said, answered := map[string]string{}, time.Now()
	for {
		select {
		case name := <-made:
			d.waiting.made[name] = true
			continue
		case err := <-failed:
			return err // the SDK reports it as well
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}

		seen, err := cluster.rollouts(ctx)
		switch {
		case err == nil:
			answered = time.Now()
		case time.Since(answered) > silenceLimit:
			return fmt.Errorf("wait for the pods: %w", err)
		default:
			continue
		}

		left, err := d.waiting.look(time.Now(), seen)
		if err != nil {
			return err
		}

		if !slices.ContainsFunc(names, func(name string) bool {
			return slices.Contains(left, name)
		}) {
			return nil
		}

		for _, name := range left {
			if text := seen[name].text; text != "" && text != said[name] {
				said[name] = text
				_ = d.ctx.Log.Info(text, &pulumi.LogArgs{
					Resource:  d.components[name],
					Ephemeral: true,
				})
			}
		}
	}
}

// follow returns channels of the names of what is made, until the context ends, and of errors.
func (d *deployment) follow(ctx context.Context) (made <-chan string, failed <-chan error) {
	resources := map[string]*registered{}
	for name, parts := range d.parts {
		if r := d.resources[parts[0]]; r != nil {
			resources[name] = r
		}
	}

	if r := d.resources[d.job]; r != nil {
		resources[stacks.ModelJob] = r
	}

	yes, no := make(chan string, len(resources)), make(chan error, len(resources))
	for name, r := range resources {
		go func() {
			if _, err := internals.UnsafeAwaitOutput(ctx, r.ID()); err != nil {
				no <- fmt.Errorf("%s: %w", name, err)
				return
			}
			yes <- name
		}()
	}

	return yes, no
}

// placeOf returns the namespace and the stack's labels, by which its workloads are found.
func (d *deployment) placeOf() place {
	labels := stacks.LabelProject + "=" + stacks.Project + "," + stacks.LabelStack + "=" + d.stack.Name
	return place{namespace: d.opts.Namespace, labels: labels}
}
