package kubernetes

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// addAutoscaler lets the number of replicas follow the use of processor time. The stack gives
// it in percent of the limit, while Kubernetes' percentage is one of the request: so the target
// is an amount per pod.
func (r *renderer) addAutoscaler(p plan, workload *Object) {
	a := p.Autoscale
	if a == nil {
		return
	}

	amount := cpuQuantity(p.Resources.CPU * stacks.MilliCPU(a.CPU) / 100)
	r.add(&Object{Resource: p.Name, Component: p.Name, After: []*Object{workload},
		API: &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: r.meta(p.Name, r.labelsOf(p.Name)),
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
					APIVersion: "apps/v1", Kind: p.kind, Name: p.Name,
				},
				MinReplicas: new(int32(a.Min)), MaxReplicas: int32(a.Max),
				Metrics: []autoscalingv2.MetricSpec{{
					Type: autoscalingv2.ResourceMetricSourceType,
					Resource: &autoscalingv2.ResourceMetricSource{
						Name: corev1.ResourceCPU,
						Target: autoscalingv2.MetricTarget{
							Type: autoscalingv2.AverageValueMetricType, AverageValue: &amount,
						},
					},
				}},
			},
		}})
}
