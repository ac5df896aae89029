package kubernetes

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// labelManager is the label of what manages an object.
const labelManager = "app.kubernetes.io/managed-by"

// annotationSkipAwait lets Pulumi go on without waiting for the object to work.
const annotationSkipAwait = "pulumi.com/skipAwait"

// labels returns the labels of everything that the stack owns: its own, by which codexctl selects,
// and those that other tools know. Kubernetes' recommended labels are in
// https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels.
func (r *renderer) labels() map[string]string {
	return map[string]string{
		stacks.LabelProject:          stacks.Project,
		stacks.LabelStack:            r.stack.Name,
		"app.kubernetes.io/instance": stacks.Project + "-" + r.stack.Name,
		labelManager:                 "pulumi",
		"app.kubernetes.io/part-of":  stacks.Project,
	}
}

// labelsOf returns the labels of what belongs to a service, or to the Job that makes the model.
func (r *renderer) labelsOf(name string) map[string]string {
	labels := r.labels()
	labels[stacks.LabelService] = name
	labels["app.kubernetes.io/name"] = name
	return labels
}

// selector returns the selector of the service's pods. Its labels never change: a
// Deployment's selector cannot.
func (r *renderer) selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{
		stacks.LabelStack: r.stack.Name, stacks.LabelService: name,
	}}
}
