package export_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	kubeclient "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// TestManifestsApply applies an export to a real cluster in the order of its file, twice: the
// second time changes nothing. Whether what it made works is for the tests of the target to show.
func TestManifestsApply(t *testing.T) {
	peers.EndToEnd(t)
	kubeconfig, _ := peers.Cluster(t)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}

	config.QPS, config.Burst = 50, 100
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	typed, err := kubeclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))

	stack := shipped(t, "prod", func(s *stacks.Settings) { s.Target = stacks.Kubernetes })
	stack.Name = "e2e-manifests"
	namespace := kubernetes.Namespace(stack.Name)
	files, _ := manifests(t, stack, t.TempDir())
	t.Cleanup(func() {
		if err := typed.CoreV1().Namespaces().Delete(context.Background(), namespace,
			metav1.DeleteOptions{}); err != nil {
			t.Logf("clean-up: %v", err)
		}
	})

	var versions [2]map[string]string
	for i := range versions {
		versions[i] = map[string]string{}
		for _, doc := range documents(t, files[0].Text) {
			o := &unstructured.Unstructured{}
			if err := json.Unmarshal(doc, o); err != nil {
				t.Fatal(err)
			}

			mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(),
				o.GroupVersionKind().Version)
			if err != nil {
				t.Fatal(err)
			}

			var objects dynamic.ResourceInterface = client.Resource(mapping.Resource)
			if o.GetNamespace() != "" {
				objects = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
			}

			applied, err := objects.Patch(t.Context(), o.GetName(), types.ApplyPatchType, doc,
				metav1.PatchOptions{FieldManager: "kubectl"})
			if err != nil {
				t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}

			if generation := applied.GetGeneration(); generation > 1 {
				t.Errorf("%s %s was changed by its second application: generation %d", o.GetKind(),
					o.GetName(), generation)
			}

			versions[i][o.GetKind()+"/"+o.GetName()] = string(applied.GetUID())
		}
	}

	for name, uid := range versions[0] {
		if versions[1][name] != uid {
			t.Errorf("%s is another object after the second application", name)
		}
	}

	// Pods of the stack pass the namespace's Pod Security admission and its quota.
	deadline := time.Now().Add(time.Minute)
	for {
		list, err := typed.CoreV1().Pods(namespace).List(t.Context(),
			metav1.ListOptions{LabelSelector: stacks.LabelStack + "=" + stack.Name})
		if err != nil {
			t.Fatal(err)
		}

		seen := map[string]bool{}
		for _, p := range list.Items {
			seen[p.Labels[stacks.LabelService]] = true
		}

		if len(seen) == len(stack.Services)+1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pods of %v only", seen)
		}

		time.Sleep(200 * time.Millisecond)
	}
}
