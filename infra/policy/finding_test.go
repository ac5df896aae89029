package policy_test

import (
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// findings are what the rule says of the plan.
func findings(t *testing.T, p policy.Input, rule string) []string {
	t.Helper()
	report, err := policy.Check(p, today)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range report.Violations {
		if v.Rule == rule {
			out = append(out, v.What)
		}
	}
	return out
}

// runningOn is a plan of one workload for an engine.
func runningOn(service string, containers ...workload.Container) policy.Input {
	return policy.Input{Root: "/root", View: workload.View{
		Target:    stacks.Docker,
		Workloads: []workload.Workload{{Service: service, Containers: containers}},
	}}
}

// TestFindings holds what a rule says of one container, and that it is silent at its bound.
func TestFindings(t *testing.T) {
	env := func(name, value string) workload.Container {
		return workload.Container{Env: map[string]string{name: value}}
	}
	mount := func(kind workload.MountKind, source string) workload.Container {
		return workload.Container{Mounts: []workload.Mount{{Kind: kind, Source: source}}}
	}
	const changes = ", which can change"
	for name, tc := range map[string]struct {
		rule      string
		container workload.Container
		want      []string
	}{
		"the image's user": {
			"non-root", workload.Container{}, []string{"runs as whomever the image says"},
		},
		"the image's group": {"non-root", workload.Container{User: "7"}, []string{"runs as 7"}},
		"a user":            {"non-root", workload.Container{User: "7:8"}, nil},

		"an unknown image": {
			"pinned-image", workload.Container{},
			[]string{"runs the image of a name that the plan does not know" + changes},
		},
		"no tag": {
			"pinned-image", workload.Container{Image: "r"}, []string{`runs the image "r"` + changes},
		},
		"an empty tag": {
			"pinned-image", workload.Container{Image: "r:"},
			[]string{`runs the image "r:"` + changes},
		},
		"a port instead": {
			"pinned-image", workload.Container{Image: "h:5/r"},
			[]string{`runs the image "h:5/r"` + changes},
		},
		"a number": {
			"pinned-image", workload.Container{Image: "h:5/r:8"},
			[]string{`runs the image "h:5/r:8"` + changes},
		},
		"a series": {
			"pinned-image", workload.Container{Image: "r:v2.11-alpine"},
			[]string{`runs the image "r:v2.11-alpine"` + changes},
		},
		"a series of a system's release": {
			"pinned-image", workload.Container{Image: "r:8-alpine3.22"},
			[]string{`runs the image "r:8-alpine3.22"` + changes},
		},
		"a tag":               {"pinned-image", workload.Container{Image: "h:5/r:8.2.1"}, nil},
		"a tag of a system":   {"pinned-image", workload.Container{Image: "r:8.2.1-bookworm"}, nil},
		"a date":              {"pinned-image", workload.Container{Image: "r:20261127"}, nil},
		"the sources' digest": {"pinned-image", workload.Container{Image: "r:012345678901"}, nil},
		"a digest":            {"pinned-image", workload.Container{Image: "r@sha256:x"}, nil},
		"a number's digest":   {"pinned-image", workload.Container{Image: "r:8@sha256:x"}, nil},
		"a secret of a name": {
			"secret-in-environment", env("X", plan.Secret), []string{"X is a secret"},
		},
		"a secret by its name": {
			"secret-in-environment", env("API_KEY", "x"),
			[]string{"API_KEY holds a secret by its name"},
		},
		"a secret's file": {"secret-in-environment", env("API_KEY_FILE", "x"), nil},
		"a URL with a password": {
			"secret-in-environment", env("X", "a://u:p@h"),
			[]string{"X holds a URL with a password"},
		},
		"an empty password": {"secret-in-environment", env("X", "a://u:@h"), nil},
		"a URL with a user": {"secret-in-environment", env("X", "a://u@h"), nil},
		"writable sources": {
			"source-mount", mount(workload.HostPath, "/root/a"),
			[]string{"can write to a of the checkout"},
		},
		"a volume like a source": {"source-mount", mount(workload.Storage, "/root/a"), nil},
		"no limit at all": {
			"limits", workload.Container{Swap: true},
			[]string{"has no CPU limit", "has no limit of processes", "has no memory limit"},
		},
		"the smallest limits": {
			"limits", workload.Container{CPU: 1, Memory: 1, PIDs: 1, Swap: true},
			[]string{"may swap beyond its memory limit"},
		},
		"an engine, which reserves nothing": {
			"requests", workload.Container{CPU: 1, Memory: 1}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, findings(t, runningOn("a", tc.container), tc.rule)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestBases checks what an image may be built from.
func TestBases(t *testing.T) {
	for ref, moves := range map[string]bool{
		"golang:1.26-bookworm":          true,
		"golang:1.26-bookworm@sha256:1": false,
		"golang:1.26.8-bookworm":        false,
		"golang:1.26":                   false, // whose ID is known
		"golang":                        true,
	} {
		in := runningOn("a", workload.Container{Image: "codexcontinue/a:012345678901", Built: true})
		in.Stack.Services = []stacks.Service{{Name: "a", Image: stacks.Image{Build: &stacks.Build{
			Args:    map[string]string{"GO_IMAGE": ref, "SERVICE": "a"},
			BaseIDs: map[string]string{"golang:1.26": "sha256:1"},
		}}}}
		var want []string
		if moves {
			want = []string{`is built from the image "` + ref + `", which can change`}
		}
		if d := cmp.Diff(want, findings(t, in, "pinned-image")); d != "" {
			t.Errorf("%s (-want +got):\n%s", ref, d)
		}
	}
}

// TestFindingsNameTheContainer where there are several.
func TestFindingsNameTheContainer(t *testing.T) {
	one := runningOn("a", workload.Container{Name: "x", Privileged: true})
	two := runningOn("a", workload.Container{Name: "x", Privileged: true},
		workload.Container{Privileged: true})
	for want, p := range map[string]policy.Input{
		"is privileged": one, "container x is privileged": two,
	} {
		if got := findings(t, p, "privileged"); got[0] != want {
			t.Errorf("got %q, want %q first", got, want)
		}
	}
}

// TestIsolated holds what makes a stack one that keeps to itself.
func TestIsolated(t *testing.T) {
	server := func(safeguarded bool) policy.Input {
		in := runningOn(stacks.Ollama, workload.Container{
			Env: map[string]string{"OLLAMA_HOST": "0.0.0.0"},
		})
		in.Stack.Safeguarded = safeguarded
		return in
	}
	provisioned, described, open := server(false), server(false), server(false)
	provisioned.Networks = []workload.Network{{Internal: true}}
	described.Stack.Networks = []stacks.Network{{Internal: true}}
	open.Networks, open.Stack.Networks = []workload.Network{{}}, []stacks.Network{{}}
	for name, tc := range map[string]struct {
		plan policy.Input
		want int
	}{
		"by a network": {provisioned, 1}, "by its description": {described, 1},
		"by its safeguards": {server(true), 1}, "not at all": {open, 0},
	} {
		if got := findings(t, tc.plan, "cloud-models"); len(got) != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestBadWaivers holds what is said of a waiver that is none.
func TestBadWaivers(t *testing.T) {
	in := func(d time.Duration) time.Time { return today.Add(d) }
	const year = 366 * 24 * time.Hour
	for name, tc := range map[string]struct {
		rule    string
		expires time.Time
		want    []string
	}{
		"of no rule": {
			"x", in(time.Hour), []string{"waives x, which is no rule that can be waived"},
		},
		"of waivers": {
			"waiver", in(time.Hour), []string{"waives waiver, which is no rule that can be waived"},
		},
		"that has expired": {
			"privileged", in(0), []string{"waives privileged, but has expired on 2026-11-20"},
		},
		"of nothing": {
			"limits", in(time.Hour), []string{"waives limits, which it does not break"},
		},
		"for too long": {
			"privileged", in(year + time.Hour),
			[]string{"waives privileged until 2027-11-21, more than a year ahead"},
		},
		"for a year": {"privileged", in(year), nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := runningOn("a", workload.Container{Privileged: true, CPU: 1, Memory: 1, PIDs: 1})
			w := stacks.Waiver{Rule: tc.rule, Subject: "a", Reason: "r", Expires: tc.expires}
			p.Stack.Waivers = []stacks.Waiver{w}
			if d := cmp.Diff(tc.want, findings(t, p, policy.WaiverRule)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestRequests holds what a pod has to ask for.
func TestRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		container workload.Container
		want      []string
	}{
		"no limits":  {workload.Container{}, nil},
		"the limits": {workload.Container{CPU: 9, Memory: 9, RequestedCPU: 1, RequestedMemory: 9}, nil},
		"less": {
			workload.Container{CPU: 9, Memory: 9, RequestedCPU: 9, RequestedMemory: 8},
			[]string{"asks for less memory than it may use"},
		},
		"no CPU": {
			workload.Container{CPU: 9, Memory: 9, RequestedMemory: 9}, []string{"asks for no CPU"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := runningOn("a", tc.container)
			in.Target = stacks.Kubernetes
			if d := cmp.Diff(tc.want, findings(t, in, "requests")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestReplicas holds which services need several replicas, and that they are counted however a
// target has them.
func TestReplicas(t *testing.T) {
	alone := []string{"has one replica, or may be left with one"}
	one := func(service string) workload.Workload {
		return workload.Workload{Service: service, Replicas: 1}
	}
	for name, tc := range map[string]struct {
		development bool
		workloads   []workload.Workload
		want        []string
	}{
		"one":            {workloads: []workload.Workload{one(stacks.Gate)}, want: alone},
		"two containers": {workloads: []workload.Workload{one(stacks.Gate), one(stacks.Gate)}},
		"two pods":       {workloads: []workload.Workload{{Service: stacks.Gate, Replicas: 2}}},
		"two, and one at night": {
			workloads: []workload.Workload{{Service: stacks.Gate, Replicas: 2, Least: 1}}, want: alone,
		},
		"one ml":         {workloads: []workload.Workload{one(stacks.ML)}},
		"in development": {true, []workload.Workload{one(stacks.Gate)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := policy.Input{View: workload.View{Workloads: tc.workloads}}
			in.Stack.Development = tc.development
			if d := cmp.Diff(tc.want, findings(t, in, "replicas")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
