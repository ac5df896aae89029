package kubernetes

import (
	"cmp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// nvidiaGPU is what NVIDIA's device plugin offers whole GPUs as, and the key of the taint that keeps other pods off its
// nodes. Slices (nvidia.com/mig-...) are on nodes with the same taint.
const nvidiaGPU = "nvidia.com/gpu"

// gpuResource is the extended resource that the request is for.
func gpuResource(g *stacks.GPU) string { return cmp.Or(g.Resource, nvidiaGPU) }

// gpuTaint is the key of the taint on nodes with that resource.
func gpuTaint(resource string) string {
	if strings.HasPrefix(resource, "nvidia.com/") {
		return nvidiaGPU
	}
	return resource
}

// applyGPU makes the pod go where the devices are. The container's limit asks for them (container.go).
func applyGPU(pod *corev1.PodSpecArgs, g *stacks.GPU) {
	if g == nil {
		return
	}
	if g.RuntimeClass != "" {
		pod.RuntimeClassName = pulumi.String(g.RuntimeClass)
	}
	if len(g.NodeSelector) > 0 {
		pod.NodeSelector = pulumi.ToStringMap(g.NodeSelector)
	}
	tolerations := slices.Clone(g.Tolerations)
	if taint := gpuTaint(gpuResource(g)); !slices.ContainsFunc(tolerations, func(t stacks.Toleration) bool { return t.Key == taint }) {
		tolerations = append(tolerations, stacks.Toleration{Key: taint, Effect: "NoSchedule"})
	}
	var list corev1.TolerationArray
	for _, t := range tolerations {
		arg := corev1.TolerationArgs{Key: pulumi.String(t.Key), Operator: pulumi.String("Exists")}
		if t.Value != "" {
			arg.Operator, arg.Value = pulumi.String("Equal"), pulumi.String(t.Value)
		}
		if t.Effect != "" {
			arg.Effect = pulumi.String(t.Effect)
		}
		list = append(list, arg)
	}
	pod.Tolerations = list
}
