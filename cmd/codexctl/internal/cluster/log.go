package cluster

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Logs calls line for each line that the service's pods log, one at a time. What a container logged
// before it crashed comes before what it logs now. The lines of one container keep their order;
// without Follow the pods' logs follow one another.
func (c *Cluster) Logs(
	ctx context.Context, service string, o running.LogOptions,
	line func(r running.Replica, text string),
) error {
	var mu sync.Mutex // one line at a time
	emit := func(r running.Replica, text string) {
		mu.Lock()
		defer mu.Unlock()
		line(r, text)
	}
	if o.Follow {
		return c.follow(ctx, service, o, emit)
	}

	pods, err := c.pods(ctx, service)
	if err != nil {
		return err
	}

	for i := range pods {
		for _, s := range pods[i].Status.ContainerStatuses {
			if err := c.past(ctx, &pods[i], s, o, emit); err != nil {
				return err
			}
			if err := c.stream(ctx, &pods[i], s.Name, options(s.Name, o), emit); err != nil {
				return err
			}
		}
	}

	return nil
}

func options(container string, o running.LogOptions) *corev1.PodLogOptions {
	out := &corev1.PodLogOptions{Container: container, Follow: o.Follow}
	if o.Tail >= 0 {
		n := int64(o.Tail)
		out.TailLines = &n
	}

	if !o.Since.IsZero() {
		at := metav1.NewTime(o.Since)
		out.SinceTime = &at
	}

	return out
}

// past emits what the container logged before its last restart, as far as the options ask for it.
func (c *Cluster) past(
	ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus, o running.LogOptions,
	emit func(running.Replica, string),
) error {
	if s.LastTerminationState.Terminated == nil {
		return nil
	}

	before := options(s.Name, running.LogOptions{Tail: o.Tail, Since: o.Since})
	if o.Tail >= 0 {
		now := 0
		err := c.stream(ctx, p, s.Name, before, func(running.Replica, string) { now++ })
		if err != nil {
			return err
		}

		if now >= o.Tail {
			return nil
		}

		left := int64(o.Tail - now)
		before.TailLines = &left
	}

	before.Previous = true
	return c.stream(ctx, p, s.Name, before, emit)
}

// stream emits one container's log until it ends. A container that has no log yet, or no
// longer, has an empty one.
func (c *Cluster) stream(
	ctx context.Context, p *corev1.Pod, container string, o *corev1.PodLogOptions,
	emit func(running.Replica, string),
) error {
	r, err := c.api.CoreV1().Pods(p.Namespace).GetLogs(p.Name, o).Stream(ctx)
	if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) || ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return c.failed("logs of "+p.Name, err)
	}
	defer r.Close()

	replica := running.Replica{ID: string(p.UID), Name: p.Name, Service: serviceOf(p)}
	if len(p.Spec.Containers) > 1 {
		replica.Name += "/" + container
	}

	err = running.ReadLines(ctx, r, func(text string) { emit(replica, text) })
	if err != nil {
		return c.failed("logs of "+p.Name, err)
	}
	return nil
}

// follow emits the logs of every container that runs, or comes to run, until the context ends. A
// restarted container has a new ID, a replaced pod new containers.
func (c *Cluster) follow(
	ctx context.Context, service string, o running.LogOptions, emit func(running.Replica, string),
) error {
	if _, err := c.pods(ctx, service); err != nil {
		return err // a watch would retry it for ever
	}

	ctx, cancel := context.WithCancel(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	f := informers.NewSharedInformerFactoryWithOptions(c.api, 0,
		informers.WithNamespace(c.Namespace),
		informers.WithTweakListOptions(func(l *metav1.ListOptions) {
			l.LabelSelector = c.selector(service)
		}))

	type change struct {
		pod *corev1.Pod
		// first reports whether the pod was there when the watch began.
		first bool
	}

	changed := make(chan change)
	send := func(x any, first bool) {
		if p, ok := x.(*corev1.Pod); ok {
			select {
			case changed <- change{p, first}:
			case <-ctx.Done():
			}
		}
	}

	_, err := f.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: send, UpdateFunc: func(_, x any) { send(x, false) },
	})
	if err != nil {
		return c.failed("watch pods", err)
	}

	f.Start(ctx.Done())

	open := map[string]bool{} // by container ID: each is copied once
	failed := make(chan error, 1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case x := <-changed:
			p := x.pod
			for _, s := range p.Status.ContainerStatuses {
				if s.ContainerID == "" ||
					s.State.Waiting != nil && s.LastTerminationState.Terminated == nil ||
					open[s.ContainerID] {
					continue
				}

				open[s.ContainerID] = true
				streams.Go(func() {
					err := c.copyLog(ctx, p, s, x.first, o, emit)
					if err != nil && ctx.Err() == nil {
						select {
						case failed <- err:
						default:
						}
					}
				})
			}
		}
	}
}

// copyLog follows one container. The options apply to those that were there first; later ones are
// shown from their start.
func (c *Cluster) copyLog(
	ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus, first bool,
	o running.LogOptions, emit func(running.Replica, string),
) error {
	wanted := running.LogOptions{Tail: -1, Follow: true}
	if first {
		wanted = o
		if err := c.past(ctx, p, s, o, emit); err != nil {
			return err
		}
	}

	return c.stream(ctx, p, s.Name, options(s.Name, wanted), emit)
}
