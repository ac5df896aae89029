package diff_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/infra/diff"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// change is an edit of a stack: of a file, of a secret's value, or of what its overlay says.
type change struct {
	name            string
	file, old, text string
	secret          string
	stack           func(*stacks.Stack)
}

// of edits one service.
func of(name string, edit func(*stacks.Service)) func(*stacks.Stack) {
	return func(s *stacks.Stack) { edit(s.Service(name)) }
}

// withSessions adds a service: a second Redis.
func withSessions(s *stacks.Stack) {
	sessions := *s.Service(stacks.Redis)
	sessions.Name = "sessions"
	sessions.Ports = []stacks.Port{{
		Name:      sessions.Ports[0].Name,
		Container: sessions.Ports[0].Container,
	}}

	sessions.Mounts = []stacks.Mount{{
		Kind:   stacks.MountTmpfs,
		Target: "/data",
		Size:   16 * stacks.MiB,
	}}

	s.Services = append(slices.Clone(s.Services), sessions)
}

const (
	prodYAML        = "Pulumi.prod.yaml"
	backendSettings = "    backend:\n      replicas: 2\n"
)

// labs are the stacks that are up, and one change of each kind that a pull request makes to them.
var labs = []struct {
	stack   string
	targets []stacks.Target
	base    func(*stacks.Stack)
	changes []change
}{
	{"prod", plan.Targets, nil, []change{
		{name: "nothing"},
		{
			name: "limit",
			file: prodYAML,
			old:  backendSettings,
			text: backendSettings + "      memory: 2Gi\n",
		},
		{
			name: "replicas",
			file: prodYAML,
			old:  backendSettings,
			text: "    backend:\n      replicas: 3\n",
		},
		{name: "fewer replicas", file: prodYAML, old: backendSettings,
			text: "    backend:\n      replicas: 1\n"},
		{name: "secret", secret: "staple-tr0ub4dor"},
		{name: "prompt", file: "modelfiles/codexcontinue/Modelfile", old: "You are CodexContinue,",
			text: "You are a pirate and CodexContinue,"},
		{name: "source", file: "services/backend/main.go", old: "package main",
			text: "package main // edited"},
		{name: "image",
			stack: of(stacks.Redis, func(s *stacks.Service) {
				s.Image.Ref = "redis:8.4.0-bookworm"
			})},
		{name: "several", file: prodYAML, old: backendSettings,
			text: backendSettings + "      cpu: 700m\n", stack: func(s *stacks.Stack) {
				s.Service(stacks.Redis).Command = append(slices.Clone(s.Service(stacks.Redis).Command),
					"--maxclients", "100")
				s.Service(stacks.Frontend).Health.Retries++
				s.Service(stacks.ML).StopGrace *= 2
				s.Service(stacks.Ollama).Security.UID++
				s.Service(stacks.Edge).Files[0].Content += "\n# edited\n"
			}},
		{name: "service", stack: withSessions},
	}},
	{"dev", []stacks.Target{stacks.Docker}, withSessions, []change{
		{name: "nothing"},
		{name: "no service", stack: func(*stacks.Stack) {}},
		{name: "no port", stack: func(s *stacks.Stack) {
			withSessions(s)
			s.Service(stacks.Redis).Ports[0].Host = 0
		}},
		{name: "other port", stack: func(s *stacks.Stack) {
			withSessions(s)
			s.Service(stacks.Redis).Ports[0].Host++
		}},
	}},
}

// previewLab is a stack that is up by its state, and real previews of it.
type previewLab struct {
	root, stack string
	target      stacks.Target

	// base edits the stack that is up; nil for the shipped one.
	base func(*stacks.Stack)
	pul  auto.Stack
}

// newPreviewLab copies what the stack is made of and has a real engine write the state of an
// `up` that is pretended.
func newPreviewLab(
	t *testing.T, stack string, target stacks.Target, base func(*stacks.Stack),
) *previewLab {
	t.Helper()
	peers.Find(t, "pulumi", "pulumi")
	binary := peers.DockerPlugin
	if target == stacks.Kubernetes {
		binary = peers.KubernetesPlugin
	}

	ctx := context.Background()
	l := &previewLab{root: t.TempDir(), stack: stack, target: target, base: base}
	for _, name := range []string{"services", "modelfiles", "tools/lint"} {
		if err := os.CopyFS(filepath.Join(l.root, name),
			os.DirFS(filepath.Join(repository(t), name))); err != nil {
			t.Fatal(err)
		}
	}

	own := "Pulumi." + stack + ".yaml"
	for _, name := range []string{"go.mod", "go.sum", "Pulumi.yaml", own} {
		text, err := os.ReadFile(filepath.Join(repository(t), name))
		if err != nil {
			t.Fatal(err)
		}

		if name == own {
			text = bytes.Replace(text, []byte("config:\n"),
				[]byte("config:\n  codexcontinue:target: "+string(target)+"\n"), 1)
		}

		l.write(t, name, text)
	}

	l.write(t, "infra/main.go", []byte("package main\n"))

	env := map[string]string{"PULUMI_BACKEND_URL": "file://" + t.TempDir(),
		"PULUMI_CONFIG_PASSPHRASE": "codexcontinue-dev", "PULUMI_SKIP_UPDATE_CHECK": "true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true"}
	// There is no cluster, and an engine that does nothing.
	for name, value := range map[string]string{"DOCKER_HOST": idleEngine(t),
		"KUBECONFIG": filepath.Join(l.root, "kubeconfig")} {
		env[name] = value
		// of this process: the program runs in it, and the plugin gets what it has
		t.Setenv(name, value)
	}

	pretended := maps.Clone(env)
	pretended["PULUMI_DEBUG_PROVIDERS"] = fmt.Sprintf("%s:%d", target,
		pretend(t, string(target), binary(t), filepath.Join(l.root, "infra")))
	// The program waits for the pods; the plugin has its own idea of the cluster, from before.
	t.Setenv("KUBECONFIG",
		idleCluster(t, []string{stacks.Edge, stacks.Gate, stacks.Frontend, stacks.Backend, stacks.ML,
			stacks.Redis, stacks.Ollama}))
	up, err := auto.UpsertStackInlineSource(ctx, stack, stacks.Project, l.program(base),
		auto.WorkDir(l.root), auto.EnvVars(pretended))
	if err != nil {
		t.Fatal(err)
	}

	l.pul = up
	if stack == "prod" {
		l.password(t, "correct-horse-battery")
	}
	if _, err := up.Up(ctx, optup.SuppressProgress()); err != nil {
		t.Fatal(err)
	}

	t.Setenv("KUBECONFIG", env["KUBECONFIG"])
	if l.pul, err = auto.SelectStackInlineSource(ctx, stack, stacks.Project, l.program(base),
		auto.WorkDir(l.root), auto.EnvVars(env)); err != nil {
		t.Fatal(err)
	}

	return l
}

func (l *previewLab) password(t *testing.T, value string) {
	t.Helper()
	if err := l.pul.SetConfig(context.Background(), stacks.Project+":"+stacks.RedisPasswordKey,
		auto.ConfigValue{Value: value, Secret: true}); err != nil {
		t.Fatal(err)
	}
}

func repository(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (l *previewLab) write(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// program returns the project's own, with the stack edited.
func (l *previewLab) program(edit func(*stacks.Stack)) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		config, err := program.ReadConfig(l.root, l.stack)
		if err != nil {
			return err
		}

		plain, secret := config.Own()
		settings, stack, err := program.Load(l.root, l.stack, plain, secret)
		if err != nil {
			return err
		}

		if edit != nil {
			edit(&stack)
			if err := stack.Validate(); err != nil {
				return err
			}
		}

		rendered, err := program.Render(settings, stack, l.root)
		if err != nil {
			return err
		}

		return program.Provision(ctx, stack, rendered, l.root)
	}
}

// document returns the plan as `codexctl diff` makes it; that of an edited stack is recorded here,
// as no file holds the edit.
func (l *previewLab) document(t *testing.T, edit func(*stacks.Stack)) plan.Document {
	t.Helper()
	ctx := context.Background()
	if edit == nil {
		p, err := plan.Of(ctx, l.root, l.stack, plan.OfOptions{Key: []byte("0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		return p.Document
	}

	return recorded(t, l.root, l.stack, l.target, edit)
}

// apply makes the change of a file and returns what undoes it.
func (l *previewLab) apply(t *testing.T, c change) (undo func()) {
	t.Helper()
	file := c.file
	if c.secret != "" {
		file = "Pulumi." + l.stack + ".yaml"
	}
	if file == "" {
		return func() {}
	}

	before, err := os.ReadFile(filepath.Join(l.root, file))
	if err != nil {
		t.Fatal(err)
	}

	if c.secret != "" {
		l.password(t, c.secret)
	} else if !bytes.Contains(before, []byte(c.old)) {
		t.Fatalf("%s has no longer %q", c.file, c.old)
	} else {
		l.write(t, file, bytes.Replace(before, []byte(c.old), []byte(c.text), 1))
	}

	return func() { l.write(t, file, before) }
}

// effects are what happens, by URN: the action, and the paths of the properties that change.
type effects map[string]effect

type effect struct {
	action string
	paths  []string
}

func (e effects) set(urn, action string, paths []string) {
	slices.Sort(paths)
	e[urn] = effect{action, slices.Compact(paths)}
}

// preview returns the changes of the real one.
func (l *previewLab) preview(t *testing.T, edit func(*stacks.Stack)) effects {
	t.Helper()
	l.pul.Workspace().SetProgram(l.program(edit))
	stream := make(chan events.EngineEvent)
	out, done := effects{}, make(chan struct{})
	go func() {
		defer close(done)
		for e := range stream {
			if e.ResourcePreEvent == nil {
				continue
			}

			m := e.ResourcePreEvent.Metadata
			switch m.Op {
			case apitype.OpCreate, apitype.OpDelete, apitype.OpUpdate, apitype.OpReplace:
				paths := m.Diffs
				if len(m.DetailedDiff) > 0 {
					paths = slices.Collect(maps.Keys(m.DetailedDiff))
				}

				for i := range paths {
					paths[i] = general(paths[i])
				}

				out.set(m.URN, string(m.Op), paths)
			}
		}
	}()

	_, err := l.pul.Preview(context.Background(), optpreview.EventStreams(stream),
		optpreview.SuppressProgress())
	if err != nil {
		t.Fatal(err)
	}

	<-done
	return out
}

// derived returns the changes that the comparison of the plans finds.
func derived(t *testing.T, before, after plan.Document) effects {
	t.Helper()
	out := effects{}
	for _, r := range compare(t, []plan.Document{before}, []plan.Document{after}).Plans[0].Resources {
		var paths []string
		for _, p := range r.Properties {
			paths = append(paths, general(p.Path))
		}
		if r.Action != diff.Options { // the engine calls such a resource the same
			out.set(r.URN, string(r.Action), paths)
		}
	}

	return out
}

var index = regexp.MustCompile(`\[[^\]]*\]`)

// general returns the path without places in lists, which both sides number in their own way.
func general(path string) string { return index.ReplaceAllString(path, "") }

// within reports whether the path is one of those, or lies in one, or holds one: of a list
// either side may tell all.
func within(path string, of []string) bool {
	return slices.ContainsFunc(of, func(o string) bool {
		return o == path || strings.HasPrefix(path, o+".") || strings.HasPrefix(o, path+".")
	})
}

// TestPreview checks what the comparison of two plans says against a real preview, by the real
// Pulumi engine and the real provider, of the same change: every resource and property of either
// must be in the other.
func TestPreview(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the Pulumi CLI dozens of times")
	}

	for _, lab := range labs {
		for _, target := range lab.targets {
			t.Run(lab.stack+" on "+string(target), func(t *testing.T) {
				l := newPreviewLab(t, lab.stack, target, lab.base)
				for _, c := range lab.changes {
					t.Run(c.name, func(t *testing.T) { l.hold(t, c) })
				}
			})
		}
	}
}

func (l *previewLab) hold(t *testing.T, c change) {
	edit, was := c.stack, l.base
	if edit == nil {
		edit = l.base
	} else if was == nil {
		was = func(*stacks.Stack) {} // recorded as what it is compared with
	}

	before := l.document(t, was)
	defer l.apply(t, c)()
	said, real := derived(t, before, l.document(t, edit)), l.preview(t, edit)
	if len(real) == 0 && c.name != "nothing" {
		t.Error("the change changes nothing")
	}

	for _, urn := range slices.Sorted(maps.Keys(said)) {
		if _, both := real[urn]; !both {
			t.Errorf("only the plans say %s of %s: %v", said[urn].action, urn, said[urn].paths)
		}
	}

	for _, urn := range slices.Sorted(maps.Keys(real)) {
		is := real[urn]
		s, both := said[urn]
		switch {
		case !both:
			t.Errorf("only the preview says %s of %s: %v", is.action, urn, is.paths)
			continue
		case s.action != is.action:
			t.Errorf("%s: %s by the plans %v, %s by the preview %v", urn, s.action, s.paths,
				is.action, is.paths)
		case s.action == "create" || s.action == "delete":
			continue
		}

		for _, p := range s.paths {
			if !within(p, is.paths) {
				t.Errorf("%s: only the plans say that %s changes; the preview: %v", urn, p,
					is.paths)
			}
		}

		for _, p := range is.paths {
			// The provider digests the files of a build itself; the plans' digest of
			// them is the image's tag.
			files := strings.Contains(urn, "docker:index/image:Image") && p == "build" &&
				within("imageName", s.paths)
			if !within(p, s.paths) && !files {
				t.Errorf("%s: only the preview says that %s changes; the plans: %v", urn, p,
					s.paths)
			}
		}
	}
}
