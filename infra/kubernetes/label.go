package kubernetes

import (
	"maps"

	"github.com/codexcontinue/codexcontinue/stacks"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// annotationSkipAwait lets Pulumi go on without waiting for the object to work.
const annotationSkipAwait = "pulumi.com/skipAwait"

// stackLabels stand on everything the stack owns: its own, by which codexctl selects, and those that other tools know.
// Kubernetes' recommended labels are in https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels.
func stackLabels(stack stacks.Stack) map[string]string {
	return map[string]string{
		stacks.LabelProject:            stacks.Project,
		stacks.LabelStack:              stack.Name,
		"app.kubernetes.io/instance":   stacks.Project + "-" + stack.Name,
		"app.kubernetes.io/managed-by": "pulumi",
		"app.kubernetes.io/part-of":    stacks.Project,
	}
}

// workloadLabels stand on everything that belongs to a service, or to the Job that makes the model.
func workloadLabels(stack stacks.Stack, name string) map[string]string {
	labels := stackLabels(stack)
	labels[stacks.LabelService] = name
	labels["app.kubernetes.io/name"] = name
	return labels
}

// selector are the labels by which a service's pods are found. They never change: a Deployment's selector cannot.
func selector(stack stacks.Stack, name string) map[string]string {
	return map[string]string{stacks.LabelStack: stack.Name, stacks.LabelService: name}
}

func labelSelector(labels map[string]string) metav1.LabelSelectorArgs {
	return metav1.LabelSelectorArgs{MatchLabels: pulumi.ToStringMap(labels)}
}

// meta is an object's metadata in the stack's namespace. Without a name, Pulumi gives it one.
func (d *deployment) meta(name string, labels map[string]string, annotations map[string]string) *metav1.ObjectMetaArgs {
	m := &metav1.ObjectMetaArgs{Namespace: d.namespace, Labels: pulumi.ToStringMap(maps.Clone(labels))}
	if name != "" {
		m.Name = pulumi.String(name)
	}
	if len(annotations) > 0 {
		m.Annotations = pulumi.ToStringMap(annotations)
	}
	return m
}
