package kubernetes

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// addDisruptionBudget lets a drain of nodes take one replica at a time. A service of one replica
// has none: the budget would stop the drain for ever, or say nothing.
func (r *renderer) addDisruptionBudget(p plan) {
	if p.MaxReplicas() < 2 {
		return
	}

	r.add(&Object{Resource: p.Name, Component: p.Name, API: &policyv1.PodDisruptionBudget{
		ObjectMeta: r.meta(p.Name, r.labelsOf(p.Name)),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)), Selector: r.selector(p.Name),
			// A pod that does not work anyway must not keep a node from being drained.
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}})
}
