package kubernetes

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestRollout: a rollout is complete when all pods of the new revision are ready and no older one
// is left. In the middle of it the new ReplicaSet is complete at each step, which the provider
// (4.25) takes for the end.
func TestRollout(t *testing.T) {
	two := int32(2)
	deployment := func(change func(*appsv1.Deployment)) rollout {
		d := appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Generation: 3},
			Spec:       appsv1.DeploymentSpec{Replicas: &two},
			Status: appsv1.DeploymentStatus{
				ObservedGeneration: 3,
				Replicas:           2,
				UpdatedReplicas:    2,
				ReadyReplicas:      2,
				AvailableReplicas:  2,
			},
		}

		change(&d)
		return ofDeployment(d)
	}

	set := func(change func(*appsv1.StatefulSet)) rollout {
		s := appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Generation: 3},
			Spec:       appsv1.StatefulSetSpec{Replicas: &two},
			Status: appsv1.StatefulSetStatus{
				ObservedGeneration: 3,
				Replicas:           2,
				UpdatedReplicas:    2,
				ReadyReplicas:      2,
				AvailableReplicas:  2,
				CurrentRevision:    "b",
				UpdateRevision:     "b",
			},
		}

		change(&s)
		return ofStatefulSet(s)
	}

	for name, tc := range map[string]struct {
		got  rollout
		want string // empty: it is done
	}{
		"complete": {deployment(func(*appsv1.Deployment) {}), ""},
		"one by default": {deployment(func(d *appsv1.Deployment) {
			d.Spec.Replicas = nil
			d.Status = appsv1.DeploymentStatus{
				ObservedGeneration: 3,
				Replicas:           1,
				UpdatedReplicas:    1,
				AvailableReplicas:  1,
			}
		}), ""},
		"not seen yet": {deployment(func(d *appsv1.Deployment) {
			d.Generation = 4
		}), "has not seen the change"},
		"first of two ready": {deployment(func(d *appsv1.Deployment) {
			d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas = 3, 1, 3
		}), "1 of 2 pods are of the new revision"},
		"new ones start": {deployment(func(d *appsv1.Deployment) {
			d.Status.Replicas, d.Status.AvailableReplicas = 3, 2
		}), "1 of 2 new pods are ready, 1 old ones are left"},
		"an old one is left": {deployment(func(d *appsv1.Deployment) {
			d.Status.Replicas, d.Status.AvailableReplicas = 3, 3
		}), "2 of 2 new pods are ready, 1 old ones are left"},
		"nothing yet": {deployment(func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: 3}
		}), "0 of 2 pods are of the new revision"},
		"fewer than before": {deployment(func(d *appsv1.Deployment) {
			d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.AvailableReplicas = 3, 3, 3
		}), "left of more than 2"},
		"set: complete": {set(func(*appsv1.StatefulSet) {}), ""},
		"set: not seen yet": {set(func(s *appsv1.StatefulSet) {
			s.Generation = 4
		}), "has not seen the change"},
		"set: one of two": {set(func(s *appsv1.StatefulSet) {
			s.Status.CurrentRevision, s.Status.UpdatedReplicas = "a", 1
		}), "1 of 2 pods are of the new revision"},
		"set: starting": {set(func(s *appsv1.StatefulSet) {
			s.Status.AvailableReplicas = 1
		}), "1 of 2 pods are ready"},
		"set: fewer than now": {set(func(s *appsv1.StatefulSet) {
			s.Status.Replicas = 3
		}), "left of more than 2"},
	} {
		if tc.got.done != (tc.want == "") || !strings.Contains(tc.got.text, tc.want) {
			t.Errorf("%s: done %v, %q, want %q", name, tc.got.done, tc.got.text, tc.want)
		}
	}
}

// TestTrouble: a pod that does not work says why in Kubernetes' words.
func TestTrouble(t *testing.T) {
	waits := func(reason, message string) []corev1.ContainerStatus {
		state := corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
		}
		return []corev1.ContainerStatus{{State: state}}
	}
	unready := []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady"}}
	for want, p := range map[string]corev1.Pod{
		"": {Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type:   corev1.PodReady,
			Status: corev1.ConditionTrue,
		}}}},
		"ErrImagePull: not found": {Status: corev1.PodStatus{
			ContainerStatuses: waits("ErrImagePull", "not found"),
			Conditions:        unready,
		}},
		"PodInitializing": {Status: corev1.PodStatus{
			InitContainerStatuses: waits("PodInitializing", ""),
		}},
		"ContainersNotReady": {Status: corev1.PodStatus{Conditions: unready}},
		"Unschedulable: no room": {Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  "Unschedulable",
			Message: "no room",
		}}}},
	} {
		if got := trouble(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	leaving := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Now()}},
		Status:     corev1.PodStatus{Conditions: unready},
	}

	if got := trouble(leaving); got != "" {
		t.Errorf("a pod that leaves is blamed: %q", got)
	}
}

// labWaiting waits for a store, ml, which needs the model, and web, which needs both.
func labWaiting() *waiting {
	service := func(name string, needs ...string) plan {
		p := plan{kind: kindDeployment}
		p.Name, p.DependsOn, p.StartTimeout, p.Replicas = name, needs, time.Minute, 1
		return p
	}
	plans := []plan{service("store"), service("ml"), service("web", "ml", "store")}
	return newWaiting(plans, &modelPlan{client: plans[1]})
}

// TestWaitNamesTheCause: a service's time begins when all that it needs is ready, so one that is
// not ready since another one is not is never what the update fails for.
func TestWaitNamesTheCause(t *testing.T) {
	const limit = time.Minute + schedulingTime
	ready, starting := rollout{done: true}, rollout{text: "0 of 1 pods are ready"}
	at := time.Unix(0, 0)
	w := labWaiting()
	look := func(after time.Duration, seen map[string]rollout, left []string, want ...string) {
		t.Helper()
		at = at.Add(after)
		got, err := w.look(at, seen)
		if !slices.Equal(got, left) {
			t.Errorf("after %s: left are %v, want %v", at.Sub(time.Unix(0, 0)), got, left)
		}
		if (err == nil) != (len(want) == 0) {
			t.Errorf("after %s: got %v, want %q", at.Sub(time.Unix(0, 0)), err, want)
		}

		for _, x := range want {
			if err != nil && !strings.Contains(err.Error(), x) {
				t.Errorf("got %v, want it to say %q", err, x)
			}
		}

		for _, name := range []string{"web", "ml", "store"} {
			if err != nil && strings.Contains(err.Error(), "services."+name) &&
				!slices.ContainsFunc(want, func(x string) bool {
					return strings.Contains(x, name)
				}) {
				t.Errorf("%s is blamed: %v", name, err)
			}
		}
	}

	all := []string{"store", "ml", "web"}
	// nothing is made yet
	look(time.Hour, map[string]rollout{"store": starting, "ml": starting, "web": starting}, all)
	w.made["store"], w.made["ml"], w.made["web"] = true, true, true
	// What was ready before the update does not count until the cluster has been told of it, nor
	// does a done Job end a wait.
	look(time.Second, map[string]rollout{"store": starting, "ml": starting, "web": starting}, all)
	look(limit-time.Second, map[string]rollout{"store": starting, "ml": starting, "web": starting},
		all)
	look(2*time.Second, map[string]rollout{"store": starting, "ml": starting, "web": starting}, all,
		"services.store: it is not ready after 4m1s: 0 of 1 pods are ready")
	// The store is mended, and the model downloads for an hour: nobody is late.
	look(time.Second, map[string]rollout{"store": ready, "ml": starting, "web": starting}, all[1:])
	look(time.Hour, map[string]rollout{"store": ready, "ml": starting, "web": starting}, all[1:])
	w.made[stacks.ModelJob] = true
	look(time.Second, map[string]rollout{"store": ready, "ml": starting, "web": starting}, all[1:])
	look(limit, map[string]rollout{"store": ready, "ml": starting, "web": starting}, all[1:],
		"services.ml: ")
	look(time.Second, map[string]rollout{"store": ready, "ml": ready, "web": starting}, all[2:])
	look(limit-time.Second, map[string]rollout{"store": ready, "ml": ready, "web": starting},
		all[2:])
	look(0, map[string]rollout{"store": ready, "ml": ready, "web": ready}, nil)
}

// TestWaitEnds: a service that is ready now and then, as one that crashes again and again, does not
// keep the wait going for ever.
func TestWaitEnds(t *testing.T) {
	w, at := labWaiting(), time.Unix(0, 0)
	ready, starting := rollout{done: true}, rollout{text: "0 of 1 pods are ready"}
	w.made["store"], w.made["ml"], w.made["web"] = true, true, true
	for range 1000 {
		at = at.Add(10 * time.Second)
		seen := map[string]rollout{"store": starting, "ml": starting, "web": starting}
		if _, err := w.look(at, seen); err != nil {
			if !strings.Contains(err.Error(), "services.store: ") ||
				strings.Contains(err.Error(), "web") {
				t.Errorf("got %v, want it to name the store alone", err)
			}
			return
		}

		at = at.Add(10 * time.Second)
		seen = map[string]rollout{"store": ready, "ml": starting, "web": starting}
		if _, err := w.look(at, seen); err != nil {
			t.Fatal(err)
		}
	}

	t.Error("the wait goes on for ever")
}

// TestWaitForWhatIsMade: pods that are ready are those of before, until the API server has been
// told of the change.
func TestWaitForWhatIsMade(t *testing.T) {
	w, ready := labWaiting(), rollout{done: true}
	seen := map[string]rollout{"store": ready, "ml": ready, "web": ready}
	w.made["store"] = true
	if left, err := w.look(time.Unix(0, 0), seen); err != nil ||
		!slices.Equal(left, []string{"ml", "web"}) {
		t.Errorf("left are %v (%v)", left, err)
	}
}
