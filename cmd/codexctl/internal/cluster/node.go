package cluster

import (
	"context"
	"fmt"
	"slices"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Nodes lists the cluster's machines. It returns nil without an error if the
// caller may not see them.
func (c *Cluster) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list, err := c.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.unlessHidden("list nodes", err)
	}

	return append([]corev1.Node{}, list.Items...), nil
}

// DefaultGPU is the name under which NVIDIA's device plugin offers whole GPUs.
const DefaultGPU = "nvidia.com/gpu"

// GPUs returns how many devices the nodes that suit the request have in all, how many nodes those
// are, and the name of the resource.
func GPUs(nodes []corev1.Node, want stacks.GPU) (devices int64, on int, resourceName string) {
	if resourceName = want.Resource; resourceName == "" {
		resourceName = DefaultGPU
	}

	for _, n := range nodes {
		q, ok := n.Status.Allocatable[corev1.ResourceName(resourceName)]
		if !ok || q.Cmp(resource.MustParse("1")) < 0 || !tolerated(n, want.Tolerations) ||
			!labels.SelectorFromSet(want.NodeSelector).Matches(labels.Set(n.Labels)) {
			continue
		}
		devices, on = devices+q.Value(), on+1
	}

	return devices, on, resourceName
}

func tolerated(n corev1.Node, tolerations []stacks.Toleration) bool {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}

		// The taint of the device plugins is tolerated by whoever requests the resource if the
		// admission plugin ExtendedResourceToleration is on.
		if !slices.ContainsFunc(tolerations, func(x stacks.Toleration) bool {
			return (x.Key == "" || x.Key == t.Key) && (x.Value == "" || x.Value == t.Value) &&
				(x.Effect == "" || x.Effect == string(t.Effect))
		}) {
			return false
		}
	}

	return true
}

// manyImages is how many images a node lists by default. An image that is missing from a list
// this long may be there.
const manyImages = 50

// HasImage reports whether every node that can run pods lists the image. sure is false if that
// cannot be known: nodes list their images with a delay, only the largest, and not to everyone.
func HasImage(nodes []corev1.Node, ref string) (has, sure bool) {
	has, sure = len(nodes) > 0, len(nodes) > 0
	for _, n := range nodes {
		if n.Spec.Unschedulable {
			continue
		}

		if !slices.ContainsFunc(n.Status.Images, func(i corev1.ContainerImage) bool {
			return slices.ContainsFunc(i.Names, func(name string) bool {
				return FullRef(name) == FullRef(ref)
			})
		}) {
			has = false
			sure = sure && len(n.Status.Images) < manyImages
		}
	}

	return has, sure || has
}

// FullRef returns an image reference with the registry and folder that container
// runtimes add to short ones.
func FullRef(ref string) string {
	if full, err := reference.ParseNormalizedNamed(ref); err == nil {
		return full.String()
	}
	return ref
}

// Quotas returns the namespace's quotas, or nil if the caller may not see them.
func (c *Cluster) Quotas(ctx context.Context) ([]corev1.ResourceQuota, error) {
	list, err := c.api.CoreV1().ResourceQuotas(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.unlessHidden("list quotas", err)
	}

	return list.Items, nil
}

// NetworkPlugins returns the DaemonSets of known network plugins, or nil if the
// caller may not see them.
func (c *Cluster) NetworkPlugins(ctx context.Context) ([]string, error) {
	list, err := c.api.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.unlessHidden("list daemon sets", err)
	}

	var out []string
	for _, d := range list.Items {
		if _, ok := networkPlugins[d.Name]; ok {
			out = append(out, d.Name)
		}
	}

	slices.Sort(out)
	return slices.Compact(out), nil
}

// networkPlugins maps the DaemonSets of network plugins to whether they enforce NetworkPolicies.
var networkPlugins = map[string]bool{
	"calico-node":     true,
	"cilium":          true,
	"antrea-agent":    true,
	"kube-router":     true,
	"weave-net":       true,
	"canal":           true,
	"kindnet":         true, // since kind 0.24
	"azure-npm":       true,
	"anetd":           true,
	"ovnkube-node":    true,
	"kube-flannel-ds": false,
	"kube-flannel":    false,
}

// Enforces reports whether the plugin is known to enforce NetworkPolicies.
func Enforces(plugin string) bool { return networkPlugins[plugin] }

// NamespaceState returns Active, Terminating or absent.
func (c *Cluster) NamespaceState(ctx context.Context) (string, error) {
	ns, err := c.api.CoreV1().Namespaces().Get(ctx, c.Namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "absent", nil
	}
	if err != nil {
		return "", c.failed("namespace "+c.Namespace, err)
	}

	return string(ns.Status.Phase), nil
}

// UsedUp returns the resources of the quota that have nothing left.
func UsedUp(q corev1.ResourceQuota) []string {
	var out []string
	for name, hard := range q.Status.Hard {
		if used := q.Status.Used[name]; used.Cmp(hard) >= 0 && !hard.IsZero() {
			out = append(out, fmt.Sprintf("%s %s of %s", name, used.String(), hard.String()))
		}
	}

	slices.Sort(out)
	return out
}
