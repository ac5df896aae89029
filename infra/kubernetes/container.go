package kubernetes

import (
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// cpuRequestShare is the part of its CPU limit that a container asks the scheduler for. CPU can be lent and taken back,
// so what a service may use at most is not what a node has to keep free: requests as large as the limits would leave
// most of every node idle, and no small machine could run a stack. Under pressure, the shares stay in proportion to the
// limits. Memory cannot be taken back: it is requested in full, so that no pod is killed for another one's growth.
const cpuRequestShare = 10

// What a container may write to the node's disk, beyond its volumes: its log alone, as the root file system is read-only.
// How much of it the node keeps is the kubelet's setting (containerLogMaxSize, containerLogMaxFiles; 50Mi by default), so
// the limit is far beyond: it catches a node without rotation.
const (
	diskRequest = 64 * stacks.MiB
	diskLimit   = stacks.GiB
)

// resources are what a container asks for and is bounded by.
type resources struct{ requests, limits map[string]string }

func resourcesOf(r stacks.Resources, g *stacks.GPU) resources {
	out := resources{
		requests: map[string]string{
			"cpu":               cpuQuantity(max(r.CPU/cpuRequestShare, 10)),
			"memory":            byteQuantity(r.Memory),
			"ephemeral-storage": byteQuantity(diskRequest),
		},
		limits: map[string]string{
			"cpu":               cpuQuantity(r.CPU),
			"memory":            byteQuantity(r.Memory),
			"ephemeral-storage": byteQuantity(diskLimit),
		},
	}
	if g != nil { // extended resources are not shared: both are the same
		out.requests[gpuResource(g)], out.limits[gpuResource(g)] = countQuantity(g.Count), countQuantity(g.Count)
	}
	return out
}

func (r resources) args() corev1.ResourceRequirementsArgs {
	return corev1.ResourceRequirementsArgs{Requests: pulumi.ToStringMap(r.requests), Limits: pulumi.ToStringMap(r.limits)}
}

// containerArgs are the arguments of the service's container.
func containerArgs(p plan, image pulumi.StringInput) corev1.ContainerArgs {
	startup, readiness, liveness := probes(p.Service)
	c := corev1.ContainerArgs{
		Name:  pulumi.String(p.Name),
		Image: image.ToStringOutput().ToStringPtrOutput(),
		// The tag is the digest of what the image was made of: there is nothing newer under it.
		ImagePullPolicy: pulumi.String("IfNotPresent"),
		Env:             variables(p.env),
		Resources:       resourcesOf(p.Resources, p.GPU).args(),
		SecurityContext: containerSecurity(p.Security),
		StartupProbe:    startup, ReadinessProbe: readiness, LivenessProbe: liveness,
		// What a container last wrote is in its status when it fails: `codexctl up` shows it.
		TerminationMessagePolicy: pulumi.String("FallbackToLogsOnError"),
	}
	if len(p.Entrypoint) > 0 {
		c.Command = pulumi.ToStringArray(p.Entrypoint)
	}
	if len(p.Command) > 0 {
		c.Args = pulumi.ToStringArray(p.Command)
	}
	var ports corev1.ContainerPortArray
	for _, port := range p.Ports {
		ports = append(ports, corev1.ContainerPortArgs{
			Name: pulumi.String(port.Name), ContainerPort: pulumi.Int(port.Container), Protocol: pulumi.String("TCP"),
		})
	}
	if len(ports) > 0 {
		c.Ports = ports
	}
	if p.drain() > 0 {
		c.Lifecycle = corev1.LifecycleArgs{PreStop: corev1.LifecycleHandlerArgs{Sleep: corev1.SleepActionArgs{Seconds: pulumi.Int(seconds(p.drain()))}}}
	}
	return c
}

// variables are sorted: the order of a list is part of what the API server compares.
func variables(env map[string]string) corev1.EnvVarArray {
	out := corev1.EnvVarArray{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, corev1.EnvVarArgs{Name: pulumi.String(name), Value: pulumi.String(env[name])})
	}
	return out
}

// containerSecurity is what the Pod Security Standard "restricted" asks for, and a read-only root file system.
func containerSecurity(s stacks.Security) corev1.SecurityContextArgs {
	caps := corev1.CapabilitiesArgs{Drop: pulumi.ToStringArray([]string{"ALL"})}
	if len(s.KeepCapabilities) > 0 {
		caps.Add = pulumi.ToStringArray(slices.Sorted(maps.Keys(s.KeepCapabilities)))
	}
	return corev1.SecurityContextArgs{
		AllowPrivilegeEscalation: pulumi.Bool(false),
		Capabilities:             caps,
		Privileged:               pulumi.Bool(false),
		ReadOnlyRootFilesystem:   pulumi.Bool(s.WritableRoot == ""),
		RunAsNonRoot:             pulumi.Bool(true),
		RunAsUser:                pulumi.Int(s.UID),
		RunAsGroup:               pulumi.Int(s.GID),
		SeccompProfile:           corev1.SeccompProfileArgs{Type: pulumi.String("RuntimeDefault")},
	}
}
