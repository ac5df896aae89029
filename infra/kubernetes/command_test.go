package kubernetes_test

import (
	"os"
	"slices"
	"testing"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestCommand checks that a command is bounded and confined as its service is, and that it is none
// of the service's pods.
func TestCommand(t *testing.T) {
	stack, err := stacks.Load("dev", stacks.Settings{
		Target:  stacks.Kubernetes,
		Volumes: map[string]stacks.VolumeSettings{stacks.GoCache: {Class: "fast"}},
	}, stacks.Checkout{FS: os.DirFS("../.."), Mountable: true})
	if err != nil {
		t.Fatal(err)
	}

	svc := *stack.Service(stacks.ML)
	job, claims := kubernetes.Command{
		Name:      "test-ml",
		Args:      []string{"go", "test"},
		Service:   svc,
		Image:     "registry.example/ml-dev:1",
		Stack:     stack,
		Namespace: "team",

		Pods: stacks.PodSettings{
			Labels:        map[string]string{"team": "chat"},
			NodeSelector:  map[string]string{"disk": "ssd"},
			Tolerations:   []stacks.Toleration{{Key: "data"}},
			PriorityClass: "low",
		},
		PullSecrets: []string{"team"},
	}.Objects()
	checkPlace(t, job.Spec.Template, "low", map[string]string{"disk": "ssd"}, "data")
	if job.Labels["team"] != "" {
		t.Errorf("the Job itself is marked: %v", job.Labels)
	}
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]

	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(restricted, &job.Spec.Template.ObjectMeta, &pod) {
		if !r.Allowed {
			t.Errorf("not restricted: %s: %s", r.ForbiddenReason, r.ForbiddenDetail)
		}
	}

	if got, want := c.Resources.Limits.Memory().Value(), int64(svc.Resources.Memory); got != want {
		t.Errorf("it may use %d bytes of memory, its service %d", got, want)
	}
	if job.Spec.ActiveDeadlineSeconds == nil || job.Spec.TTLSecondsAfterFinished == nil ||
		*job.Spec.BackoffLimit != 0 {
		t.Errorf("its time is not bounded, or it is tried again: %+v", job.Spec)
	}
	if labels := job.Spec.Template.Labels; labels[stacks.LabelService] != "test-ml" ||
		labels[stacks.LabelStack] != "dev" {
		t.Errorf("labels %v", labels)
	}
	if !c.Stdin || !c.StdinOnce || len(c.Env) > 0 || len(c.EnvFrom) > 0 {
		t.Errorf("stdin %t, once %t, environment %v", c.Stdin, c.StdinOnce, c.Env)
	}

	// The sources, the caches and memory; modelfiles, which ml mounts, are among the sources.
	var targets []string
	for _, m := range c.VolumeMounts {
		targets = append(targets, m.MountPath)
	}
	slices.Sort(targets)
	if !slices.Equal(targets, []string{"/cache", "/src", "/tmp"}) {
		t.Errorf("it mounts %v", targets)
	}
	if len(claims) != 1 || claims[0].Name != stacks.GoCache || claims[0].Namespace != "team" ||
		claims[0].Labels[stacks.LabelStack] != "dev" ||
		claims[0].Spec.Resources.Requests.Storage().IsZero() ||
		claims[0].Spec.StorageClassName == nil || *claims[0].Spec.StorageClassName != "fast" {
		t.Errorf("claims %+v", claims)
	}
}
