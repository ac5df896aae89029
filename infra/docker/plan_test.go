package docker_test

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite the golden plans")

// planned is a stack with its plan.
type planned struct {
	stack     stacks.Stack
	root      string
	resources []plan.Resource
}

// eachStack runs f on the plan of the lab's stack and of every shipped one, as it is on a machine
// with the settings of a first run, and of healthcare with documents.
func eachStack(t *testing.T, f func(t *testing.T, p planned)) {
	t.Helper()
	run := func(name string, stack stacks.Stack, root string) {
		t.Run(name, func(t *testing.T) {
			f(t, planned{stack: stack, root: root, resources: mustRecord(t, stack, root)})
		})
	}

	run("lab", labStack("lab", "probe:1", 8080), labRoot(t))
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	shipped := func(name string, settings stacks.Settings) {
		stack, err := stacks.Load(name, settings, stacks.Checkout{
			FS:       os.DirFS(root),
			UID:      1000,
			Unlocked: true,
			GID:      1000,
		})
		if err != nil {
			t.Fatal(err)
		}

		run(name, stack, root)
	}

	for _, name := range stacks.Overlays() {
		shipped(name, shippedSettings(t, root, name))
	}

	with := shippedSettings(t, root, "healthcare")
	with.Overlay, with.Knowledge = "healthcare", &stacks.KnowledgeSettings{
		Collections: map[string][]string{"handbook": nil, "wards": {"nurses"}},
		Embedding:   "nomic-embed-text",
	}
	shipped(stacks.Knowledge, with)
}

// shippedSettings are those of the stack's file in the repository, with the
// secrets that a person adds.
func shippedSettings(t *testing.T, root, name string) stacks.Settings {
	t.Helper()
	config, err := program.ReadConfig(root, name)
	if err != nil {
		t.Fatal(err)
	}

	plain, secrets := config.Own()
	if name != "dev" {
		secrets = append(secrets, stacks.RedisPasswordKey)
	}
	if name == "healthcare" {
		secrets = append(secrets, stacks.InternalAuthorityKey)
	}

	settings, err := stacks.DecodeSettings(plain, secrets)
	if err != nil {
		t.Fatal(err)
	}

	return settings
}

// TestGolden compares every stack's plan with testdata/<stack>.json; -update rewrites these. Of
// healthcare with documents it is what other stacks have not.
func TestGolden(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		if p.stack.Name == stacks.Knowledge {
			p.resources = slices.DeleteFunc(p.resources, func(r plan.Resource) bool {
				return r.Name != stacks.KnowledgeData && r.Name != stacks.Knowledge &&
					label(r, stacks.LabelService) != stacks.Knowledge
			})
		}

		got := toJSON(t, p.resources, p.root)
		path := filepath.Join("testdata", p.stack.Name+".json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}

		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v: run `go test ./infra/docker -run Golden -update`", err)
		}

		if !bytes.Equal(got, want) {
			t.Errorf("the plan of %s changed: %s\n"+
				"read the change with `go test ./infra/docker -run Golden -update && git diff`",
				p.stack.Name, firstDifference(want, got))
		}

		if bytes.Contains(got, []byte(recordedPassword)) {
			t.Error("the plan shows a secret")
		}
	})
}

func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return fmt.Sprintf("line %d is %q, want %q", i+1, g[min(i, len(g)-1)], w[i])
		}
	}
	return fmt.Sprintf("%d lines more", len(g)-len(w))
}

// benchmark are the items of the CIS Docker Benchmark (v1.6, sections 4 and 5) that a
// container's arguments decide.
var benchmark = []struct {
	item string
	ok   func(p planned, svc stacks.Service, in map[string]any) bool
}{
	{"4.1 a user of its own, not root", func(_ planned, _ stacks.Service, in map[string]any) bool {
		user, group, ok := strings.Cut(in["user"].(string), ":")
		return ok && user != "0" && group != "0" && user != ""
	}},
	{"4.6 a health check", func(_ planned, _ stacks.Service, in map[string]any) bool {
		h, _ := in["healthcheck"].(map[string]any)
		tests, _ := h["tests"].([]any)
		return len(tests) > 1 && tests[0] == "CMD"
	}},
	{"5.2 no SELinux or AppArmor opt-out",
		func(_ planned, _ stacks.Service, in map[string]any) bool {
			return !slices.ContainsFunc(in["securityOpts"].([]any), func(o any) bool {
				return strings.Contains(o.(string), "unconfined") ||
					strings.Contains(o.(string), "disable")
			})
		}},
	{"5.4 all capabilities dropped but those with a reason",
		func(_ planned, svc stacks.Service, in map[string]any) bool {
			c := in["capabilities"].(map[string]any)
			adds, _ := c["adds"].([]any)
			return fmt.Sprint(c["drops"]) == "[ALL]" &&
				len(adds) == len(svc.Security.KeepCapabilities)
		}},
	{"5.5 not privileged", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return in["privileged"] == false
	}},
	{"5.6 no sensitive directory of the machine",
		func(p planned, _ stacks.Service, in map[string]any) bool {
			mounts, _ := in["mounts"].([]any)
			return !slices.ContainsFunc(mounts, func(m any) bool {
				mount := m.(map[string]any)
				source, _ := mount["source"].(string)
				return mount["type"] == "bind" && source != p.root &&
					!strings.HasPrefix(source, p.root+"/")
			})
		}},
	{"5.9, 5.13 published ports only at the edge, in development on the loopback",
		func(p planned, svc stacks.Service, in map[string]any) bool {
			ports, _ := in["ports"].([]any)
			if !p.stack.Development && p.stack.Name != "lab" {
				return len(ports) == 0 || svc.Name == stacks.Edge
			}

			return !slices.ContainsFunc(ports, func(port any) bool {
				ip := net.ParseIP(port.(map[string]any)["ip"].(string))
				return ip == nil || !ip.IsLoopback()
			})
		}},
	{"5.10, 5.16, 5.17, 5.21 no namespace of the machine",
		func(_ planned, _ stacks.Service, in map[string]any) bool {
			for _, k := range []string{"pidMode", "ipcMode", "usernsMode", "cgroupParent"} {
				if in[k] != nil {
					return false
				}
			}
			networks, _ := in["networksAdvanced"].([]any)
			return in["networkMode"] != "host" && len(networks) > 0
		}},
	{"5.11 a memory limit without swap", func(_ planned, _ stacks.Service, in map[string]any) bool {
		memory, _ := in["memory"].(float64)
		return memory > 0 && in["memorySwap"] == memory
	}},
	{"5.12 a CPU limit", func(_ planned, svc stacks.Service, in map[string]any) bool {
		return in["cpuPeriod"] == 100000.0 && in["cpuQuota"] == float64(svc.Resources.CPU)*100
	}},
	{"5.13 a read-only root, or the reason why not",
		func(_ planned, svc stacks.Service, in map[string]any) bool {
			return in["readOnly"] == true || svc.Security.WritableRoot != ""
		}},
	{"5.15 a restart policy", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return in["restart"] == "unless-stopped"
	}},
	{"5.18 no device of the machine", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return in["devices"] == nil
	}},
	{"5.26 no new privileges", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return slices.Contains(in["securityOpts"].([]any), any("no-new-privileges:true"))
	}},
	{"5.29 a limit of processes", func(_ planned, svc stacks.Service, in map[string]any) bool {
		labels, _ := in["labels"].([]any)
		return svc.Resources.PIDs > 0 && slices.ContainsFunc(labels, func(l any) bool {
			pair := l.(map[string]any)
			return pair["label"] == "dev.codexcontinue.pids" &&
				pair["value"] == fmt.Sprint(svc.Resources.PIDs)
		})
	}},
	{"5.30 not on the default bridge", func(_ planned, svc stacks.Service, in map[string]any) bool {
		networks, _ := in["networksAdvanced"].([]any)
		return len(networks) == len(svc.Networks)
	}},
	{"5.32 no socket of the engine", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return !strings.Contains(fmt.Sprint(in["mounts"], in["volumes"]), "docker.sock")
	}},
	{"bounded logs", func(_ planned, _ stacks.Service, in map[string]any) bool {
		opts, _ := in["logOpts"].(map[string]any)
		return in["logDriver"] == "json-file" && opts["max-size"] != nil && opts["max-file"] != nil
	}},
	{"an init that reaps", func(_ planned, _ stacks.Service, in map[string]any) bool {
		return in["init"] == true
	}},
	{"a grace to drain", func(_ planned, svc stacks.Service, in map[string]any) bool {
		return in["destroyGraceSeconds"] == in["stopTimeout"] &&
			in["stopTimeout"] == svc.StopGrace.Seconds()
	}},
}

func TestBenchmark(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		containers := containersOf(p.resources)
		for _, svc := range p.stack.Services {
			if len(containers[svc.Name]) != svc.Replicas {
				t.Errorf("services.%s has %d containers, want %d", svc.Name,
					len(containers[svc.Name]), svc.Replicas)
			}

			for _, c := range containers[svc.Name] {
				for _, item := range benchmark {
					if !item.ok(p, svc, c.Inputs) {
						t.Errorf("%s: CIS %s: not so", c.Name, item.item)
					}
				}

				if !slices.Equal(c.Options.AfterCreate, c.Options.AfterUpdate) ||
					len(c.Options.AfterCreate) != 1 {
					t.Errorf("%s: the hook that sets the limit of processes is not bound", c.Name)
				}
			}
		}
	})
}

// TestComponents checks the shape of every plan: a component per service with outputs, and
// everything a service owns below it.
func TestComponents(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		for _, svc := range p.stack.Services {
			i := slices.IndexFunc(p.resources, func(r plan.Resource) bool {
				return r.Type == "codexcontinue:docker:Service" && r.Name == svc.Name
			})
			if i < 0 {
				t.Errorf("service %s has no component", svc.Name)
				continue
			}

			for _, key := range []string{"urls", "image", "imageId", "containers"} {
				if p.resources[i].Outputs[key] == nil {
					t.Errorf("component %s has no output %s", svc.Name, key)
				}
			}
		}

		for _, r := range p.resources {
			switch r.Type {
			case "docker:index/container:Container", "docker:index/image:Image",
				"docker:index/remoteImage:RemoteImage":
				if !strings.HasPrefix(r.Parent, "codexcontinue:docker:Service ") {
					t.Errorf("%s has the parent %q", r.Name, r.Parent)
				}
			}
		}
	})
}

// TestOrder checks that each container is made after every container of what its service depends
// on, and so removed before.
func TestOrder(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		containers := containersOf(p.resources)
		for _, svc := range p.stack.Services {
			for _, c := range containers[svc.Name] {
				for _, dep := range svc.DependsOn {
					for _, d := range containers[dep] {
						if !slices.Contains(c.Options.DependsOn, d.Type+" "+d.Name) {
							t.Errorf("%s is not made after %s", c.Name, d.Name)
						}
					}
				}
			}
		}
	})
}

// TestEnvironment checks that a container's variables are those its contract renders, and the
// declared ones, no more.
func TestEnvironment(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		containers := containersOf(p.resources)
		for _, svc := range p.stack.Services {
			read := contractVariables(t, svc.Contract)
			for _, c := range containers[svc.Name] {
				set := map[string]bool{}
				for _, kv := range c.Inputs["envs"].([]any) {
					name, _, _ := strings.Cut(kv.(string), "=")
					set[name] = true
					_, declared := svc.Env[name]
					if _, ok := read[name]; !ok && !declared &&
						!strings.HasPrefix(name, "NVIDIA_") {
						t.Errorf("%s: %s is set but never read", c.Name, name)
					}
				}

				for name, required := range read {
					if required && !set[name] {
						t.Errorf("%s: %s is read but never set", c.Name, name)
					}
				}
			}
		}
	})
}

// contractVariables are the variables that the contract's struct reads, and
// whether each is required.
func contractVariables(t *testing.T, c any) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	if c == nil {
		return out
	}

	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				walk(f.Type)
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			out[name] = f.Tag.Get("optional") != "true"
		}
	}

	walk(reflect.TypeOf(c).Elem())
	if len(out) == 0 {
		t.Errorf("the contract %T reads nothing", c)
	}

	return out
}
