package kubernetes

import (
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// endpointDelay is how long a pod that is being replaced still serves before it is told to stop:
// by then every node, gateway and name server knows that it is leaving, and no new connection
// reaches it while it drains.
const endpointDelay = 5 * time.Second

// annotationEvict, if it is false, has Cluster Autoscaler leave a pod where it is when a node
// could be saved. A pod that writes to a claim has no second one, so that its service is away
// meanwhile; a drain of the node moves it. See
// https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md.
const annotationEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"

// drain returns the service's preStop sleep. Only a Deployment's pod has a successor that serves
// meanwhile; for a StatefulSet's it would make the gap longer.
func (p plan) drain() time.Duration {
	if p.kind == kindDeployment && len(p.Ports) > 0 {
		return endpointDelay
	}
	return 0
}

// podTemplate returns the pod of a service.
func (r *renderer) podTemplate(p plan, mounted volumes) corev1.PodTemplateSpec {
	c := container(p)
	c.VolumeMounts = mounted.mounts
	spec := podSpec(p.Name, p.Security, mounted)
	spec.Containers = []corev1.Container{c}
	// The kubelet counts the preStop sleep in.
	spec.TerminationGracePeriodSeconds = new(int64(seconds(p.drain() + p.StopGrace)))
	// With one replica, too: scaling must not change the pods that are there.
	if p.kind == kindDeployment || r.spreads(p) {
		spec.TopologySpreadConstraints = r.spread(p)
	}

	if r.asksResolver(p.Service) {
		r.askResolver(&spec)
	}

	applyGPU(&spec, p.GPU)
	pod := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: r.labelsOf(p.Name)}, Spec: spec,
	}
	if len(mounted.templates) > 0 {
		pod.Annotations = map[string]string{annotationEvict: "false"}
	}
	r.place(&pod, p.Name, p.GPU)
	return pod
}

// podSpec returns what all pods of the stack have in common.
func podSpec(account string, s stacks.Security, mounted volumes) corev1.PodSpec {
	security := &corev1.PodSecurityContext{
		RunAsNonRoot:   new(true),
		RunAsUser:      new(int64(s.UID)),
		RunAsGroup:     new(int64(s.GID)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if mounted.claims {
		// A fresh claim is root's. Once it is the group's, its files are not walked
		// through at every start.
		security.FSGroup = new(int64(s.GID))
		security.FSGroupChangePolicy = new(corev1.FSGroupChangeOnRootMismatch)
	}

	return corev1.PodSpec{
		ServiceAccountName:           account,
		AutomountServiceAccountToken: new(false),
		// Variables about every Service of the namespace are nobody's contract.
		EnableServiceLinks: new(false),
		SecurityContext:    security,
		Volumes:            mounted.volumes,
	}
}

// spread keeps a service's replicas on different nodes and in different zones where it can.
// Each revision counts by itself, or the pods that a rolling update is about to remove would
// push the new ones together.
func (r *renderer) spread(p plan) []corev1.TopologySpreadConstraint {
	revision := "pod-template-hash"
	if p.kind == kindStatefulSet {
		revision = "controller-revision-hash"
	}

	var out []corev1.TopologySpreadConstraint
	for _, key := range []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"} {
		out = append(out, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: r.selector(p.Name), MatchLabelKeys: []string{revision},
		})
	}

	return out
}
