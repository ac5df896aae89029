package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/outside"
)

// freePort is where a pod that no policy holds answers.
const freePort = "8080"

// reachNobody tries what a pod must not reach from each pod of a private stack, and from one that
// no policy holds. That one reaches no pod of the stack but the edge's, and they do not reach it.
func reachNobody(t *testing.T, n *namespace, kubeconfig, containerd string) {
	world := outside.Start(t)
	free := inCluster(t, kubeconfig, n.name+"-free")
	stranger, neighbour := free.stranger(t, "stranger"), free.stranger(t, "neighbour")
	pids := taskPIDs(t, containerd)
	outsider := pidOf(t, pids, stranger)
	world.ServeIn(t, pidOf(t, pids, neighbour), ":"+freePort)

	attempts := world.Attempts(outside.Attempt{
		What: "a pod of another namespace", Kind: outside.TCP,
		Address: net.JoinHostPort(neighbour.Status.PodIP, freePort),
	})
	var reached []outside.Result
	wrong := func() *outside.Result {
		var err error
		if reached, err = world.From(outsider, "stranger", attempts); err != nil {
			t.Fatal(err)
		}
		for _, r := range reached {
			// The cluster has no IPv6.
			if want := !strings.Contains(r.What, "IPv6"); (r.Outcome == outside.Answered) != want {
				return &r
			}
		}
		return nil
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		r := wrong()
		if r == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a pod without policies: %s", r)
		}
	}

	var tried sync.WaitGroup
	var mu sync.Mutex
	var last []outside.Result
	for _, p := range n.pods(t, "") {
		if p.Status.Phase != corev1.PodRunning { // the Job that made the model
			continue
		}
		pid := pidOf(t, pids, p)
		tried.Go(func() {
			results, err := world.From(pid, p.Name, attempts)
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
			for _, r := range results {
				if r.Outcome != outside.Nothing {
					t.Errorf("%s: %s", p.Name, r)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			last = results
		})

		port := p.Spec.Containers[0].Ports[0].ContainerPort
		address := net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port)))
		tried.Go(func() {
			if !connects(pid, address) {
				t.Errorf("%s does not listen at %s", p.Name, address)
			}
			edge := p.Labels[stacks.LabelService] == stacks.Edge
			got := connects(outsider, address)
			for again := 0; edge && !got && again < 5; again++ { // a busy machine is late
				got = connects(outsider, address)
			}
			if got != edge {
				t.Errorf("a stranger reaches %s at %s: %t", p.Name, address, got)
			}
		})
	}
	tried.Wait()

	outside.CompareTable(t, "../../docs/isolation.md", "cluster", false,
		outside.Column{Title: "a pod that no policy holds", Results: reached},
		outside.Column{Title: "healthcare, each pod", Results: last})
}

// stranger returns a pod that runs, of a namespace without policies.
func (n *namespace) stranger(t *testing.T, name string) corev1.Pod {
	t.Helper()
	if _, err := n.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: n.name},
	}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}

	pods := n.CoreV1().Pods(n.name)
	no := false
	made, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{AutomountServiceAccountToken: &no, Containers: []corev1.Container{{
			Name: "pause", Image: "localhost/codexcontinue-test/pause:1",
			ImagePullPolicy: corev1.PullNever,
		}}},
	}, metav1.CreateOptions{})
	for start := time.Now(); err == nil && !isReady(*made); time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%s does not run: %+v", made.Name, made.Status)
		}
		made, err = pods.Get(t.Context(), made.Name, metav1.GetOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return *made
}

// connects reports whether a program in the network of the process connects to the address.
func connects(pid int, address string) bool {
	host, port, _ := net.SplitHostPort(address)
	return exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", "timeout", "3", "bash", "-c",
		fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", host, port)).Run() == nil
}

// taskPIDs returns the processes that containerd's containers began with.
func taskPIDs(t *testing.T, socket string) map[string]int {
	t.Helper()
	out, err := exec.Command("ctr", "-a", socket, "-n", "k8s.io", "tasks", "ls").Output()
	if err != nil {
		t.Fatal(err)
	}

	pids := map[string]int{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if pid, err := strconv.Atoi(fields[1]); err == nil {
			pids[fields[0]] = pid
		}
	}
	return pids
}

// pidOf returns a process of the pod.
func pidOf(t *testing.T, pids map[string]int, p corev1.Pod) int {
	t.Helper()
	for _, c := range p.Status.ContainerStatuses {
		_, id, _ := strings.Cut(c.ContainerID, "://")
		if pid := pids[id]; pid > 0 {
			return pid
		}
	}
	t.Fatalf("%s has no process: %+v", p.Name, p.Status.ContainerStatuses)
	return 0
}
