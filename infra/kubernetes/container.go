package kubernetes

import (
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
)

// cpuRequestShare is the part of its CPU limit that a container asks the scheduler for. CPU can be
// lent and taken back, so what a service may use at most is not what a node has to keep free:
// requests as large as the limits would leave most of every node idle, and no small machine could
// run a stack. Under pressure, the shares stay in proportion to the limits. Memory cannot be taken
// back: it is requested in full, so that no pod is killed for another one's growth.
const cpuRequestShare = 10

// What a container may write to the node's disk, beyond its volumes: its log alone, as the root
// file system is read-only. How much of it the node keeps is the kubelet's setting
// (containerLogMaxSize, containerLogMaxFiles; 50Mi by default), so the limit is far beyond: it
// catches a node without rotation.
const (
	diskRequest = 64 * stacks.MiB
	diskLimit   = stacks.GiB
)

// resourcesOf returns what a container asks for and is bounded by.
func resourcesOf(r stacks.Resources, g *stacks.GPU) corev1.ResourceRequirements {
	out := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:              cpuQuantity(max(r.CPU/cpuRequestShare, 10)),
			corev1.ResourceMemory:           byteQuantity(r.Memory),
			corev1.ResourceEphemeralStorage: byteQuantity(diskRequest),
		},
		Limits: corev1.ResourceList{
			corev1.ResourceCPU:              cpuQuantity(r.CPU),
			corev1.ResourceMemory:           byteQuantity(r.Memory),
			corev1.ResourceEphemeralStorage: byteQuantity(diskLimit),
		},
	}
	if g != nil { // extended resources are not shared: both are the same
		name := corev1.ResourceName(gpuResource(g))
		out.Requests[name], out.Limits[name] = countQuantity(g.Count), countQuantity(g.Count)
	}

	return out
}

// container returns the service's container.
func container(p plan) corev1.Container {
	startup, readiness, liveness := probes(p.Service)
	c := corev1.Container{
		Name: p.Name, Image: p.image, Command: p.Entrypoint, Args: p.Command,
		// The tag is the digest of what the image was made of: there is nothing newer under it.
		ImagePullPolicy: corev1.PullIfNotPresent,
		Env:             variables(p.env),
		Resources:       resourcesOf(p.Resources, p.GPU),
		SecurityContext: containerSecurity(p.Security),
		StartupProbe:    startup, ReadinessProbe: readiness, LivenessProbe: liveness,
		// What a container last wrote is in its status when it fails: `codexctl up` shows it.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}

	for _, port := range p.Ports {
		c.Ports = append(c.Ports, corev1.ContainerPort{
			Name: port.Name, ContainerPort: int32(port.Container), Protocol: protocol(port),
		})
	}

	if p.drain() > 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Sleep: &corev1.SleepAction{Seconds: int64(seconds(p.drain()))},
		}}
	}

	return c
}

func protocol(p stacks.Port) corev1.Protocol {
	if p.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// variables returns the variables sorted: the API server compares lists with their order.
func variables(env map[string]string) []corev1.EnvVar {
	var out []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, corev1.EnvVar{Name: name, Value: env[name]})
	}
	return out
}

// containerSecurity returns what the Pod Security Standard "restricted" asks for, and a
// read-only root file system.
func containerSecurity(s stacks.Security) *corev1.SecurityContext {
	capabilities := &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}
	for _, name := range slices.Sorted(maps.Keys(s.KeepCapabilities)) {
		capabilities.Add = append(capabilities.Add, corev1.Capability(name))
	}

	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             capabilities,
		Privileged:               new(false),
		ReadOnlyRootFilesystem:   new(s.WritableRoot == ""),
		RunAsNonRoot:             new(true),
		RunAsUser:                new(int64(s.UID)),
		RunAsGroup:               new(int64(s.GID)),
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}
