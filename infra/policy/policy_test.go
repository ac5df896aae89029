package policy_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// today is the day of every check here.
var today = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func projectRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// shipped loads a shipped stack for the target, with the secret that a person adds.
func shipped(t *testing.T, name string, target stacks.Target) stacks.Stack {
	t.Helper()
	settings := stacks.Settings{Target: target, AssumeSecrets: true,
		Secrets: map[string]bool{stacks.RedisPasswordKey: name != "dev"}}
	stack, err := stacks.Load(name, settings,
		stacks.Checkout{FS: os.DirFS(projectRoot(t)), UID: 1000, GID: 1000})
	if err != nil {
		t.Fatal(err)
	}

	return stack
}

// record plans the stack for a cluster.
func record(t *testing.T, stack stacks.Stack) []plan.Resource {
	t.Helper()
	run := recorder.Stack{Project: stacks.Project, Name: stack.Name, Config: map[string]string{}}
	for _, key := range stack.SecretKeys() {
		key = stacks.Project + ":" + key
		run.Config[key] = secret.Placeholder + key
		run.Secrets = append(run.Secrets, key)
	}

	resources, err := recorder.Record(context.Background(), run, func(ctx *pulumi.Context) error {
		rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: projectRoot(t)})
		if err != nil {
			return err
		}
		_, err = kubernetes.Provision(ctx, rendered)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return resources
}

// onCluster returns the stack as it was planned for a cluster.
func onCluster(t *testing.T, stack stacks.Stack, resources []plan.Resource) workload.View {
	t.Helper()
	view, err := workload.Of(plan.Document{Stack: stack.Name, Target: stacks.Kubernetes,
		Resources: resources})
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func check(t *testing.T, stack stacks.Stack, view workload.View) policy.Report {
	t.Helper()
	report, err := policy.Check(policy.Input{View: view, Stack: stack, Root: projectRoot(t)}, today)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestShippedStacks checks that the stacks of this repository keep every rule, without a waiver.
func TestShippedStacks(t *testing.T) {
	for _, name := range stacks.Overlays() {
		for _, target := range plan.Targets {
			t.Run(name+" on "+string(target), func(t *testing.T) {
				stack := shipped(t, name, target)
				view := onEngine(t, stack, nil)
				if target == stacks.Kubernetes {
					view = onCluster(t, stack, record(t, stack))
				}

				report := check(t, stack, view)
				for _, v := range report.Violations {
					t.Errorf("%s: %s %s", v.Rule, v.Subject, v.What)
				}

				if len(report.Waived) > 0 {
					t.Errorf("waived: %v", report.Waived)
				}
			})
		}
	}
}

// TestSignIn checks that a stack where people sign in may be open to a network, and that the gate
// of an isolated one may ask an OpenID provider.
func TestSignIn(t *testing.T) {
	for name, how := range map[string]stacks.SignInSettings{
		"accounts": {Accounts: true},
		"OIDC": {OIDC: &stacks.OIDCSettings{Issuer: "https://id.example.com", ClientID: "chat",
			URL: "https://chat.example.com", Everybody: true}},
	} {
		for _, target := range plan.Targets {
			t.Run(name+" on "+string(target), func(t *testing.T) {
				stack, err := stacks.Load("healthcare", stacks.Settings{
					Target: target,
					Edge: stacks.EdgeSettings{Address: "0.0.0.0",
						TrustedProxies: []string{"10.0.0.0/8"}},
					SignIn: &how, AssumeSecrets: true,
				}, stacks.Checkout{FS: os.DirFS(projectRoot(t))})
				if err != nil {
					t.Fatal(err)
				}

				var view workload.View
				if target == stacks.Docker {
					view = onEngine(t, stack, nil)
				} else {
					view = onCluster(t, stack, record(t, stack))
				}

				if v := check(t, stack, view).Violations; len(v) > 0 {
					t.Errorf("violations %v", v)
				}
			})
		}
	}
}

// bad is a stack that breaks one rule: changed before it is planned, as a careless overlay would,
// or in its plan, where the description cannot even say such a thing.
type bad struct {
	from    string // prod unless set
	change  func(*stacks.Stack)
	service string // whose containers are changed in the plan

	// alter changes what is rendered for an engine.
	alter    func(*types.ServiceConfig)
	alterAll func(*docker.Rendering)

	// tamper and tamperAll, which changes any resource, change the plan for a cluster.
	tamper    func(in map[string]any)
	tamperAll func(r *plan.Resource)
	subject   string // the service unless set
	want      string // the rule
}

func service(name string, f func(*stacks.Service)) func(*stacks.Stack) {
	return func(s *stacks.Stack) { f(s.Service(name)) }
}

// openInClearText opens the edge to people who sign in, without TLS.
func openInClearText(s *stacks.Stack) {
	s.Service(stacks.Edge).Ports[0].Address = "0.0.0.0"
	s.Service(stacks.Gate).Contract.(*gateenv.Config).SignIn = gateenv.Accounts
}

// openToAll opens the edge behind a gateway that ends TLS, to whoever comes.
func openToAll(s *stacks.Stack) {
	s.Service(stacks.Edge).Ports[0].Address = "0.0.0.0"
	s.TrustedProxies = []string{"10.0.0.0/8"}
}

func set(key string, value any) func(map[string]any) {
	return func(in map[string]any) { in[key] = value }
}
func unset(key string) func(map[string]any) { return func(in map[string]any) { delete(in, key) } }

func both(a, b func(map[string]any)) func(map[string]any) {
	return func(in map[string]any) { a(in); b(in) }
}

// TestBadStacks checks that each bad stack is caught by the rule that should, and by no other.
func TestBadStacks(t *testing.T) {
	caught := map[string]bool{policy.WaiverRule: true} // TestWaivers
	recorded := map[string][]plan.Resource{}           // of unchanged stacks on a cluster
	for target, table := range map[stacks.Target]map[string]bad{stacks.Docker: badOnDocker,
		stacks.Kubernetes: badOnKubernetes} {
		for name, b := range table {
			caught[b.want] = true
			t.Run(name+" on "+string(target), func(t *testing.T) { b.test(t, target, recorded) })
		}
	}

	for _, rule := range policy.Rules() {
		if !caught[rule.ID] {
			t.Errorf("no bad stack shows what %s is for", rule.ID)
		}
	}
}

func (b bad) test(t *testing.T, target stacks.Target, recorded map[string][]plan.Resource) {
	stack := shipped(t, cmp.Or(b.from, "prod"), target)
	if b.change != nil {
		b.change(&stack)
	}

	var view workload.View
	if target == stacks.Docker {
		view = onEngine(t, stack, b.altered)
	} else {
		resources := recorded[stack.Name]
		if b.change != nil || resources == nil {
			resources = record(t, stack)
		}
		if b.change == nil {
			recorded[stack.Name] = resources
		}

		view = onCluster(t, stack, b.tampered(t, resources))
	}

	report := check(t, stack, view)
	subject := cmp.Or(b.subject, b.service)
	if len(report.Violations) == 0 {
		t.Fatal("no rule catches it")
	}

	for _, v := range report.Violations {
		if v.Rule != b.want || subject != "*" && v.Subject != subject || v.What == "" ||
			v.Reason == "" || v.Fix == "" {
			t.Errorf("caught by %s (%s: %s), want %s for %s", v.Rule, v.Subject, v.What, b.want,
				subject)
		}
	}
}

// running are the types of resources that run containers.
var running = []string{"kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet",
	"kubernetes:batch/v1:Job"}

// altered changes what is rendered.
func (b bad) altered(r *docker.Rendering) {
	if b.alterAll != nil {
		b.alterAll(r)
	}

	if b.alter != nil {
		c := r.Project.Services[b.service]
		b.alter(&c)
		r.Project.Services[b.service] = c
	}
}

// tampered changes the plan.
func (b bad) tampered(t *testing.T, resources []plan.Resource) []plan.Resource {
	t.Helper()
	text, err := json.Marshal(resources) // a copy without shared lists
	if err != nil {
		t.Fatal(err)
	}

	var out []plan.Resource
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}

	for i := range out {
		if b.tamperAll != nil {
			b.tamperAll(&out[i])
		}
		if b.tamper != nil && slices.Contains(running, out[i].Type) &&
			strings.HasSuffix(out[i].Parent, ":Service "+b.service) {
			b.tamper(out[i].Inputs)
		}
	}

	return out
}

// TestWaivers checks what a waiver does, and what is said about a bad one.
func TestWaivers(t *testing.T) {
	stack := shipped(t, "prod", stacks.Docker)
	stack.Service("ollama").Security.WritableRoot = "it was easier"
	view := onEngine(t, stack, nil)
	day := func(days int) time.Time { return today.Truncate(24*time.Hour).AddDate(0, 0, days) }
	for name, tc := range map[string]struct {
		waivers    []stacks.Waiver
		violations []string // rule, subject
		waived     int
		err        string
	}{
		"none": {nil, []string{"read-only-root ollama"}, 0, ""},
		"good": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama",
			Reason: "until the upstream fix", Expires: day(30)}}, nil, 1, ""},
		"last day": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r",
			Expires: day(1)}}, nil, 1, ""},
		"expired": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r",
			Expires: day(0)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"another subject": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "redis", Reason: "r",
			Expires: day(9)}}, []string{"read-only-root ollama", "waiver redis"}, 0, ""},
		"another rule": {[]stacks.Waiver{{Rule: "limits", Subject: "ollama", Reason: "r",
			Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"unknown rule": {[]stacks.Waiver{{Rule: "read-only", Subject: "ollama", Reason: "r",
			Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"of waivers": {[]stacks.Waiver{{Rule: "waiver", Subject: "ollama", Reason: "r", Expires: day(9)},
			{Rule: "limits", Subject: "ollama", Reason: "r",
				Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama",
			"waiver ollama"}, 0, ""},
		"for ever": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r",
			Expires: day(4000)}}, []string{"waiver ollama"}, 1, ""},
		"no reason": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: " ",
			Expires: day(9)}}, nil, 0, "waivers.read-only-root: needs a subject, a reason"},
		"no expiry": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r"}},
			nil, 0, "the day it expires on"},
		"no subject": {[]stacks.Waiver{{Rule: "read-only-root", Reason: "r", Expires: day(9)}}, nil,
			0, "needs a subject"},
		"one of two": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r",
			Expires: day(9)}, {Rule: "limits", Subject: "ml", Reason: "r",
			Expires: day(9)}}, []string{"waiver ml"}, 1, ""},
		"still a waiver": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama",
			Reason: "old", Expires: day(-9)}, {Rule: "read-only-root", Subject: "ollama",
			Reason: "new", Expires: day(9)}},
			[]string{"waiver ollama"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			stack := stack
			stack.Waivers = tc.waivers
			report, err := policy.Check(policy.Input{
				View:  view,
				Stack: stack,
				Root:  projectRoot(t),
			},
				today)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want an error with %q", err, tc.err)
				}
				return
			}

			if err != nil {
				t.Fatal(err)
			}

			var got []string
			for _, v := range report.Violations {
				got = append(got, v.Rule+" "+v.Subject)
			}

			if !slices.Equal(got, tc.violations) || len(report.Waived) != tc.waived {
				t.Errorf("violations %v, want %v; waived %v, want %d", report.Violations,
					tc.violations, report.Waived, tc.waived)
			}
		})
	}
}

// TestRules checks that every rule says what a person needs, and that IDs are names.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range policy.Rules() {
		if r.ID == "" || r.Reason == "" || r.Fix == "" || seen[r.ID] ||
			strings.ToLower(r.ID) != r.ID || strings.ContainsAny(r.ID, " _.") {
			t.Errorf("%+v", r)
		}
		seen[r.ID] = true
	}

	ids := slices.Sorted(maps.Keys(seen))
	if got := fmt.Sprint(ids); !slices.IsSorted(ids) || len(ids) != len(policy.Rules()) {
		t.Errorf("rules are not sorted: %s", got)
	}
}
