package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

const (
	gatewayGroup = "gateway.networking.k8s.io"
	gatewayAPI   = gatewayGroup + "/v1"
	issuerAPI    = "cert-manager.io/v1"

	// MetricsAPI is the API of the metrics that autoscaling uses.
	MetricsAPI = "metrics.k8s.io/v1beta1"
)

// Preflight checks at once what would make an update fail after minutes: permissions, the
// namespace, storage classes, what routes need. It returns everything that is wrong.
func (c *Cluster) Preflight(ctx context.Context, s stacks.Stack) error {
	missing, err := c.Missing(ctx, s)
	if err != nil {
		return err
	}

	if len(missing) > 0 {
		return &ForbiddenError{
			Context:   c.Context,
			User:      c.User,
			Namespace: c.Namespace,
			Stack:     c.Stack,
			Missing:   missing,
		}
	}

	return errors.Join(c.CheckNamespace(ctx), c.CheckStorage(ctx, s), c.CheckRoute(ctx, s),
		c.CheckRuntimeClass(ctx, s), c.CheckPlatform(ctx, s))
}

// CheckPlatform returns an error if a pod may come to a node that the stack's images are not for.
func (c *Cluster) CheckPlatform(ctx context.Context, s stacks.Stack) error {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}

	wanted := strings.Split(s.Platform(), ",")
	var others []string
	for _, n := range nodes {
		info := n.Status.NodeInfo
		platform := info.OperatingSystem + "/" + info.Architecture
		if info.Architecture != "" && tolerated(n, nil) && !n.Spec.Unschedulable &&
			!slices.Contains(wanted, platform) {
			others = append(others, fmt.Sprintf("%s is %s", n.Name, platform))
		}
	}

	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%s:platform: images are built for %s, and %s: set the key to what the "+
		"nodes are; several, with a comma between them, need a registry", stacks.Project,
		s.Platform(), strings.Join(others, ", "))
}

// CheckNamespace returns an error if the namespace exists and is not the stack's.
func (c *Cluster) CheckNamespace(ctx context.Context) error {
	ns, err := c.api.CoreV1().Namespaces().Get(ctx, c.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return c.failed("namespace "+c.Namespace, err)
	case ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating:
		return fmt.Errorf("cluster: the namespace %s is being deleted: wait until it is gone "+
			"(`kubectl get ns %s -w`)",
			c.Namespace, c.Namespace)
	case ns.Labels[stacks.LabelStack] != c.Stack:
		return fmt.Errorf("%s:kubernetes.namespace: %s is there already and is not this stack's: "+
			"choose another name, which the stack makes itself",
			stacks.Project, c.Namespace)
	}

	return nil
}

// defaultClass is the annotation of the storage class for claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// StorageClasses returns the storage classes by name, and the name of the default one. It returns
// nil without an error if the caller may not see them.
func (c *Cluster) StorageClasses(
	ctx context.Context,
) (classes map[string]storagev1.StorageClass, byDefault string, err error) {
	list, err := c.api.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", c.unlessHidden("storage classes", err)
	}

	classes = map[string]storagev1.StorageClass{}
	for _, x := range list.Items {
		classes[x.Name] = x
		if x.Annotations[defaultClass] == "true" {
			byDefault = x.Name
		}
	}

	return classes, byDefault, nil
}

// CheckStorage returns an error for each volume whose storage class does not exist.
func (c *Cluster) CheckStorage(ctx context.Context, s stacks.Stack) error {
	if len(s.Volumes) == 0 {
		return nil
	}

	classes, byDefault, err := c.StorageClasses(ctx)
	if err != nil || classes == nil {
		return err
	}

	has := "the cluster has none"
	if len(classes) > 0 {
		has = "it has " + strings.Join(slices.Sorted(maps.Keys(classes)), ", ")
	}

	var errs []error
	for _, v := range s.Volumes {
		_, there := classes[v.Class]
		switch {
		case v.Class != "" && !there:
			errs = append(errs,
				fmt.Errorf("%s:volumes.%s.class: the cluster has no storage class %q: correct "+
					"it, or remove the key for the default one (%s)",
					stacks.Project, v.Name, v.Class, has))
		case v.Class == "" && byDefault == "":
			errs = append(errs,
				fmt.Errorf("%s:volumes.%s.class: is not set, and the cluster has no default "+
					"storage class: name one (%s)",
					stacks.Project, v.Name, has))
		}
	}

	return errors.Join(errs...)
}

// CheckRoute returns an error if an API or class that the route needs does not exist.
func (c *Cluster) CheckRoute(ctx context.Context, s stacks.Stack) error {
	r := s.Route
	if r == nil {
		return nil
	}

	at := stacks.Project + ":edge"
	if i := r.Ingress; i != nil && i.Class != "" {
		_, err := c.api.NetworkingV1().IngressClasses().Get(ctx, i.Class, metav1.GetOptions{})
		if err := c.checkExists("ingress class "+i.Class, err,
			"%s.ingress.class: the cluster has no ingress class %q: install its controller, or name "+
				"another (`kubectl get ingressclass`)",
			at, i.Class); err != nil {
			return err
		}
	}

	if t := r.TLS; t != nil && (t.Issuer != "" || t.ClusterIssuer != "") {
		if ok, err := c.HasAPI(issuerAPI); err != nil || !ok {
			return errors.Join(err,
				fmt.Errorf("%s.tls: the cluster has no cert-manager (%s), which would get the "+
					"certificate: install it, or name a secret",
					at, issuerAPI))
		}
	}

	g := r.Gateway
	if g == nil {
		return nil
	}

	if ok, err := c.HasAPI(gatewayAPI); err != nil || !ok {
		return errors.Join(err,
			fmt.Errorf("%s.gateway: the cluster does not have the Gateway API (%s): install its "+
				"CRDs and a controller (https://gateway-api.sigs.k8s.io), or use ingress",
				at, gatewayAPI))
	}

	path := "/apis/" + gatewayAPI + "/gatewayclasses/" + g.Class
	what, key := "gateway class "+g.Class, at+".gateway.class"
	if g.Class == "" {
		path = "/apis/" + gatewayAPI + "/namespaces/" + g.Namespace + "/gateways/" + g.Name
		what, key = "gateway "+g.Namespace+"/"+g.Name, at+".gateway.name"
	}

	err := c.api.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Error()
	return c.checkExists(what, err, "%s: the cluster has no %s: correct it (`kubectl get "+
		"gatewayclass,gateway -A` lists them)",
		key, what)
}

// checkExists returns the error for what was not found, given the error of the request for it, and
// no error if the caller may not see it.
func (c *Cluster) checkExists(what string, err error, missing string, args ...any) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf(missing, args...)
	}
	return c.unlessHidden(what, err)
}

// CheckRuntimeClass returns an error if the runtime class of the GPUs does not exist.
func (c *Cluster) CheckRuntimeClass(ctx context.Context, s stacks.Stack) error {
	for _, svc := range s.Services {
		if svc.GPU == nil || svc.GPU.RuntimeClass == "" {
			continue
		}

		_, err := c.api.NodeV1().RuntimeClasses().Get(ctx, svc.GPU.RuntimeClass,
			metav1.GetOptions{})
		err = c.checkExists("runtime class "+svc.GPU.RuntimeClass, err,
			"%s:gpu.runtimeClass: the cluster has no runtime class %q: install the GPU operator, or "+
				"remove the key for the node's default",
			stacks.Project, svc.GPU.RuntimeClass)
		if err != nil {
			return err
		}
	}

	return nil
}

// HasAPI reports whether the cluster serves the group and version.
func (c *Cluster) HasAPI(groupVersion string) (bool, error) {
	_, err := c.api.Discovery().ServerResourcesForGroupVersion(groupVersion)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, c.failed("API "+groupVersion, err)
	}

	return true, nil
}
