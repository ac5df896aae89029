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

	if err := c.patch(ctx, service, patch); err != nil {
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
		// Before the pods: those that a finished rollout counts are reported then.
		rollout, err := c.workloads(ctx, service)
		if err != nil {
			return err
		}

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

		if rollout.rolledOut(Work{Service: service}) {
			return nil
		}

		seen := o.observe()
		seen.jobs = nil // a restart runs none
		sure := j.decide(seen.findings(Work{Service: service}, now), time.Now())
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
			Left:    rollout.left(),
		}
		if len(sure) == 0 {
			e.After = timeout
		}

		for i := range pods {
			if p := &pods[i]; !old[p.UID] && !ready(p) {
				e.Replica, e.Left = replica(p), rollout.left()-1
			}
		}

		if len(sure) > 0 {
			e.Replica.State = sure[0].What + " (" + sure[0].Why + ")"
		}

		return e
	}
}

// patch changes the service's Deployments and StatefulSets.
func (c *Cluster) patch(ctx context.Context, service string, patch []byte) error {
	seen, err := c.workloads(ctx, service)
	if err != nil {
		return err
	}

	if len(seen.deployments)+len(seen.statefulSets) == 0 {
		return c.failed("restart "+service,
			apierrors.NewNotFound(appsv1.Resource("deployments"), service))
	}

	apps, o := c.api.AppsV1(), metav1.PatchOptions{FieldManager: fieldManager}
	for _, d := range seen.deployments {
		_, err := apps.Deployments(c.Namespace).Patch(ctx, d.Name,
			types.StrategicMergePatchType, patch, o)
		if err != nil {
			return c.failed("restart "+d.Name, err)
		}
	}

	for _, s := range seen.statefulSets {
		if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			return fmt.Errorf("cluster: restart %s: its pods are replaced only when they are "+
				"deleted: `kubectl -n %s delete pod -l %s`",
				service, c.Namespace, c.selector(service))
		}

		_, err := apps.StatefulSets(c.Namespace).Patch(ctx, s.Name,
			types.StrategicMergePatchType, patch, o)
		if err != nil {
			return c.failed("restart "+s.Name, err)
		}
	}

	return nil
}
