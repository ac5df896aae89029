package kubernetes

import (
	"fmt"
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/api/resource"
)

// stray is what a pod that is none of the stack's gets when it names no limits: cert-manager's solver, or somebody's
// debugging pod.
var stray = stacks.Resources{CPU: 100, Memory: 64 * stacks.MiB}

// What a controller of the Gateway API may put beside a Gateway of the stack's own, as Istio, NGINX and Cilium do: a proxy, twice
// while it is replaced, behind a load balancer with a port each for HTTP, HTTPS and its health. The amounts are Istio's limits;
// a proxy without any (NGINX, Envoy) gets them from the LimitRange.
var gatewayProxy = stacks.Resources{CPU: 2000, Memory: stacks.GiB}

const (
	gatewayProxies = 2
	gatewayPorts   = 3
)

// addQuota bounds the namespace to what the stack can ever need, and every container to the largest of the stack's.
//
// A Deployment's quota counts its replicas twice and the surge once: while the last revision's pods drain, which may take
// as long as an answer, the new revision's are all there. Claims are not bounded: they outlive the stack that made them.
func (d *deployment) addQuota(plans []plan) error {
	labels := stackLabels(d.stack)
	hard := map[string]resource.Quantity{}
	largest := map[string]resource.Quantity{}
	count := func(pods int, list ...resources) {
		add(hard, "pods", resource.MustParse("1"), pods)
		for _, r := range list {
			for _, name := range slices.Sorted(maps.Keys(r.limits)) {
				q := resource.MustParse(r.limits[name])
				add(hard, "requests."+name, resource.MustParse(r.requests[name]), pods)
				if isNative(name) {
					add(hard, "limits."+name, q, pods)
					if now := largest[name]; q.Cmp(now) > 0 {
						largest[name] = q
					}
				}
			}
		}
	}
	for _, p := range plans {
		pods := p.most
		if p.kind == kindDeployment {
			pods = 2*p.most + p.surge()
		}
		count(pods, resourcesOf(p.Resources, p.GPU))
	}
	if d.model != nil {
		count(2, d.model.resources()...) // a replaced Job's pod may still be ending
	}
	few, balancers, nodePorts := resourcesOf(stray, nil), 0, 0
	if ownGateway(d.stack) {
		few = resourcesOf(gatewayProxy, nil)
		count(gatewayProxies, few)
		balancers, nodePorts = 1, gatewayPorts
	}
	count(1, few)
	if e := d.stack.Service(stacks.Edge); e != nil && loadBalanced(*e) {
		balancers, nodePorts = balancers+1, nodePorts+1
	}
	if r := d.stack.Route; r != nil && r.Ingress != nil && r.TLS != nil && r.TLS.Secret == "" {
		nodePorts++ // cert-manager's solver is reached by one
	}
	add(hard, "services.loadbalancers", resource.MustParse("1"), balancers)
	add(hard, "services.nodeports", resource.MustParse("1"), nodePorts)

	quota, err := corev1.NewResourceQuota(d.ctx, "quota", &corev1.ResourceQuotaArgs{
		Metadata: d.meta(stacks.Project, labels, nil), Spec: corev1.ResourceQuotaSpecArgs{Hard: written(hard)},
	}, pulumi.Parent(d.home), pulumi.Provider(d.cluster))
	if err != nil {
		return fmt.Errorf("quota: %w", err)
	}
	limits, err := corev1.NewLimitRange(d.ctx, "limits", &corev1.LimitRangeArgs{
		Metadata: d.meta(stacks.Project, labels, nil),
		Spec: corev1.LimitRangeSpecArgs{Limits: corev1.LimitRangeItemArray{corev1.LimitRangeItemArgs{
			Type: pulumi.String("Container"), Max: written(largest),
			Default: pulumi.ToStringMap(few.limits), DefaultRequest: pulumi.ToStringMap(few.requests),
		}}},
	}, pulumi.Parent(d.home), pulumi.Provider(d.cluster))
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	d.fences = append(d.fences, quota, limits)
	return nil
}

// isNative says that the resource is Kubernetes' own: a quota bounds only the requests of others.
func isNative(name string) bool {
	return slices.Contains([]string{"cpu", "memory", "ephemeral-storage"}, name)
}

func add(sum map[string]resource.Quantity, name string, q resource.Quantity, times int) {
	now := sum[name]
	for range times {
		now.Add(q)
	}
	if now.Format == "" {
		now.Format = q.Format
	}
	sum[name] = now
}

func written(list map[string]resource.Quantity) pulumi.StringMap {
	out := pulumi.StringMap{}
	for name, q := range list {
		out[name] = pulumi.String(q.String())
	}
	return out
}
