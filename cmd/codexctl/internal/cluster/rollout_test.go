package cluster

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestJudgedUntilReady checks that a workload is judged until its pods are ready, and reported
// then. Pulumi's step ends as soon as the cluster knows of the change, before the pods are made.
func TestJudgedUntilReady(t *testing.T) {
	seen := rollout(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
	d := seen.deployments[0]
	d.Generation, d.Status = 2, appsv1.DeploymentStatus{
		ObservedGeneration: 2,
		Replicas:           1,
		UpdatedReplicas:    1,
		AvailableReplicas:  1,
	}

	o := &Observer{busy: map[Work]step{}, failed: map[Work]step{}, observe: func() observation {
		return seen
	}}
	work := Work{Service: "backend", Kind: "deploy"}
	look := func(when string, judged, ready int) {
		t.Helper()
		if works, done := o.working(seen); len(works) != judged || len(done) != ready {
			t.Errorf("%s: %d are judged and %d ready, want %d and %d",
				when, len(works), len(done), judged, ready)
		}
	}

	o.Begin(work)
	d.Generation, d.Status.ObservedGeneration = 3, 3
	d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas = 2, 1, 1
	look("in the step", 1, 0)
	o.End(work, false)
	look("after the step", 1, 0)
	d.Status.Replicas, d.Status.AvailableReplicas = 1, 1
	look("when its pods are ready", 0, 1)
	look("afterwards", 0, 0)

	o.Keep(work)
	look("of what is left as it is, and well", 0, 1)
	d.Status.AvailableReplicas = 0
	o.Keep(work)
	look("of what is left as it is, and broken", 1, 0)
	o.Begin(work)
	o.End(work, true)
	look("after a step that failed", 0, 0)
}

// TestRolledOut tells complete workloads from those in the middle of a rollout.
func TestRolledOut(t *testing.T) {
	two := int32(2)
	deployment := func(updated, available, all int32) observation {
		d := &appsv1.Deployment{
			ObjectMeta: object("backend", "", ""),
			Spec:       appsv1.DeploymentSpec{Replicas: &two},
		}

		d.Generation = 2
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: 2,
			UpdatedReplicas:    updated,
			AvailableReplicas:  available,
			Replicas:           all,
		}

		return observation{deployments: []*appsv1.Deployment{d}}
	}

	set := func(current string, updated, available int32) observation {
		s := &appsv1.StatefulSet{
			ObjectMeta: object("backend", "", ""),
			Spec:       appsv1.StatefulSetSpec{Replicas: &two},
		}

		s.Status = appsv1.StatefulSetStatus{
			CurrentRevision:   current,
			UpdateRevision:    "b",
			UpdatedReplicas:   updated,
			AvailableReplicas: available,
			Replicas:          2,
		}

		return observation{statefulSets: []*appsv1.StatefulSet{s}}
	}

	unseen := deployment(2, 2, 2)
	unseen.deployments[0].Generation = 3
	job := &batchv1.Job{ObjectMeta: object("model-1", "", "")}
	for name, c := range map[string]struct {
		seen observation
		want bool
	}{
		"complete":              {deployment(2, 2, 2), true},
		"the first of two":      {deployment(1, 3, 3), false},
		"an old pod is left":    {deployment(2, 3, 3), false},
		"not ready":             {deployment(2, 1, 2), false},
		"not seen yet":          {unseen, false},
		"set: complete":         {set("b", 2, 2), true},
		"set: counted as new":   {set("a", 2, 2), true},
		"set: in the middle":    {set("a", 1, 2), false},
		"set: not ready":        {set("b", 2, 1), false},
		"a Job that runs":       {observation{jobs: []*batchv1.Job{job}}, false},
		"nothing that is there": {observation{}, true},
	} {
		if got := c.seen.rolledOut(Work{Service: "backend"}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestBlocked checks that a late service is not blamed while one that it needs is not ready, but
// for its own faults it is.
func TestBlocked(t *testing.T) {
	needs := map[string][]string{"backend": {stacks.Redis}}
	set := &appsv1.StatefulSet{ObjectMeta: object("redis", "", "")}
	set.Labels[stacks.LabelService] = stacks.Redis
	seen := observation{statefulSets: []*appsv1.StatefulSet{set}} // its one pod is not ready
	late := Finding{Service: "backend", kind: "deadline"}
	crash := Finding{Service: "backend", kind: "crash"}

	if got := withoutBlocked([]Finding{late, crash}, seen, needs); len(got) != 1 ||
		got[0].kind != "crash" {
		t.Errorf("while redis is not ready: %+v", got)
	}

	set.Status = appsv1.StatefulSetStatus{Replicas: 1, AvailableReplicas: 1, UpdatedReplicas: 1}
	if got := withoutBlocked([]Finding{late, crash}, seen, needs); len(got) != 2 {
		t.Errorf("when redis is ready: %+v", got)
	}
}
