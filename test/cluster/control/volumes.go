package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// provisioner is the name that the cluster's storage classes (etc/bootstrap.yaml) give.
const provisioner = "codexcontinue.test/folder"

// The annotations by which Kubernetes and a provisioner that runs outside of it
// understand each other.
const (
	claimProvisioner = "volume.kubernetes.io/storage-provisioner"
	claimNode        = "volume.kubernetes.io/selected-node"
	volumeMadeBy     = "pv.kubernetes.io/provisioned-by"
)

// provision makes a folder and a volume for every claim of one of our classes that waits for one.
func provision(ctx context.Context, k kubernetes.Interface, dir string) error {
	list, err := k.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	classes := map[string]storagev1.StorageClass{}
	for _, c := range list.Items {
		if c.Provisioner == provisioner {
			classes[c.Name] = c
		}
	}

	claims, err := k.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	for _, claim := range claims.Items {
		if claim.Spec.StorageClassName == nil || claim.Spec.VolumeName != "" ||
			claim.Status.Phase != corev1.ClaimPending ||
			claim.DeletionTimestamp != nil || claim.Annotations[claimProvisioner] != provisioner {
			continue
		}

		class, ok := classes[*claim.Spec.StorageClassName]
		if !ok {
			continue
		}

		node := claim.Annotations[claimNode]
		if node == "" && class.VolumeBindingMode != nil &&
			*class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer {
			continue
		}

		if node == "" {
			nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			if err != nil || len(nodes.Items) == 0 {
				return fmt.Errorf("volume for %s/%s: no node (%v)",
					claim.Namespace, claim.Name, err)
			}
			node = nodes.Items[0].Name
		}

		if err := create(ctx, k, dir, node, class, claim); err != nil {
			return fmt.Errorf("volume for %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}

	return nil
}

func create(
	ctx context.Context, k kubernetes.Interface, dir, node string, class storagev1.StorageClass,
	claim corev1.PersistentVolumeClaim,
) error {
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}

	// Any user of the pod may write, whatever the umask of this process is: local volumes
	// know no fsGroup of ours.
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}

	onThisNode := corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
		Key:      corev1.LabelHostname,
		Operator: corev1.NodeSelectorOpIn,
		Values:   []string{node},
	}}}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{volumeMadeBy: provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			MountOptions:                  class.MountOptions,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1",
				Kind:       "PersistentVolumeClaim",
				Namespace:  claim.Namespace,
				Name:       claim.Name,
				UID:        claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{onThisNode},
			}},
		},
	}

	_, err := k.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}

	return err
}

// reclaim removes the volumes whose claim is gone, and their folders.
func reclaim(ctx context.Context, k kubernetes.Interface, dir string) error {
	volumes, err := k.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}

	for _, v := range volumes.Items {
		if v.Annotations[volumeMadeBy] != provisioner || v.Status.Phase != corev1.VolumeReleased ||
			v.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete ||
			v.Spec.Local == nil {
			continue
		}

		// An object of the API names the folder: remove none but those that create makes.
		if path := v.Spec.Local.Path; filepath.Dir(path) == filepath.Clean(dir) &&
			strings.HasPrefix(filepath.Base(path), "pvc-") {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}

		if err := k.CoreV1().PersistentVolumes().Delete(ctx, v.Name,
			metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}

	return nil
}
