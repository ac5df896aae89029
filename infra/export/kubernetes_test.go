package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/export"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// manifests exports the stack to the folder and writes it there; it returns what is rendered, too.
func manifests(
	t *testing.T, stack stacks.Stack, dir string,
) ([]export.File, *kubernetes.Rendering) {
	t.Helper()
	rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: projectRoot(t)})
	if err != nil {
		t.Fatal(err)
	}

	files, err := export.Kubernetes(source(t, stack, rendered, dir))
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Path), []byte(f.Text), f.Mode); err != nil {
			t.Fatal(err)
		}
	}

	return files, rendered
}

func source(
	t *testing.T, stack stacks.Stack, rendered *kubernetes.Rendering, dir string,
) export.Source {
	t.Helper()
	return export.Source{Rendered: program.Rendered{Kubernetes: rendered}, Stack: stack,
		Root: projectRoot(t), Dir: dir}
}

// recorded returns the stack's plan.
func recorded(t *testing.T, stack stacks.Stack) []plan.Resource {
	t.Helper()
	resources, err := recorder.Record(context.Background(), recorder.Stack{
		Project: stacks.Project, Name: stack.Name,
		Config:  map[string]string{"codexcontinue:redisPassword": recordedPassword},
		Secrets: []string{"codexcontinue:redisPassword"},
	}, func(ctx *pulumi.Context) error {
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

// clustered are the stacks as a cluster may run them.
var clustered = map[string]struct {
	stack  string
	change func(*stacks.Settings)
}{
	"dev":        {"dev", nil},
	"prod":       {"prod", nil},
	"healthcare": {"healthcare", nil},
	"pushed":     {"prod", func(s *stacks.Settings) { s.Registry = "registry.example.com/team" }},
	"gateway": {"prod", func(s *stacks.Settings) {
		s.Edge.Host = "chat.example.com"
		s.Edge.Gateway, s.Edge.TLS = &stacks.Gateway{Class: "c"}, &stacks.TLS{Issuer: "i"}
	}},
	"ingress": {"prod", func(s *stacks.Settings) {
		s.Edge.Host, s.Edge.Ingress = "chat.example.com", &stacks.Ingress{Class: "c"}
		s.Services = map[string]stacks.ServiceSettings{stacks.Backend: {Autoscale: &stacks.Autoscale{
			Min: 2,
			Max: 4,
			CPU: 60,
		}}}
	}},
	"shared models": {"prod", func(s *stacks.Settings) {
		shared, replicas := true, 2
		s.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Shared: &shared}}
		s.Services = map[string]stacks.ServiceSettings{stacks.Ollama: {Replicas: &replicas}}
	}},
	"pushed shared models": {"prod", pushedShared},
}

// pushedShared makes a Job whose two containers, ml's and an Ollama beside it, are of two
// images that are pushed.
func pushedShared(s *stacks.Settings) {
	shared := true
	s.Registry = "registry.example.com/team"
	s.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Shared: &shared}}
}

func eachClustered(t *testing.T, f func(t *testing.T, stack stacks.Stack)) {
	t.Helper()
	for name, c := range clustered {
		t.Run(name, func(t *testing.T) {
			f(t, shipped(t, c.stack, func(s *stacks.Settings) {
				s.Target = stacks.Kubernetes
				if c.change != nil {
					c.change(s)
				}
			}))
		})
	}
}

// documents returns the objects of a stream, as JSON.
func documents(t *testing.T, text string) [][]byte {
	t.Helper()
	var out [][]byte
	dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}

		if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) { // a document of comments is none
			out = append(out, raw)
		}
	}
}

// TestManifests decodes every manifest strictly, as the API server does, and reads the same from
// them as from the plan.
func TestManifests(t *testing.T) {
	strict := serializer.NewCodecFactory(scheme.Scheme,
		serializer.EnableStrict).UniversalDeserializer()
	eachClustered(t, func(t *testing.T, stack stacks.Stack) {
		files, _ := manifests(t, stack, t.TempDir())
		resources := recorded(t, stack)
		var exported []plan.Resource
		names := map[string]bool{}
		for _, doc := range documents(t, files[0].Text) {
			var in map[string]any
			if err := json.Unmarshal(doc, &in); err != nil {
				t.Fatal(err)
			}

			kind, meta := in["kind"].(string), in["metadata"].(map[string]any)
			if kind != "Gateway" && kind != "HTTPRoute" { // no types of client-go
				if _, _, err := strict.Decode(doc, nil, nil); err != nil {
					t.Errorf("%s %v: %v", kind, meta["name"], err)
				}
			}

			name, _ := meta["name"].(string)
			if name == "" || names[kind+"/"+name] {
				t.Errorf("%s %q has no name of its own", kind, name)
			}
			if kind != "Namespace" && meta["namespace"] != kubernetes.Namespace(stack.Name) {
				t.Errorf("%s %s is in the namespace %v", kind, name, meta["namespace"])
			}

			names[kind+"/"+name] = true
			exported = append(exported, plan.Resource{
				Type:   "kubernetes:" + kind,
				Name:   name,
				Inputs: in,
			})
		}

		planned := 0
		for _, r := range resources {
			if kind := r.Inputs["kind"]; strings.HasPrefix(r.Type, "kubernetes:") && kind != nil &&
				kind != "Secret" {
				planned++
			}
		}

		if len(exported) != planned {
			t.Errorf("%d objects, the plan has %d", len(exported), planned)
		}
		if d := cmp.Diff(read(t, stack, resources), read(t, stack, exported)); d != "" {
			t.Errorf("-plan +export:\n%s", d)
		}

		for _, f := range files {
			for _, bad := range []string{recordedPassword, plan.Secret, plan.Computed, "pulumi"} {
				if strings.Contains(strings.ReplaceAll(f.Text, "`codexctl", ""), bad) {
					t.Errorf("%s holds %q", f.Path, bad)
				}
			}
		}

		for _, name := range secretNames(exported) {
			if !strings.Contains(files[1].Text, "create secret generic '"+name+"' ") {
				t.Errorf("pods mount the Secret %q, which nothing makes", name)
			}
		}

		if got := len(secretNames(exported)); (got > 0) != (len(stack.Secrets) > 0) {
			t.Errorf("pods mount %d Secrets", got)
		}
		if (len(files) > 1) != (len(stack.Secrets) > 0) {
			t.Errorf("%d files for %d secrets", len(files), len(stack.Secrets))
		}

		again, _ := manifests(t, stack, t.TempDir())
		if d := cmp.Diff(files, again); d != "" {
			t.Errorf("two exports differ:\n%s", d)
		}
	})
}

// TestManifestImages checks that each container runs the image of its service, also where two
// of them are in one pod.
func TestManifestImages(t *testing.T) {
	stack := shipped(t, "prod", func(s *stacks.Settings) {
		s.Target = stacks.Kubernetes
		pushedShared(s)
	})

	files, _ := manifests(t, stack, t.TempDir())
	resources := recorded(t, stack)
	seen := 0
	check := func(where, service, image string) {
		repository := "registry.example.com/team/" + stacks.Project + "/" + service + ":"
		if b := stack.Service(service).Image.Build; b == nil {
			repository = stack.Service(service).Image.Ref
		}
		if seen++; !strings.HasPrefix(image, repository) {
			t.Errorf("%s: the container %s runs %s, want %s", where, service, image, repository)
		}
	}

	for _, doc := range documents(t, files[0].Text) {
		var o struct {
			Kind string
			Spec struct {
				Template struct {
					Spec struct {
						InitContainers, Containers []struct{ Name, Image string }
					}
				}
			}
		}

		if err := json.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}

		pod := o.Spec.Template.Spec
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			check("export: "+o.Kind, c.Name, c.Image)
		}
	}

	for _, w := range read(t, stack, resources).Workloads {
		for _, c := range w.Containers {
			check("view: "+w.Kind+" "+w.Name, c.Name, c.Image)
		}
	}

	if seen != 2*(len(stack.Services)+2) {
		t.Errorf("%d containers", seen)
	}
}

// secretNames returns the names of the Secrets that pods mount.
func secretNames(objects []plan.Resource) []string {
	var out []string
	var find func(v any)
	find = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["secret"].(map[string]any); ok {
				name, _ := ref["name"].(string)
				out = append(out, name)
			}
			for _, x := range v {
				find(x)
			}
		case []any:
			for _, x := range v {
				find(x)
			}
		}
	}

	for _, o := range objects {
		find(o.Inputs)
	}

	return out
}

// read returns what the resources would run, but what only a plan tells.
func read(t *testing.T, stack stacks.Stack, resources []plan.Resource) workload.View {
	t.Helper()
	v, err := workload.Of(plan.Document{
		Stack:     stack.Name,
		Target:    stacks.Kubernetes,
		Resources: resources,
	})
	if err != nil {
		t.Fatal(err)
	}

	for i := range v.Volumes {
		v.Volumes[i].Retained = false
	}

	for i := range v.Workloads {
		for j := range v.Workloads[i].Containers {
			v.Workloads[i].Containers[j].Built = false
		}
	}

	return v
}

// TestManifestOrder checks that each object comes after those it names, so that one
// `kubectl apply` is enough.
func TestManifestOrder(t *testing.T) {
	eachClustered(t, func(t *testing.T, stack stacks.Stack) {
		files, _ := manifests(t, stack, t.TempDir())
		var kinds []string
		for _, doc := range documents(t, files[0].Text) {
			var o struct{ Kind string }
			if err := json.Unmarshal(doc, &o); err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, o.Kind)
		}

		last := func(kind string) int {
			i := slices.Index(kinds, kind)
			for ; i >= 0 && i < len(kinds) && kinds[i] == kind; i++ {
			}
			return i
		}
		if kinds[0] != "Namespace" {
			t.Errorf("the first is a %s", kinds[0])
		}

		for _, pods := range []string{"Deployment", "StatefulSet", "Job"} {
			for _, first := range []string{
				"ServiceAccount", "ConfigMap", "NetworkPolicy", "PersistentVolumeClaim", "Service",
			} {
				if at := slices.Index(kinds, pods); at >= 0 && last(first) > at {
					t.Errorf("a %s comes before a %s", pods, first)
				}
			}
		}
	})
}

// fakeKubectl is a kubectl that keeps what it is given: Secrets' files under their names, in a
// folder for each Secret.
const fakeKubectl = `#!/bin/sh
last='' name=''
for a in "$@"; do
	[ "$last" != generic ] || { name=$a; mkdir "$MADE/$name"; }
	last=$a
	case $a in
	--from-file=*=*) f=${a#--from-file=}; cat "${f#*=}" >"$MADE/$name/${f%%=*}";;
	--from-file=*) cp "${a#--from-file=}"/* "$MADE/$name";;
	esac
done
echo "$@" >>"$MADE.args"
cat >/dev/null <&0 || true
`

// TestSecretScripts runs the script, and the command of each comment, against a kubectl that
// keeps what it is given.
func TestSecretScripts(t *testing.T) {
	stack := shipped(t, "prod", func(s *stacks.Settings) { s.Target = stacks.Kubernetes })
	dir, bin := t.TempDir(), t.TempDir()
	files, _ := manifests(t, stack, dir)
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(fakeKubectl), 0o755); err != nil {
		t.Fatal(err)
	}

	var commands []string
	for line := range strings.Lines(files[0].Text) {
		const create = "#   kubectl --namespace codexcontinue-prod create secret"
		if command, ok := strings.CutPrefix(line, create); ok {
			commands = append(commands,
				"kubectl --namespace codexcontinue-prod create secret"+command)
		}
	}

	if len(commands) != 4 {
		t.Fatalf("%d commands, want those of gate, backend, ml and redis: %q", len(commands), commands)
	}

	for _, value := range []string{"sesame", "it's \"$HOME\" `id` %s \\n ü"} {
		for name, run := range map[string][]string{
			"script":   {"sh", filepath.Join(dir, "secrets.sh")},
			"comments": {"bash", "-c", strings.Join(commands, "\n")},
		} {
			made := filepath.Join(t.TempDir(), "made")
			if err := os.Mkdir(made, 0o755); err != nil {
				t.Fatal(err)
			}

			cmd := exec.Command(run[0], run[1:]...)
			cmd.Env = []string{
				"PATH=" + bin + ":" + os.Getenv("PATH"), "MADE=" + made, "REDIS_PASSWORD=" + value,
				"value=" + value,
			}

			if out, err := cmd.CombinedOutput(); err != nil ||
				strings.Contains(string(out), value) {
				t.Fatalf("%s: %v: %s", name, err, out)
			}

			args, err := os.ReadFile(made + ".args")
			if err != nil || strings.Contains(string(args), value) {
				t.Errorf("%s: kubectl was called with %s (%v)", name, args, err)
			}

			for _, svc := range stack.Services {
				for _, f := range svc.Files {
					if f.Secret == "" {
						continue
					}

					key := strings.ReplaceAll(f.Path[1:], "/", ".")
					text, err := os.ReadFile(filepath.Join(made, svc.Name+"-files", key))
					if err != nil || string(text) != f.Text(value) {
						t.Errorf("%s: %s holds %q (%v), want %q", name, key, text, err,
							f.Text(value))
					}
				}
			}
		}
	}
}

// TestResolverAddress runs the commands that the head of a private stack's manifests has for its
// resolver, against a kubectl that tells an address: it is then the name server of all pods without
// a way out.
func TestResolverAddress(t *testing.T) {
	stack := shipped(t, "healthcare", func(s *stacks.Settings) { s.Target = stacks.Kubernetes })
	dir, bin := t.TempDir(), t.TempDir()
	files, _ := manifests(t, stack, dir)
	const kubectl = "#!/bin/sh\nfor a in \"$@\"; do [ \"$a\" != get ] || echo 10.96.0.9; done\n"
	if err := os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}

	head, _, _ := strings.Cut(files[0].Text, "\n---\n")
	var commands []string
	for line := range strings.Lines(head) {
		if command, ok := strings.CutPrefix(line, "#   "); ok && !strings.HasPrefix(command, "./") {
			commands = append(commands, command)
		}
	}
	if len(commands) != 5 {
		t.Fatalf("commands: %q", commands)
	}

	run := exec.Command("sh", "-e", "-c", strings.Join(commands, ""))
	run.Dir, run.Env = dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	text, err := os.ReadFile(filepath.Join(dir, files[0].Path))
	if err != nil {
		t.Fatal(err)
	}

	asking := 0
	for _, doc := range documents(t, string(text)) {
		var o struct {
			Metadata struct{ Name string }
			Spec     struct {
				Template struct {
					Spec struct {
						DNSPolicy string
						DNSConfig struct{ Nameservers []string }
					}
				}
			}
		}
		if err := json.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}

		pod := o.Spec.Template.Spec
		if pod.DNSPolicy == "" {
			continue
		}
		asking++
		if d := cmp.Diff([]string{"10.96.0.9"}, pod.DNSConfig.Nameservers); d != "" {
			t.Errorf("%s (-want +got):\n%s", o.Metadata.Name, d)
		}
	}
	if asking != len(stack.Services) { // all but the resolver, and the Job
		t.Errorf("%d kinds of pods ask the resolver", asking)
	}

	stack = shipped(t, "prod", func(s *stacks.Settings) { s.Target = stacks.Kubernetes })
	if open, _ := manifests(t, stack, t.TempDir()); strings.Contains(open[0].Text, "resolver") {
		t.Error("the export of an open stack speaks of a resolver")
	}
}

// TestManifestsRefuse checks that a kind whose place among the others nobody said is not written.
func TestManifestsRefuse(t *testing.T) {
	stack := shipped(t, "prod", func(s *stacks.Settings) { s.Target = stacks.Kubernetes })
	_, rendered := manifests(t, stack, t.TempDir())
	odd := schema.FromAPIVersionAndKind("apps/v1", "DaemonSet")
	rendered.Objects[len(rendered.Objects)-1].GetObjectKind().SetGroupVersionKind(odd)
	_, err := export.Kubernetes(source(t, stack, rendered, t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "DaemonSet") {
		t.Errorf("got %v, want an error with DaemonSet", err)
	}
}
