package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Command is a Job that runs once, of one container that reads its standard input.
type Command struct {
	Job *batchv1.Job

	// Claims are those that the Job mounts. They are made if they are not there.
	Claims []*corev1.PersistentVolumeClaim

	// Stdin writes what the command reads.
	Stdin          func(io.Writer) error
	Stdout, Stderr io.Writer
}

// ofCommand reports whether the Job is a command's, which may fail without harm to the stack. The
// stack's own are kept when they have ended.
func ofCommand(j *batchv1.Job) bool { return j.Spec.TTLSecondsAfterFinished != nil }

// Run runs the command and returns its exit code. The Job is removed when the command ends, or when
// the context does; the claims stay.
func (c *Cluster) Run(ctx context.Context, cmd Command) (code int, err error) {
	for _, claim := range cmd.Claims {
		_, err := c.api.CoreV1().PersistentVolumeClaims(c.Namespace).Create(ctx, claim,
			metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return 0, c.failed("make volume claim "+claim.Name, err)
		}
	}

	jobs := c.api.BatchV1().Jobs(c.Namespace)
	job, err := jobs.Create(ctx, cmd.Job, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return 0, c.failed("make job "+cmd.Job.GenerateName, err)
	}

	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		with := metav1.DeletePropagationBackground // its pod too
		gone := jobs.Delete(ctx, job.Name, metav1.DeleteOptions{PropagationPolicy: &with})
		if gone != nil && !apierrors.IsNotFound(gone) {
			err = errors.Join(err, c.failed("remove job "+job.Name, gone))
		}
	}()

	pod, err := c.started(ctx, job)
	if err != nil {
		return 0, err
	}
	if err := c.attach(ctx, pod, cmd); err != nil {
		return 0, err
	}

	deadline := time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second
	return c.exitCode(ctx, pod, deadline)
}

// started waits until the container of the Job runs, and returns its pod. The error says
// why it cannot come to run.
func (c *Cluster) started(ctx context.Context, job *batchv1.Job) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	service := serviceOf(job)
	o := c.Observe(ctx, nil)
	o.Begin(Work{Service: service, Job: job.Name})
	found := make(chan []Finding, 1)
	go func() { found <- o.Watch(ctx, nil) }()

	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case list := <-found:
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			return "", notStarted(list, job)
		case <-tick.C:
		}

		pods, err := c.pods(ctx, service)
		if err != nil {
			return "", err
		}

		for i := range pods {
			p := &pods[i]
			if !metav1.IsControlledBy(p, job) || len(p.Status.ContainerStatuses) == 0 {
				continue
			}
			if s := p.Status.ContainerStatuses[0].State; s.Running != nil || s.Terminated != nil {
				return p.Name, nil
			}
		}

		now, err := c.api.BatchV1().Jobs(c.Namespace).Get(ctx, job.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && now.DeletionTimestamp != nil:
			return "", fmt.Errorf("cluster: the job %s was removed by somebody before its pod ran: "+
				"try again when nobody else changes the stack", job.Name)
		case err != nil:
			return "", c.failed("job "+job.Name, err)
		}
	}
}

// notStarted returns the error for a Job whose container cannot come to run.
func notStarted(found []Finding, job *batchv1.Job) error {
	var errs []error
	for _, f := range found {
		switch f.kind {
		case "image":
			if job.Labels[running.LabelOnce] != "" { // the image is the stack's own
				break
			}
			f.Todo = "check the nodes' way to the registry; without one, say with --into where " +
				"they take images from"
		case "admission":
			if !overQuota.MatchString(f.Why) {
				f.Todo, _, _ = strings.Cut(f.Todo, "; then run ") // what updates the stack
				break
			}
			f.Todo = fmt.Sprintf("try again when no update goes on, or ask for less: "+
				"codexcontinue:services: {%s: {cpu: ..., memory: ...}} in the stack's settings",
				job.Spec.Template.Spec.Containers[0].Name)
		}

		errs = append(errs, fmt.Errorf("%s: %s: %s: %s", f.Service, f.What, f.Why, f.Todo))
	}

	return errors.Join(errs...)
}

// attach writes the command's standard input and copies its output, until it ends.
func (c *Cluster) attach(ctx context.Context, pod string, cmd Command) error {
	executor, err := c.executor(pod, "attach", &corev1.PodAttachOptions{
		Stdin:  true,
		Stdout: true,
		Stderr: true,
	})
	if err != nil {
		return c.failed("attach to "+pod, err)
	}

	in, input := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := cmd.Stdin(input)
		input.CloseWithError(err)
		written <- err
	}()

	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin:  in,
		Stdout: cmd.Stdout,
		Stderr: cmd.Stderr,
	})

	in.CloseWithError(io.ErrClosedPipe) // the command may end before it has read everything
	wrote := <-written
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case wrote != nil && !errors.Is(wrote, io.ErrClosedPipe):
		return wrote
	case err != nil:
		return c.failed("attach to "+pod, err)
	}

	return nil
}

// executor returns what connects to the pod's subresource: by WebSocket, and by SPDY where that is
// not known, as kubectl does.
func (c *Cluster) executor(
	pod, subresource string, options runtime.Object,
) (remotecommand.Executor, error) {
	url := c.api.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.Namespace).Name(pod).
		SubResource(subresource).VersionedParams(options, scheme.ParameterCodec).URL()
	webSocket, err := remotecommand.NewWebSocketExecutor(c.config, "GET", url.String())
	if err != nil {
		return nil, err
	}

	spdy, err := remotecommand.NewSPDYExecutor(c.config, "POST", url)
	if err != nil {
		return nil, err
	}

	return remotecommand.NewFallbackExecutor(webSocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// Exec runs a command inside a pod and returns its exit code and output.
func (c *Cluster) Exec(
	ctx context.Context, in running.Replica, command []string,
) (code int, output string, err error) {
	var out, errs bytes.Buffer // each is written by a goroutine of its own
	code, err = c.Stream(ctx, in, command, running.Streams{Out: &out, Err: &errs})
	if err != nil {
		return 0, "", err
	}

	return code, strings.TrimSpace(out.String() + errs.String()), nil
}

// Stream runs a command inside a pod, with the streams, and returns its exit code. When the context
// ends it stops to listen; the command may go on.
func (c *Cluster) Stream(
	ctx context.Context, in running.Replica, command []string, s running.Streams,
) (code int, err error) {
	what := "exec " + command[0] + " in " + in.Name
	terminal := s.Sizes != nil
	executor, err := c.executor(in.Name, "exec", &corev1.PodExecOptions{
		Container: in.Service, // a pod may have others, which somebody injects
		Command:   command,
		Stdin:     s.In != nil,
		Stdout:    true,
		Stderr:    !terminal,
		TTY:       terminal,
	})
	if err != nil {
		return 0, c.failed(what, err)
	}

	streams := remotecommand.StreamOptions{Stdin: s.In, Stdout: s.Out, Tty: terminal}
	if terminal {
		streams.TerminalSizeQueue = sizes(s.Sizes)
	} else {
		streams.Stderr = s.Err
	}

	err = executor.StreamWithContext(ctx, streams)
	var ended exec.CodeExitError
	switch {
	case errors.As(err, &ended):
		return ended.Code, nil
	case err != nil:
		return 0, c.failed(what, err)
	}

	return 0, nil
}

// sizes are those of a terminal.
type sizes <-chan running.Size

// Next returns the next size, and nil when there is none.
func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
}

// endTimeout bounds the wait until the API server knows that a container has ended.
const endTimeout = 30 * time.Second

// exitCode returns the exit code of the pod's container, which has ended or is about to.
func (c *Cluster) exitCode(ctx context.Context, name string, deadline time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for {
		p, err := c.api.CoreV1().Pods(c.Namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil {
			return 0, fmt.Errorf("cluster: the pod %s was removed before its command ended, by "+
				"somebody or because it took longer than %s",
				name, deadline)
		}

		if err != nil {
			return 0, c.failed("pod "+name, err)
		}

		if p.Status.Reason != "" { // its node evicted it, or shuts down
			return 0, fmt.Errorf("cluster: the pod %s was stopped: %s: %s", name, p.Status.Reason,
				p.Status.Message)
		}

		for _, s := range p.Status.ContainerStatuses {
			t := s.State.Terminated
			if t == nil {
				continue
			}

			if main := p.Spec.Containers[0]; t.Reason == "OOMKilled" {
				return 0, fmt.Errorf("cluster: the command used more than its %s of memory: %s",
					console.Size(main.Resources.Limits.Memory().Value()),
					running.MoreMemory(main.Name))
			}

			if t.Reason == "StartError" || t.Reason == "ContainerCannotRun" {
				return 0, fmt.Errorf("cluster: the command cannot be started: %s",
					console.Plain(t.Message))
			}

			return int(t.ExitCode), nil
		}

		select {
		case <-ctx.Done():
			return 0, c.failed("pod "+name, ctx.Err())
		case <-tick.C:
		}
	}
}
