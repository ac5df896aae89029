package kubernetes

import (
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// stray is what a pod that is none of the stack's gets when it names no limits: cert-manager's
// solver, or somebody's debugging pod.
var stray = stacks.Resources{CPU: 100, Memory: 64 * stacks.MiB}

// What a controller of the Gateway API may put beside a Gateway of the stack's own, as Istio, NGINX
// and Cilium do: a proxy, twice while it is replaced, behind a load balancer with a port each for
// HTTP, HTTPS and its health. The amounts are Istio's limits; a proxy without any (NGINX, Envoy)
// gets them from the LimitRange.
var gatewayProxy = stacks.Resources{CPU: 2000, Memory: stacks.GiB}

const (
	gatewayProxies = 2
	gatewayPorts   = 3
)

// addQuota bounds the namespace to what the stack can ever need, and every container to the
// largest of the stack's.
//
// A Deployment's quota counts its replicas twice and the surge once: while the last revision's pods
// drain, which may take as long as an answer, the new revision's are all there. Claims are not
// bounded: they outlive the stack that made them.
func (r *renderer) addQuota() {
	hard, largest := corev1.ResourceList{}, corev1.ResourceList{}
	count := func(pods int, list ...corev1.ResourceRequirements) {
		add(hard, "pods", resource.MustParse("1"), pods)
		for _, x := range list {
			for name, q := range x.Limits {
				add(hard, "requests."+name, x.Requests[name], pods)
				if isNative(name) {
					add(hard, "limits."+name, q, pods)
					if now := largest[name]; q.Cmp(now) > 0 {
						largest[name] = q
					}
				}
			}
		}
	}

	for _, p := range r.plans {
		pods := p.MaxReplicas()
		if p.kind == kindDeployment {
			pods = 2*p.MaxReplicas() + p.surge()
		}
		count(pods, resourcesOf(p.Resources, p.GPU))
	}

	if r.model != nil {
		count(2, r.model.resources()...) // a replaced Job's pod may still be ending
	}

	few, balancers, nodePorts := resourcesOf(stray, nil), 0, 0
	if ownGateway(r.stack) {
		few = resourcesOf(gatewayProxy, nil)
		count(gatewayProxies, few)
		balancers, nodePorts = 1, gatewayPorts
	}

	count(1, few)
	if e := r.stack.Service(stacks.Edge); e != nil && loadBalanced(*e) {
		balancers, nodePorts = balancers+1, nodePorts+1
	}
	if t := r.stack.Route; t != nil && t.Ingress != nil && t.TLS != nil && t.TLS.Secret == "" {
		nodePorts++ // cert-manager's solver is reached by one
	}

	add(hard, "services.loadbalancers", resource.MustParse("1"), balancers)
	add(hard, "services.nodeports", resource.MustParse("1"), nodePorts)

	quota := r.add(&Object{Resource: "quota", API: &corev1.ResourceQuota{
		ObjectMeta: r.meta(stacks.Project, r.labels()), Spec: corev1.ResourceQuotaSpec{Hard: hard},
	}})
	limits := r.add(&Object{Resource: "limits", API: &corev1.LimitRange{
		ObjectMeta: r.meta(stacks.Project, r.labels()),
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Max: largest,
			Default: few.Limits, DefaultRequest: few.Requests,
		}}},
	}})

	r.fences = append(r.fences, quota, limits)
}

// isNative reports whether the resource is Kubernetes' own: a quota bounds only
// the requests of others.
func isNative(name corev1.ResourceName) bool {
	return slices.Contains([]corev1.ResourceName{
		corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
	},
		name)
}

func add(sum corev1.ResourceList, name corev1.ResourceName, q resource.Quantity, times int) {
	now := sum[name]
	for range times {
		now.Add(q)
	}

	if now.Format == "" {
		now.Format = q.Format
	}

	sum[name] = now
}
