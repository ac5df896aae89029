package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// onceKept is how long the Job of a command is kept if nobody removes it, and onceGrace how long
// the command may take to stop.
const (
	onceKept  = time.Minute
	onceGrace = 2 * time.Second
)

// onceService is the value of stacks.LabelService that the pod of a command has, which no Service,
// controller or policy of the stack selects.
func onceService(service string) string { return "run-" + service }

// RunOnce runs the command in a pod that is like the replica, with the streams, and returns its
// exit code. Without a terminal all that it writes is Out's, in its order. The pod is removed when
// the command ends, when the context does, or when the command has taken its time, which the
// cluster sees to by itself if this process is killed.
func (c *Cluster) RunOnce(
	ctx context.Context, like running.Replica, o running.Once, s running.Streams,
) (code int, err error) {
	pod, err := c.api.CoreV1().Pods(c.Namespace).Get(ctx, like.Name, metav1.GetOptions{})
	if err != nil {
		return 0, c.failed("pod "+like.Name, err)
	}

	main, ok := mainContainer(pod, like.Service)
	if !ok {
		return 0, fmt.Errorf("cluster: the pod %s has no container %s", pod.Name, like.Service)
	}

	policies, err := c.oncePolicies(ctx, pod, like.Service)
	if err != nil {
		return 0, err
	}

	jobs := c.api.BatchV1().Jobs(c.Namespace)
	job, err := jobs.Create(ctx, c.onceJob(pod, main, like.Service, o, s),
		metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return 0, c.failed("make a job like "+like.Name, err)
	}

	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		err = errors.Join(err, c.RemoveOneOff(ctx, running.OneOff{Name: job.Name}))
	}()

	for _, p := range policies {
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID,
		}}
		_, err := c.api.NetworkingV1().NetworkPolicies(c.Namespace).Create(ctx, p,
			metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil {
			return 0, c.failed("make a network policy for "+job.Name, err)
		}
	}

	job, err = jobs.Patch(ctx, job.Name, types.MergePatchType,
		[]byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{FieldManager: fieldManager})
	if err != nil {
		return 0, c.failed("start the job", err)
	}

	name, err := c.started(ctx, job)
	if err != nil {
		return 0, err
	}

	said := c.follow(ctx, name, main.Name, s)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}

	code, err = c.exitCode(ctx, name, o.Limit)
	if err != nil {
		return 0, err
	}
	return code, said
}

// mainContainer returns the service's own container of the pod, which may have others that somebody
// injects.
func mainContainer(p *corev1.Pod, service string) (corev1.Container, bool) {
	i := slices.IndexFunc(p.Spec.Containers, func(x corev1.Container) bool {
		return x.Name == service
	})
	if i < 0 {
		return corev1.Container{}, false
	}
	return p.Spec.Containers[i], true
}

// onceJob returns the Job of a command, which waits to be started.
func (c *Cluster) onceJob(
	pod *corev1.Pod, main corev1.Container, service string, o running.Once, s running.Streams,
) *batchv1.Job {
	volumes, mounts := onceMounts(pod, main, o)
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: new(int64(onceGrace / time.Second)),
		ServiceAccountName:            pod.Spec.ServiceAccountName,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		SecurityContext:               pod.Spec.SecurityContext,
		ImagePullSecrets:              pod.Spec.ImagePullSecrets,
		DNSPolicy:                     pod.Spec.DNSPolicy,
		DNSConfig:                     pod.Spec.DNSConfig,
		HostAliases:                   pod.Spec.HostAliases,
		RuntimeClassName:              pod.Spec.RuntimeClassName,
		NodeSelector:                  pod.Spec.NodeSelector,
		Tolerations:                   pod.Spec.Tolerations,
		Volumes:                       volumes,
		Containers: []corev1.Container{{
			Name:            main.Name,
			Image:           main.Image,
			ImagePullPolicy: main.ImagePullPolicy,
			Command:         o.Args,
			WorkingDir:      main.WorkingDir,
			Env:             main.Env,
			VolumeMounts:    mounts,
			Resources:       main.Resources,
			SecurityContext: main.SecurityContext,
			TTY:             s.Sizes != nil,
			Stdin:           s.In != nil,
			StdinOnce:       s.In != nil, // it ends when this process does
		}},
	}

	if pod.Spec.NodeName != "" && slices.ContainsFunc(volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil
	}) {
		// A claim that one node may use at a time is there already.
		spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchFields: []corev1.NodeSelectorRequirement{{
						Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn,
						Values: []string{pod.Spec.NodeName},
					}},
				}},
			},
		}}
	}

	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: onceService(service) + "-",
			Namespace:    c.Namespace,
			Labels:       c.onceLabels(service),
		},
		Spec: batchv1.JobSpec{
			Suspend:                 new(true), // until its policies are there
			ActiveDeadlineSeconds:   new(int64(o.Limit / time.Second)),
			BackoffLimit:            new(int32(0)),
			TTLSecondsAfterFinished: new(int32(onceKept / time.Second)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: c.onceLabels(service)},
				Spec:       spec,
			},
		},
	}
}

func (c *Cluster) onceLabels(service string) map[string]string {
	return map[string]string{
		stacks.LabelProject: stacks.Project,
		stacks.LabelStack:   c.Stack,
		stacks.LabelService: onceService(service),
		running.LabelOnce:   service,
	}
}

// onceMounts returns the volumes and mounts of a command, without secrets unless it has them, and
// without what is not known to have none.
func onceMounts(
	pod *corev1.Pod, main corev1.Container, o running.Once,
) (volumes []corev1.Volume, mounts []corev1.VolumeMount) {
	kept := map[string]bool{} // by name; whether it is a claim
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.EmptyDir != nil, v.ConfigMap != nil, v.PersistentVolumeClaim != nil,
			v.Secret != nil && o.Secrets:
		case v.Projected != nil:
			p := v.Projected.DeepCopy()
			p.Sources = slices.DeleteFunc(p.Sources, func(x corev1.VolumeProjection) bool {
				return x.ConfigMap == nil && (x.Secret == nil || !o.Secrets)
			})
			if len(p.Sources) == 0 {
				continue
			}
			v.Projected = p
		default:
			continue
		}

		kept[v.Name] = v.PersistentVolumeClaim != nil
		volumes = append(volumes, v)
	}

	for _, m := range main.VolumeMounts {
		claim, ok := kept[m.Name]
		if !ok {
			continue
		}
		m.ReadOnly = m.ReadOnly || claim && !slices.Contains(o.Writable, m.MountPath)
		mounts = append(mounts, m)
	}

	return volumes, mounts
}

// oncePolicies returns the network policies by which a pod like that of the service reaches what
// the service does, and nothing reaches it: one for what leaves it, and one for each policy that
// lets in the service.
func (c *Cluster) oncePolicies(
	ctx context.Context, pod *corev1.Pod, service string,
) ([]*networkingv1.NetworkPolicy, error) {
	list, err := c.api.NetworkingV1().NetworkPolicies(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: stacks.LabelStack + "=" + c.Stack,
	})
	if err != nil {
		return nil, c.failed("list network policies", err)
	}

	selects := func(s metav1.LabelSelector) bool {
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			return false // all pods of the namespace, this one too
		}
		x, err := metav1.LabelSelectorAsSelector(&s)
		return err == nil && x.Matches(labels.Set(pod.Labels))
	}

	mine := *c.onceSelector(service)
	policy := func(spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: onceService(service) + "-",
				Labels:       c.onceLabels(service),
			},
			Spec: spec,
		}
	}

	var out []*networkingv1.NetworkPolicy
	for _, p := range list.Items {
		if selects(p.Spec.PodSelector) && len(p.Spec.Egress) > 0 {
			out = append(out, policy(networkingv1.NetworkPolicySpec{
				PodSelector: mine,
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
				Egress:      p.Spec.Egress,
			}))
		}

		var ingress []networkingv1.NetworkPolicyIngressRule
		for _, rule := range p.Spec.Ingress {
			if slices.ContainsFunc(rule.From, func(from networkingv1.NetworkPolicyPeer) bool {
				return from.PodSelector != nil && from.NamespaceSelector == nil &&
					selects(*from.PodSelector)
			}) {
				ingress = append(ingress, networkingv1.NetworkPolicyIngressRule{
					From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &mine}},
					Ports: rule.Ports,
				})
			}
		}

		if len(ingress) > 0 {
			out = append(out, policy(networkingv1.NetworkPolicySpec{
				PodSelector: p.Spec.PodSelector,
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
				Ingress:     ingress,
			}))
		}
	}

	return out, nil
}

// follow copies what the command reads and writes until it ends. Output is taken from the log where
// there is no terminal: what is written before somebody attaches is there alone.
func (c *Cluster) follow(
	ctx context.Context, pod, container string, s running.Streams,
) error {
	terminal := s.Sizes != nil
	if terminal {
		out := &counter{w: s.Out}
		err := c.attachTo(ctx, pod, container, running.Streams{In: s.In, Out: out, Sizes: s.Sizes})
		if out.n == 0 { // it ended before
			return c.copyLog(ctx, pod, container, s.Out)
		}
		return err
	}

	if s.In != nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		// The command may end before it has read everything, and then this fails.
		go func() { _ = c.attachTo(ctx, pod, container, running.Streams{In: s.In}) }()
	}

	return c.copyLog(ctx, pod, container, s.Out)
}

// counter counts what it writes.
type counter struct {
	w io.Writer
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += n
	return n, err
}

// attachTo connects the streams with those of the container.
func (c *Cluster) attachTo(
	ctx context.Context, pod, container string, s running.Streams,
) error {
	terminal := s.Sizes != nil
	executor, err := c.executor(pod, "attach", &corev1.PodAttachOptions{
		Container: container,
		Stdin:     s.In != nil,
		Stdout:    s.Out != nil,
		TTY:       terminal,
	})
	if err != nil {
		return c.failed("attach to "+pod, err)
	}

	options := remotecommand.StreamOptions{Stdin: s.In, Stdout: s.Out, Tty: terminal}
	if terminal {
		options.TerminalSizeQueue = sizes(s.Sizes)
	}
	if err := executor.StreamWithContext(ctx, options); err != nil {
		return c.failed("attach to "+pod, err)
	}
	return nil
}

// copyLog copies what the container has written, and writes until it ends.
func (c *Cluster) copyLog(ctx context.Context, pod, container string, w io.Writer) error {
	stream, err := c.api.CoreV1().Pods(c.Namespace).GetLogs(pod, &corev1.PodLogOptions{
		Container: container, Follow: true,
	}).Stream(ctx)
	if err != nil {
		return c.failed("log of "+pod, err)
	}
	defer stream.Close()

	if _, err := io.Copy(w, stream); err != nil {
		return c.failed("log of "+pod, err)
	}
	return nil
}

// OneOffs lists the Jobs that run a command once, the oldest first.
func (c *Cluster) OneOffs(ctx context.Context) ([]running.OneOff, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := c.api.BatchV1().Jobs(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: stacks.LabelStack + "=" + c.Stack + "," + running.LabelOnce,
	})
	if err != nil {
		return nil, c.failed("list jobs", err)
	}

	var out []running.OneOff
	for _, j := range list.Items {
		if j.DeletionTimestamp != nil || j.Spec.ActiveDeadlineSeconds == nil {
			continue
		}

		x := running.OneOff{
			Name: j.Name, ID: string(j.UID), Service: j.Labels[running.LabelOnce],
			StartedAt: j.CreationTimestamp.Time, Locked: j.Labels[running.LabelLocked] != "",
		}
		x.Until = x.StartedAt.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second)
		out = append(out, x)
	}

	slices.SortFunc(out, func(a, b running.OneOff) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// RemoveOneOff ends the command and removes its Job, with its pod and its policies.
func (c *Cluster) RemoveOneOff(ctx context.Context, x running.OneOff) error {
	with := metav1.DeletePropagationBackground
	err := c.api.BatchV1().Jobs(c.Namespace).Delete(ctx, x.Name,
		metav1.DeleteOptions{PropagationPolicy: &with})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.failed("remove job "+x.Name, err)
	}
	return nil
}
