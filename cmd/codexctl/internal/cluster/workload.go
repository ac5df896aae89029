package cluster

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Workloads are the services that have a Deployment or a StatefulSet.
func (c *Cluster) Workloads(ctx context.Context) (map[string]bool, error) {
	o := metav1.ListOptions{LabelSelector: c.selector("")}
	out := map[string]bool{}
	deployments, err := c.api.AppsV1().Deployments(c.Namespace).List(ctx, o)
	if err != nil {
		return nil, c.failed("list deployments", err)
	}
	for i := range deployments.Items {
		out[serviceOf(&deployments.Items[i])] = true
	}
	sets, err := c.api.AppsV1().StatefulSets(c.Namespace).List(ctx, o)
	if err != nil {
		return nil, c.failed("list stateful sets", err)
	}
	for i := range sets.Items {
		out[serviceOf(&sets.Items[i])] = true
	}
	return out, nil
}

// Claims lists the stack's volume claims, sorted by name.
func (c *Cluster) Claims(ctx context.Context) ([]string, error) {
	list, err := c.api.CoreV1().PersistentVolumeClaims(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: stacks.LabelProject + "=" + stacks.Project + "," + stacks.LabelStack + "=" + c.Stack})
	if err != nil {
		return nil, c.failed("list volume claims", err)
	}
	var names []string
	for _, x := range list.Items {
		if x.DeletionTimestamp == nil {
			names = append(names, x.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// RemoveClaim deletes a volume claim and, as far as its storage class says so, what is in it.
func (c *Cluster) RemoveClaim(ctx context.Context, name string) error {
	err := c.api.CoreV1().PersistentVolumeClaims(c.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failed("remove volume claim "+name, err)
	}
	return nil
}
