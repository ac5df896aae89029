package kubernetes

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// place puts into a pod what the settings say of those of the service, or of the Job that makes the
// model. With a GPU it goes where the devices are.
func (r *renderer) place(pod *corev1.PodTemplateSpec, service string, gpu *stacks.GPU) {
	nodes, taints := pod.Spec.NodeSelector, pod.Spec.Tolerations
	settle(pod, r.opts.Pods[service], r.opts.PullSecrets)
	if gpu != nil {
		pod.Spec.NodeSelector, pod.Spec.Tolerations = nodes, taints
	}
}

// settle puts into a pod what the settings say of it: where it goes, its class, and by what its images
// are pulled.
func settle(pod *corev1.PodTemplateSpec, p stacks.PodSettings, pullSecrets []string) {
	mark(&pod.ObjectMeta, p)
	pod.Spec.PriorityClassName = p.PriorityClass
	pod.Spec.NodeSelector, pod.Spec.Tolerations = p.NodeSelector, tolerations(p.Tolerations)
	for _, name := range pullSecrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets,
			corev1.LocalObjectReference{Name: name})
	}
}

// placed returns what place puts into the pod of the Job; nothing where the settings say nothing.
func (r *renderer) placed() []any {
	p := r.opts.Pods[stacks.ModelJob]
	if reflect.DeepEqual(p, stacks.PodSettings{}) && len(r.opts.PullSecrets) == 0 {
		return nil
	}
	return []any{p, r.opts.PullSecrets}
}

// mark adds the labels and annotations of the settings.
func mark(meta *metav1.ObjectMeta, p stacks.PodSettings) {
	if len(p.Labels) > 0 {
		meta.Labels = maps.Clone(meta.Labels)
		maps.Copy(meta.Labels, p.Labels)
	}
	if len(p.Annotations) > 0 {
		annotations := map[string]string{}
		maps.Copy(annotations, meta.Annotations)
		maps.Copy(annotations, p.Annotations)
		meta.Annotations = annotations
	}
}

// tolerations returns them as the API has them.
func tolerations(all []stacks.Toleration) []corev1.Toleration {
	var out []corev1.Toleration
	for _, t := range all {
		operator := corev1.TolerationOpExists
		if t.Value != "" {
			operator = corev1.TolerationOpEqual
		}
		out = append(out, corev1.Toleration{
			Key: t.Key, Operator: operator, Value: t.Value, Effect: corev1.TaintEffect(t.Effect),
		})
	}
	return out
}
