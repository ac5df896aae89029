package kubernetes

import (
	"fmt"
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volumes are the parts of a pod that mounts lead to.
type volumes struct {
	volumes []corev1.Volume
	mounts  []corev1.VolumeMount

	// templates are the claims that a StatefulSet makes for each replica.
	templates []corev1.PersistentVolumeClaim

	// claims is set if one of the mounts is a claim.
	claims bool

	// memory is the number of volumes in memory.
	memory int
}

func (v *volumes) add(name string, source corev1.VolumeSource, target string, readOnly bool) {
	v.volumes = append(v.volumes, corev1.Volume{Name: name, VolumeSource: source})
	v.mount(name, target, readOnly)
}

func (v *volumes) mount(name, target string, readOnly bool) {
	v.mounts = append(v.mounts, corev1.VolumeMount{
		Name:      name,
		MountPath: target,
		ReadOnly:  readOnly,
	})
}

// addClaim adds a claim that is made apart from the pod.
func (v *volumes) addClaim(name, target string, readOnly bool) {
	v.claims = true
	v.add(name, corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{
			ClaimName: name,
			ReadOnly:  readOnly,
		},
	}, target, readOnly)
}

// addMemory adds a volume in memory. It counts against the container's memory, as on Docker. Pods
// have no way to say noexec.
func (v *volumes) addMemory(m stacks.Mount) {
	v.add(fmt.Sprintf("memory-%d", v.memory), corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium:    corev1.StorageMediumMemory,
			SizeLimit: new(byteQuantity(m.Size)),
		},
	}, m.Target, m.ReadOnly)
	v.memory++
}

// keepsData reports whether the stack has volumes, which outlive it.
func keepsData(stack stacks.Stack) bool { return len(stack.Volumes) > 0 }

// sharedVolume returns the shared volume that the service reads, if any.
func sharedVolume(stack stacks.Stack, svc stacks.Service) (stacks.Volume, bool) {
	for _, m := range svc.Mounts {
		if v, ok := stack.Volume(m.Source); ok && m.Kind == stacks.MountVolume && v.Shared {
			return v, true
		}
	}
	return stacks.Volume{}, false
}

// addSharedVolumes claims the storage that the replicas of a service have in common.
// Destroying the stack keeps it.
func (r *renderer) addSharedVolumes() {
	for _, v := range r.stack.Volumes {
		if !v.Shared {
			continue
		}

		// Many classes bind a claim when its first pod comes. A class that is not
		// there shows at that pod.
		r.add(&Object{Resource: v.Name, Kept: true, Retained: true,
			Annotations: map[string]string{annotationSkipAwait: "true"},
			API: &corev1.PersistentVolumeClaim{
				ObjectMeta: r.meta(v.Name, r.labels()), Spec: claimSpec(v, corev1.ReadWriteMany),
			}})
	}
}

func claimSpec(
	v stacks.Volume, mode corev1.PersistentVolumeAccessMode,
) corev1.PersistentVolumeClaimSpec {
	spec := corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{mode},
		VolumeMode:  new(corev1.PersistentVolumeFilesystem),
		Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: byteQuantity(v.Size)},
		},
	}
	if v.Class != "" {
		spec.StorageClassName = &v.Class
	}

	return spec
}

// claimTemplate returns the claim of each replica: codexctl and people find it
// by the stack's labels.
func (r *renderer) claimTemplate(service string, v stacks.Volume) corev1.PersistentVolumeClaim {
	return corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: v.Name, Labels: r.labelsOf(service)},
		Spec:       claimSpec(v, corev1.ReadWriteOnce),
	}
}

// retention keeps the claims when the StatefulSet goes, as volumes outlive the stack. When it
// shrinks, a claim whose data can be made again goes with its replica: it would hold an old
// model when it came back.
func (r *renderer) retention(p plan) *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy {
	scaled := appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	for _, m := range p.Mounts {
		if v, ok := r.stack.Volume(m.Source); ok && m.Kind == stacks.MountVolume && !v.PerReplica {
			scaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}

	return &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
		WhenDeleted: appsv1.RetainPersistentVolumeClaimRetentionPolicyType, WhenScaled: scaled,
	}
}

// mountVolumes makes the mounts of a service but its files, in the order of their targets.
// writeShared lets a shared volume be written to, for whoever fills it.
func (r *renderer) mountVolumes(p plan, v *volumes, writeShared bool) {
	mounts := map[string]stacks.Mount{} // by target
	for _, m := range p.Mounts {
		mounts[m.Target] = m
	}

	for _, target := range slices.Sorted(maps.Keys(mounts)) {
		m := mounts[target]
		switch m.Kind {
		case stacks.MountVolume:
			volume, _ := r.stack.Volume(m.Source)
			if !volume.Shared {
				v.claims = true
				v.templates = append(v.templates, r.claimTemplate(p.Name, volume))
				v.mount(m.Source, m.Target, m.ReadOnly)
				continue
			}

			v.addClaim(m.Source, m.Target, m.ReadOnly && !writeShared)
		case stacks.MountTmpfs:
			v.addMemory(m)
		case stacks.MountModel:
			v.add(modelVolume, r.files.source(), m.Target, true)
		}
	}
}
