//go:build unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// TestSteps: a seed repeats a schedule, another one makes another, and each round has every service
// once.
func TestSteps(t *testing.T) {
	services := []string{"edge", "gate", "frontend", "backend", "ml", "ollama", "redis"}
	s := Schedule{Seed: 7, Services: services, Rounds: 4, Between: time.Second, Spread: time.Second}
	steps := s.Steps()
	if again := s.Steps(); !slices.Equal(steps, again) {
		t.Errorf("%v, then %v", steps, again)
	}

	s.Seed = 8
	if reflect.DeepEqual(steps, s.Steps()) {
		t.Error("another seed makes the same")
	}
	if len(steps) != 28 {
		t.Fatalf("%d steps", len(steps))
	}

	for round := range slices.Chunk(steps, len(services)) {
		var got []string
		for _, step := range round {
			got = append(got, step.Service)
			if step.Pause < time.Second || step.Pause >= 2*time.Second {
				t.Errorf("a pause of %s", step.Pause)
			}
		}

		slices.Sort(got)
		if want := slices.Sorted(slices.Values(services)); !slices.Equal(got, want) {
			t.Errorf("a round of %v", got)
		}
	}
}

func TestRun(t *testing.T) {
	var did []string
	kill := func(_ context.Context, service string) (string, error) {
		did = append(did, "kill "+service)
		if service == "c" {
			return "", errors.New("not there")
		}
		return service + "-1", nil
	}

	healthy := func(ctx context.Context, service string) error {
		did = append(did, "await "+service)
		if service == "b" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}

	s := Schedule{Services: []string{"a", "b", "c"}, Rounds: 1, Timeout: 20 * time.Millisecond}
	var told []string
	events, err := s.Run(
		t.Context(),
		kill,
		healthy,
		func(e Event) { told = append(told, e.String()) },
	)
	if len(events) != 3 || len(told) != 3 || err == nil ||
		!strings.Contains(err.Error(), "b: context deadline exceeded") ||
		!strings.Contains(err.Error(), "c: not there") {
		t.Errorf("%v, %v", events, err)
	}

	for _, e := range events {
		if e.Service == "a" && (e.What != "a-1" || e.Problem != "") ||
			e.Service != "a" && e.Problem == "" {
			t.Errorf("%s", e)
		}
	}

	slices.Sort(did)
	want := []string{"await a", "await b", "kill a", "kill b", "kill c"}
	if !slices.Equal(did, want) {
		t.Errorf("it did %v", did)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if events, err := s.Run(ended, kill, healthy, nil); len(events) > 0 || err != nil {
		t.Errorf("after its end: %v, %v", events, err)
	}
}

// TestDocker kills the process of the first healthy container, and is content when as many are
// healthy with others.
func TestDocker(t *testing.T) {
	var asked []string
	var killed []int
	unhealthy, other := container("b", 200, "unhealthy"), container("c", 300, "healthy")
	looks := []string{
		join(container("a", 100, "healthy"), unhealthy, other),
		join(container("a", 100, "healthy"), unhealthy, other),
		join(container("a", 0, "starting"), unhealthy, other),
		join(container("a", 101, "starting"), other),
		join(container("a", 101, "healthy"), other),
	}

	d := NewDocker("prod")
	d.signal = func(pid int) error { killed = append(killed, pid); return nil }
	d.docker = func(_ context.Context, args ...string) ([]byte, error) {
		asked = append(asked, strings.Join(args, " "))
		if args[0] == "ps" {
			return []byte("a\nb\nc\n"), nil
		}
		look := looks[0]
		looks = looks[1:]
		return []byte(look), nil
	}

	what, err := d.Kill(t.Context(), "backend")
	if err != nil || what != "a" || !slices.Equal(killed, []int{100}) {
		t.Errorf("killed %q %v (%v)", what, killed, err)
	}

	want := "--filter label=" + stacks.LabelStack + "=prod" +
		" --filter label=" + stacks.LabelService + "=backend"
	if !strings.HasSuffix(asked[0], want) {
		t.Errorf("asked %q", asked[0])
	}
	if err := d.Healthy(t.Context(), "backend"); err != nil || len(looks) != 0 {
		t.Errorf("%v; %d looks left", err, len(looks))
	}

	d.docker = func(context.Context, ...string) ([]byte, error) { return nil, nil }
	if _, err := d.Kill(t.Context(), "backend"); err == nil {
		t.Error("what is not there was killed")
	}
}

// container is one as `docker inspect` tells it.
func container(name string, pid int, health string) string {
	const format = `{"Id": %q, "Name": "/%s",
		"State": {"Running": %v, "Pid": %d, "Health": {"Status": %q}}}`
	return fmt.Sprintf(format, name, name, pid > 0, pid, health)
}

func join(containers ...string) string { return "[" + strings.Join(containers, ",") + "]" }

// TestPods kills the process of the first ready pod's container, and leaves the model's Job alone.
func TestPods(t *testing.T) {
	pod := func(name, owner, id string, ready corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:       "load",
				Name:            name,
				Labels:          map[string]string{stacks.LabelService: "ml"},
				OwnerReferences: []metav1.OwnerReference{{Kind: owner}},
			},
			Status: corev1.PodStatus{
				Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}},
				ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://" + id}},
			},
		}
	}

	client := fake.NewClientset(
		pod("ml-0", "Job", "job", corev1.ConditionTrue),
		pod("ml-1", "ReplicaSet", "one", corev1.ConditionFalse),
		pod("ml-2", "ReplicaSet", "two", corev1.ConditionTrue),
	)

	var killed []int
	p := NewPods(client, "load", "/nowhere")
	p.signal = func(pid int) error { killed = append(killed, pid); return nil }
	p.tasks = func(context.Context) ([]byte, error) {
		return []byte(
			"TASK    PID     STATUS\none     41      RUNNING\ntwo     42      RUNNING\n",
		), nil
	}

	if what, err := p.Kill(t.Context(), "ml"); err != nil || what != "ml-2" ||
		!slices.Equal(killed, []int{42}) {
		t.Errorf("killed %q %v (%v)", what, killed, err)
	}

	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Healthy(soon, "ml"); err == nil {
		t.Error("it is whole with the container that was killed")
	}

	back := pod("ml-2", "ReplicaSet", "three", corev1.ConditionTrue)
	pods := client.CoreV1().Pods("load")
	if _, err := pods.UpdateStatus(t.Context(), back, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Healthy(t.Context(), "ml"); err != nil {
		t.Error(err)
	}

	if _, err := p.Kill(t.Context(), "ml"); err == nil ||
		!strings.Contains(err.Error(), "no container three") {
		t.Errorf("%v", err)
	}

	p.Delete = true
	if what, err := p.Kill(t.Context(), "ml"); err != nil || what != "ml-2" {
		t.Errorf("%q, %v", what, err)
	}

	left, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 2 {
		t.Errorf("%d pods are left (%v)", len(left.Items), err)
	}
}
