package kubernetes

import (
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addAccount makes the identity of a service's pods. No service talks to the API server, so none gets a token: neither
// from here nor from its pods, which say so again.
func (d *deployment) addAccount(name string, labels map[string]string, parent pulumi.Resource) (*corev1.ServiceAccount, error) {
	return corev1.NewServiceAccount(d.ctx, name, &corev1.ServiceAccountArgs{
		Metadata:                     d.meta(name, labels, nil),
		AutomountServiceAccountToken: pulumi.Bool(false),
	}, pulumi.Parent(parent), pulumi.Provider(d.cluster))
}
