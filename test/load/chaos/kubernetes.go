//go:build unix

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/codexcontinue/codexcontinue/stacks"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Pods kills the pods of a stack on a cluster whose one node is this machine, such as that of
// test/cluster.
type Pods struct {
	client    kubernetes.Interface
	namespace string

	// tasks lists the node's containers as `ctr tasks list` does.
	tasks  func(ctx context.Context) ([]byte, error)
	signal func(pid int) error

	// Delete deletes the pod, without grace, instead of killing its process.
	Delete bool

	mu     sync.Mutex
	killed map[string]string // the container that was killed last
	wanted map[string]int    // how many ready pods the service had
}

// NewPods finds the pods of a stack by its namespace. containerd is the socket of the node's
// containerd.
func NewPods(client kubernetes.Interface, namespace, containerd string) *Pods {
	return &Pods{
		client: client, namespace: namespace, killed: map[string]string{}, wanted: map[string]int{},
		tasks: func(ctx context.Context) ([]byte, error) {
			args := []string{"-a", containerd, "-n", "k8s.io", "tasks", "list"}
			return exec.CommandContext(ctx, "ctr", args...).Output()
		},
		signal: func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
	}
}

// pods are a service's that are not on their way out, without those of the model's Job.
func (p *Pods) pods(ctx context.Context, service string) ([]corev1.Pod, error) {
	selector := metav1.ListOptions{LabelSelector: stacks.LabelService + "=" + service}
	list, err := p.client.CoreV1().Pods(p.namespace).List(ctx, selector)
	if err != nil {
		return nil, err
	}

	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		job := slices.ContainsFunc(
			p.OwnerReferences,
			func(o metav1.OwnerReference) bool { return o.Kind == "Job" },
		)
		return job || p.DeletionTimestamp != nil
	}), nil
}

func isReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// containerOf is the id of a pod's container: every pod of a stack has one.
func containerOf(p corev1.Pod) string {
	if len(p.Status.ContainerStatuses) == 0 {
		return ""
	}
	return strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
}

// Kill is a Kill: of the first ready pod of the service.
func (p *Pods) Kill(ctx context.Context, service string) (string, error) {
	list, err := p.pods(ctx, service)
	if err != nil {
		return "", err
	}

	well := slices.DeleteFunc(
		list,
		func(p corev1.Pod) bool { return !isReady(p) || containerOf(p) == "" },
	)
	if len(well) == 0 {
		return "", errors.New("none of its pods is ready")
	}

	pod, id := well[0].Name, containerOf(well[0])
	p.mu.Lock()
	p.killed[service], p.wanted[service] = id, len(well)
	p.mu.Unlock()
	if p.Delete {
		now := int64(0)
		options := metav1.DeleteOptions{GracePeriodSeconds: &now}
		return pod, p.client.CoreV1().Pods(p.namespace).Delete(ctx, pod, options)
	}

	pid, err := p.process(ctx, id)
	if err != nil {
		return pod, err
	}

	return pod, p.signal(pid)
}

// process is the first process of a container.
func (p *Pods) process(ctx context.Context, container string) (int, error) {
	text, err := p.tasks(ctx)
	if err != nil {
		return 0, fmt.Errorf("ctr tasks list: %w", err)
	}

	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		// TASK PID STATUS
		if f := strings.Fields(s.Text()); len(f) >= 2 && f[0] == container {
			if pid, err := strconv.Atoi(f[1]); err == nil && pid > 1 {
				return pid, nil
			}
		}
	}

	return 0, fmt.Errorf("containerd has no container %s", container)
}

// Healthy is a Healthy: as many pods as before are ready, none of them with the container that was
// killed.
func (p *Pods) Healthy(ctx context.Context, service string) error {
	p.mu.Lock()
	killed, wanted := p.killed[service], p.wanted[service]
	p.mu.Unlock()
	return await(ctx, func() (bool, error) {
		list, err := p.pods(ctx, service)
		ready := 0
		for _, pod := range list {
			if isReady(pod) && containerOf(pod) != killed {
				ready++
			}
		}

		return ready >= wanted, err
	})
}
