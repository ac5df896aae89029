package cluster

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExitCode reads how a command ended from its pod.
func TestExitCode(t *testing.T) {
	ended := func(code int32, reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason},
			}
		}
	}
	for name, x := range map[string]struct {
		change func(*corev1.Pod)
		code   int
		err    string
	}{
		"well":   {ended(0, "Completed"), 0, ""},
		"failed": {ended(3, "Error"), 3, ""},
		"memory": {ended(137, "OOMKilled"), 0, "used more than its 512Mi of memory: give it more: " +
			"codexcontinue:services: {backend: {memory: ...}}"},
		"evicted": {func(p *corev1.Pod) {
			ended(137, "Error")(p)
			p.Status.Reason, p.Status.Message = "Evicted", "The node was low on resource: memory."
		}, 0, "was stopped: Evicted: The node was low on resource: memory."},
		"removed": {func(p *corev1.Pod) {
			ended(143, "Error")(p)
			p.DeletionTimestamp, p.Finalizers = new(metav1.Now()), []string{"test/kept"}
		}, 0, "removed before its command ended, by somebody or because it took longer than 30m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := lab(runningPod("test-backend-1", x.change))
			code, err := c.exitCode(t.Context(), "test-backend-1", 30*time.Minute)
			said := ""
			if err != nil {
				said = err.Error()
			}
			if code != x.code || (said == "") != (x.err == "") || !strings.Contains(said, x.err) {
				t.Errorf("got %d, %q, want %d, %q", code, said, x.code, x.err)
			}
		})
	}

	c, _ := lab()
	if _, err := c.exitCode(t.Context(), "gone", time.Minute); err == nil ||
		!strings.Contains(err.Error(), "the pod gone was removed before its command ended") {
		t.Errorf("a pod that is gone: %v", err)
	}
}

// commandJob is the Job of a command for the backend.
func commandJob() *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: object("test-backend-1", "", "")}
	j.Labels["dev.codexcontinue.service"] = "test-backend"
	j.Spec.TTLSecondsAfterFinished = new(int32(60))
	j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "backend"}}
	return j
}

// TestNotStarted checks that what keeps a command from starting is told with what to do about it,
// which is not what a service would need.
func TestNotStarted(t *testing.T) {
	job := commandJob()
	p := runningPod("test-backend-1-x", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{
			Kind: "Job", Name: job.Name, UID: job.UID, Controller: new(true),
		}}
		p.Labels = job.Labels
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{
				Reason:  "ImagePullBackOff",
				Message: "no such host",
			},
		}
		p.Spec.Containers[0].Image = "registry.example/backend-dev:1"
	})
	p.Spec.Containers[0].Resources.Limits[corev1.ResourceMemory] = resource.MustParse("2Gi")
	seen := observation{stack: "lab", jobs: []*batchv1.Job{job}, pods: []*corev1.Pod{p}}
	text := notStarted(seen.findings(Work{Service: "test-backend"}, began), job).Error()
	for _, want := range []string{
		"test-backend: the image registry.example/backend-dev:1 cannot be pulled",
		"ImagePullBackOff: no such host", "--into",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}

	p.Status.ContainerStatuses = nil
	p.Spec.NodeName = ""
	p.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
		Message: "0/1 nodes are available: 1 Insufficient memory.",
	}}
	text = notStarted(seen.findings(Work{Service: "test-backend"}, began), job).Error()
	if !strings.Contains(text, "codexcontinue:services: {backend: {cpu: ..., memory: ...}}") {
		t.Errorf("without room: %s", text)
	}

	seen.pods, seen.events = nil, []*corev1.Event{{
		InvolvedObject: corev1.ObjectReference{Kind: "Job", Name: job.Name},
		Reason:         "FailedCreate",
		LastTimestamp:  metav1.NewTime(began),
		Message: "pods is forbidden: exceeded quota: codexcontinue, requested: limits.memory=2Gi, " +
			"used: limits.memory=9Gi, limited: limits.memory=10Gi",
	}}
	text = notStarted(seen.findings(Work{Service: "test-backend"}, began), job).Error()
	for _, want := range []string{
		"the namespace's quota codexcontinue is exceeded", "no update goes on", "{backend: {cpu",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q: %s", want, text)
		}
	}

	seen.events[0].Message = `admission webhook "images.example" denied the request: unsigned`
	text = notStarted(seen.findings(Work{Service: "test-backend"}, began), job).Error()
	if !strings.Contains(text, "the cluster's policy images.example refuses it: unsigned") ||
		!strings.Contains(text, "ask the cluster's administrator") ||
		strings.Contains(text, "ask for less") || strings.Contains(text, "codexctl up") {
		t.Errorf("refused by a webhook: %s", text)
	}
}

// TestCommandIsNotJudged checks that an update is not blamed for a command that fails beside it.
func TestCommandIsNotJudged(t *testing.T) {
	model := &batchv1.Job{ObjectMeta: object("model-1", "", "")}
	seen := observation{jobs: []*batchv1.Job{commandJob(), model}}
	o := &Observer{busy: map[Work]step{}, failed: map[Work]step{}}
	o.BeginAll()
	works, _ := o.working(seen)
	if _, ok := works[Work{Service: serviceOf(model)}]; !ok || len(works) != 1 {
		t.Errorf("judged are %v", works)
	}
}
