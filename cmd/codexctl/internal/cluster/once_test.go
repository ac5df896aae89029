package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// backendPod is a pod of the backend with a mount of each kind.
func backendPod() *corev1.Pod {
	return runningPod("backend-1", func(p *corev1.Pod) {
		p.Spec.ServiceAccountName = "backend"
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true)}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-0"},
			}},
			{Name: "files-0", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{}}, {Secret: &corev1.SecretProjection{}},
				}},
			}},
			{Name: "files-1", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{Secret: &corev1.SecretProjection{}},
				}},
			}},
			{Name: "token", VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}},
				}},
			}},
			{Name: "memory-0", VolumeSource: corev1.VolumeSource{
				EmptyDir: &corev1.EmptyDirVolumeSource{},
			}},
			{Name: "host", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/"},
			}},
		}
		main := &p.Spec.Containers[0]
		main.Env = []corev1.EnvVar{{Name: "PORT", Value: "8000"}}
		main.SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: new(true)}
		main.LivenessProbe = &corev1.Probe{}
		for _, v := range p.Spec.Volumes {
			main.VolumeMounts = append(main.VolumeMounts,
				corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
		}
		p.Spec.Containers = slices.Insert(p.Spec.Containers, 0, corev1.Container{Name: "injected"})
	})
}

// TestOnceJob checks what the pod of a command has of its service's, and what it has not.
func TestOnceJob(t *testing.T) {
	c, _ := lab()
	pod := backendPod()
	main, ok := mainContainer(pod, "backend")
	if !ok {
		t.Fatal("no container of the service")
	}

	for _, x := range []struct {
		once  running.Once
		paths string
	}{
		{running.Once{}, "/data:true /files-0:false /memory-0:false"},
		{running.Once{Writable: []string{"/data"}}, "/data:false /files-0:false /memory-0:false"},
		{running.Once{Secrets: true}, "/data:true /files-0:false /files-1:false /memory-0:false"},
	} {
		x.once.Args, x.once.Limit = []string{"/backend", "version"}, time.Minute
		job := c.onceJob(pod, main, "backend", x.once, running.Streams{})
		spec := job.Spec.Template.Spec
		var paths []string
		for _, m := range spec.Containers[0].VolumeMounts {
			paths = append(paths, fmt.Sprintf("%s:%v", m.MountPath, m.ReadOnly))
		}
		if got := strings.Join(paths, " "); got != x.paths || len(spec.Volumes) != len(paths) {
			t.Errorf("%+v: mounts %s, want %s; %d volumes", x.once, got, x.paths, len(spec.Volumes))
		}

		secrets := 0
		for _, v := range spec.Volumes {
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					secrets++
				}
			}
		}
		if (secrets > 0) != x.once.Secrets {
			t.Errorf("%+v: %d sources are secret", x.once, secrets)
		}

		got := spec.Containers[0]
		if !slices.Equal(got.Command, x.once.Args) || got.Image != main.Image ||
			got.Env[0].Name != "PORT" || got.LivenessProbe != nil || len(spec.Containers) != 1 ||
			!*got.SecurityContext.ReadOnlyRootFilesystem || !*spec.SecurityContext.RunAsNonRoot || *spec.AutomountServiceAccountToken ||
			got.Resources.Limits.Memory().IsZero() || spec.RestartPolicy != corev1.RestartPolicyNever {
			t.Errorf("pod %+v", spec)
		}
		if node := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.
			NodeSelectorTerms[0].MatchFields[0].Values[0]; node != "node-1" {
			t.Errorf("its claim is on node-1, it may go to %s", node)
		}
		if *job.Spec.ActiveDeadlineSeconds != 60 || job.Spec.TTLSecondsAfterFinished == nil ||
			!*job.Spec.Suspend || !ofCommand(job) {
			t.Errorf("job %+v", job.Spec)
		}
		if l := job.Spec.Template.Labels; l[stacks.LabelService] == "backend" ||
			l[running.LabelOnce] != "backend" {
			t.Errorf("labels %v", l)
		}
	}
}

// TestOncePolicies checks that a command reaches what its service does, and is reached by nobody.
func TestOncePolicies(t *testing.T) {
	of := func(service string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{
			stacks.LabelStack: "lab", stacks.LabelService: service,
		}}
	}
	peers := func(services ...string) (out []networkingv1.NetworkPolicyPeer) {
		for _, s := range services {
			x := of(s)
			out = append(out, networkingv1.NetworkPolicyPeer{PodSelector: &x})
		}
		return out
	}
	port := []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt(6379))}}
	policy := func(
		name string, pods metav1.LabelSelector, from, to []networkingv1.NetworkPolicyPeer,
	) *networkingv1.NetworkPolicy {
		p := &networkingv1.NetworkPolicy{ObjectMeta: object(name, "", "")}
		p.Spec.PodSelector = pods
		if from != nil {
			p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from, Ports: port}}
		}
		if to != nil {
			p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: to, Ports: port}}
		}
		return p
	}

	c, _ := lab(
		policy("default-deny", metav1.LabelSelector{}, nil, nil),
		policy("backend", of("backend"), peers("frontend"), peers("redis")),
		policy("redis", of("redis"), peers("gate", "backend"), nil),
		policy("frontend", of("frontend"), peers("gate"), peers("backend")))
	list, err := c.oncePolicies(t.Context(), backendPod(), "backend")
	if err != nil || len(list) != 2 {
		t.Fatalf("got %d policies, %v", len(list), err)
	}

	out, in := list[0].Spec, list[1].Spec
	self := of("run-backend")
	mine := self.String()
	if out.PodSelector.String() != mine || len(out.Ingress) > 0 ||
		!slices.Equal(out.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}) ||
		out.Egress[0].To[0].PodSelector.MatchLabels[stacks.LabelService] != "redis" {
		t.Errorf("what leaves it: %+v", out)
	}
	if in.PodSelector.MatchLabels[stacks.LabelService] != "redis" || len(in.Egress) > 0 ||
		len(in.Ingress) != 1 || len(in.Ingress[0].From) != 1 ||
		in.Ingress[0].From[0].PodSelector.String() != mine || in.Ingress[0].Ports[0].Port.IntVal != 6379 {
		t.Errorf("what it reaches: %+v", in)
	}
}

// TestRunOnceInterrupted checks that the Job is removed at an interrupt, and that its policies are
// the Job's, with which the cluster removes them.
func TestRunOnceInterrupted(t *testing.T) {
	pod := backendPod()
	egress := &networkingv1.NetworkPolicy{ObjectMeta: object("backend", "", "")}
	egress.Spec.PodSelector.MatchLabels = map[string]string{stacks.LabelService: pod.Labels[stacks.LabelService]}
	egress.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
	c, api := lab(pod, egress)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := c.RunOnce(ctx, running.Replica{Name: pod.Name, Service: "backend"},
			running.Once{Args: []string{"x"}, Limit: time.Minute}, running.Streams{})
		done <- err
	}()

	var list []running.OneOff
	for deadline := time.Now().Add(time.Minute); len(list) == 0; time.Sleep(10 * time.Millisecond) {
		var err error
		if list, err = c.OneOffs(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatalf("no job: %v", err)
		}
	}
	if list[0].Service != "backend" || list[0].Until.Sub(list[0].StartedAt) != time.Minute {
		t.Errorf("listed %+v", list[0])
	}

	started := func() bool {
		jobs, err := api.BatchV1().Jobs(c.Namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(jobs.Items, func(j batchv1.Job) bool {
			return !*j.Spec.Suspend
		})
	}
	for deadline := time.Now().Add(time.Minute); !started(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the job is not started")
		}
	}
	policies, err := api.NetworkingV1().NetworkPolicies(c.Namespace).List(t.Context(),
		metav1.ListOptions{LabelSelector: running.LabelOnce})
	if err != nil || len(policies.Items) != 1 || len(policies.Items[0].OwnerReferences) != 1 {
		t.Errorf("policies %+v, %v", policies, err)
	}

	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if list, err := c.OneOffs(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("left %+v, %v", list, err)
	}
}
