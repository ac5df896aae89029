package graph_test

import (
	"bytes"
	"context"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/graph"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite the golden drawings")

// view returns what a shipped stack would run, from its files.
func view(t *testing.T, name string, target stacks.Target) workload.View {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	p, err := plan.Of(context.Background(), root, name, plan.OfOptions{Target: target})
	if err != nil {
		t.Fatal(err)
	}

	v, err := workload.Of(p.Document)
	if err != nil {
		t.Fatal(err)
	}

	return v
}

// TestGolden compares the drawings of every stack on Kubernetes with those of the repository;
// -update rewrites them. Those on Docker stand in docs/architecture.md.
func TestGolden(t *testing.T) {
	for _, name := range stacks.Overlays() {
		drawn := graph.Mermaid(view(t, name, stacks.Kubernetes))
		golden(t, filepath.Join("testdata", name+"-kubernetes.mmd"), drawn)
	}
}

// TestDocumented compares the drawings of docs/architecture.md, where GitHub renders them, with
// those of the stacks on Docker; -update rewrites them. A stack may have no place there.
func TestDocumented(t *testing.T) {
	const path, end = "../../docs/architecture.md", "<!-- end of graph -->"

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dev", "prod", "healthcare"} {
		if !bytes.Contains(text, []byte("<!-- graph "+name+" -->\n")) {
			t.Errorf("%s has no place for the drawing of %s", path, name)
		}
	}

	places := regexp.MustCompile(`<!-- graph (.*) -->\n`).FindAllStringSubmatch(string(text), -1)
	for _, place := range places {
		begin, name := place[0], place[1]
		if !slices.Contains(stacks.Overlays(), name) {
			t.Errorf("%s has a place for the drawing of %q, which is no stack", path, name)
			continue
		}

		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		head, rest, _ := strings.Cut(string(text), begin)
		_, tail, closed := strings.Cut(rest, end)
		if !closed {
			t.Fatalf("%s does not say where the drawing of %s ends", path, name)
		}

		drawn := graph.Mermaid(view(t, name, stacks.Docker))
		golden(t, path, head+begin+"```mermaid\n"+drawn+"```\n"+end+tail)
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s is not what is drawn: look at `go test ./infra/graph -update && git diff`",
			filepath.Base(path))
	}
}

// odd are plans that no shipped stack has.
var odd = map[string]workload.View{
	"nothing": {Stack: "empty", Target: stacks.Docker},
	"a circle": {Stack: "circle", Target: stacks.Docker, Networks: []workload.Network{{Name: "n"}},
		Workloads: []workload.Workload{
			{Service: "a", Kind: "Container", Replicas: 1, Networks: []string{"n"},
				Calls: []string{"b", "a"}, Containers: []workload.Container{{}}},
			{Service: "b", Kind: "Container", Replicas: 1, Networks: []string{"n"},
				Calls: []string{"a"}, Containers: []workload.Container{{}}},
		}},
	"many networks": {Stack: "many", Target: stacks.Docker,
		Networks: []workload.Network{{Name: "a"}, {Name: "b", Internal: true}, {Name: "c"}},
		Volumes:  []workload.Volume{{Name: "disk", Size: 5 * stacks.GiB}},
		Exposed: []workload.Exposure{{Service: "web", How: "port", Address: "0.0.0.0", Port: 80},
			{Service: "api", How: "port", Address: "127.0.0.1", Port: 81, Loopback: true}},
		Workloads: []workload.Workload{
			{Service: "web", Kind: "Container", Replicas: 1, Networks: []string{"a", "b"},
				Calls: []string{"api",
					"store"}, Containers: []workload.Container{{Image: "x/web:1"}}},
			{
				Service:    "api",
				Kind:       "Container",
				Replicas:   3,
				Networks:   []string{"b"},
				Calls:      []string{"store"},
				Containers: []workload.Container{{Image: "x/<api>&\"`#:1"}},
			},
			{
				Service:  "store",
				Kind:     "Container",
				Replicas: 1,
				Networks: []string{"c"},
				Containers: []workload.Container{{
					GPU:    "all",
					Mounts: []workload.Mount{{Kind: workload.Storage, Source: "disk"}},
				}},
			},
			{
				Service:    "lonely",
				Kind:       "Container",
				Replicas:   1,
				Containers: []workload.Container{{}},
			},
		}},
}

// TestMermaid checks that each node and edge stands in the text once, and that no name is read as
// syntax.
func TestMermaid(t *testing.T) {
	views := maps.Clone(odd)
	for _, name := range stacks.Overlays() {
		for _, target := range plan.Targets {
			views[name+" on "+string(target)] = view(t, name, target)
		}
	}

	for name, v := range views {
		t.Run(name, func(t *testing.T) {
			text := graph.Mermaid(v)
			lines := strings.Split(text, "\n")
			for _, id := range nodes(v) {
				defined := 0
				for _, line := range lines {
					rest, ok := strings.CutPrefix(strings.TrimSpace(line), id)
					if ok && strings.ContainsAny(rest[:1], "[(") {
						defined++
					}
				}

				if defined != 1 {
					t.Errorf("node %s is defined %d times", id, defined)
				}
			}

			for _, e := range edges(v) {
				if n := strings.Count(text, "  "+e+"\n"); n != 1 {
					t.Errorf("the edge %s is there %d times", e, n)
				}
			}

			for _, e := range v.Exposed {
				from := "network ==>|"
				if e.Loopback {
					from = "machine -->|"
				}

				if !slices.ContainsFunc(lines, func(line string) bool {
					return strings.HasPrefix(line, "  "+from) &&
						strings.HasSuffix(line, "| "+id("service", e.Service))
				}) {
					t.Errorf("the way to %s is missing", e.Service)
				}
			}

			if strings.Count(text, `"`)%2 != 0 || strings.Contains(text, "<api>") {
				t.Errorf("a label is not escaped:\n%s", text)
			}
		})
	}
}

// nodes returns the IDs of the services, the volumes, and those who reach the view.
func nodes(v workload.View) []string {
	var out []string
	for _, group := range v.Services() {
		out = append(out, id("service", group[0].Service))
	}

	for _, x := range v.Volumes {
		out = append(out, id("volume", x.Name))
	}

	for _, e := range v.Exposed {
		if e.Loopback {
			out = append(out, "machine")
		} else {
			out = append(out, "network")
		}
	}

	return out
}

// edges returns those between the nodes of the view.
func edges(v workload.View) []string {
	var out []string
	for _, w := range v.Workloads {
		from := id("service", w.Service)
		for _, called := range w.Calls {
			out = append(out, from+" --> "+id("service", called))
		}

		for _, c := range w.Containers {
			for _, m := range c.Mounts {
				if m.Kind == workload.Storage {
					out = append(out, from+" --- "+id("volume", m.Source))
				}
			}
		}
	}

	return out
}

func id(kind, name string) string { return kind + "_" + strings.ReplaceAll(name, "-", "_") }

// TestKnowledge checks that the documents of a stack are drawn, with who asks for them.
func TestKnowledge(t *testing.T) {
	fsys := os.DirFS("../..")
	stack, err := stacks.Load("prod", stacks.Settings{
		Target: stacks.Docker, AssumeSecrets: true,
		Knowledge: &stacks.KnowledgeSettings{Collections: map[string][]string{"handbook": nil}},
	}, stacks.Checkout{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := docker.Render(fsys, stack)
	if err != nil {
		t.Fatal(err)
	}

	drawn := graph.Mermaid(workload.FromProject(rendered, "../.."))
	for _, want := range []string{
		`service_knowledge["<b>knowledge</b><br>built here<br>1 CPU · 2 GiB"]`,
		`volume_knowledge_data[("<b>knowledge-data</b>")]`,
		"service_gate --> service_knowledge", "service_backend --> service_knowledge",
		"service_knowledge --> service_ml", "service_knowledge --> service_redis",
		"service_knowledge --- volume_knowledge_data",
	} {
		if !strings.Contains(drawn, "  "+want+"\n") {
			t.Errorf("the drawing lacks %s:\n%s", want, drawn)
		}
	}
}

// TestTopologyOnly checks that an edit of a source changes no drawing, and that a change of
// what is exposed does.
func TestTopologyOnly(t *testing.T) {
	draw := func(change func(*workload.View)) string {
		v := view(t, "prod", stacks.Docker)
		change(&v)
		return graph.Mermaid(v)
	}

	before := draw(func(*workload.View) {})
	if again := draw(func(*workload.View) {}); again != before {
		t.Error("two drawings of one plan differ")
	}

	if edited := draw(func(v *workload.View) {
		for i := range v.Workloads {
			if c := &v.Workloads[i].Containers[0]; c.Built {
				c.Image = c.Image[:strings.LastIndex(c.Image, ":")] + ":000000000000"
			}
		}
	}); edited != before {
		t.Error("the tag of a built image shows")
	}

	for what, change := range map[string]func(*workload.View){
		"a published port": func(v *workload.View) {
			v.Exposed = append(v.Exposed, workload.Exposure{Service: "redis", How: "port", Port: 6379})
		},
		"an open edge": func(v *workload.View) {
			v.Exposed[0].Loopback, v.Exposed[0].Address = false, "0.0.0.0"
		},
		"a replica":        func(v *workload.View) { v.Workloads[0].Replicas++ },
		"an inner network": func(v *workload.View) { v.Networks[0].Internal = true },
		"no call": func(v *workload.View) {
			for i := range v.Workloads {
				v.Workloads[i].Calls = nil
			}
		},
	} {
		if draw(change) == before {
			t.Errorf("%s does not show", what)
		}
	}
}
