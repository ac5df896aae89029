package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

func client(config *rest.Config) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(config)
}

// apply creates every object of the files; one that is there stays as it is.
func apply(ctx context.Context, config *rest.Config, files []string) error {
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}

	groups, err := restmapper.GetAPIGroupResources(finder)
	if err != nil {
		return err
	}

	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}

	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}

		err = applyAll(ctx, objects, mapper, yaml.NewYAMLOrJSONDecoder(f, 4096))
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}

	return nil
}

func applyAll(
	ctx context.Context, objects dynamic.Interface, mapper meta.RESTMapper,
	documents *yaml.YAMLOrJSONDecoder,
) error {
	for {
		var object unstructured.Unstructured
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(object.Object) == 0 { // a document of comments
			continue
		}

		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}

		resources := dynamic.ResourceInterface(objects.Resource(mapping.Resource))
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resources = objects.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}

		if _, err := resources.Create(ctx, &object,
			metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("%s %s: %w", kind.Kind, object.GetName(), err)
		}
	}
}

func ready(ctx context.Context, config *rest.Config, name string) error {
	k, err := client(config)
	if err != nil {
		return err
	}

	node, err := k.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !isReady(*node) {
		return fmt.Errorf("node %s is not Ready", name)
	}

	_, err = k.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default",
		metav1.GetOptions{})
	return err
}

func isReady(n corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func status(ctx context.Context, config *rest.Config) error {
	k, err := client(config)
	if err != nil {
		return err
	}

	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	pods, err := k.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, n := range nodes.Items {
		fmt.Fprintf(w, "node\t%s\tReady %t\t%s\t%s\n", n.Name, isReady(n),
			n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.ContainerRuntimeVersion)
	}

	for _, p := range pods.Items {
		fmt.Fprintf(w, "pod\t%s/%s\t%s\t%s\n", p.Namespace, p.Name, p.Status.Phase, p.Status.PodIP)
	}

	return w.Flush()
}
