package kubernetes

import (
	"cmp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
)

// nvidiaGPU is what NVIDIA's device plugin offers whole GPUs as, and the key of the taint that
// keeps other pods off its nodes. Slices (nvidia.com/mig-...) are on nodes with the same taint.
const nvidiaGPU = "nvidia.com/gpu"

// gpuResource returns the extended resource that the request is for.
func gpuResource(g *stacks.GPU) string { return cmp.Or(g.Resource, nvidiaGPU) }

// gpuTaint returns the key of the taint on nodes with that resource.
func gpuTaint(resource string) string {
	if strings.HasPrefix(resource, "nvidia.com/") {
		return nvidiaGPU
	}
	return resource
}

// applyGPU makes the pod go where the devices are. The container's limit asks
// for them (container.go).
func applyGPU(pod *corev1.PodSpec, g *stacks.GPU) {
	if g == nil {
		return
	}
	if g.RuntimeClass != "" {
		pod.RuntimeClassName = &g.RuntimeClass
	}

	pod.NodeSelector = g.NodeSelector
	tolerated := slices.Clone(g.Tolerations)
	taint := gpuTaint(gpuResource(g))
	if !slices.ContainsFunc(tolerated, func(t stacks.Toleration) bool { return t.Key == taint }) {
		tolerated = append(tolerated, stacks.Toleration{Key: taint, Effect: "NoSchedule"})
	}
	pod.Tolerations = tolerations(tolerated)
}
