package kubernetes

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	appsv1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apps/v1"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// volumes are the parts of a pod that mounts lead to.
type volumes struct {
	volumes corev1.VolumeArray
	mounts  corev1.VolumeMountArray
	// templates are the claims that a StatefulSet makes for each replica.
	templates corev1.PersistentVolumeClaimTypeArray
	// claims says that one of the mounts is a claim.
	claims bool
}

func (v *volumes) add(volume corev1.VolumeArgs, target string, readOnly bool) {
	v.volumes = append(v.volumes, volume)
	v.mount(volume.Name, target, readOnly)
}

func (v *volumes) mount(name pulumi.StringInput, target string, readOnly bool) {
	v.mounts = append(v.mounts, corev1.VolumeMountArgs{Name: name, MountPath: pulumi.String(target), ReadOnly: pulumi.Bool(readOnly)})
}

// keepsData says that the stack has volumes, which outlive it.
func keepsData(stack stacks.Stack) bool { return len(stack.Volumes) > 0 }

func volumeOf(stack stacks.Stack, name string) (stacks.Volume, bool) {
	i := slices.IndexFunc(stack.Volumes, func(v stacks.Volume) bool { return v.Name == name })
	if i < 0 {
		return stacks.Volume{}, false
	}
	return stack.Volumes[i], true
}

// sharedVolume is the shared volume that the service reads, if any.
func sharedVolume(stack stacks.Stack, svc stacks.Service) (stacks.Volume, bool) {
	for _, m := range svc.Mounts {
		if v, ok := volumeOf(stack, m.Source); ok && m.Kind == stacks.MountVolume && v.Shared {
			return v, true
		}
	}
	return stacks.Volume{}, false
}

// addSharedVolumes claims the storage that the replicas of a service have in common. Destroying the stack keeps it.
func (d *deployment) addSharedVolumes() error {
	d.shared = map[string]*corev1.PersistentVolumeClaim{}
	for _, v := range d.stack.Volumes {
		if !v.Shared {
			continue
		}
		claim, err := corev1.NewPersistentVolumeClaim(d.ctx, v.Name, &corev1.PersistentVolumeClaimArgs{
			// Many classes bind a claim when its first pod comes. A class that is not there shows at that pod.
			Metadata: d.meta(v.Name, stackLabels(d.stack), map[string]string{annotationSkipAwait: "true"}),
			Spec:     claimSpec(v, "ReadWriteMany"),
		}, pulumi.Parent(d.home), pulumi.Provider(d.kept), pulumi.RetainOnDelete(true))
		if err != nil {
			return fmt.Errorf("volumes.%s: %w", v.Name, err)
		}
		d.shared[v.Name] = claim
	}
	return nil
}

func claimSpec(v stacks.Volume, mode string) corev1.PersistentVolumeClaimSpecArgs {
	spec := corev1.PersistentVolumeClaimSpecArgs{
		AccessModes: pulumi.ToStringArray([]string{mode}),
		VolumeMode:  pulumi.String("Filesystem"),
		Resources:   corev1.VolumeResourceRequirementsArgs{Requests: pulumi.StringMap{"storage": pulumi.String(byteQuantity(v.Size))}},
	}
	if v.Class != "" {
		spec.StorageClassName = pulumi.String(v.Class)
	}
	return spec
}

// claimTemplate is the claim of each replica: codexctl and people find it by the stack's labels.
func claimTemplate(stack stacks.Stack, service string, v stacks.Volume) corev1.PersistentVolumeClaimTypeArgs {
	return corev1.PersistentVolumeClaimTypeArgs{
		Metadata: &metav1.ObjectMetaArgs{Name: pulumi.String(v.Name), Labels: pulumi.ToStringMap(workloadLabels(stack, service))},
		Spec:     claimSpec(v, "ReadWriteOnce"),
	}
}

// retention keeps the claims when the StatefulSet goes, as volumes outlive the stack. When it shrinks, a claim whose data
// can be made again goes with its replica: it would hold an old model when it came back.
func (d *deployment) retention(p plan) appsv1.StatefulSetPersistentVolumeClaimRetentionPolicyArgs {
	scaled := "Delete"
	for _, m := range p.Mounts {
		if v, ok := volumeOf(d.stack, m.Source); ok && m.Kind == stacks.MountVolume && !v.PerReplica {
			scaled = "Retain"
		}
	}
	return appsv1.StatefulSetPersistentVolumeClaimRetentionPolicyArgs{WhenDeleted: pulumi.String("Retain"), WhenScaled: pulumi.String(scaled)}
}

// mountVolumes makes the mounts of a service but its files, in the order of their targets. writeShared lets a shared volume
// be written to, for whoever fills it.
func (d *deployment) mountVolumes(p plan, v *volumes, writeShared bool) {
	mounts := slices.Clone(p.Mounts)
	slices.SortFunc(mounts, func(a, b stacks.Mount) int { return cmp.Compare(a.Target, b.Target) })
	memory := 0
	for _, m := range mounts {
		switch m.Kind {
		case stacks.MountVolume:
			v.claims = true
			volume, _ := volumeOf(d.stack, m.Source)
			if !volume.Shared {
				v.templates = append(v.templates, claimTemplate(d.stack, p.Name, volume))
				v.mount(pulumi.String(m.Source), m.Target, m.ReadOnly)
				continue
			}
			readOnly := m.ReadOnly && !writeShared
			v.add(corev1.VolumeArgs{Name: pulumi.String(m.Source), PersistentVolumeClaim: corev1.PersistentVolumeClaimVolumeSourceArgs{
				ClaimName: d.shared[m.Source].Metadata.Name().Elem(), ReadOnly: pulumi.Bool(readOnly),
			}}, m.Target, readOnly)
		case stacks.MountTmpfs:
			// It counts against the container's memory, as on Docker. Pods have no way to say noexec.
			v.add(corev1.VolumeArgs{Name: pulumi.Sprintf("memory-%d", memory), EmptyDir: corev1.EmptyDirVolumeSourceArgs{
				Medium: pulumi.String("Memory"), SizeLimit: pulumi.String(byteQuantity(m.Size)),
			}}, m.Target, m.ReadOnly)
			memory++
		case stacks.MountBind:
			v.add(d.files.volume(), m.Target, true)
		}
	}
}
