package kubernetes_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestOneWriter: a service that mounts a volume with a single writer is one pod with a fixed name,
// of which a cluster never has two: not in an update, and not when its StatefulSet is replaced,
// since that has a fixed name too and Pulumi waits until the old one is gone. The claim stays
// whatever goes.
func TestOneWriter(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		for _, svc := range p.stack.Services {
			v, ok := single(p.stack, svc)
			if !ok {
				continue
			}

			set, ok := of(p.resources, "StatefulSet")[svc.Name]
			if !ok {
				t.Fatalf("%s is no StatefulSet", svc.Name)
			}

			spec, _ := dig(t, set, "spec").(map[string]any)
			// nothing more: one pod goes, then its successor comes
			want := map[string]any{"type": "RollingUpdate"}
			if d := cmp.Diff(want, spec["updateStrategy"]); d != "" {
				t.Errorf("%s: the update strategy (-want +got):\n%s", svc.Name, d)
			}
			if spec["replicas"] != 1.0 {
				t.Errorf("%s has %v replicas", svc.Name, spec["replicas"])
			}
			if _, ok := of(p.resources, "HorizontalPodAutoscaler")[svc.Name]; ok {
				t.Errorf("%s is scaled", svc.Name)
			}

			if got := name(t, set); got != svc.Name {
				t.Errorf("%s is called %q: without a name of its own its successor would come first",
					svc.Name, got)
			}

			annotations, _ := dig(t, set, "metadata", "annotations").(map[string]any)
			for _, bad := range []string{"pulumi.com/skipAwait", "pulumi.com/deletionPropagationPolicy"} {
				if annotations[bad] != nil {
					t.Errorf("%s: %s lets Pulumi go on before its pod is gone", svc.Name, bad)
				}
			}

			if set.Options.DeleteBeforeReplace != nil && !*set.Options.DeleteBeforeReplace {
				t.Errorf("%s: its successor comes before it is gone", svc.Name)
			}

			keep := map[string]any{"whenDeleted": "Retain", "whenScaled": "Retain"}
			if d := cmp.Diff(keep, spec["persistentVolumeClaimRetentionPolicy"]); d != "" {
				t.Errorf("%s: claims (-want +got):\n%s", svc.Name, d)
			}

			claim := dig(t, set, "spec", "volumeClaimTemplates", 0)
			if got := claim.(map[string]any)["metadata"].(map[string]any)["name"]; got != v.Name {
				t.Errorf("%s claims %v, want %s", svc.Name, got, v.Name)
			}

			if d := cmp.Diff([]any{"ReadWriteOnce"},
				dig(t, set, "spec", "volumeClaimTemplates", 0, "spec", "accessModes")); d != "" {
				t.Errorf("%s: access modes (-want +got):\n%s", svc.Name, d)
			}
		}
	})
}

// single is the volume with a single writer that the service mounts.
func single(stack stacks.Stack, svc stacks.Service) (stacks.Volume, bool) {
	for _, m := range svc.Mounts {
		for _, v := range stack.Volumes {
			if m.Kind == stacks.MountVolume && v.Name == m.Source && v.SingleWriter {
				return v, true
			}
		}
	}

	return stacks.Volume{}, false
}
