package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// restartedAt is the annotation of the pod template by which kubectl restarts. It belongs to this
// field manager alone. Pulumi applies server-side and sees only the fields that it owns, so a
// restart is no difference in the next preview.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// Restart replaces the service's pods as an update of its workload does: within its strategy,
// each ready before the next one goes. It calls restarted for each pod that becomes ready.
// timeout bounds the wait for the next one. It returns a *running.UnhealthyError when one
// does not become healthy.
func (c *Cluster) Restart(
	ctx context.Context, service string, timeout time.Duration,
	restarted func(pod string, took time.Duration),
) error {
	before, err := c.pods(ctx, service)
	if err != nil {
		return err
	}

	old := map[types.UID]bool{}
	for _, p := range before {
		old[p.UID] = true
	}

	now := time.Now()
	metadata := map[string]any{
		"annotations": map[string]string{restartedAt: now.UTC().Format(time.RFC3339Nano)},
	}
	patch, err := json.Marshal(map[string]any{
		"spec": map[string]any{"template": map[string]any{"metadata": metadata}},
	})
	if err != nil {
		return err
	}

	progress, err := c.patchWorkload(ctx, service, patch)
	if err != nil {
		return err
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()
	o := c.Observe(watching, nil)
	j, last := judge{}, time.Now()
	reported := map[types.UID]bool{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		pods, err := c.pods(ctx, service)
		if err != nil {
			return err
		}

		for i := range pods {
			if p := &pods[i]; !old[p.UID] && !reported[p.UID] && ready(p) {
				reported[p.UID], last = true, time.Now()
				restarted(p.Name, time.Since(p.CreationTimestamp.Time))
			}
		}

		done, left, err := progress(ctx)
		if err != nil || done {
			return err
		}

		sure := j.decide(withoutJobs(o.observe()).findings(Work{Service: service}, now), time.Now())
		if len(sure) == 0 && time.Since(last) < timeout {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			continue
		}

		e := &running.UnhealthyError{
			Replica: running.Replica{Name: service, Service: service, State: "not restarted"},
			Left:    left,
		}
		if len(sure) == 0 {
			e.After = timeout
		}

		for i := range pods {
			if p := &pods[i]; !old[p.UID] && !ready(p) {
				e.Replica, e.Left = replica(p), left-1
			}
		}

		if len(sure) > 0 {
			e.Replica.State = sure[0].What + " (" + sure[0].Why + ")"
		}

		return e
	}
}

// patchWorkload patches the service's Deployment or StatefulSet. The returned function reports
// whether all pods are of the new revision, and how many are not yet.
func (c *Cluster) patchWorkload(
	ctx context.Context, service string, patch []byte,
) (func(context.Context) (done bool, left int, err error), error) {
	apps, o := c.api.AppsV1(), metav1.PatchOptions{FieldManager: fieldManager}
	deployments, err := apps.Deployments(c.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: c.selector(service)})
	if err != nil {
		return nil, c.failed("list deployments", err)
	}

	if len(deployments.Items) > 0 {
		d := deployments.Items[0]
		changed, err := apps.Deployments(c.Namespace).Patch(ctx, d.Name,
			types.StrategicMergePatchType, patch, o)
		if err != nil {
			return nil, c.failed("restart "+d.Name, err)
		}

		return func(ctx context.Context) (bool, int, error) {
			d, err := apps.Deployments(c.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
			if err != nil {
				return false, 0, c.failed("deployment "+service, err)
			}

			s, want := d.Status, wanted(d.Spec.Replicas)
			done := s.ObservedGeneration >= changed.Generation && int(s.UpdatedReplicas) == want &&
				int(s.AvailableReplicas) == want && int(s.Replicas) == want
			return done, max(0, want-int(min(s.UpdatedReplicas, s.AvailableReplicas))), nil
		}, nil
	}

	sets, err := apps.StatefulSets(c.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: c.selector(service)})
	if err != nil {
		return nil, c.failed("list stateful sets", err)
	}

	if len(sets.Items) > 0 {
		s := sets.Items[0]
		if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			return nil, fmt.Errorf("cluster: restart %s: its pods are replaced only when they "+
				"are deleted: `kubectl -n %s delete pod -l %s`",
				service, c.Namespace, c.selector(service))
		}

		changed, err := apps.StatefulSets(c.Namespace).Patch(ctx, s.Name,
			types.StrategicMergePatchType, patch, o)
		if err != nil {
			return nil, c.failed("restart "+s.Name, err)
		}

		return func(ctx context.Context) (bool, int, error) {
			x, err := apps.StatefulSets(c.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
			if err != nil {
				return false, 0, c.failed("stateful set "+service, err)
			}

			want := wanted(x.Spec.Replicas)
			done := x.Status.ObservedGeneration >= changed.Generation &&
				x.Status.UpdateRevision == x.Status.CurrentRevision &&
				int(x.Status.ReadyReplicas) == want
			return done, max(0, want-int(min(x.Status.UpdatedReplicas, x.Status.ReadyReplicas))), nil
		}, nil
	}

	return nil, c.failed("restart "+service,
		apierrors.NewNotFound(appsv1.Resource("deployments"), service))
}

func wanted(replicas *int32) int {
	if replicas == nil {
		return 1
	}
	return int(*replicas)
}

// withoutJobs returns the observation without Jobs, which a restart does not run.
func withoutJobs(o observation) observation {
	o.jobs = nil
	return o
}
