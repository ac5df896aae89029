package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Replicas lists the pods of a service, or of all services if service is empty, sorted by service,
// then age. It leaves out pods that have ended or are being stopped, and those of Jobs, unless the
// service has no others.
func (c *Cluster) Replicas(ctx context.Context, service string) ([]running.Replica, error) {
	pods, err := c.pods(ctx, service)
	if err != nil {
		return nil, err
	}

	var out, jobs []running.Replica
	for i := range pods {
		switch p := &pods[i]; {
		case ofJob(p):
			jobs = append(jobs, replica(p))
		case !ended(p) && p.DeletionTimestamp == nil:
			out = append(out, replica(p))
		}
	}

	if service != "" && len(out) == 0 {
		return jobs, nil
	}

	return out, nil
}

// pods lists all pods of a service, sorted by service, then age.
func (c *Cluster) pods(ctx context.Context, service string) ([]corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := c.api.CoreV1().Pods(c.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: c.selector(service)})
	if err != nil {
		return nil, c.failed("list pods", err)
	}

	slices.SortFunc(list.Items, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(serviceOf(&a), serviceOf(&b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})

	return list.Items, nil
}

// failed returns an error for what could not be done; where RBAC forbids it, with what is missing,
// and where the API server refuses it, with what to do.
func (c *Cluster) failed(what string, err error) error {
	text := err.Error()
	why, todo := Refusal(text, c.Stack, "")
	switch {
	case !apierrors.IsForbidden(err):
	case rbac.MatchString(text):
		return fmt.Errorf("cluster: %s: forbidden: %s: ask the cluster's administrator for the "+
			"permission (`codexctl doctor %s` lists all that are missing)",
			what, denial(text), c.Stack)
	case why != "":
		return fmt.Errorf("cluster: %s: %s: %s", what, why, todo)
	}
	return fmt.Errorf("cluster: %s: %w", what, err)
}

// unlessHidden is like failed, without an error if there is none or RBAC forbids to look.
func (c *Cluster) unlessHidden(what string, err error) error {
	if err == nil || apierrors.IsForbidden(err) {
		return nil
	}
	return c.failed(what, err)
}

func serviceOf(o metav1.Object) string { return o.GetLabels()[stacks.LabelService] }

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func ofJob(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.Kind == "Job"
	})
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// statuses returns the statuses of the pod's containers, the init containers first.
func statuses(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

func replica(p *corev1.Pod) running.Replica {
	r := running.Replica{
		ID:        string(p.UID),
		Name:      p.Name,
		Service:   serviceOf(p),
		Healthy:   ready(p) && p.DeletionTimestamp == nil,
		StartedAt: p.CreationTimestamp.Time,
		Node:      p.Spec.NodeName,
	}
	if len(p.Spec.Containers) > 0 {
		main := p.Spec.Containers[0]
		r.Image = strings.TrimPrefix(main.Image, "docker.io/")
		r.CPU = stacks.MilliCPU(main.Resources.Limits.Cpu().MilliValue())
		r.Memory = stacks.Bytes(main.Resources.Limits.Memory().Value())
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == main.Name && s.State.Running != nil {
				r.StartedAt = s.State.Running.StartedAt.Time
			}
		}
	}

	for _, s := range statuses(p) {
		r.Restarts += int(s.RestartCount)
	}

	r.State, r.Condition = condition(p)
	switch r.State {
	case "pending", "creating":
		r.Created = true
	case "starting":
		r.Starting = true
	}

	return r
}

// condition returns the pod's state in a word, and in a text for a person.
func condition(p *corev1.Pod) (word, text string) {
	if p.DeletionTimestamp != nil {
		return "stopping", "stopping"
	}

	for _, s := range statuses(p) {
		w := s.State.Waiting
		if w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" ||
			w.Reason == "" {
			continue
		}

		text := w.Reason
		if w.Message != "" {
			text += ": " + console.Plain(w.Message)
		}

		switch {
		case w.Reason == "CrashLoopBackOff":
			return "restarting", crashed(p, s)
		case pullReasons[w.Reason]:
			return "no image", text
		}

		return "failing", text
	}

	for _, x := range p.Status.Conditions {
		if x.Type == corev1.PodScheduled && x.Status == corev1.ConditionFalse {
			return "pending", x.Reason + ": " + console.Plain(x.Message)
		}
	}

	restarts := 0
	for _, s := range statuses(p) {
		restarts += int(s.RestartCount)
	}

	again := ""
	if restarts > 0 {
		again = fmt.Sprintf(", restarted %d times", restarts)
	}

	switch {
	case ready(p):
		return "healthy", "running, ready" + again
	case p.Status.Phase == corev1.PodRunning:
		return "starting", "running, not ready" + again
	}

	return "creating", "its containers are being created"
}

// crashed describes how a container ends again and again.
func crashed(p *corev1.Pod, s corev1.ContainerStatus) string {
	text := "restarting again and again"
	t := s.LastTerminationState.Terminated
	if t == nil {
		t = s.State.Terminated
	}

	switch {
	case t == nil:
	case t.Reason == "OOMKilled":
		limit := int64(0)
		for _, c := range p.Spec.Containers {
			if c.Name == s.Name {
				limit = c.Resources.Limits.Memory().Value()
			}
		}
		text += fmt.Sprintf(", killed: it used more than its %s of memory", console.Size(limit))
	default:
		text += fmt.Sprintf(", last exit code %d", t.ExitCode)
		if t.Message != "" {
			text += ": " + console.Plain(t.Message)
		}
	}

	return text
}

// LastLines returns the last lines that a pod logged. If a container of it crashed they are those
// of the container before.
func (c *Cluster) LastLines(ctx context.Context, of running.Replica, n int) ([]string, error) {
	name := of.Name
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p, err := c.api.CoreV1().Pods(c.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, c.failed("pod "+name, err)
	}

	container, previous := p.Spec.Containers[0].Name, false
	for _, s := range statuses(p) {
		if s.State.Running != nil && s.RestartCount == 0 ||
			s.State.Terminated != nil && s.State.Terminated.ExitCode == 0 {
			continue
		}

		if s.State.Waiting != nil && s.RestartCount == 0 &&
			s.LastTerminationState.Terminated == nil {
			continue // it never ran
		}

		container, previous = s.Name, s.State.Terminated == nil &&
			s.LastTerminationState.Terminated != nil
		break
	}

	o := options(container, running.LogOptions{Tail: n})
	o.Previous = previous
	var out []string
	err = c.stream(ctx, p, container, o, func(_ running.Replica, text string) {
		out = append(out, text)
	})
	return out, errors.Join(err, ctx.Err())
}
