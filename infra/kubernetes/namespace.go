package kubernetes

import (
	"fmt"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// podSecurity is the Pod Security Standard that the namespace holds every pod to.
const podSecurity = "restricted"

// home is the component of what belongs to the namespace and to no service.
type home struct{ pulumi.ResourceState }

// homeType is its type token.
const homeType = "codexcontinue:kubernetes:Namespace"

// addNamespace makes the stack's namespace. Destroying the stack keeps it, as it holds the claims of the volumes, which
// outlive a stack; the next `up` takes both over.
func (d *deployment) addNamespace() error {
	d.home = &home{}
	if err := d.ctx.RegisterComponentResource(homeType, "namespace", d.home); err != nil {
		return fmt.Errorf("kubernetes.namespace: %w", err)
	}
	labels := stackLabels(d.stack)
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = podSecurity
	}
	ns, err := corev1.NewNamespace(d.ctx, "namespace", &corev1.NamespaceArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String(d.opts.Namespace), Labels: pulumi.ToStringMap(labels)},
	}, pulumi.Parent(d.home), pulumi.Provider(d.kept), pulumi.RetainOnDelete(keepsData(d.stack)))
	if err != nil {
		return fmt.Errorf("kubernetes.namespace: %w", err)
	}
	d.namespace = ns.Metadata.Name()
	return d.ctx.RegisterResourceOutputs(d.home, pulumi.Map{"name": d.namespace})
}
