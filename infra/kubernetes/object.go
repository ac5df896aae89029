package kubernetes

import (
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Object is an object of the cluster, with what stands beside it: what Pulumi knows of it, and
// the API server is not.
//
// It names others as they are called before anything is provisioned. A Secret is called after its
// resource, a pushed image by its tag and the resolver's address ResolverAddress; registration puts
// the random name, the digest and the address in their place. A Secret holds SecretValue under each
// of its keys.
type Object struct {
	API

	// Resource is the name of the object's resource.
	Resource string

	// Component is what it is part of: a service, stacks.ModelJob, or the namespace where empty.
	Component string

	// Annotations are for Pulumi.
	Annotations map[string]string

	// After are made before the object, and removed after it.
	After []*Object

	// Awaits is a service whose pods are ready before the object is made; empty for none.
	Awaits string

	// Timeouts bound how long Pulumi waits for it.
	Timeouts *pulumi.CustomTimeouts

	// Kept objects are there already when the stack comes back: they are taken over. Retained ones
	// stay when it goes.
	Kept, Retained bool

	// Begins are the paths of fields that the stack sets when it makes the object and whose values
	// are the cluster's from then on, such as the number of replicas of an autoscaler. To leave
	// such a field out instead would have the API server put its default in the place of what a
	// former update set.
	Begins []string

	// Files are those that a Secret holds, by its keys.
	Files map[string]stacks.File
}

// API is what the API server knows of an object: a type of k8s.io/api, or unstructured for the
// kinds of the Gateway API, which it has no types for.
type API interface {
	runtime.Object
	metav1.Object
}

// SecretValue stands in the place of every value of a Secret, as it does in a plan.
const SecretValue = recorder.Secret

// Scheme knows the kinds that a rendering has Go types for.
var Scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme,
		networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(s); err != nil {
			panic(err) // two Go types of one kind
		}
	}

	return s
})

// kind returns the object's kind.
func (o *Object) kind() string { return o.GetObjectKind().GroupVersionKind().Kind }

// String returns the object as people name it.
func (o *Object) String() string { return o.kind() + " " + o.GetName() }

// Fields returns the object as the API server gets it.
func (o *Object) Fields() (map[string]any, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o.DeepCopyObject())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	undo(fields)
	return fields, nil
}

// undo takes out what Go's types add: the status, which is the API server's to write, also of the
// claims of a StatefulSet, and the empty specification of a namespace.
func undo(fields map[string]any) {
	delete(fields, "status")
	spec, _ := fields["spec"].(map[string]any)
	if spec != nil && len(spec) == 0 {
		delete(fields, "spec")
	}

	claims, _ := spec["volumeClaimTemplates"].([]any)
	for _, claim := range claims {
		undo(claim.(map[string]any))
	}
}

// add completes the object and puts it at the end of the rendering.
func (r *renderer) add(o *Object) *Object {
	if kinds, _, err := Scheme().ObjectKinds(o.API); err == nil {
		o.GetObjectKind().SetGroupVersionKind(kinds[0])
	}
	r.Objects = append(r.Objects, o)
	return o
}

// meta returns an object's metadata in the stack's namespace.
func (r *renderer) meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: r.opts.Namespace, Labels: labels}
}
