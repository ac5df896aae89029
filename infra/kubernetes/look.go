package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// place is where a stack's workloads are: a namespace, and a selector of their labels.
type place struct{ namespace, labels string }

// looker reads the stack's workloads from the API server. It is a client without types: the typed
// one would make the program twice as large.
type looker struct {
	api dynamic.Interface
	place
}

// connect finds the cluster as the provider does: by KUBECONFIG, else in the home directory.
func connect(contextName string, at place) (*looker, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(),
		&clientcmd.ConfigOverrides{CurrentContext: contextName}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}

	config.WarningHandler = rest.NoWarnings{}
	api, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}

	return &looker{api: api, place: at}, nil
}

// rollouts returns those of the stack's services, by name.
func (l *looker) rollouts(ctx context.Context) (map[string]rollout, error) {
	deployments, err := listOf[appsv1.Deployment](ctx, l, apps("deployments"))
	if err != nil {
		return nil, err
	}

	sets, err := listOf[appsv1.StatefulSet](ctx, l, apps("statefulsets"))
	if err != nil {
		return nil, err
	}

	out, left := map[string]rollout{}, false
	for _, x := range deployments {
		out[x.Labels[stacks.LabelService]] = ofDeployment(x)
	}

	for _, x := range sets {
		out[x.Labels[stacks.LabelService]] = ofStatefulSet(x)
	}

	for _, r := range out {
		left = left || !r.done
	}

	if !left {
		return out, nil
	}

	pods, err := listOf[corev1.Pod](ctx, l, corev1.SchemeGroupVersion.WithResource("pods"))
	if err != nil {
		return nil, err
	}

	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for name, r := range out {
		for _, p := range pods {
			if text := trouble(p); !r.done && p.Labels[stacks.LabelService] == name && text != "" {
				r.text += "; " + p.Name + ": " + text
				break
			}
		}
		out[name] = r
	}

	return out, nil
}

func apps(resource string) schema.GroupVersionResource {
	return appsv1.SchemeGroupVersion.WithResource(resource)
}

// listOf lists the stack's objects of a kind.
func listOf[T any](ctx context.Context, l *looker, kind schema.GroupVersionResource) ([]T, error) {
	in := l.api.Resource(kind).Namespace(l.namespace)
	list, err := in.List(ctx, metav1.ListOptions{LabelSelector: l.labels})
	if err != nil {
		return nil, err
	}

	out := make([]T, len(list.Items))
	converter := runtime.DefaultUnstructuredConverter
	for i, item := range list.Items {
		if err := converter.FromUnstructured(item.Object, &out[i]); err != nil {
			return nil, err
		}
	}

	return out, nil
}

// ofDeployment counts no pod twice: status.replicas are those of all revisions that are not being
// deleted.
func ofDeployment(x appsv1.Deployment) rollout {
	s, want := x.Status, wanted(x.Spec.Replicas)
	switch {
	case s.ObservedGeneration < x.Generation:
		return rollout{text: "its controller has not seen the change yet"}
	case s.UpdatedReplicas < want:
		return rollout{text: fmt.Sprintf("%d of %d pods are of the new revision", s.UpdatedReplicas,
			want)}
	case s.AvailableReplicas < want || s.Replicas > s.UpdatedReplicas:
		old := s.Replicas - s.UpdatedReplicas
		return rollout{text: fmt.Sprintf("%d of %d new pods are ready, %d old ones are left",
			max(0, min(s.AvailableReplicas-old, want)), want, old)}
	case s.UpdatedReplicas > want:
		return rollout{text: fmt.Sprintf("%d pods are left of more than %d", s.UpdatedReplicas,
			want)}
	}

	return rollout{done: true}
}

func ofStatefulSet(x appsv1.StatefulSet) rollout {
	s, want := x.Status, wanted(x.Spec.Replicas)
	switch {
	case s.ObservedGeneration < x.Generation:
		return rollout{text: "its controller has not seen the change yet"}
	case s.UpdateRevision != s.CurrentRevision && s.UpdatedReplicas < want:
		return rollout{text: fmt.Sprintf("%d of %d pods are of the new revision", s.UpdatedReplicas,
			want)}
	case s.AvailableReplicas < want:
		return rollout{text: fmt.Sprintf("%d of %d pods are ready", s.AvailableReplicas, want)}
	case s.Replicas > want:
		return rollout{text: fmt.Sprintf("%d pods are left of more than %d", s.Replicas, want)}
	}

	return rollout{done: true}
}

// wanted returns the number of replicas, which the API server sets to 1 if it is not given.
func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// trouble returns why the pod does not work, in Kubernetes' words; empty if it does, or is leaving.
func trouble(p corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return ""
	}

	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" {
			return joined(w.Reason, w.Message)
		}
	}

	for _, want := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady} {
		for _, c := range p.Status.Conditions {
			if c.Type == want && c.Status != corev1.ConditionTrue {
				return joined(c.Reason, c.Message)
			}
		}
	}

	return ""
}

func joined(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}
