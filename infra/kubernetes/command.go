package kubernetes

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// How long a command may run, how long its Job is kept if nobody removes it, and how long the
// command may take to stop.
const (
	commandDeadline = 30 * time.Minute
	commandKept     = time.Minute
	commandGrace    = 2 * time.Second
)

// checkoutSize bounds what a command is given of the checkout.
const checkoutSize = 512 * stacks.MiB

// checkout is the source of the mount that is the whole checkout.
const checkout = "."

// Command is a command that runs once in a service's development container. Pods cannot mount the
// checkout: the command waits until an archive of it, in tar's format, comes on its standard input.
type Command struct {
	// Name is the value of the label stacks.LabelService, and the beginning of the Job's name.
	Name string

	// Args are the program and its arguments.
	Args []string

	// Env are the command's variables.
	Env map[string]string

	// Service is one that mounts the checkout.
	Service stacks.Service

	// Image is the reference of the service's image in the cluster.
	Image string

	// Stack is the service's, Namespace where the stack is.
	Stack     stacks.Stack
	Namespace string

	// Pods are the settings of the service's pods, PullSecrets those of the stack.
	Pods        stacks.PodSettings
	PullSecrets []string
}

// extract writes the archive to the folder that is its first argument, and runs the others there.
const extract = `cd "$1" && tar -x && shift && exec "$@"`

// Objects returns the command's Job, and the claims of the volumes that it mounts.
func (c Command) Objects() (*batchv1.Job, []*corev1.PersistentVolumeClaim) {
	labels := map[string]string{
		stacks.LabelProject: stacks.Project,
		stacks.LabelStack:   c.Stack.Name,
		stacks.LabelService: c.Name,
	}
	mounted, claims, sources := c.mount()
	spec := podSpec("default", c.Service.Security, mounted)
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.TerminationGracePeriodSeconds = new(int64(seconds(commandGrace)))
	spec.Containers = []corev1.Container{{
		Name:            c.Service.Name,
		Image:           c.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         append([]string{"sh", "-c", extract, "sh", sources}, c.Args...),
		Env:             variables(c.Env),
		VolumeMounts:    mounted.mounts,
		Resources:       resourcesOf(c.Service.Resources, nil),
		SecurityContext: containerSecurity(c.Service.Security),
		Stdin:           true,
		StdinOnce:       true, // a command without the one who sends the archive ends
	}}

	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}
	settle(&pod, c.Pods, c.PullSecrets)

	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: c.Name + "-",
			Namespace:    c.Namespace,
			Labels:       labels,
		},
		Spec: batchv1.JobSpec{
			ActiveDeadlineSeconds:   new(int64(seconds(commandDeadline))),
			BackoffLimit:            new(int32(0)),
			TTLSecondsAfterFinished: new(int32(seconds(commandKept))),
			Template:                pod,
		},
	}, claims
}

// mount returns the mounts of the command, the claims among them, and where the sources are. Other
// folders of the checkout than the whole are left out, as it has them.
func (c Command) mount() (v volumes, claims []*corev1.PersistentVolumeClaim, sources string) {
	for _, m := range c.Service.Mounts {
		switch {
		case m.Kind == stacks.MountBind && m.Source == checkout:
			sources = m.Target
			v.add("sources", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
				SizeLimit: new(byteQuantity(checkoutSize)),
			}}, m.Target, false)
		case m.Kind == stacks.MountTmpfs:
			v.addMemory(m)
		case m.Kind == stacks.MountVolume:
			v.addClaim(m.Source, m.Target, m.ReadOnly)
			volume, _ := c.Stack.Volume(m.Source)
			claims = append(claims, &corev1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{
					Name:      m.Source,
					Namespace: c.Namespace,
					Labels: map[string]string{
						stacks.LabelProject: stacks.Project,
						stacks.LabelStack:   c.Stack.Name,
					},
				},
				Spec: claimSpec(volume, corev1.ReadWriteOnce),
			})
		}
	}

	return v, claims, sources
}
