package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// leaveTimeout bounds the wait until the pods of a Filling are gone.
const leaveTimeout = 30 * time.Second

// Filling is a command that fills the claims of a StatefulSet which is not there yet. A StatefulSet
// takes over claims that have the names that it would give them.
type Filling struct {
	// Set is the StatefulSet. The command runs for each of its replicas, in a pod that is like the
	// replica, with the claims of that one, that a network policy closes, and without files and
	// secrets.
	Set *appsv1.StatefulSet

	// Args are the program and its arguments.
	Args []string

	// Limit bounds how long it may take.
	Limit time.Duration

	// Model is the full name of the model that the claims are filled with. They are annotated with
	// it when that is done.
	Model string
}

// annotationModels is the annotation of a claim that names the models which an import has put into
// its volume, with spaces between.
const annotationModels = "dev.codexcontinue.models"

// service returns the name of the service that is filled.
func (f Filling) service() string { return serviceOf(f.Set) }

// MakeNamespace makes the namespace unless it is there. The caller has checked that one which is
// there is the stack's.
func (c *Cluster) MakeNamespace(ctx context.Context, ns *corev1.Namespace) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.api.CoreV1().Namespaces().Create(ctx, ns,
		metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return c.failed("make the namespace "+ns.Name, err)
	}
	return nil
}

// Fill makes the claims that are not there, runs the command for each replica, and calls use with
// the pods, in the order of the replicas, when all of them run. The pods run at the same time, so
// that the claims come to the nodes that the replicas have room on. They are gone when Fill
// returns; the claims stay, unless no pod came to run and the StatefulSet is not there either. If
// this process is killed the pods go on, as one-offs that need the lock of the stack.
func (c *Cluster) Fill(
	ctx context.Context, f Filling, use func(pods []running.Replica) error,
) (err error) {
	made, err := c.makeClaims(ctx, f)
	var jobs []*batchv1.Job
	ran := false
	defer func() {
		err = errors.Join(err, c.endFilling(context.WithoutCancel(ctx), f.service(), jobs))
		if !ran { // there is nothing in them
			err = errors.Join(err, c.removeClaims(context.WithoutCancel(ctx), f.Set.Name, made))
		}
	}()
	if err != nil {
		return err
	}

	policy := c.closedPolicy(f.service())
	for i := range wanted(f.Set.Spec.Replicas) {
		job, err := c.fillJob(f, int(i))
		if err != nil {
			return err
		}
		job, err = c.api.BatchV1().Jobs(c.Namespace).Create(ctx, job,
			metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil {
			return c.failed("make a job like "+f.service(), err)
		}

		jobs = append(jobs, job)
		policy.OwnerReferences = append(policy.OwnerReferences, metav1.OwnerReference{
			APIVersion: "batch/v1", Kind: "Job", Name: job.Name, UID: job.UID,
		})
	}

	_, err = c.api.NetworkingV1().NetworkPolicies(c.Namespace).Create(ctx, policy,
		metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return c.failed("make a network policy for "+f.service(), err)
	}

	pods, err := c.startFilling(ctx, f.service(), jobs)
	if err != nil {
		return err
	}

	ran = true
	if err := use(pods); err != nil {
		return err
	}
	return c.annotateClaims(ctx, f)
}

// ClaimName returns the name that a StatefulSet gives the claim of a replica.
func ClaimName(set, template string, replica int) string {
	return fmt.Sprintf("%s-%s-%d", template, set, replica)
}

// annotateClaims annotates the claims with the model, besides those that they are annotated with.
func (c *Cluster) annotateClaims(ctx context.Context, f Filling) error {
	claims := c.api.CoreV1().PersistentVolumeClaims(c.Namespace)
	for i := range wanted(f.Set.Spec.Replicas) {
		for _, t := range f.Set.Spec.VolumeClaimTemplates {
			name := ClaimName(f.Set.Name, t.Name, int(i))
			claim, err := claims.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return c.failed("volume claim "+name, err)
			}

			list := strings.Fields(claim.Annotations[annotationModels])
			if slices.Contains(list, f.Model) {
				continue
			}
			patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
				"annotations": map[string]string{
					annotationModels: strings.Join(append(list, f.Model), " "),
				},
			}})
			if err != nil {
				return err
			}

			_, err = claims.Patch(ctx, name, types.MergePatchType, patch,
				metav1.PatchOptions{FieldManager: fieldManager})
			if err != nil {
				return c.failed("annotate volume claim "+name, err)
			}
		}
	}

	return nil
}

// ImportedModels returns the full names of the models that an import has put into the volume of
// each of the stack's claims, by the claim's name. The volume may have more.
func (c *Cluster) ImportedModels(ctx context.Context) (map[string][]string, error) {
	list, err := c.claims(ctx)
	if err != nil {
		return nil, err
	}

	out := map[string][]string{}
	for _, x := range list {
		out[x.Name] = strings.Fields(x.Annotations[annotationModels])
	}
	return out, nil
}

// makeClaims makes the claims as the StatefulSet would. It returns the names of those that were not
// there.
func (c *Cluster) makeClaims(ctx context.Context, f Filling) (made []string, err error) {
	claims := c.api.CoreV1().PersistentVolumeClaims(c.Namespace)
	for i := range wanted(f.Set.Spec.Replicas) {
		for _, t := range f.Set.Spec.VolumeClaimTemplates {
			name := ClaimName(f.Set.Name, t.Name, int(i))
			claim := t.DeepCopy()
			claim.Name, claim.Namespace = name, c.Namespace
			_, err := claims.Create(ctx, claim, metav1.CreateOptions{FieldManager: fieldManager})
			switch {
			case err == nil:
				made = append(made, name)
				continue
			case !apierrors.IsAlreadyExists(err):
				return made, c.failed("make volume claim "+name, err)
			}

			now, err := claims.Get(ctx, name, metav1.GetOptions{})
			switch {
			case err != nil:
				return made, c.failed("volume claim "+name, err)
			case now.DeletionTimestamp != nil:
				return made, fmt.Errorf("cluster: the volume claim %s is being deleted: wait until "+
					"it is gone (`kubectl get pvc -n %s -w`)", name, c.Namespace)
			}
		}
	}

	return made, nil
}

// removeClaims removes the claims, unless the StatefulSet is there, which has taken them over:
// Pulumi alone makes it without the lock of the stack.
func (c *Cluster) removeClaims(ctx context.Context, set string, names []string) error {
	if len(names) == 0 {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.api.AppsV1().StatefulSets(c.Namespace).Get(ctx, set, metav1.GetOptions{})
	switch {
	case err == nil:
		return nil
	case !apierrors.IsNotFound(err):
		return c.failed("stateful set "+set, err)
	}

	var errs []error
	for _, name := range names {
		errs = append(errs, c.RemoveVolume(ctx, name))
	}
	return errors.Join(errs...)
}

// fillJob returns the Job that fills the claims of a replica, which waits to be started.
func (c *Cluster) fillJob(f Filling, replica int) (*batchv1.Job, error) {
	template := f.Set.Spec.Template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	main, ok := mainContainer(pod, f.service())
	if !ok || len(f.Set.Spec.VolumeClaimTemplates) == 0 {
		return nil, fmt.Errorf("cluster: %s has no volume of its own that could be filled",
			f.service())
	}

	// Accounts, name servers, files and secrets are the stack's, and not there yet.
	pod.Spec.ServiceAccountName = ""
	pod.Spec.DNSPolicy = corev1.DNSNone
	pod.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"127.0.0.1"}} // answers nothing
	pod.Spec.HostAliases = nil
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		return v.EmptyDir == nil
	})
	once := running.Once{Args: f.Args, Limit: f.Limit}
	for _, t := range f.Set.Spec.VolumeClaimTemplates {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
			Name: t.Name,
			VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
					ClaimName: ClaimName(f.Set.Name, t.Name, replica),
				},
			},
		})
		for _, m := range main.VolumeMounts {
			if m.Name == t.Name && !m.ReadOnly {
				once.Writable = append(once.Writable, m.MountPath)
			}
		}
	}

	job := c.onceJob(pod, main, f.service(), once, running.Streams{})
	job.Labels[running.LabelLocked] = "true"

	labels := maps.Clone(pod.Labels) // the settings', which the cluster may ask for
	maps.Copy(labels, job.Spec.Template.Labels)
	job.Spec.Template.Labels, job.Spec.Template.Annotations = labels, pod.Annotations

	// The claims come to where the pods do, and the replicas to where the claims are.
	spec := &job.Spec.Template.Spec
	spec.Affinity, spec.PriorityClassName = pod.Spec.Affinity, pod.Spec.PriorityClassName
	for _, s := range pod.Spec.TopologySpreadConstraints {
		s.LabelSelector, s.MatchLabelKeys = c.onceSelector(f.service()), nil
		spec.TopologySpreadConstraints = append(spec.TopologySpreadConstraints, s)
	}

	return job, nil
}

// onceSelector selects the pods that run a command like the service.
func (c *Cluster) onceSelector(service string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{
		stacks.LabelStack: c.Stack, stacks.LabelService: onceService(service),
	}}
}

// closedPolicy returns the policy by which pods that run a command like the service reach nothing,
// and nothing reaches them.
func (c *Cluster) closedPolicy(service string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: onceService(service) + "-",
			Namespace:    c.Namespace,
			Labels:       c.onceLabels(service),
		},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *c.onceSelector(service),
			PolicyTypes: []networkingv1.PolicyType{
				networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress,
			},
		},
	}
}

// startFilling starts the Jobs, and returns their pods when all are ready.
func (c *Cluster) startFilling(
	ctx context.Context, service string, jobs []*batchv1.Job,
) ([]running.Replica, error) {
	for i, job := range jobs {
		started, err := c.api.BatchV1().Jobs(c.Namespace).Patch(ctx, job.Name, types.MergePatchType,
			[]byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{FieldManager: fieldManager})
		if err != nil {
			return nil, c.failed("start the job", err)
		}
		jobs[i] = started
	}

	var out []running.Replica
	for _, job := range jobs {
		name, err := c.started(ctx, job)
		if err != nil {
			return nil, err
		}

		var pod *corev1.Pod
		err = wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
			var err error
			pod, err = c.api.CoreV1().Pods(c.Namespace).Get(ctx, name, metav1.GetOptions{})
			return err == nil && (ready(pod) || ended(pod)), err
		})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, c.failed("pod "+name, err)
		case !ready(pod):
			lines, _ := c.LastLines(ctx, running.Replica{Name: name, Service: service}, 1)
			return nil, fmt.Errorf("cluster: the pod %s has ended: %q", name, lines)
		}

		out = append(out, replica(pod))
	}

	return out, nil
}

// endFilling removes the Jobs, and waits a while until their pods are gone: another node may use
// their claims only then.
func (c *Cluster) endFilling(ctx context.Context, service string, jobs []*batchv1.Job) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	var errs []error
	for _, job := range jobs {
		errs = append(errs, c.RemoveOneOff(ctx, running.OneOff{Name: job.Name}))
	}
	if len(jobs) == 0 || errors.Join(errs...) != nil {
		return errors.Join(errs...)
	}

	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		pods, err := c.pods(ctx, onceService(service))
		return len(pods) == 0, err
	})
	if wait.Interrupted(err) {
		return nil // they go by themselves
	}
	return err
}
