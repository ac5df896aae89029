package workload_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// shipped returns a shipped stack and its plan for the target.
func shipped(t *testing.T, name string, target stacks.Target) (stacks.Stack, workload.View) {
	t.Helper()
	return changed(t, name, target, func(*stacks.Settings) {})
}

// changed returns the same with other settings.
func changed(
	t *testing.T, name string, target stacks.Target, change func(*stacks.Settings),
) (stacks.Stack, workload.View) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	settings := stacks.Settings{Target: target, AssumeSecrets: true}
	change(&settings)
	stack, err := stacks.Load(name, settings, stacks.Checkout{
		FS:  os.DirFS(root),
		UID: 1000,
		GID: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}

	if target == stacks.Docker {
		rendered, err := docker.Render(os.DirFS(root), stack)
		if err != nil {
			t.Fatal(err)
		}
		return stack, workload.FromProject(rendered, root)
	}

	run := recorder.Stack{Project: stacks.Project, Name: name, Config: map[string]string{}}
	for _, key := range stack.SecretKeys() {
		key = stacks.Project + ":" + key
		run.Config[key] = secret.Placeholder + key
		run.Secrets = append(run.Secrets, key)
	}

	resources, err := recorder.Record(context.Background(), run, func(ctx *pulumi.Context) error {
		rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: root})
		if err != nil {
			return err
		}
		_, err = kubernetes.Provision(ctx, rendered)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	view, err := workload.Of(plan.Document{Stack: name, Target: target, Resources: resources})
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
						if !slices.Contains(view.Exposed,
							workload.Exposure{Service: svc.Name, How: "port", Address: p.Address,
								Port: p.Host, Loopback: p.Address == "127.0.0.1"}) {
							t.Errorf("%s: port %d is not among the exposed %v", svc.Name, p.Host,
								view.Exposed)
						}
					}
				}
			}

			if len(view.Exposed) != published {
				t.Errorf("exposed: %v, want %d", view.Exposed, published)
			}

			if len(view.Networks) != len(stack.Networks) ||
				len(view.Volumes) != len(stack.Volumes) {
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

// TestKubernetes compares what is read from the plan with what the stack says.
func TestKubernetes(t *testing.T) {
	for _, name := range stacks.Overlays() {
		t.Run(name, func(t *testing.T) {
			stack, view := shipped(t, name, stacks.Kubernetes)
			seen := map[string]bool{}
			for _, w := range view.Workloads {
				seen[w.Service] = true
				if w.Service == stacks.ModelJob {
					if w.Kind != "Job" || !slices.Equal(w.Calls, []string{stacks.Ollama}) ||
						len(w.WaysOut) > 0 {
						t.Errorf("the model's job: %+v", w)
					}
					continue
				}

				svc := stack.Service(w.Service)
				if svc == nil {
					t.Fatalf("%s is no service", w.Service)
				}

				c := w.Containers[0]
				if w.Replicas != svc.Replicas || !w.Fenced || w.Token || len(w.HostNamespaces) > 0 {
					t.Errorf("%s: %+v", svc.Name, w)
				}
				if c.CPU != svc.Resources.CPU || c.Memory != svc.Resources.Memory {
					t.Errorf("%s: limits %d %d", svc.Name, c.CPU, c.Memory)
				}
				if want := slices.Sorted(slices.Values(svc.Calls)); !slices.Equal(w.Calls, want) {
					t.Errorf("%s: calls %v, want %v", svc.Name, w.Calls, want)
				}
				_, wayOut := stack.WayOut(*svc)
				if w.NamesOutside != (wayOut || svc.Name == stacks.Resolver) {
					t.Errorf("%s: asks for names outside: %v", svc.Name, w.NamesOutside)
				}
				if (len(svc.Outside) > 0) != (len(w.WaysOut) > 0) {
					t.Errorf("%s: ways out %v, want %v", svc.Name, w.WaysOut, svc.Outside)
				}

				if want := svc.Image.Ref; c.Image != want && !c.Built ||
					c.Built != (svc.Image.Build != nil) {
					t.Errorf("%s: image %s, built %v", svc.Name, c.Image, c.Built)
				}

				if user := fmt.Sprintf("%d:%d", svc.Security.UID,
					svc.Security.GID); c.User != user || !c.ReadOnlyRoot || c.NewPrivileges ||
					c.Privileged ||
					len(c.Unconfined) > 0 || !slices.Equal(c.DroppedCapabilities, []string{"ALL"}) {
					t.Errorf("%s: %+v", svc.Name, c)
				}

				for _, m := range svc.Mounts {
					kind := map[stacks.MountKind]workload.MountKind{
						stacks.MountVolume: workload.Storage,
						stacks.MountModel:  workload.Files,
						stacks.MountTmpfs:  workload.Memory,
					}[m.Kind]
					if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
						return x.Kind == kind && x.Path == m.Target &&
							(m.Kind != stacks.MountVolume || x.Source == m.Source)
					}) {
						t.Errorf("%s: the mount %+v is missing in %v", svc.Name, m, c.Mounts)
					}
				}
			}

			for _, svc := range stack.Services {
				if !seen[svc.Name] {
					t.Errorf("%s is missing", svc.Name)
				}
			}

			if len(view.Exposed) > 0 {
				t.Errorf("exposed: %v", view.Exposed)
			}

			for _, v := range stack.Volumes {
				if !slices.ContainsFunc(view.Volumes, func(x workload.Volume) bool {
					return x.Name == v.Name && x.Size == v.Size && x.Retained
				}) {
					t.Errorf("volume %s: %v", v.Name, view.Volumes)
				}
			}
		})
	}
}

// TestWaysIn reads each way into a stack on a cluster.
func TestWaysIn(t *testing.T) {
	for name, tc := range map[string]struct {
		edge stacks.EdgeSettings
		want []workload.Exposure
	}{
		"load balancer": {stacks.EdgeSettings{Address: "0.0.0.0"},
			[]workload.Exposure{{Service: "edge", How: "load balancer", Port: 8080}}},
		"gateway": {stacks.EdgeSettings{Host: "chat.example.com",
			Gateway: &stacks.Gateway{Class: "c"}}, []workload.Exposure{{Service: "edge",
			How: "route", Address: "chat.example.com"}}},
		"ingress": {stacks.EdgeSettings{Host: "chat.example.com",
			Ingress: &stacks.Ingress{Class: "c"}, TLS: &stacks.TLS{Issuer: "i"}},
			[]workload.Exposure{{Service: "edge", How: "ingress", Address: "chat.example.com", TLS: true}}},
		"encrypted gateway": {stacks.EdgeSettings{Host: "chat.example.com",
			Gateway: &stacks.Gateway{Class: "c"}, TLS: &stacks.TLS{Issuer: "i"}},
			[]workload.Exposure{{Service: "edge", How: "route", Address: "chat.example.com", TLS: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, view := changed(t, "prod", stacks.Kubernetes, func(s *stacks.Settings) {
				s.Edge = tc.edge
			})
			if !slices.Equal(view.Exposed, tc.want) {
				t.Errorf("%+v, want %+v", view.Exposed, tc.want)
			}
		})
	}
}

// TestAutoscaled reads the replicas that an autoscaler keeps.
func TestAutoscaled(t *testing.T) {
	_, view := changed(t, "prod", stacks.Kubernetes, func(s *stacks.Settings) {
		s.Services = map[string]stacks.ServiceSettings{stacks.Backend: {Autoscale: &stacks.Autoscale{
			Min: 3,
			Max: 9,
			CPU: 60,
		}}}
	})

	for _, w := range view.Workloads {
		if w.Service == stacks.Backend && w.Replicas != 3 {
			t.Errorf("%d replicas, want 3", w.Replicas)
		}
	}
}

// TestPushed reads the names of images whose digests are not known yet.
func TestPushed(t *testing.T) {
	_, view := changed(t, "prod", stacks.Kubernetes, func(s *stacks.Settings) {
		s.Registry = "registry.example.com/team"
	})
	for _, w := range view.Workloads {
		if c := w.Containers[0]; c.Built != strings.HasPrefix(c.Image,
			"registry.example.com/team/codexcontinue/") {
			t.Errorf("%s runs %s, built %v", w.Service, c.Image, c.Built)
		}
	}
}

func compare(t *testing.T, stack stacks.Stack, svc stacks.Service, w workload.Workload) {
	t.Helper()
	c := w.Containers[0]
	if c.CPU != svc.Resources.CPU || c.Memory != svc.Resources.Memory ||
		c.PIDs != svc.Resources.PIDs || c.Swap {
		t.Errorf("%s: limits %d %d %d, swap %v, want %+v", w.Name, c.CPU, c.Memory, c.PIDs, c.Swap,
			svc.Resources)
	}

	if want := slices.Sorted(slices.Values(svc.Calls)); !slices.Equal(w.Calls, want) {
		t.Errorf("%s: calls %v, want %v", w.Name, w.Calls, want)
	}
	if want := svc.Image.Ref; c.Image != want && !c.Built || c.Built != (svc.Image.Build != nil) {
		t.Errorf("%s: image %s, built %v", w.Name, c.Image, c.Built)
	}

	if len(w.Networks) != len(svc.Networks) || !w.Fenced || len(w.HostNamespaces) > 0 {
		t.Errorf("%s: networks %v, fenced %v, host namespaces %v", w.Name, w.Networks, w.Fenced,
			w.HostNamespaces)
	}

	open := slices.ContainsFunc(svc.Networks, func(n string) bool {
		return slices.Contains(stack.Networks, stacks.Network{Name: n})
	})
	if open != (len(w.WaysOut) > 0) {
		t.Errorf("%s: ways out %v", w.Name, w.WaysOut)
	}

	for _, m := range svc.Mounts {
		if m.Kind == stacks.MountModel { // the folder of the Modelfile, beside other files
			if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
				return x.Path == m.Target+"/"+stack.Domain && x.ReadOnly &&
					(x.Kind == workload.Files || x.Kind == workload.Secrets)
			}) {
				t.Errorf("%s: the files of the model are missing in %v", w.Name, c.Mounts)
			}
			continue
		}

		if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
			return string(x.Kind) == string(m.Kind) && x.Path == m.Target &&
				x.ReadOnly == m.ReadOnly && (m.Kind != stacks.MountVolume || x.Source == m.Source)
		}) {
			t.Errorf("%s: the mount %+v is missing in %v", w.Name, m, c.Mounts)
		}
	}

	for _, f := range svc.Files {
		if !slices.ContainsFunc(c.Mounts, func(x workload.Mount) bool {
			return x.Path == filepath.Dir(f.Path) && x.ReadOnly &&
				(x.Kind == workload.Secrets || f.Secret == "")
		}) {
			t.Errorf("%s: the folder of %s is missing in %v", w.Name, f.Path, c.Mounts)
		}
	}
}

// TestUnknown checks that a plan is not read as something that it is not.
func TestUnknown(t *testing.T) {
	for _, d := range []plan.Document{{Stack: "dev", Target: "nomad"},
		{Stack: "dev", Target: stacks.Docker}} {
		if _, err := workload.Of(d); err == nil {
			t.Errorf("a plan for %s without a rendering is read", d.Target)
		}
	}
}
