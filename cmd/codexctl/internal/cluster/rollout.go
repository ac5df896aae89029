package cluster

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// rolledOut reports whether the workload is complete: its controller has seen its newest
// specification, all its pods are of that revision and ready, and none of an older one is left. A
// Job is complete when it has ended. A workload that does not exist is complete.
func (o observation) rolledOut(w Work) bool {
	for _, d := range o.deployments {
		if serviceOf(d) == w.Service && w.on("deploy") && !deployed(d) {
			return false
		}
	}

	for _, s := range o.statefulSets {
		if serviceOf(s) == w.Service && w.on("sts") && !setUp(s) {
			return false
		}
	}

	for _, j := range o.jobs {
		if serviceOf(j) == w.Service && w.on("job") && !finished(j) {
			return false
		}
	}

	return true
}

func deployed(d *appsv1.Deployment) bool {
	s, want := d.Status, wanted(d.Spec.Replicas)
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want &&
		s.AvailableReplicas == want && s.Replicas == want
}

func setUp(x *appsv1.StatefulSet) bool {
	s, want := x.Status, wanted(x.Spec.Replicas)
	return s.ObservedGeneration >= x.Generation &&
		(s.UpdateRevision == s.CurrentRevision || s.UpdatedReplicas == want) &&
		s.AvailableReplicas == want && s.Replicas == want
}

// wanted returns the number of replicas that a specification asks for.
func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// left returns how many pods are not of the newest revision and ready yet.
func (o observation) left() int {
	n := int32(0)
	for _, d := range o.deployments {
		n += max(0,
			wanted(d.Spec.Replicas)-min(d.Status.UpdatedReplicas, d.Status.AvailableReplicas))
	}

	for _, s := range o.statefulSets {
		n += max(0, wanted(s.Spec.Replicas)-min(s.Status.UpdatedReplicas, s.Status.ReadyReplicas))
	}

	return int(n)
}

// withoutBlocked returns the findings without those that a service is not ready in time while one
// that it needs is not ready: its time starts when that is.
func withoutBlocked(findings []Finding, seen observation, needs map[string][]string) []Finding {
	return slices.DeleteFunc(findings, func(f Finding) bool {
		return f.kind == "deadline" && slices.ContainsFunc(needs[f.Service],
			func(name string) bool {
				return !seen.rolledOut(Work{Service: name})
			})
	})
}
