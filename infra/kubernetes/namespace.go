package kubernetes

import (
	"fmt"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// podSecurity is the Pod Security Standard that the namespace holds every pod to.
const podSecurity = "restricted"

// addNamespace makes the stack's namespace. Destroying the stack keeps it, as it holds the claims of the volumes, which
// outlive a stack; the next `up` takes both over.
func (d *deployment) addNamespace() error {
	labels := stackLabels(d.stack)
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = podSecurity
	}
	opts := []pulumi.ResourceOption{pulumi.Provider(d.kept), pulumi.RetainOnDelete(keepsData(d.stack))}
	ns, err := corev1.NewNamespace(d.ctx, "namespace", &corev1.NamespaceArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String(d.opts.Namespace), Labels: pulumi.ToStringMap(labels)},
	}, opts...)
	if err != nil {
		return fmt.Errorf("kubernetes.namespace: %w", err)
	}
	d.home, d.namespace = ns, ns.Metadata.Name()
	return nil
}
