package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// backendSet is a StatefulSet of two replicas whose pod has a mount of each kind, and a claim.
func backendSet() *appsv1.StatefulSet {
	pod := backendPod()
	spec := pod.Spec
	spec.NodeName = ""
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil // the StatefulSet adds it
	})
	spec.NodeSelector = map[string]string{"disk": "large"}
	spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"resolver"}}
	spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: "kubernetes.io/hostname", MatchLabelKeys: []string{"revision"},
		LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels},
	}}

	labels := object("backend", "", "").Labels
	team := map[string]string{"team": "ward"}
	for k, v := range labels {
		team[k] = v
	}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "backend", Labels: labels},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(2)),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: team}, Spec: spec},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: labels},
			}},
		},
	}
}

// fillLab is a cluster that has the claims already, and runs the pod of each Job that is started
// unless broken. The pods go with their Jobs.
func fillLab(broken bool, claims ...string) (*Cluster, *fake.Clientset) {
	var objects []runtime.Object
	for _, name := range claims {
		objects = append(objects,
			&corev1.PersistentVolumeClaim{ObjectMeta: object(name, "", "")})
	}
	c, api := lab(objects...)
	count := 0
	api.PrependReactor("create", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
		j := a.(ktesting.CreateAction).GetObject().(*batchv1.Job)
		count++
		j.Name = fmt.Sprint(j.GenerateName, count)
		j.UID = types.UID(j.Name)
		return false, nil, nil
	})
	api.PrependReactor("patch", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
		if broken {
			return true, nil, errors.New("no more jobs today")
		}
		name := a.(ktesting.PatchAction).GetName()
		pod := runningPod(name+"-x", func(p *corev1.Pod) {
			p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = "Job", name
			p.OwnerReferences[0].UID = types.UID(name)
			p.Labels[stacks.LabelService] = "run-backend"
		})
		return false, nil, api.Tracker().Add(pod)
	})
	api.PrependReactor("delete", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
		name := a.(ktesting.DeleteAction).GetName()
		if broken {
			return false, nil, nil
		}
		return false, nil, api.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"),
			c.Namespace, name+"-x")
	})
	return c, api
}

// left describes what there is of claims, jobs and pods.
func left(t *testing.T, c *Cluster, api *fake.Clientset) string {
	t.Helper()
	claims, err := c.Volumes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	once, err := c.OneOffs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := api.CoreV1().Pods(c.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%v, %d jobs, %d pods", claims, len(once), len(pods.Items))
}

// TestFill: every claim that a StatefulSet will take over is filled by a pod, all at the same time
// and closed by a network policy. They are gone afterwards, and the claims stay.
func TestFill(t *testing.T) {
	for name, failure := range map[string]error{"well": nil, "failed": errors.New("no room")} {
		t.Run(name, func(t *testing.T) {
			c, api := fillLab(false, "data-backend-1")
			filling := Filling{
				Set: backendSet(), Args: []string{"/fill"}, Limit: time.Hour, Model: "a:1",
			}
			err := c.Fill(t.Context(), filling,
				func(pods []running.Replica) error {
					if len(pods) != 2 || pods[0].Service != "run-backend" ||
						pods[0].Name != "run-backend-1-x" || pods[1].Name != "run-backend-2-x" {
						t.Errorf("pods %+v", pods)
					}
					if got := left(t, c, api); got != "[data-backend-0 data-backend-1], 2 jobs, 2 pods" {
						t.Errorf("meanwhile there are %s", got)
					}
					once, err := c.OneOffs(t.Context())
					if err != nil || !once[0].Locked || once[0].Service != "backend" ||
						once[0].Until.Sub(once[0].StartedAt) != time.Hour {
						t.Errorf("listed %+v, %v", once, err)
					}
					replicas, err := c.Replicas(t.Context(), "")
					if err != nil || len(replicas) > 0 {
						t.Errorf("they count as replicas: %+v, %v", replicas, err)
					}
					return failure
				})
			if !errors.Is(err, failure) {
				t.Errorf("got %v", err)
			}
			if got := left(t, c, api); got != "[data-backend-0 data-backend-1], 0 jobs, 0 pods" {
				t.Errorf("left are %s", got)
			}

			claim, err := api.CoreV1().PersistentVolumeClaims(c.Namespace).Get(t.Context(),
				"data-backend-0", metav1.GetOptions{})
			if err != nil || claim.Labels[stacks.LabelService] != "backend" {
				t.Errorf("claim %+v, %v", claim, err)
			}
			want := []string{"a:1"}
			if failure != nil {
				want = nil
			}
			imported, err := c.ImportedModels(t.Context())
			if err != nil || len(imported) != 2 || !slices.Equal(imported["data-backend-0"], want) ||
				!slices.Equal(imported["data-backend-1"], want) {
				t.Errorf("the claims are said to have %v, %v", imported, err)
			}

			policies, err := api.NetworkingV1().NetworkPolicies(c.Namespace).List(t.Context(),
				metav1.ListOptions{})
			if err != nil || len(policies.Items) != 1 {
				t.Fatalf("policies %+v, %v", policies, err)
			}
			p := policies.Items[0]
			if len(p.Spec.PolicyTypes) != 2 || len(p.Spec.Egress)+len(p.Spec.Ingress) > 0 ||
				p.Spec.PodSelector.MatchLabels[stacks.LabelService] != "run-backend" ||
				len(p.OwnerReferences) != 2 {
				t.Errorf("policy %+v", p)
			}
		})
	}
}

// TestFillTwice: the claims are annotated with each model once.
func TestFillTwice(t *testing.T) {
	c, api := fillLab(false)
	api.PrependReactor("create", "networkpolicies",
		func(a ktesting.Action) (bool, runtime.Object, error) { // it goes with its Jobs
			return true, a.(ktesting.CreateAction).GetObject(), nil
		})
	for _, model := range []string{"a:1", "b:1", "a:1"} {
		err := c.Fill(t.Context(), Filling{Set: backendSet(), Limit: time.Hour, Model: model},
			func([]running.Replica) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.ImportedModels(t.Context())
	if err != nil || !slices.Equal(got["data-backend-1"], []string{"a:1", "b:1"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestFillNotStarted: claims that were made for a pod which never ran are removed. Others stay.
func TestFillNotStarted(t *testing.T) {
	c, api := fillLab(true, "data-backend-1")
	err := c.Fill(t.Context(), Filling{Set: backendSet(), Limit: time.Hour},
		func([]running.Replica) error { t.Error("used"); return nil })
	if err == nil || !strings.Contains(err.Error(), "no more jobs today") {
		t.Errorf("got %v", err)
	}
	if got := left(t, c, api); got != "[data-backend-1], 0 jobs, 0 pods" {
		t.Errorf("left are %s", got)
	}

	claim := &corev1.PersistentVolumeClaim{ObjectMeta: object("data-backend-0", "", "")}
	claim.DeletionTimestamp, claim.Finalizers = new(metav1.Now()), []string{"test/kept"}
	c, _ = lab(claim)
	err = c.Fill(t.Context(), Filling{Set: backendSet(), Limit: time.Hour},
		func([]running.Replica) error { t.Error("used"); return nil })
	if err == nil ||
		!strings.Contains(err.Error(), "the volume claim data-backend-0 is being deleted") {
		t.Errorf("a claim that goes: %v", err)
	}
}

// TestFillInterrupted: an interrupt before the pods run leaves nothing, but the claims where the
// StatefulSet has come meanwhile.
func TestFillInterrupted(t *testing.T) {
	for name, x := range map[string]struct {
		taken bool
		left  string
	}{
		"alone":      {false, "[], 0 jobs, 0 pods"},
		"taken over": {true, "[data-backend-0 data-backend-1], 0 jobs, 0 pods"},
	} {
		t.Run(name, func(t *testing.T) {
			c, api := fillLab(false)
			ctx, cancel := context.WithCancel(t.Context())
			api.PrependReactor("patch", "jobs",
				func(ktesting.Action) (bool, runtime.Object, error) {
					cancel()
					if !x.taken {
						return false, nil, nil
					}
					set := backendSet()
					set.Namespace, x.taken = c.Namespace, false
					return false, nil, api.Tracker().Add(set)
				})
			err := c.Fill(ctx, Filling{Set: backendSet(), Limit: time.Hour},
				func([]running.Replica) error { t.Error("used"); return nil })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if got := left(t, c, api); got != x.left {
				t.Errorf("left are %s, want %s", got, x.left)
			}
		})
	}
}

// TestFillOneNotStarted: when one of the pods cannot run, Fill says so, although that of a newer
// Job runs.
func TestFillOneNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api := fillLab(false)
		at := time.Now()
		api.PrependReactor("create", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
			j := a.(ktesting.CreateAction).GetObject().(*batchv1.Job)
			j.CreationTimestamp = metav1.NewTime(at)
			at = at.Add(time.Second)
			return false, nil, nil
		})
		api.PrependReactor("patch", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
			name := a.(ktesting.PatchAction).GetName()
			if name != "run-backend-1" {
				return false, nil, nil
			}
			pod := runningPod(name+"-x", unscheduled("0/1 nodes: 1 Insufficient memory"))
			pod.OwnerReferences[0].Kind, pod.OwnerReferences[0].Name = "Job", name
			pod.OwnerReferences[0].UID = types.UID(name)
			pod.Labels[stacks.LabelService] = "run-backend"
			pod.Spec.NodeName, pod.Status.ContainerStatuses = "", nil
			err := api.Tracker().Add(pod)
			j, _ := api.Tracker().Get(batchv1.SchemeGroupVersion.WithResource("jobs"), c.Namespace,
				name)
			return true, j, err
		})

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := c.Fill(ctx, Filling{Set: backendSet(), Limit: time.Hour},
			func([]running.Replica) error { t.Error("used"); return nil })
		if err == nil || !strings.Contains(err.Error(), "no node has room for it") {
			t.Errorf("got %v", err)
		}
		if got := left(t, c, api); got != "[], 0 jobs, 0 pods" {
			t.Errorf("left are %s", got)
		}
	})
}

// TestFillRemoved: a Job that somebody removes before its pod runs ends Fill.
func TestFillRemoved(t *testing.T) {
	c, api := fillLab(false)
	api.PrependReactor("patch", "jobs", func(a ktesting.Action) (bool, runtime.Object, error) {
		j := batchv1.SchemeGroupVersion.WithResource("jobs")
		now, err := api.Tracker().Get(j, c.Namespace, a.(ktesting.PatchAction).GetName())
		if err != nil {
			return true, nil, err
		}
		return true, now, api.Tracker().Delete(j, c.Namespace, a.(ktesting.PatchAction).GetName())
	})

	err := c.Fill(t.Context(), Filling{Set: backendSet(), Limit: time.Hour},
		func([]running.Replica) error { t.Error("used"); return nil })
	if err == nil || !strings.Contains(err.Error(), "the job run-backend-1 was removed by somebody") {
		t.Errorf("got %v", err)
	}
}

// TestFillJob checks what a pod that fills a claim has of the replica, and what it has not.
func TestFillJob(t *testing.T) {
	c, _ := lab()
	set := backendSet()
	job, err := c.fillJob(Filling{Set: set, Args: []string{"/fill", "it"}, Limit: time.Hour}, 1)
	if err != nil {
		t.Fatal(err)
	}

	spec := job.Spec.Template.Spec
	var has []string
	for _, v := range spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			has = append(has, v.Name+" "+v.PersistentVolumeClaim.ClaimName)
		case v.EmptyDir != nil:
			has = append(has, v.Name)
		default:
			t.Errorf("volume %+v", v)
		}
	}
	if !slices.Equal(has, []string{"memory-0", "data data-backend-1"}) {
		t.Errorf("volumes %q", has)
	}

	main := spec.Containers[0]
	if !slices.Equal(main.Command, []string{"/fill", "it"}) || len(spec.Containers) != 1 ||
		len(main.VolumeMounts) != 2 || main.VolumeMounts[0].ReadOnly || main.LivenessProbe != nil ||
		main.Resources.Limits.Memory().IsZero() || !*main.SecurityContext.ReadOnlyRootFilesystem {
		t.Errorf("container %+v", main)
	}
	if spec.ServiceAccountName != "" || *spec.AutomountServiceAccountToken ||
		spec.DNSPolicy != corev1.DNSNone || spec.DNSConfig.Nameservers[0] != "127.0.0.1" ||
		!*spec.SecurityContext.RunAsNonRoot || spec.Affinity != nil ||
		spec.NodeSelector["disk"] != "large" {
		t.Errorf("pod %+v", spec)
	}
	if s := spec.TopologySpreadConstraints; len(s) != 1 || len(s[0].MatchLabelKeys) > 0 ||
		s[0].LabelSelector.MatchLabels[stacks.LabelService] != "run-backend" {
		t.Errorf("spread %+v", s)
	}
	if l := job.Spec.Template.Labels; l["team"] != "ward" || l[stacks.LabelService] != "run-backend" ||
		set.Spec.Template.Labels[stacks.LabelService] != "backend" {
		t.Errorf("labels %v, and the set's %v", l, set.Spec.Template.Labels)
	}
	if !*job.Spec.Suspend || !ofCommand(job) || *job.Spec.ActiveDeadlineSeconds != 3600 {
		t.Errorf("job %+v", job.Spec)
	}

	set.Spec.VolumeClaimTemplates = nil
	if _, err := c.fillJob(Filling{Set: set}, 0); err == nil {
		t.Error("a set without claims can be filled")
	}
}

// TestMakeNamespace: a namespace that is there stays as it is.
func TestMakeNamespace(t *testing.T) {
	c, api := lab()
	for _, value := range []string{"first", "second"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: c.Namespace, Labels: map[string]string{"made": value},
		}}
		if err := c.MakeNamespace(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
	}
	ns, err := api.CoreV1().Namespaces().Get(t.Context(), c.Namespace, metav1.GetOptions{})
	if err != nil || ns.Labels["made"] != "first" {
		t.Errorf("got %+v, %v", ns, err)
	}
}
