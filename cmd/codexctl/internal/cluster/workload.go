package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// workloads returns the Deployments and StatefulSets of a service, or of all services if service is
// empty.
func (c *Cluster) workloads(ctx context.Context, service string) (observation, error) {
	var out observation
	o := metav1.ListOptions{LabelSelector: c.selector(service)}
	deployments, err := c.api.AppsV1().Deployments(c.Namespace).List(ctx, o)
	if err != nil {
		return out, c.failed("list deployments", err)
	}

	for i := range deployments.Items {
		out.deployments = append(out.deployments, &deployments.Items[i])
	}

	sets, err := c.api.AppsV1().StatefulSets(c.Namespace).List(ctx, o)
	if err != nil {
		return out, c.failed("list stateful sets", err)
	}

	for i := range sets.Items {
		out.statefulSets = append(out.statefulSets, &sets.Items[i])
	}

	return out, nil
}

// Workloads returns the generations of the stack's Deployments and StatefulSets, by name.
func (c *Cluster) Workloads(ctx context.Context) (map[string]int64, error) {
	seen, err := c.workloads(ctx, "")
	out := map[string]int64{}
	for _, d := range seen.deployments {
		out[d.Name] = d.Generation
	}

	for _, s := range seen.statefulSets {
		out[s.Name] = s.Generation
	}

	return out, err
}

// Volumes lists the stack's volume claims, sorted by name.
func (c *Cluster) Volumes(ctx context.Context) ([]string, error) {
	list, err := c.claims(ctx)
	var names []string
	for _, x := range list {
		names = append(names, x.Name)
	}

	slices.Sort(names)
	return names, err
}

// claims returns the stack's volume claims that are not being deleted.
func (c *Cluster) claims(ctx context.Context) ([]corev1.PersistentVolumeClaim, error) {
	list, err := c.api.CoreV1().PersistentVolumeClaims(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: stacks.LabelStack + "=" + c.Stack})
	if err != nil {
		return nil, c.failed("list volume claims", err)
	}

	return slices.DeleteFunc(list.Items, func(x corev1.PersistentVolumeClaim) bool {
		return x.DeletionTimestamp != nil
	}), nil
}

// RemoveVolume deletes a volume claim. Its storage class decides whether the data goes too.
func (c *Cluster) RemoveVolume(ctx context.Context, name string) error {
	err := c.api.CoreV1().PersistentVolumeClaims(c.Namespace).Delete(ctx, name,
		metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failed("remove volume claim "+name, err)
	}
	return nil
}

// RemoveNamespace deletes the stack's namespace with all that is in it, and waits until it is gone.
// It leaves a namespace that is not the stack's.
func (c *Cluster) RemoveNamespace(ctx context.Context) error {
	namespaces := c.api.CoreV1().Namespaces()
	ns, err := namespaces.Get(ctx, c.Namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && ns.Labels[stacks.LabelStack] != c.Stack {
		return nil
	}

	if err == nil {
		err = namespaces.Delete(ctx, c.Namespace,
			metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(ns.UID))})
	}

	if err != nil && !apierrors.IsNotFound(err) {
		return c.failed("remove the namespace "+c.Namespace, err)
	}

	err = wait.PollUntilContextTimeout(ctx, lookEvery, removeTimeout, true,
		func(ctx context.Context) (gone bool, err error) {
			now, err := namespaces.Get(ctx, c.Namespace, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return true, nil
			case err == nil:
				ns = now
			}

			return false, err
		})
	if !wait.Interrupted(err) {
		if err != nil {
			err = c.failed("namespace "+c.Namespace, err)
		}
		return err
	}

	var why []string
	for _, x := range ns.Status.Conditions {
		if x.Status == corev1.ConditionTrue {
			why = append(why, x.Message)
		}
	}

	return fmt.Errorf("cluster: the namespace %s is still being deleted (%s): it goes by itself when "+
		"what holds it is gone",
		c.Namespace, strings.Join(why, "; "))
}

// removeTimeout bounds the wait for a namespace to go.
const removeTimeout = 2 * time.Minute
