package evidence_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/evidence"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/policy"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite docs/evidence.md")

const root = "../.."

// of returns what supports the items in a shipped stack.
func of(t *testing.T, name string, target stacks.Target) evidence.Report {
	t.Helper()
	in := planned(t, name, target)
	r, err := evidence.Of(in, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	return r
}

func planned(t *testing.T, name string, target stacks.Target) policy.Input {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}

	p, err := plan.Of(t.Context(), dir, name, plan.OfOptions{Target: target})
	if err != nil {
		t.Fatal(err)
	}

	view, err := workload.Of(p.Document)
	if err != nil {
		t.Fatal(err)
	}

	return policy.Input{View: view, Stack: p.Stack, Root: plan.Root}
}

// TestHealthcare holds that the shipped stack has everything that the page names, on both targets,
// and that the page is current.
func TestHealthcare(t *testing.T) {
	for _, target := range plan.Targets {
		for _, s := range of(t, "healthcare", target).Missing() {
			t.Errorf("on %s: %s %s does not hold: %q", target, s.Kind, s.Name, s.Value)
		}
	}

	const path = root + "/docs/evidence.md"
	want := of(t, "healthcare", stacks.Docker).Markdown()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says: `go test ./infra/evidence -update`", path)
	}
}

// TestMissing holds that a stack without a safeguard says so, by the name of its field or rule.
func TestMissing(t *testing.T) {
	in := planned(t, "healthcare", stacks.Docker)
	gate := slices.IndexFunc(in.Workloads,
		func(w workload.Workload) bool { return w.Service == stacks.Gate })
	env := in.Workloads[gate].Containers[0].Env
	env["SIGN_IN"], env["SESSION_IDLE"] = gateenv.None, "12h0m0s"
	delete(env, "AUDIT")
	in.Workloads[gate].Containers[0].Privileged = true
	in.Workloads[gate].WaysOut = []string{"codexcontinue"}

	r, err := evidence.Of(in, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, s := range r.Missing() {
		names = append(names, s.Name)
	}
	for _, want := range []string{
		"services.gate.SIGN_IN", "services.gate.SESSION_IDLE", "services.gate.AUDIT", "isolation",
		"safeguards",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not missed in %q", want, names)
		}
	}

	if page := r.Markdown(); !strings.Contains(page, "**not kept**") ||
		!strings.Contains(page, "**`12h0m0s`**") {
		t.Error("the page does not show what is missing")
	}
}

// TestOperator holds that a page tells of its own target alone what is left to do, and that no item
// of healthcare is without a support.
func TestOperator(t *testing.T) {
	of := map[stacks.Target]evidence.Report{
		stacks.Docker:     of(t, "healthcare", stacks.Docker),
		stacks.Kubernetes: of(t, "healthcare", stacks.Kubernetes),
	}
	for words, on := range map[string]stacks.Target{
		"the machine's firewall": stacks.Docker,
		"its engine":             stacks.Docker,
		"LUKS":                   stacks.Docker,
		"a network plugin that enforces NetworkPolicies": stacks.Kubernetes,
		"the cluster's API to few":                       stacks.Kubernetes,
		"a storage class that encrypts":                  stacks.Kubernetes,
		"the API server's audit log":                     stacks.Kubernetes,
	} {
		for target, r := range of {
			if has := strings.Contains(r.Markdown(), words); has != (target == on) {
				t.Errorf("on %s: %q is there: %t", target, words, has)
			}
		}
	}

	if !strings.Contains(of[stacks.Docker].Markdown(), "business associate contract") {
		t.Error("contracts are left to nobody")
	}

	for _, item := range of[stacks.Docker].Items {
		if len(item.Supports) == 0 {
			t.Errorf("nothing supports %s", item.Section)
		}
	}
}

// TestExempt holds that a rule supports nothing where it asks nothing of the stack.
func TestExempt(t *testing.T) {
	prod, dev := planned(t, "prod", stacks.Docker), planned(t, "dev", stacks.Docker)
	proxied := planned(t, "healthcare", stacks.Docker)
	proxied.Stack.TrustedProxies = []string{"192.0.2.1/32"}
	proxied.Exposed = []workload.Exposure{{Service: stacks.Edge, How: "port", Address: "0.0.0.0"}}

	for _, test := range []struct {
		name string
		in   policy.Input
		want []string
	}{
		{"prod", prod, []string{"isolation", "cloud-models"}},
		{"dev", dev, []string{"isolation", "cloud-models", "public-port", "redis-password"}},
		{"healthcare behind a gateway", proxied, []string{"edge-tls"}},
	} {
		r, err := evidence.Of(test.in, time.Now())
		if err != nil {
			t.Fatal(err)
		}

		missing := r.Missing()
		for _, name := range test.want {
			if !slices.ContainsFunc(missing, func(s evidence.Support) bool {
				return s.Name == name && s.Exempt
			}) {
				t.Errorf("%s: %s is not missed in %+v", test.name, name, missing)
			}
		}

		if !strings.Contains(r.Markdown(), "| **does not apply here** |") {
			t.Errorf("%s: the page does not show it", test.name)
		}
	}
}

// TestNamed holds that each rule and test that the page names is there.
func TestNamed(t *testing.T) {
	provisioning := provisioning(t)
	rules := map[string]bool{}
	for _, r := range policy.Rules() {
		rules[r.ID] = true
	}

	for _, item := range of(t, "healthcare", stacks.Docker).Items {
		if item.Operator == "" {
			t.Errorf("%s leaves nothing to the operator", item.Section)
		}

		for _, s := range item.Supports {
			switch s.Kind {
			case evidence.Rule:
				if !rules[s.Name] {
					t.Errorf("%s: there is no rule %s", item.Section, s.Name)
				}
			case evidence.Test:
				dir, name, _ := strings.Cut(s.Name, ".")
				skips, found := tests(t, dir)[name]
				switch {
				case !found:
					t.Errorf("%s: there is no test %s", item.Section, s.Name)
				case skips && !provisioning.MatchString(name):
					t.Errorf("%s: `make e2e` does not run %s", item.Section, s.Name)
				}
			}
		}
	}
}

// provisioning matches the tests that `make e2e` runs.
func provisioning(t *testing.T) *regexp.Regexp {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}

	var patterns []string
	line := regexp.MustCompile(`(?m)^(?:DOCKER|CLUSTER)_TESTS *\?= (.+)$`)
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		patterns = append(patterns, strings.ReplaceAll(m[1], "$$", "$"))
	}
	if len(patterns) != 2 {
		t.Fatalf("the Makefile has the patterns %q", patterns)
	}
	return regexp.MustCompile(strings.Join(patterns, "|"))
}

// tests returns the tests of a folder by name, and whether they are skipped but in `make e2e`.
func tests(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}

		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				out[f.Name.Name] = dir == "test/e2e" || calls(f, "EndToEnd")
			}
		}
	}

	return out
}

// calls reports whether the function calls one of that name of another package.
func calls(f *ast.FuncDecl, name string) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		found = found || ok && s.Sel.Name == name
		return !found
	})
	return found
}
