package kubernetes

import (
	policyv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/policy/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addDisruptionBudget lets a drain of nodes take one replica at a time. A service of one replica has none: the budget
// would stop the drain for ever, or say nothing.
func (d *deployment) addDisruptionBudget(p plan, s *service) error {
	if p.most < 2 {
		return nil
	}
	sel := labelSelector(selector(d.stack, p.Name))
	_, err := policyv1.NewPodDisruptionBudget(d.ctx, p.Name, &policyv1.PodDisruptionBudgetArgs{
		Metadata: d.meta(p.Name, workloadLabels(d.stack, p.Name), nil),
		Spec: policyv1.PodDisruptionBudgetSpecArgs{
			MaxUnavailable: pulumi.Int(1), Selector: sel,
			// A pod that does not work anyway must not keep a node from being drained.
			UnhealthyPodEvictionPolicy: pulumi.String("AlwaysAllow"),
		},
	}, pulumi.Parent(s), pulumi.Provider(d.cluster))
	return err
}
