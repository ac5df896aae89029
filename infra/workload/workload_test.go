package workload_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// shipped is a shipped stack and its plan for the target.
func shipped(t *testing.T, name string, target stacks.Target) (stacks.Stack, workload.View) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	settings := stacks.Settings{Target: target, AssumeSecrets: true}
	stack, err := stacks.Load(name, settings, stacks.Checkout{FS: os.DirFS(root), UID: 1000, GID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	resources, err := plan.Record(context.Background(), plan.Stack{
		Project: stacks.Project, Name: name,
		Config:  map[string]string{"codexcontinue:redisPassword": "hunter2"},
		Secrets: []string{"codexcontinue:redisPassword"},
	}, func(ctx *pulumi.Context) error {
		_, err := docker.Deploy(ctx, stack, root)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	view, err := workload.Of(name, target, resources)
	if err != nil {
		t.Fatal(err)
	}
	return stack, view
}

// TestDocker compares what is read from the plan with what the stack says.
func TestDocker(t *testing.T) {
	for _, name := range stacks.Overlays() {
		t.Run(name, func(t *testing.T) {
			stack, view := shipped(t, name, stacks.Docker)
			services := view.Services()
			if len(services) != len(stack.Services) {
				t.Errorf("%d services, want %d", len(services), len(stack.Services))
			}
			var published int
			for _, group := range services {
				svc := stack.Service(group[0].Service)
				if len(group) != svc.Replicas {
					t.Errorf("%s: %d replicas, want %d", svc.Name, len(group), svc.Replicas)
				}
				for _, w := range group {
					compare(t, stack, *svc, w)
				}
				for _, p := range svc.Ports {
					if p.Host != 0 {
						published++
						if !slices.Contains(view.Exposed, workload.Exposure{Service: svc.Name, How: "port", Address: p.Address, Port: p.Host, Loopback: p.Address == "127.0.0.1"}) {
							t.Errorf("%s: port %d is not among the exposed %v", svc.Name, p.Host, view.Exposed)
						}
					}
				}
			}
			if len(view.Exposed) != published {
				t.Errorf("exposed: %v, want %d", view.Exposed, published)
			}
			if len(view.Networks) != len(stack.Networks) || len(view.Volumes) != len(stack.Volumes) {
				t.Errorf("networks %v, volumes %v", view.Networks, view.Volumes)
			}
			for _, v := range view.Volumes {
				if !v.Retained {
					t.Errorf("volume %s is not retained", v.Name)
				}
			}
		})
	}
}

func compare(t *testing.T, stack stacks.Stack, svc stacks.Service, w workload.Workload) {
	t.Helper()
	c := w.Containers[0]
	if c.CPU != svc.Resources.CPU || c.Memory != svc.Resources.Memory || c.PIDs != svc.Resources.PIDs || c.Swap {
		t.Errorf("%s: limits %d %d %d, swap %v, want %+v", w.Name, c.CPU, c.Memory, c.PIDs, c.Swap, svc.Resources)
	}
	if want := slices.Sorted(slices.Values(svc.Calls)); !slices.Equal(w.Calls, want) {
		t.Errorf("%s: calls %v, want %v", w.Name, w.Calls, want)
	}
	if want := svc.Image.Ref; c.Image != want && !c.Built || c.Built != (svc.Image.Build != nil) {
		t.Errorf("%s: image %s, built %v", w.Name, c.Image, c.Built)
	}
	if len(w.Networks) != len(svc.Networks) || !w.Fenced || len(w.HostNamespaces) > 0 {
		t.Errorf("%s: networks %v, fenced %v, host namespaces %v", w.Name, w.Networks, w.Fenced, w.HostNamespaces)
	}
	open := slices.ContainsFunc(svc.Networks, func(n string) bool {
		return slices.Contains(stack.Networks, stacks.Network{Name: n})
	})
	if open != (len(w.WaysOut) > 0) {
		t.Errorf("%s: ways out %v", w.Name, w.WaysOut)
	}
	for _, m := range svc.Mounts {
		if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
			return string(x.Kind) == string(m.Kind) && x.Target == m.Target && x.ReadOnly == m.ReadOnly && (m.Kind != stacks.MountVolume || x.Source == m.Source)
		}) {
			t.Errorf("%s: the mount %+v is missing in %v", w.Name, m, c.Mounts)
		}
	}
	for _, f := range svc.Files {
		if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
			return x.Target == filepath.Dir(f.Path) && x.ReadOnly && (x.Kind == workload.Secrets || f.Secret == "")
		}) {
			t.Errorf("%s: the folder of %s is missing in %v", w.Name, f.Path, c.Mounts)
		}
	}
}

// TestUnknownTarget holds that a plan is not read as something that it is not.
func TestUnknownTarget(t *testing.T) {
	if _, err := workload.Of("dev", "nomad", nil); err == nil {
		t.Error("a plan of an unknown target is read")
	}
}
