package cluster

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/codexcontinue/codexcontinue/stacks"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func object(name, owner, ownerKind string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name:              name,
		Namespace:         "codexcontinue-lab",
		UID:               types.UID(name),
		CreationTimestamp: metav1.NewTime(began),
		Labels: map[string]string{
			stacks.LabelProject: stacks.Project,
			stacks.LabelStack:   "lab",
			stacks.LabelService: "backend",
		},
	}
	if owner != "" {
		yes := true
		m.OwnerReferences = []metav1.OwnerReference{{
			Kind:       ownerKind,
			Name:       owner,
			UID:        types.UID(owner),
			Controller: &yes,
		}}
	}

	return m
}

// rollout returns a Deployment with the pods of its old and its new revision.
func rollout(change func(pod *corev1.Pod)) observation {
	d := &appsv1.Deployment{ObjectMeta: object("backend", "", "")}
	d.Annotations = map[string]string{revisionKey: "2"}
	o := observation{stack: "lab", deployments: []*appsv1.Deployment{d}}
	for revision, name := range map[string]string{"1": "backend-old", "2": "backend-new"} {
		r := &appsv1.ReplicaSet{ObjectMeta: object(name, "backend", "Deployment")}
		r.Annotations = map[string]string{revisionKey: revision}
		p := &corev1.Pod{
			ObjectMeta: object(name+"-1", name, "ReplicaSet"),
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name:  "backend",
				Image: "codexcontinue/backend:abc",
			}}},
		}

		p.Status.Phase = corev1.PodPending
		if revision == "2" {
			change(p)
		}

		o.replicaSets, o.pods = append(o.replicaSets, r), append(o.pods, p)
	}

	return o
}

func waiting(
	reason, message string, restarts int32, last *corev1.ContainerStateTerminated,
) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name:         "backend",
			RestartCount: restarts,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason:  reason,
				Message: message,
			}},
			LastTerminationState: corev1.ContainerState{Terminated: last},
		}}
	}
}

func unscheduled(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  corev1.PodReasonUnschedulable,
			Message: message,
		}}
	}
}

func event(kind, name, reason, message string, at time.Time) *corev1.Event {
	return &corev1.Event{
		InvolvedObject: corev1.ObjectReference{Kind: kind, Name: name},
		Type:           corev1.EventTypeWarning,
		Reason:         reason,
		Message:        message,
		LastTimestamp:  metav1.NewTime(at),
	}
}

func refused(message string) observation {
	o := rollout(func(*corev1.Pod) {})
	for _, r := range o.replicaSets {
		if r.Name == "backend-new" {
			r.Status.Conditions = []appsv1.ReplicaSetCondition{{
				Type:    appsv1.ReplicaSetReplicaFailure,
				Status:  corev1.ConditionTrue,
				Reason:  "FailedCreate",
				Message: message,
			}}
		}
	}

	return o
}

// TestFindings compares findings with the conditions and events that Kubernetes 1.35 writes.
func TestFindings(t *testing.T) {
	later := began.Add(time.Second)
	claiming := &appsv1.StatefulSet{
		ObjectMeta: object("backend", "", ""),
		Spec:       appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{}}},
	}

	with := func(o observation, events ...*corev1.Event) observation { o.events = events; return o }
	for name, c := range map[string]struct {
		seen observation
		want []string // empty: nothing is wrong
		todo string
	}{
		"all well": {rollout(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
		}), nil, ""},
		"containers created": {rollout(waiting("ContainerCreating", "", 0, nil)), nil, ""},
		"built image": {rollout(waiting("ImagePullBackOff",
			`Back-off pulling image "codexcontinue/backend:abc": ErrImagePull: not found`, 0, nil)),
			[]string{"codexcontinue/backend:abc is not in the cluster", "ImagePullBackOff: "},
			"codexctl images load lab"},
		"private image": {rollout(func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "registry.example.com/team/backend@sha256:1"
			waiting("ErrImagePull", "401 Unauthorized", 0, nil)(p)
		}), []string{"registry.example.com/team/backend@sha256:1 cannot be pulled", "401"}, "pull secret"},
		"crash": {rollout(waiting("CrashLoopBackOff", "back-off 10s", 1,
			&corev1.ContainerStateTerminated{ExitCode: 2})),
			[]string{"it crashes", "CrashLoopBackOff", "last exit code 2"}, "its log says why"},
		"memory": {rollout(waiting("CrashLoopBackOff", "", 1, &corev1.ContainerStateTerminated{
			ExitCode: 137,
			Reason:   "OOMKilled",
		})),
			[]string{"it crashes", "of memory"}, "memory: ..."},
		"file": {rollout(waiting("CreateContainerConfigError", `secret "x" not found`, 0, nil)),
			[]string{"cannot be started", `secret "x" not found`}, "codexctl up lab"},
		"no room": {rollout(unscheduled("0/3 nodes are available: 3 Insufficient memory.")),
			[]string{"no node has room", "Unschedulable: 0/3"},
			"codexcontinue:services: {backend: {cpu: ..., memory: ...}}"},
		"no GPU": {rollout(unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.10gb.")),
			[]string{"no node has the GPU"}, "codexcontinue:gpu"},
		"a node is being added": {with(rollout(unscheduled("0/3 nodes are available: 3 Insufficient cpu.")),
			event("Pod", "backend-new-1", "TriggeredScaleUp", "", later)),
			nil, ""},
		"a pod leaves": {func() observation {
			o := rollout(unscheduled("0/1 nodes are available: 1 Insufficient cpu."))
			gone := &corev1.Pod{ObjectMeta: object("gone", "", "")}
			gone.DeletionTimestamp = &metav1.Time{Time: later}
			o.pods = append(o.pods, gone)
			return o
		}(), nil, ""},
		"an old revision is broken": {func() observation {
			o := rollout(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
			for _, p := range o.pods {
				if p.Name == "backend-old-1" {
					waiting("CrashLoopBackOff", "", 9, nil)(p)
				}
			}
			return o
		}(), nil, ""},
		"the controller has not seen the change yet": {func() observation {
			o := rollout(waiting("ErrImagePull", "not found", 0, nil))
			o.deployments[0].Generation = 2
			return o
		}(), nil, ""},
		"quota": {refused(`pods "backend-1" is forbidden: exceeded quota: stack, ` +
			`requested: limits.memory=1Gi, used: limits.memory=8Gi, limited: limits.memory=8Gi`),
			[]string{
				"quota stack is exceeded: it asks for limits.memory=1Gi, limits.memory=8Gi is " +
					"used of limits.memory=8Gi",
				"FailedCreate: ",
			},
			"raise the quota"},
		"quota that is not counted": {refused(`pods "backend-1" is forbidden: ` +
			`status unknown for quota: stack, resources: pods`),
			[]string{"does not count what is used", "FailedCreate: "}, "controller manager"},
		"pod security": {refused(`pods "backend-1" is forbidden: ` +
			`violates PodSecurity "restricted:latest": runAsNonRoot != true`),
			[]string{"Pod Security level restricted:latest refuses it: runAsNonRoot != true"},
			"correct the service's security"},
		"webhook": {refused(`admission webhook "policy.example.com" denied the request: no owner label`),
			[]string{"policy policy.example.com refuses it: no owner label"}, "administrator"},
		"limit range": {refused(`pods "backend-1" is forbidden: ` +
			`maximum memory usage per Container is 1Gi, but limit is 2Gi`),
			[]string{"refuses it: maximum memory usage per Container is 1Gi"}, ""},
		"mount": {with(rollout(waiting("ContainerCreating", "", 0, nil)),
			event("Pod", "backend-new-1", "FailedMount", `configmap "files" not found`, later)),
			[]string{"cannot be mounted", `FailedMount: configmap "files" not found`}, ""},
		"runtime class": {with(rollout(waiting("ContainerCreating", "", 0, nil)),
			event("Pod", "backend-new-1", "FailedCreatePodSandBox", `no runtime for "nvidia" is configured`, later)),
			[]string{"does not know the runtime class"}, "runtimeClass"},
		"an event from before": {with(rollout(waiting("ContainerCreating", "", 0, nil)),
			event("Pod", "backend-new-1", "FailedMount", "old", began.Add(-time.Minute))),
			nil, ""},
		"probe": {with(rollout(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name:         "backend",
				RestartCount: 1,
				State:        corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}}
		}), event("Pod", "backend-new-1", "Unhealthy",
			"Startup probe failed: HTTP probe failed with statuscode: 503", later),
			event("Pod", "backend-new-1", "Killing",
				"Container backend failed startup probe, will be restarted", later)),
			[]string{"its probe fails", "statuscode: 503"}, ""},
		"a probe that fails while it starts": {with(rollout(func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name:  "backend",
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}}
		}), event("Pod", "backend-new-1", "Unhealthy", "Startup probe failed: connection refused", later)), nil, ""},
		"deadline": {func() observation {
			o := rollout(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
			o.deployments[0].Status.Conditions = []appsv1.DeploymentCondition{{
				Type:    appsv1.DeploymentProgressing,
				Status:  corev1.ConditionFalse,
				Reason:  "ProgressDeadlineExceeded",
				Message: "has timed out progressing",
			}}

			return o
		}(), []string{"did not become ready in time", "has timed out"}, "codexctl logs"},
		"claim": {observation{
			stack:        "lab",
			statefulSets: []*appsv1.StatefulSet{claiming},
			claims: []*corev1.PersistentVolumeClaim{{
				ObjectMeta: object("data-backend-0", "", ""),
				Spec:       corev1.PersistentVolumeClaimSpec{StorageClassName: ptr("fast")},
				Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
			}},
			events: []*corev1.Event{event("PersistentVolumeClaim", "data-backend-0",
				"ProvisioningFailed", `storageclass.storage.k8s.io "fast" not found`, later)},
		},
			[]string{"no storage class fast for the volume claim data-backend-0", "ProvisioningFailed"},
			"codexcontinue:volumes"},
		"a claim that outlives its StatefulSet": {func() observation {
			o := rollout(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning })
			o.claims = []*corev1.PersistentVolumeClaim{{
				ObjectMeta: object("data-backend-0", "", ""),
				Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
			}}

			return with(o,
				event("PersistentVolumeClaim", "data-backend-0", "ProvisioningFailed",
					`storageclass.storage.k8s.io "fast" not found`, later))
		}(), nil, ""},
		"a claim that waits for its pod": {observation{
			stack:        "lab",
			statefulSets: []*appsv1.StatefulSet{claiming},
			claims: []*corev1.PersistentVolumeClaim{{
				ObjectMeta: object("data-backend-0", "", ""),
				Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
			}},
			events: []*corev1.Event{event("PersistentVolumeClaim", "data-backend-0",
				"WaitForFirstConsumer", "waiting for first consumer", later)},
		}, nil, ""},
		"job": {observation{
			stack: "lab",
			jobs: []*batchv1.Job{{
				ObjectMeta: object("model-1", "", ""),
				Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{
					Type:    batchv1.JobFailed,
					Status:  corev1.ConditionTrue,
					Reason:  "BackoffLimitExceeded",
					Message: "Job has reached the specified backoff limit",
				}}},
			}},
			pods: []*corev1.Pod{{ObjectMeta: object("model-1-x", "model-1", "Job")}},
		},
			[]string{"the job model-1 failed", "BackoffLimitExceeded"}, "its log says why"},
		"a job tries again": {observation{
			stack: "lab",
			jobs:  []*batchv1.Job{{ObjectMeta: object("model-1", "", ""), Status: batchv1.JobStatus{Active: 1}}},
			pods: []*corev1.Pod{func() *corev1.Pod {
				p := &corev1.Pod{ObjectMeta: object("model-1-x", "model-1", "Job")}
				waiting("CrashLoopBackOff", "", 3, nil)(p)
				return p
			}()},
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.seen.findings(Work{Service: "backend"}, began)
			if len(c.want) == 0 {
				if len(got) != 0 {
					t.Errorf("got %+v, want nothing", got)
				}
				return
			}

			if len(got) != 1 {
				t.Fatalf("got %+v, want one finding", got)
			}

			text := got[0].What + "\n" + got[0].Why
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q does not say %q", text, w)
				}
			}

			if got[0].Service != "backend" || !strings.Contains(got[0].Todo, c.todo) ||
				got[0].Todo == "" {
				t.Errorf("service %q, to do %q, want %q", got[0].Service, got[0].Todo, c.todo)
			}
		})
	}

	broken := rollout(waiting("ErrImagePull", "not found", 0, nil))
	if got := broken.findings(Work{Service: "backend", Kind: "job"}, began); len(got) != 0 {
		t.Errorf("a job is blamed for a deployment: %+v", got)
	}
}

// TestNewestJob checks that a Job that failed is not held against the one that replaces it.
func TestNewestJob(t *testing.T) {
	failed := func(name string, at time.Time) *batchv1.Job {
		j := &batchv1.Job{
			ObjectMeta: object(name, "", ""),
			Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{
				Type:   batchv1.JobFailed,
				Status: corev1.ConditionTrue,
			}}},
		}

		j.CreationTimestamp = metav1.NewTime(at)
		return j
	}

	old, fresh := failed("model-1", began.Add(-time.Hour)), failed("model-2", began)
	step, all := Work{Service: "backend", Kind: "job"}, Work{Service: "backend"}
	for name, c := range map[string]struct {
		jobs []*batchv1.Job
		work Work
		want string
	}{
		"the step's own":         {[]*batchv1.Job{fresh, old}, step, "model-2"},
		"before it is made":      {[]*batchv1.Job{old}, step, ""},
		"while all are judged":   {[]*batchv1.Job{old, fresh}, all, "model-2"},
		"nothing but an old one": {[]*batchv1.Job{old}, all, "model-1"},
		"one of several": {[]*batchv1.Job{fresh, old}, Work{Service: "backend", Job: "model-1"},
			"model-1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := observation{jobs: c.jobs}.findings(c.work, began)
			if (len(got) == 0) != (c.want == "") ||
				len(got) == 1 && !strings.Contains(got[0].What, c.want) || len(got) > 1 {
				t.Errorf("got %+v, want %q", got, c.want)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestJudge checks that a finding is believed when it lasts, not when it comes and goes.
func TestJudge(t *testing.T) {
	f := []Finding{
		{Service: "backend", kind: "image", confirm: 3 * time.Second},
		{Service: "backend", kind: "image", confirm: 3 * time.Second},
	}

	j, at := judge{}, began
	step := func(d time.Duration, findings []Finding, want int) {
		t.Helper()
		at = at.Add(d)
		if got := j.decide(findings, at); len(got) != want {
			t.Errorf("after %s: got %d findings, want %d", at.Sub(began), len(got), want)
		}
	}

	step(0, f, 0)
	step(2*time.Second, f, 0)
	step(time.Second/2, nil, 0) // it healed
	step(time.Second, f, 0)
	step(2*time.Second, f, 0)
	step(time.Second, f, 1)
	step(0, []Finding{{Service: "ml", kind: "job", confirm: atOnce}}, 1)
}

// TestPending checks that what an earlier update left broken is not held against the
// update that mends it.
func TestPending(t *testing.T) {
	seen := rollout(waiting("ImagePullBackOff", "not found", 0, nil))
	work := Work{Service: "backend", Kind: "deploy"}
	o := &Observer{busy: map[Work]step{}, failed: map[Work]step{}, observe: func() observation {
		return seen
	}}
	judged := func() bool {
		works, _ := o.working(seen)
		return len(works) > 0
	}

	seen.deployments[0].Generation, seen.deployments[0].Status.ObservedGeneration = 2, 2

	o.Begin(work)
	if judged() {
		t.Error("the revision that was there before is judged")
	}

	seen.deployments[0].Generation = 3
	if !judged() {
		t.Error("the revision that the step made is not judged")
	}

	seen.deployments[0].Generation = 2
	late := o.busy[work]
	late.began = late.began.Add(-changedWithin)
	o.busy[work] = late
	if !judged() {
		t.Error("a step that changes nothing is never judged")
	}

	o.End(work, false)
	o.Begin(work)
	o.End(work, true)
	if got := o.Failed(t.Context()); len(got) != 0 {
		t.Errorf("a step that failed before it changed anything is held to have broken: %v", got)
	}
}
