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
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/stacks"
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
	settings := stacks.Settings{Target: target, Secrets: map[string]bool{stacks.RedisPasswordKey: name != "dev"}}
	stack, err := stacks.Load(name, settings, stacks.Checkout{FS: os.DirFS(projectRoot(t)), UID: 1000, GID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return stack
}

// record plans the stack for the target.
func record(t *testing.T, stack stacks.Stack, target stacks.Target) []plan.Resource {
	t.Helper()
	resources, err := plan.Record(context.Background(), plan.Stack{
		Project: stacks.Project, Name: stack.Name,
		Config:  map[string]string{"codexcontinue:redisPassword": "hunter2-hunter2"},
		Secrets: []string{"codexcontinue:redisPassword"},
	}, func(ctx *pulumi.Context) error { return deploy(ctx, stack, projectRoot(t), target) })
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

func deploy(ctx *pulumi.Context, stack stacks.Stack, root string, target stacks.Target) error {
	if target == stacks.Kubernetes {
		_, err := kubernetes.Deploy(ctx, stack, kubernetes.Options{Root: root})
		return err
	}
	_, err := docker.Deploy(ctx, stack, root)
	return err
}

func check(t *testing.T, stack stacks.Stack, resources []plan.Resource, target stacks.Target) policy.Report {
	t.Helper()
	view, err := workload.Of(stack.Name, target, resources)
	if err != nil {
		t.Fatal(err)
	}
	report, err := policy.Check(policy.Plan{View: view, Stack: stack, Root: projectRoot(t)}, today)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestShippedStacks holds that the stacks of this repository keep every rule, without a waiver.
func TestShippedStacks(t *testing.T) {
	for _, name := range stacks.Overlays() {
		for _, target := range plan.Targets {
			t.Run(name+" on "+string(target), func(t *testing.T) {
				stack := shipped(t, name, target)
				report := check(t, stack, record(t, stack, target), target)
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

// bad is a stack that breaks one rule: changed before it is planned, as a careless overlay would, or in its plan, where
// the description cannot even say such a thing.
type bad struct {
	from    string // prod unless set
	change  func(*stacks.Stack)
	service string // whose containers are changed in the plan
	tamper  func(in map[string]any)
	// tamperAll changes any resource.
	tamperAll func(r *plan.Resource)
	subject   string // the service unless set
	want      string // the rule
}

func service(name string, f func(*stacks.Service)) func(*stacks.Stack) {
	return func(s *stacks.Stack) { f(s.Service(name)) }
}

var badOnDocker = map[string]bad{
	"a published backend":         {change: service("backend", func(s *stacks.Service) { s.Replicas = 1; s.Ports[0].Host = 8000; s.Ports[0].Address = "0.0.0.0" }), subject: "backend", want: "public-port"},
	"a published redis":           {change: service("redis", func(s *stacks.Service) { s.Ports[0].Host = 6379 }), subject: "redis", want: "public-port"},
	"dev open to the network":     {from: "dev", change: service("ollama", func(s *stacks.Service) { s.Ports[0].Address = "0.0.0.0" }), subject: "ollama", want: "public-port"},
	"privileged":                  {service: "ml", tamper: set("privileged", true), want: "privileged"},
	"root":                        {service: "ml", tamper: set("user", "0:0"), want: "non-root"},
	"root's group":                {service: "ml", tamper: set("user", "65532:0"), want: "non-root"},
	"the image's user":            {service: "ml", tamper: unset("user"), want: "non-root"},
	"a writable root":             {change: service("ollama", func(s *stacks.Service) { s.Security.WritableRoot = "it was easier" }), subject: "ollama", want: "read-only-root"},
	"a dangerous capability":      {change: service("ml", func(s *stacks.Service) { s.Security.KeepCapabilities = map[string]string{"SYS_ADMIN": "for mounts"} }), subject: "ml", want: "capabilities"},
	"a capability for no reason":  {change: service("edge", func(s *stacks.Service) { s.Security.KeepCapabilities["NET_BIND_SERVICE"] = " " }), subject: "edge", want: "capabilities"},
	"capabilities not dropped":    {service: "redis", tamper: set("capabilities", map[string]any{"drops": []any{"NET_RAW"}}), want: "capabilities"},
	"privileges to gain":          {service: "backend", tamper: set("securityOpts", []any{}), want: "no-new-privileges"},
	"no seccomp":                  {service: "backend", tamper: set("securityOpts", []any{"no-new-privileges:true", "seccomp=unconfined"}), want: "confined"},
	"no SELinux":                  {service: "backend", tamper: set("securityOpts", []any{"no-new-privileges:true", "label:disable"}), want: "confined"},
	"the machine's network":       {service: "backend", tamper: both(set("networkMode", "host"), unset("networksAdvanced")), want: "host-namespace"},
	"the machine's processes":     {service: "backend", tamper: set("pidMode", "host"), want: "host-namespace"},
	"the machine's memory":        {service: "backend", tamper: set("ipcMode", "host"), want: "host-namespace"},
	"a device":                    {service: "ollama", tamper: set("devices", []any{map[string]any{"hostPath": "/dev/mem"}}), want: "host-device"},
	"the engine's socket":         {service: "backend", tamper: bind("/var/run/docker.sock", true), want: "engine-socket"},
	"the folder of the sockets":   {service: "backend", tamper: bind("/var/run", true), want: "engine-socket"},
	"a folder of the machine":     {service: "backend", tamper: bind("/etc", true), want: "host-path"},
	"the checkout's neighbour":    {service: "backend", tamper: func(in map[string]any) { root, _ := filepath.Abs("../.."); bind(root+"-secret", true)(in) }, want: "host-path"},
	"above the checkout":          {service: "backend", tamper: func(in map[string]any) { root, _ := filepath.Abs("../.."); bind(root+"/../x", true)(in) }, want: "host-path"},
	"another writable checkout":   {change: service("ml", func(s *stacks.Service) { s.Mounts[0].ReadOnly = false }), subject: "ml", want: "source-mount"},
	"the sources in production":   {change: service("ml", func(s *stacks.Service) { s.Mounts[0].Source = "." }), subject: "ml", want: "source-mount"},
	"no memory limit":             {service: "ml", tamper: both(unset("memory"), unset("memorySwap")), want: "limits"},
	"swap":                        {service: "ml", tamper: set("memorySwap", -1.0), want: "limits"},
	"no CPU limit":                {service: "ml", tamper: unset("cpuQuota"), want: "limits"},
	"no limit of processes":       {service: "ml", tamper: dropLabel(docker.LabelPIDs), want: "limits"},
	"an endless log":              {service: "ml", tamper: unset("logOpts"), want: "bounded-log"},
	"no health check":             {service: "ml", tamper: unset("healthcheck"), want: "health-check"},
	"a health check switched off": {service: "ml", tamper: set("healthcheck", map[string]any{"tests": []any{"NONE"}}), want: "health-check"},
	"latest":                      {change: service("redis", func(s *stacks.Service) { s.Image.Ref = "redis:latest" }), subject: "redis", want: "pinned-image"},
	"no tag":                      {change: service("redis", func(s *stacks.Service) { s.Image.Ref = "registry.example.com:5000/redis" }), subject: "redis", want: "pinned-image"},
	"debugged production": {change: service("backend", func(s *stacks.Service) {
		c := s.Contract.(contract.Backend)
		c.Debug = true
		s.Contract = c
	}), subject: "backend", want: "debug"},
	"a password in the environment":     {change: service("redis", func(s *stacks.Service) { s.Env = map[string]string{"REDIS_PASSWORD": "x"} }), subject: "redis", want: "secret-in-environment"},
	"a key in the environment":          {change: service("ollama", func(s *stacks.Service) { s.Env["HF_API_KEY"] = "x" }), subject: "ollama", want: "secret-in-environment"},
	"a password in a URL":               {change: service("ollama", func(s *stacks.Service) { s.Env["HTTPS_PROXY"] = "http://me:x@proxy:3128" }), subject: "ollama", want: "secret-in-environment"},
	"a recorded secret as environment":  {service: "ml", tamper: set("envs", []any{"DEBUG=false", plan.Secret}), want: "secret-in-environment"},
	"an environment that is all secret": {service: "ml", tamper: set("envs", plan.Secret), want: "secret-in-environment"},
	"a secret argument":                 {service: "redis", tamper: set("command", []any{"redis-server", "--requirepass", plan.Secret}), want: "secret-in-arguments"},
	"a secret health check":             {service: "redis", tamper: set("healthcheck", map[string]any{"tests": plan.Secret}), want: "secret-in-arguments"},
	"a redis for everyone": {change: service("redis", func(s *stacks.Service) {
		s.Files = slices.DeleteFunc(s.Files, func(f stacks.File) bool { return f.Secret != "" })
	}), subject: "redis", want: "redis-password"},
	"healthcare on an open network": {from: "healthcare", change: service("backend", func(s *stacks.Service) {
		s.Networks = []string{"codexcontinue-private", stacks.MainNetwork}
	}), subject: "backend", want: "isolation"},
	"healthcare without its fence": {from: "healthcare", change: func(s *stacks.Stack) {
		for i := range s.Networks {
			s.Networks[i].Internal = false
		}
	}, subject: "*", want: "isolation"},
	"healthcare's domain on prod": {change: func(s *stacks.Stack) {
		s.Service("ollama").Env["OLLAMA_NO_CLOUD"] = "1"
		c := s.Service("frontend").Contract.(contract.Frontend)
		c.Domain = "healthcare"
		s.Service("frontend").Contract = c
	}, subject: "*", want: "isolation"},
	"healthcare with the cloud": {from: "healthcare", change: service("ollama", func(s *stacks.Service) { delete(s.Env, "OLLAMA_NO_CLOUD") }), subject: "ollama", want: "cloud-models"},
	"a volume that goes": {tamperAll: func(r *plan.Resource) {
		if r.Type == "docker:index/volume:Volume" {
			r.Options.RetainOnDelete = r.Name != "redis-data"
		}
	}, subject: "redis-data", want: "retained-volume"},
	"two at one volume": {service: "redis", tamperAll: func(r *plan.Resource) {
		if r.Type == "docker:index/container:Container" && r.Name == "codexcontinue-prod-redis" {
			r.Options.DeleteBeforeReplace = new(false)
		}
	}, subject: "redis", want: "single-writer"},
	"a second writer": {service: "backend", tamper: set("mounts", []any{map[string]any{
		"type": "volume", "source": "codexcontinue-redis-data-prod", "target": "/data"}}), subject: "*", want: "single-writer"},
	"the default network": {service: "ml", tamper: unset("networksAdvanced"), want: "fenced"},
}

func set(key string, value any) func(map[string]any) {
	return func(in map[string]any) { in[key] = value }
}
func unset(key string) func(map[string]any) { return func(in map[string]any) { delete(in, key) } }
func both(a, b func(map[string]any)) func(map[string]any) {
	return func(in map[string]any) { a(in); b(in) }
}
func bind(source string, readOnly bool) func(map[string]any) {
	return set("mounts", []any{map[string]any{"type": "bind", "source": source, "target": "/mnt", "readOnly": readOnly}})
}
func dropLabel(name string) func(map[string]any) {
	return func(in map[string]any) {
		in["labels"] = slices.DeleteFunc(in["labels"].([]any), func(l any) bool { return l.(map[string]any)["label"] == name })
	}
}

// TestBadStacks holds that each bad stack is caught by the rule that should, and by no other.
func TestBadStacks(t *testing.T) {
	caught := map[string]bool{policy.WaiverRule: true} // TestWaivers
	recorded := map[string][]plan.Resource{}           // of unchanged stacks
	for target, table := range map[stacks.Target]map[string]bad{stacks.Docker: badOnDocker, stacks.Kubernetes: badOnKubernetes} {
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
	key := stack.Name + " on " + string(target)
	resources := recorded[key]
	if b.change != nil || resources == nil {
		resources = record(t, stack, target)
	}
	if b.change == nil {
		recorded[key] = resources
	}
	resources = b.tampered(t, resources)
	report := check(t, stack, resources, target)
	subject := cmp.Or(b.subject, b.service)
	if len(report.Violations) == 0 {
		t.Fatal("no rule catches it")
	}
	for _, v := range report.Violations {
		if v.Rule != b.want || subject != "*" && v.Subject != subject || v.What == "" || v.Reason == "" || v.Fix == "" {
			t.Errorf("caught by %s (%s: %s), want %s for %s", v.Rule, v.Subject, v.What, b.want, subject)
		}
	}
}

// running are the types of resources that run containers.
var running = []string{"docker:index/container:Container", "kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet", "kubernetes:batch/v1:Job"}

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
		if b.tamper != nil && slices.Contains(running, out[i].Type) && strings.HasSuffix(out[i].Parent, ":Service "+b.service) && !strings.HasSuffix(out[i].Name, "-files") {
			b.tamper(out[i].Inputs)
		}
	}
	return out
}

// TestWaivers holds what a waiver does, and what is said about a bad one.
func TestWaivers(t *testing.T) {
	stack := shipped(t, "prod", stacks.Docker)
	stack.Service("ollama").Security.WritableRoot = "it was easier"
	view, err := workload.Of(stack.Name, stacks.Docker, record(t, stack, stacks.Docker))
	if err != nil {
		t.Fatal(err)
	}
	day := func(days int) time.Time { return today.Truncate(24*time.Hour).AddDate(0, 0, days) }
	for name, tc := range map[string]struct {
		waivers    []stacks.Waiver
		violations []string // rule, subject
		waived     int
		err        string
	}{
		"none":            {nil, []string{"read-only-root ollama"}, 0, ""},
		"good":            {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "until the upstream fix", Expires: day(30)}}, nil, 1, ""},
		"last day":        {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r", Expires: day(1)}}, nil, 1, ""},
		"expired":         {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r", Expires: day(0)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"another subject": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "redis", Reason: "r", Expires: day(9)}}, []string{"read-only-root ollama", "waiver redis"}, 0, ""},
		"another rule":    {[]stacks.Waiver{{Rule: "limits", Subject: "ollama", Reason: "r", Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"unknown rule":    {[]stacks.Waiver{{Rule: "read-only", Subject: "ollama", Reason: "r", Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama"}, 0, ""},
		"of waivers": {[]stacks.Waiver{{Rule: "waiver", Subject: "ollama", Reason: "r", Expires: day(9)},
			{Rule: "limits", Subject: "ollama", Reason: "r", Expires: day(9)}}, []string{"read-only-root ollama", "waiver ollama", "waiver ollama"}, 0, ""},
		"for ever":   {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r", Expires: day(4000)}}, []string{"waiver ollama"}, 1, ""},
		"no reason":  {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: " ", Expires: day(9)}}, nil, 0, "waivers.read-only-root: needs a subject, a reason"},
		"no expiry":  {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r"}}, nil, 0, "the day it expires on"},
		"no subject": {[]stacks.Waiver{{Rule: "read-only-root", Reason: "r", Expires: day(9)}}, nil, 0, "needs a subject"},
		"one of two": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "r", Expires: day(9)}, {Rule: "limits", Subject: "ml", Reason: "r", Expires: day(9)}}, []string{"waiver ml"}, 1, ""},
		"still a waiver": {[]stacks.Waiver{{Rule: "read-only-root", Subject: "ollama", Reason: "old", Expires: day(-9)}, {Rule: "read-only-root", Subject: "ollama", Reason: "new", Expires: day(9)}},
			[]string{"waiver ollama"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			stack := stack
			stack.Waivers = tc.waivers
			report, err := policy.Check(policy.Plan{View: view, Stack: stack, Root: projectRoot(t)}, today)
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
				t.Errorf("violations %v, want %v; waived %v, want %d", report.Violations, tc.violations, report.Waived, tc.waived)
			}
		})
	}
}

// TestRules holds that every rule says what a person needs, and that IDs are names.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range policy.Rules() {
		if r.ID == "" || r.Reason == "" || r.Fix == "" || seen[r.ID] || strings.ToLower(r.ID) != r.ID || strings.ContainsAny(r.ID, " _.") {
			t.Errorf("%+v", r)
		}
		seen[r.ID] = true
	}
	ids := slices.Sorted(maps.Keys(seen))
	if got := fmt.Sprint(ids); !slices.IsSorted(ids) || len(ids) != len(policy.Rules()) {
		t.Errorf("rules are not sorted: %s", got)
	}
}
