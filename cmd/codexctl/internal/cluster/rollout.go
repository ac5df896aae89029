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
	s, want := d.Status, int32(wanted(d.Spec.Replicas))
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want &&
		s.AvailableReplicas == want && s.Replicas == want
}

func setUp(x *appsv1.StatefulSet) bool {
	s, want := x.Status, int32(wanted(x.Spec.Replicas))
	return s.ObservedGeneration >= x.Generation &&
		(s.UpdateRevision == s.CurrentRevision || s.UpdatedReplicas == want) &&
		s.AvailableReplicas == want && s.Replicas == want
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
