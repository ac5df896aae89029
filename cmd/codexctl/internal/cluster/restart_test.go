package cluster

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"
)

// TestRestart restarts workloads of which every pod is ready again at once, and refuses those that
// cannot be restarted.
func TestRestart(t *testing.T) {
	whole := &appsv1.Deployment{ObjectMeta: object("backend", "", "")}
	whole.Spec.Replicas = ptr[int32](2)
	whole.Status = appsv1.DeploymentStatus{
		Replicas:          2,
		UpdatedReplicas:   2,
		AvailableReplicas: 2,
	}

	c, api := lab(whole, runningPod("before", nil))
	var restarted []string
	restart := func(c *Cluster) error {
		return c.Restart(t.Context(), "backend", time.Minute,
			func(pod string, _ time.Duration) { restarted = append(restarted, pod) })
	}

	// The last pod becomes ready just before the Deployment counts it.
	var patched, added atomic.Bool
	api.PrependReactor("patch", "deployments",
		func(ktesting.Action) (bool, runtime.Object, error) {
			patched.Store(true)
			return false, nil, nil
		})
	api.PrependReactor("list", "deployments",
		func(ktesting.Action) (bool, runtime.Object, error) {
			if patched.Load() && added.CompareAndSwap(false, true) {
				return false, nil, api.Tracker().Add(runningPod("after", nil))
			}
			return false, nil, nil
		})

	if err := restart(c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(restarted, []string{"after"}) {
		t.Errorf("it told of %v", restarted)
	}

	d, err := api.AppsV1().Deployments(c.Namespace).Get(t.Context(), "backend", metav1.GetOptions{})
	if err != nil || d.Spec.Template.Annotations[restartedAt] == "" {
		t.Errorf("annotations %v, %v", d.Spec.Template.Annotations, err)
	}

	byHand := &appsv1.StatefulSet{ObjectMeta: object("backend", "", "")}
	byHand.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
	c, _ = lab(byHand)
	if err := restart(c); err == nil || !strings.Contains(err.Error(), "only when they are deleted") {
		t.Errorf("a set that is updated by hand: %v", err)
	}

	c, _ = lab()
	if err := restart(c); err == nil || !strings.Contains(err.Error(), `"backend" not found`) {
		t.Errorf("a service without a workload: %v", err)
	}
}

// TestLeft counts the pods that a rollout has not reached yet.
func TestLeft(t *testing.T) {
	o := observation{
		deployments: []*appsv1.Deployment{{
			Spec:   appsv1.DeploymentSpec{Replicas: ptr[int32](3)},
			Status: appsv1.DeploymentStatus{UpdatedReplicas: 2, AvailableReplicas: 1},
		}},
		statefulSets: []*appsv1.StatefulSet{{
			Status: appsv1.StatefulSetStatus{UpdatedReplicas: 1, ReadyReplicas: 2},
		}},
	}
	if got := o.left(); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}
