package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// endpointDelay is how long a pod that is being replaced still serves before it is told to stop: by then every node,
// gateway and name server knows that it is leaving, and no new connection reaches it while it drains.
const endpointDelay = 5 * time.Second

// drain is the service's preStop sleep. Only a Deployment's pod has a successor that serves meanwhile; for a StatefulSet's
// it would make the gap longer.
func (p plan) drain() time.Duration {
	if p.kind == kindDeployment && len(p.Ports) > 0 {
		return endpointDelay
	}
	return 0
}

// podTemplate is the pod of a service.
func (d *deployment) podTemplate(p plan, image pulumi.StringInput, mounted volumes) corev1.PodTemplateSpecArgs {
	c := containerArgs(p, image)
	c.VolumeMounts = mounted.mounts
	spec := d.podSpec(p.Name, p.Security, mounted)
	spec.Containers = corev1.ContainerArray{c}
	// The kubelet counts the preStop sleep in.
	spec.TerminationGracePeriodSeconds = pulumi.Int(seconds(p.drain() + p.StopGrace))
	// With one replica, too: scaling must not change the pods that are there.
	if p.kind == kindDeployment || d.spreads(p) {
		spec.TopologySpreadConstraints = d.spread(p)
	}
	applyGPU(&spec, p.GPU)
	return corev1.PodTemplateSpecArgs{
		Metadata: &metav1.ObjectMetaArgs{Labels: pulumi.ToStringMap(workloadLabels(d.stack, p.Name))},
		Spec:     spec,
	}
}

// podSpec is what all pods of the stack have in common.
func (d *deployment) podSpec(account string, s stacks.Security, mounted volumes) corev1.PodSpecArgs {
	security := corev1.PodSecurityContextArgs{
		RunAsNonRoot:   pulumi.Bool(true),
		RunAsUser:      pulumi.Int(s.UID),
		RunAsGroup:     pulumi.Int(s.GID),
		SeccompProfile: corev1.SeccompProfileArgs{Type: pulumi.String("RuntimeDefault")},
	}
	if mounted.claims {
		// A fresh claim is root's. Once it is the group's, its files are not walked through at every start.
		security.FsGroup = pulumi.Int(s.GID)
		security.FsGroupChangePolicy = pulumi.String("OnRootMismatch")
	}
	spec := corev1.PodSpecArgs{
		ServiceAccountName:           pulumi.String(account),
		AutomountServiceAccountToken: pulumi.Bool(false),
		// Variables about every Service of the namespace are nobody's contract.
		EnableServiceLinks: pulumi.Bool(false),
		SecurityContext:    security,
	}
	if len(mounted.volumes) > 0 {
		spec.Volumes = mounted.volumes
	}
	return spec
}

// spread keeps a service's replicas on different nodes and in different zones where it can. Each revision counts by
// itself, or the pods that a rolling update is about to remove would push the new ones together.
func (d *deployment) spread(p plan) corev1.TopologySpreadConstraintArray {
	revision := "pod-template-hash"
	if p.kind == kindStatefulSet {
		revision = "controller-revision-hash"
	}
	sel := labelSelector(selector(d.stack, p.Name))
	var out corev1.TopologySpreadConstraintArray
	for _, key := range []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"} {
		out = append(out, corev1.TopologySpreadConstraintArgs{
			MaxSkew: pulumi.Int(1), TopologyKey: pulumi.String(key), WhenUnsatisfiable: pulumi.String("ScheduleAnyway"),
			LabelSelector: sel, MatchLabelKeys: pulumi.ToStringArray([]string{revision}),
		})
	}
	return out
}
