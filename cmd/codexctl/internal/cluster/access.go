package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Access is one use of the API that provisioning or watching a stack needs.
type Access struct {
	Verb, Group, Resource string

	// Subresource is empty, or such as log in pods/log.
	Subresource string

	// Everywhere is set for resources that belong to no namespace.
	Everywhere bool
}

func (a Access) String() string {
	name := a.Resource
	if a.Subresource != "" {
		name += "/" + a.Subresource
	}
	if a.Group != "" {
		name += "." + a.Group
	}

	return a.Verb + " " + name
}

// kind is a kind of objects.
type kind struct {
	group, resource string
	everywhere      bool
}

// madeOf returns the kinds of objects that the stack is made of.
func madeOf(s stacks.Stack) []kind {
	out := []kind{
		{resource: "namespaces", everywhere: true},
		{resource: "serviceaccounts"}, {resource: "configmaps"}, {resource: "secrets"},
		{resource: "services"},
		{group: "apps", resource: "deployments"}, {group: "apps", resource: "statefulsets"},
		{group: "batch", resource: "jobs"},
		{group: "networking.k8s.io", resource: "networkpolicies"},
		{group: "policy", resource: "poddisruptionbudgets"},
		{resource: "resourcequotas"}, {resource: "limitranges"},
	}
	if slices.ContainsFunc(s.Volumes, func(v stacks.Volume) bool { return v.Shared }) {
		out = append(out, kind{resource: "persistentvolumeclaims"})
	}
	if slices.ContainsFunc(s.Services, func(x stacks.Service) bool { return x.Autoscale != nil }) {
		out = append(out, kind{group: "autoscaling", resource: "horizontalpodautoscalers"})
	}

	if r := s.Route; r != nil {
		if r.Ingress != nil {
			out = append(out, kind{group: "networking.k8s.io", resource: "ingresses"})
		}

		if r.Gateway != nil {
			out = append(out, kind{group: gatewayGroup, resource: "httproutes"})
			if r.Gateway.Class != "" {
				out = append(out, kind{group: gatewayGroup, resource: "gateways"})
			}
		}
	}

	return out
}

// needs returns what up, status, logs, restart and forward use of the API.
func needs(s stacks.Stack) []Access {
	var out []Access
	for _, k := range madeOf(s) {
		for _, verb := range []string{"get", "create", "patch", "delete"} {
			out = append(out, Access{
				Verb:       verb,
				Group:      k.group,
				Resource:   k.resource,
				Everywhere: k.everywhere,
			})
		}
	}

	watched := []kind{
		{resource: "pods"}, {resource: "events"}, {resource: "persistentvolumeclaims"},
		{group: "apps", resource: "deployments"}, {group: "apps", resource: "replicasets"},
		{group: "apps", resource: "statefulsets"}, {group: "batch", resource: "jobs"},
	}

	for _, k := range watched {
		for _, verb := range []string{"list", "watch"} {
			out = append(out, Access{Verb: verb, Group: k.group, Resource: k.resource})
		}
	}

	return append(out,
		Access{Verb: "get", Resource: "pods", Subresource: "log"},
		Access{Verb: "create", Resource: "pods", Subresource: "portforward"})
}

// parallel bounds how many access reviews are requested at once.
const parallel = 16

// Missing returns what the stack needs and the caller may not do, in the order in which it is
// needed. It asks the API server about each, as `kubectl auth can-i` does.
func (c *Cluster) Missing(ctx context.Context, s stacks.Stack) ([]Access, error) {
	all := needs(s)
	denied := make([]bool, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, a := range all {
		group.Go(func() error {
			ask := &authorizationv1.ResourceAttributes{
				Verb:        a.Verb,
				Group:       a.Group,
				Resource:    a.Resource,
				Subresource: a.Subresource,
			}
			if !a.Everywhere {
				ask.Namespace = c.Namespace
			} else if a.Verb != "create" {
				ask.Name = c.Namespace
			}

			review := &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: ask},
			}
			r, err := c.api.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review,
				metav1.CreateOptions{})
			if err != nil {
				return c.failed("ask for permissions", err)
			}

			denied[i] = !r.Status.Allowed
			return nil
		})
	}

	if err := group.Wait(); err != nil {
		return nil, err
	}

	var out []Access
	for i, a := range all {
		if denied[i] {
			out = append(out, a)
		}
	}

	return out, nil
}

// ForbiddenError is returned when RBAC forbids what the stack needs.
type ForbiddenError struct {
	Context, User, Namespace, Stack string
	Missing                         []Access
}

func (e *ForbiddenError) Error() string {
	who := "you"
	if e.User != "" {
		who = e.User
	}

	return fmt.Sprintf("cluster: forbidden by RBAC: %s may not %s in the namespace %s (context "+
		"%s): ask the cluster's administrator for a role that allows it, or use other "+
		"credentials (`codexctl doctor %s` lists all)",
		who, brief(e.Missing), e.Namespace, e.Context, e.Stack)
}

// brief names the first few of the list, and counts the others.
func brief(list []Access) string {
	const most = 4
	var names []string
	for _, a := range list[:min(most, len(list))] {
		names = append(names, a.String())
	}

	text := strings.Join(names, ", ")
	if n := len(list) - most; n > 0 {
		text += fmt.Sprintf(" and do %d other things", n)
	}

	return text
}
