package kubernetes

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podSecurity is the Pod Security Standard that the namespace holds every pod to.
const podSecurity = "restricted"

// addNamespace makes the stack's namespace. Destroying the stack keeps it, as it holds the claims
// of the volumes, which outlive a stack; the next `up` takes both over.
func (r *renderer) addNamespace() {
	labels := r.labels()
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = podSecurity
	}

	r.add(&Object{
		Resource: "namespace",
		Kept:     true,
		Retained: keepsData(r.stack),
		API: &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: r.opts.Namespace, Labels: labels},
		},
	})
}
