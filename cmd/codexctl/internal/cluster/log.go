package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Logs calls line for each line that the service's pods log, one at a time. What a container logged
// before it crashed comes before what it logs now. The lines of one container keep their order;
// without Follow the pods' logs follow one another.
func (c *Cluster) Logs(
	ctx context.Context, service string, o running.LogOptions, line running.Line,
) error {
	first := true // what a container logged before is copied already where it restarts later
	return running.Logs(ctx, o, line, func(ctx context.Context) ([]running.Log, error) {
		pods, err := c.pods(ctx, service)
		if err != nil {
			return nil, err
		}

		var out []running.Log
		for i := range pods {
			for _, s := range pods[i].Status.ContainerStatuses {
				if s.ContainerID == "" ||
					s.State.Waiting != nil && s.LastTerminationState.Terminated == nil {
					continue // it never ran
				}

				out = append(out, c.log(&pods[i], s, first))
			}
		}

		first = false
		return out, nil
	})
}

// log returns the log of a container of the pod. A restarted container has a new ID. If past is set
// the log begins with what the container logged before its last restart.
func (c *Cluster) log(p *corev1.Pod, s corev1.ContainerStatus, past bool) running.Log {
	return running.Log{
		Source: s.ContainerID,
		Copy: func(ctx context.Context, o running.LogOptions, line running.Line) error {
			if past {
				if err := c.past(ctx, p, s, o, line); err != nil {
					return err
				}
			}
			return c.stream(ctx, p, s.Name, options(s.Name, o), line)
		},
	}
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

// past copies what the container logged before its last restart, as far as the options ask for it.
// Of a container that waits for its restart, the log now is that of the run that ended last.
func (c *Cluster) past(
	ctx context.Context, p *corev1.Pod, s corev1.ContainerStatus, o running.LogOptions,
	line running.Line,
) error {
	if t := s.LastTerminationState.Terminated; t == nil || t.ContainerID == s.ContainerID {
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
	return c.stream(ctx, p, s.Name, before, line)
}

// stream copies one container's log until it ends. A container that has no log yet, or no
// longer, has an empty one.
func (c *Cluster) stream(
	ctx context.Context, p *corev1.Pod, container string, o *corev1.PodLogOptions,
	line running.Line,
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

	err = running.ReadLines(ctx, r, func(text string) { line(replica, text) })
	if err != nil {
		return c.failed("logs of "+p.Name, err)
	}

	return nil
}
