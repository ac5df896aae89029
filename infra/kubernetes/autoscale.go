package kubernetes

import (
	autoscalingv2 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/autoscaling/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// addAutoscaler lets the number of replicas follow the use of processor time. The stack gives it in percent of the limit,
// while Kubernetes' percentage is one of the request: so the target is an amount per pod.
func (d *deployment) addAutoscaler(p plan, s *service, workload pulumi.Resource) error {
	a := p.Autoscale
	if a == nil {
		return nil
	}
	_, err := autoscalingv2.NewHorizontalPodAutoscaler(d.ctx, p.Name, &autoscalingv2.HorizontalPodAutoscalerArgs{
		Metadata: d.meta(p.Name, workloadLabels(d.stack, p.Name), nil),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpecArgs{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReferenceArgs{
				ApiVersion: pulumi.String("apps/v1"), Kind: pulumi.String(p.kind), Name: pulumi.String(p.Name),
			},
			MinReplicas: pulumi.Int(a.Min), MaxReplicas: pulumi.Int(a.Max),
			Metrics: autoscalingv2.MetricSpecArray{autoscalingv2.MetricSpecArgs{
				Type: pulumi.String("Resource"),
				Resource: autoscalingv2.ResourceMetricSourceArgs{
					Name: pulumi.String("cpu"),
					Target: autoscalingv2.MetricTargetArgs{
						Type:         pulumi.String("AverageValue"),
						AverageValue: pulumi.String(cpuQuantity(p.Resources.CPU * stacks.MilliCPU(a.CPU) / 100)),
					},
				},
			}},
		},
	}, pulumi.Parent(s), pulumi.Provider(d.cluster), pulumi.DependsOn([]pulumi.Resource{workload}))
	return err
}
