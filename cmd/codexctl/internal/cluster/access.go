package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Access is one use of the API that provisioning or watching a stack needs.
type Access authorizationv1.ResourceAttributes

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
type kind struct{ group, resource string }

// madeOf returns the kinds of objects that the stack is made of, besides its namespace.
func madeOf(s stacks.Stack) []kind {
	out := []kind{
		{"", "serviceaccounts"}, {"", "configmaps"}, {"", "secrets"}, {"", "services"},
		{"apps", "deployments"}, {"apps", "statefulsets"}, {"batch", "jobs"},
		{"networking.k8s.io", "networkpolicies"}, {"policy", "poddisruptionbudgets"},
		{"", "resourcequotas"}, {"", "limitranges"},
	}
	if slices.ContainsFunc(s.Volumes, func(v stacks.Volume) bool { return v.Shared }) {
		out = append(out, kind{"", "persistentvolumeclaims"})
	}
	if slices.ContainsFunc(s.Services, func(x stacks.Service) bool { return x.Autoscale != nil }) {
		out = append(out, kind{"autoscaling", "horizontalpodautoscalers"})
	}
	if slices.ContainsFunc(s.Secrets, func(x stacks.Secret) bool { return x.External != nil }) {
		out = append(out, kind{"external-secrets.io", "externalsecrets"})
	}

	if r := s.Route; r != nil && r.Ingress != nil {
		out = append(out, kind{"networking.k8s.io", "ingresses"})
	}

	if r := s.Route; r != nil && r.Gateway != nil {
		out = append(out, kind{gatewayGroup, "httproutes"})
		if r.Gateway.Class != "" {
			out = append(out, kind{gatewayGroup, "gateways"})
		}
	}

	return out
}

// needs returns what up, status, logs, restart and forward use of the API, what user uses where the
// stack has accounts, and what test and lint use where it has development containers.
func (c *Cluster) needs(s stacks.Stack) []Access {
	var out []Access
	add := func(kinds []kind, verbs ...string) {
		for _, k := range kinds {
			for _, verb := range verbs {
				out = append(out, Access{
					Namespace: c.Namespace,
					Verb:      verb,
					Group:     k.group,
					Resource:  k.resource,
				})
			}
		}
	}

	for _, verb := range []string{"get", "create", "patch", "delete"} {
		a := Access{Verb: verb, Resource: "namespaces"}
		if verb != "create" {
			a.Name = c.Namespace
		}
		out = append(out, a)
	}

	add(madeOf(s), "get", "create", "patch", "delete")
	add([]kind{
		{"", "pods"}, {"", "events"}, {"", "persistentvolumeclaims"},
		{"apps", "deployments"}, {"apps", "replicasets"}, {"apps", "statefulsets"},
		{"batch", "jobs"},
	}, "list", "watch")

	add([]kind{{"", "pods"}}, "get", "delete")
	out = append(out,
		Access{Namespace: c.Namespace, Verb: "get", Resource: "pods", Subresource: "log"},
		Access{
			Namespace:   c.Namespace,
			Verb:        "create",
			Resource:    "pods",
			Subresource: "portforward",
		})
	if s.SignIn() == gateenv.Accounts { // `codexctl user` runs commands in the gate
		out = append(out, Access{
			Namespace:   c.Namespace,
			Verb:        "create",
			Resource:    "pods",
			Subresource: "exec",
		})
	}

	if !s.Development {
		return out
	}

	claim := Access{Namespace: c.Namespace, Verb: "create", Resource: "persistentvolumeclaims"}
	if !slices.Contains(out, claim) {
		out = append(out, claim)
	}

	return append(out, Access{
		Namespace:   c.Namespace,
		Verb:        "create",
		Resource:    "pods",
		Subresource: "attach",
	})
}

// parallel bounds how many access reviews are requested at once.
const parallel = 16

// Missing returns what the stack needs and the caller may not do, in the order in which it is
// needed. It asks the API server about each, as `kubectl auth can-i` does.
func (c *Cluster) Missing(ctx context.Context, s stacks.Stack) ([]Access, error) {
	return c.denied(ctx, c.needs(s))
}

// CheckFill returns a *ForbiddenError if the caller may not do what Fill needs and Missing does not
// ask for.
func (c *Cluster) CheckFill(ctx context.Context) error {
	var all []Access
	for _, verb := range []string{"get", "create", "patch", "delete"} {
		all = append(all, Access{
			Namespace: c.Namespace,
			Verb:      verb,
			Resource:  "persistentvolumeclaims",
		})
	}

	missing, err := c.denied(ctx, all)
	if err != nil || len(missing) == 0 {
		return err
	}
	return &ForbiddenError{
		Context:   c.Context,
		User:      c.User,
		Namespace: c.Namespace,
		Missing:   missing,
	}
}

// denied returns those that the caller may not do.
func (c *Cluster) denied(ctx context.Context, all []Access) ([]Access, error) {
	denied := make([]bool, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, a := range all {
		group.Go(func() error {
			ask := authorizationv1.ResourceAttributes(a)
			review := &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &ask},
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
	Context, User, Namespace string

	// Stack is the stack for which doctor lists the same; empty if it does not.
	Stack   string
	Missing []Access
}

func (e *ForbiddenError) Error() string {
	who := "you"
	if e.User != "" {
		who = e.User
	}

	text := fmt.Sprintf("cluster: forbidden by RBAC: %s may not %s in the namespace %s (context "+
		"%s): ask the cluster's administrator for a role that allows it, or use other credentials",
		who, brief(e.Missing), e.Namespace, e.Context)
	if e.Stack != "" {
		text += fmt.Sprintf(" (`codexctl doctor %s` lists all)", e.Stack)
	}
	return text
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
