package diff_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/diff"
	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

const container = "docker:index/container:Container"

func resource(typ, name string, inputs map[string]any) plan.Resource {
	return plan.Resource{URN: "urn:pulumi:x::codexcontinue::" + typ + "::" + name, Type: typ,
		Name: name, Inputs: inputs}
}

func document(resources ...plan.Resource) plan.Document {
	d := plan.Document{Version: plan.Version, Project: stacks.Project, Stack: "x",
		Target: stacks.Docker, Chosen: true,
		Docker: &docker.Rendering{Project: &types.Project{Services: types.Services{}}}}
	for _, r := range resources {
		add(&d, r)
	}
	return d
}

// add adds a resource, and the service whose container it is.
func add(d *plan.Document, r plan.Resource) {
	d.Resources = append(d.Resources, r)
	if r.Type == container {
		var c types.ServiceConfig
		c.Image, _ = r.Inputs["image"].(string)
		c.User, _ = r.Inputs["user"].(string)
		d.Docker.Project.Services[r.Name] = c
	}
}

func compare(t *testing.T, before, after []plan.Document) diff.Report {
	t.Helper()
	r, err := diff.Compare("base", "head", before, after)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// changes returns the changes of the only plan as "action name: path, path".
func changes(t *testing.T, before, after plan.Document) []string {
	t.Helper()
	var out []string
	for _, r := range compare(t, []plan.Document{before}, []plan.Document{after}).Plans[0].Resources {
		var paths []string
		for _, p := range r.Properties {
			paths = append(paths, p.Path)
		}
		out = append(out, fmt.Sprintf("%s %s: %s", r.Action, r.Name, strings.Join(paths, ", ")))
	}

	return out
}

type object = map[string]any

func list(values ...any) []any { return values }

// TestResources checks what happens to a resource, given what changes of it.
func TestResources(t *testing.T) {
	true_, opts := true, func(o plan.Options) *plan.Options { return &o }
	with := func(r plan.Resource, change func(*plan.Resource)) plan.Resource {
		change(&r)
		return r
	}

	base := func() plan.Resource {
		return resource(container, "c", object{
			"image":  "a:1",
			"memory": 512.0,
			"envs":   list("A=1", "B=2"),
			"labels": list(object{"label": "x", "value": "1"}),
			"command": list("run",
				"-v"),
			"ports": list(object{"internal": 80.0, "external": 8080.0}),
		})
	}

	set := func(key string, v any) func(*plan.Resource) {
		return func(r *plan.Resource) { r.Inputs[key] = v }
	}
	for name, c := range map[string]struct {
		before, after plan.Resource
		want          []string
	}{
		"same":     {base(), base(), nil},
		"in place": {base(), with(base(), set("memory", 1024.0)), []string{"update c: memory"}},
		"replaced": {base(), with(base(), set("image", "a:2")), []string{"replace c: image"}},
		"variable added": {base(), with(base(), set("envs", list("A=1", "AA=0", "B=2"))),
			[]string{"replace c: envs[AA]"}},
		"variables sorted": {base(), with(base(), set("envs", list("B=2", "A=1"))), nil},
		"variable changed": {base(), with(base(), set("envs", list("A=1", "B=3"))),
			[]string{"replace c: envs[B]"}},
		"label changed": {base(),
			with(base(), set("labels",
				list(object{"label": "x", "value": "2"}))), []string{"replace c: labels[x].value"}},
		"words of commands": {base(), with(base(), set("command", list("-v", "run"))),
			[]string{"replace c: command"}},
		"port moved": {base(),
			with(base(), set("ports",
				list(object{"internal": 80.0,
					"external": 9090.0}))), []string{"replace c: ports[80].external"}},
		"input gone": {base(),
			with(base(), func(r *plan.Resource) {
				delete(r.Inputs, "memory")
			}), []string{"update c: memory"}},
		"asks for it": {base(), with(base(), func(r *plan.Resource) {
			r.Inputs["memory"], r.Options = 1024.0, opts(plan.Options{ReplaceOnChanges: []string{"memory"}})
		}), []string{"replace c: memory"}},
		"ignored": {base(), with(base(), func(r *plan.Resource) {
			r.Inputs["labels"], r.Options = list(), opts(plan.Options{IgnoreChanges: []string{"labels"}})
		}), []string{"options c: ignoreChanges"}},
		"option": {base(),
			with(base(), func(r *plan.Resource) {
				r.Options = opts(plan.Options{DeleteBeforeReplace: &true_})
			}), []string{"options c: deleteBeforeReplace"}},
		"waits and version": {base(), with(base(), func(r *plan.Resource) {
			r.Options = opts(plan.Options{Timeouts: &plan.Timeouts{Create: "5m0s"}, Version: "4.30.0"})
		}), nil}, // as a preview
		"renamed": {base(), with(base(), func(r *plan.Resource) {
			r.Aliases, r.URN, r.Name = []string{r.URN}, "urn:pulumi:x::codexcontinue::"+container+"::d", "d"
		}), nil},
		"another": {base(), resource(container, "d", object{}),
			[]string{"delete c: command, envs, image, labels, memory, ports", "create d: "}},
		"kubernetes name": {resource("kubernetes:apps/v1:Deployment", "d",
			object{"metadata": object{"name": "a"}}),
			resource("kubernetes:apps/v1:Deployment", "d",
				object{"metadata": object{"name": "b"}}), []string{"replace d: metadata.name"}},
		"kubernetes template": {resource("kubernetes:apps/v1:Deployment", "d",
			object{"spec": object{"replicas": 1.0}}),
			resource("kubernetes:apps/v1:Deployment", "d",
				object{"spec": object{"replicas": 2.0}}), []string{"update d: spec.replicas"}},
		"kubernetes job": {resource("kubernetes:batch/v1:Job", "d",
			object{"spec": object{"template": object{"a": 1.0}}}),
			resource("kubernetes:batch/v1:Job", "d",
				object{"spec": object{"template": object{"a": 2.0}}}), []string{"replace d: spec.template.a"}},
		"unknown type": {resource("acme:index:Thing", "d", object{"a": 1.0}),
			resource("acme:index:Thing", "d", object{"a": 2.0}), []string{"update d: a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := changes(t, document(c.before), document(c.after)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	r := compare(t, []plan.Document{document(resource("acme:index:Thing", "d", object{"a": 1.0}))},
		[]plan.Document{document(resource("acme:index:Thing", "d", object{"a": 2.0}))})
	if !r.Plans[0].Resources[0].Unsure {
		t.Error("what a change does to a type of which nothing is known is said with certainty")
	}
}

// TestDowntime checks that a replacement of an object that keeps its name shows that nothing answers
// meanwhile, and no other change does.
func TestDowntime(t *testing.T) {
	const set, job = "kubernetes:apps/v1:StatefulSet", "kubernetes:batch/v1:Job"
	claims := func(size string) object {
		return object{"metadata": object{"name": "redis"}, "spec": object{"volumeClaimTemplates": list(
			object{"spec": object{"resources": object{"requests": object{"storage": size}}}})}}
	}
	named := func(name string) object {
		return object{"metadata": object{"name": name}, "spec": object{"template": object{"a": name}}}
	}

	for name, tt := range map[string]struct {
		typ           string
		before, after object
		downtime      bool
	}{
		"a larger volume": {set, claims("5Gi"), claims("10Gi"), true},
		"pods": {set, object{"metadata": object{"name": "redis"}, "spec": object{"template": 1.0}},
			object{"metadata": object{"name": "redis"}, "spec": object{"template": 2.0}}, false},
		"another name": {job, named("model-a"), named("model-b"), false},
	} {
		t.Run(name, func(t *testing.T) {
			r := compare(t, []plan.Document{document(resource(tt.typ, "redis", tt.before))},
				[]plan.Document{document(resource(tt.typ, "redis", tt.after))})
			if got := r.Plans[0].Resources[0].Downtime; got != tt.downtime {
				t.Errorf("downtime is %v", got)
			}

			const words = "StatefulSet redis: replaced, the old one first, so that nothing answers " +
				"until its pods are ready: spec.volumeClaimTemplates"
			var out strings.Builder
			if err := diff.Text(&out, r, 200, nil); err != nil {
				t.Fatal(err)
			}
			text := strings.Join(strings.Fields(out.String()), " ")
			if strings.Contains(text, words) != tt.downtime {
				t.Errorf("it is shown as\n%s", text)
			}
		})
	}
}

// TestSpread checks that what is only known after a replacement changes with it, and
// whatever depends on that.
func TestSpread(t *testing.T) {
	chain := func(name string) plan.Document {
		img := resource("docker:index/remoteImage:RemoteImage", "img", object{"name": name})
		files := resource(container, "files", object{"image": plan.Computed})
		files.ComputedFrom = map[string][]string{"image": {img.Type + " img"}}
		main := resource(container, "main",
			object{"volumes": list(object{"fromContainer": plan.Computed}), "memory": 1.0})
		main.ComputedFrom = map[string][]string{"volumes": {container + " files"}}
		return document(files, img, main) // main before and after what it depends on
	}

	want := []string{
		"replace files: image", "replace main: volumes[0].fromContainer", "replace img: name",
	}
	if got := changes(t, chain("a"), chain("b")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := changes(t, chain("a"), chain("a")); got != nil {
		t.Errorf("got %q for the same plan", got)
	}
}

// TestSpreadInPod checks that of a pod exactly those values change that come from what is replaced.
func TestSpreadInPod(t *testing.T) {
	pod := func(data string, replicas float64) plan.Document {
		img := resource("docker:index/image:Image", "web", object{"imageName": "web:1"})
		sec := resource("kubernetes:core/v1:Secret", "web-files", object{"data": object{"a": data}})
		web := resource("kubernetes:apps/v1:Deployment", "web",
			object{"spec": object{"replicas": replicas, "template": object{"spec": object{
				"containers": list(object{"name": "web", "image": plan.Computed}),
				"volumes": list(object{
					"name":   "files",
					"secret": object{"secretName": plan.Computed},
				},
					object{"name": "tmp"},
					object{"name": "text", "configMap": object{"name": plan.Computed}}),
			}}}})

		text := resource("kubernetes:core/v1:ConfigMap", "text", object{"data": object{"a": "1"}})
		web.ComputedFrom = map[string][]string{"spec": {img.Type + " web", sec.Type + " web-files",
			text.Type + " text"}}
		return document(img, sec, text, web)
	}

	secret := "spec.template.spec.volumes[files].secret.secretName"
	for _, c := range []struct {
		after plan.Document
		want  []string
	}{
		{pod("1", 1), nil},
		{pod("2", 1), []string{"replace web-files: data.a", "update web: " + secret}},
		{pod("2", 2), []string{"replace web-files: data.a", "update web: spec.replicas, " + secret}},
	} {
		if got := changes(t, pod("1", 1), c.after); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestSecrets checks that secrets are told apart by fingerprints and shown as numbers.
func TestSecrets(t *testing.T) {
	secret := func(prints ...string) plan.Document {
		var resources []plan.Resource
		for i, p := range prints {
			r := resource(container, fmt.Sprint("c", i), object{"uploads": plan.Secret})
			r.Fingerprints = map[string]string{"uploads": p}
			resources = append(resources, r)
		}
		return document(resources...)
	}

	shown := func(before, after plan.Document) []string {
		var out []string
		for _, r := range compare(t, []plan.Document{before}, []plan.Document{after}).Plans[0].Resources {
			for _, p := range r.Properties {
				out = append(out, fmt.Sprint(p.Before, " ", p.After))
			}
		}
		return out
	}

	if got := shown(secret("aa"), secret("aa")); got != nil {
		t.Errorf("the same secret: %q", got)
	}

	// One value in two places was changed to one other.
	want := []string{"[secret 1] [secret 2]", "[secret 1] [secret 2]", "[secret 3] [secret 1]"}
	if got := shown(secret("aa", "aa", "cc"), secret("bb", "bb", "aa")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRefused checks what is said of a plan that a target refuses.
func TestRefused(t *testing.T) {
	fine := document(resource(container, "c", object{"memory": 1.0}))
	refused := func(why string) plan.Document {
		return plan.Document{Version: plan.Version, Stack: "x", Target: stacks.Docker, Chosen: true,
			Refused: why}
	}

	r := compare(t, []plan.Document{fine}, []plan.Document{refused("no such key")})
	if p := r.Plans[0]; !p.Changed() || p.Refused.After != "no such key" || len(p.Resources) > 0 {
		t.Errorf("got %+v", p)
	}

	if r = compare(t, []plan.Document{refused("a")}, []plan.Document{fine}); !r.Changed() ||
		!strings.Contains(diff.Markdown(r), "can be planned now") {
		t.Errorf("got %+v", r.Plans[0])
	}

	what := refused("the docker target cannot express it")
	what.Chosen = false
	if compare(t, []plan.Document{what}, []plan.Document{what}).Changed() {
		t.Error("what if is refused as before, and that counts as a change")
	}
}

// TestMoved checks that a stack whose settings name another target is said to move, although
// neither plan changes.
func TestMoved(t *testing.T) {
	on := func(target stacks.Target, chosen bool) plan.Document {
		d := document(resource(container, "c", object{"memory": 1.0}))
		d.Target, d.Chosen = target, chosen
		return d
	}

	r := compare(t, []plan.Document{on(stacks.Docker, true), on(stacks.Kubernetes, false)},
		[]plan.Document{on(stacks.Docker, false), on(stacks.Kubernetes, true)})
	if text := diff.Markdown(r); !r.Changed() ||
		strings.Count(text, "stack x moves to kubernetes") != 1 ||
		strings.Contains(text, "moves to docker") {
		t.Errorf("changed: %v\n%s", r.Changed(), text)
	}
}

// TestMarkdownBound checks that Markdown of any report fits a comment, ends as it should, and
// counts what it leaves out.
func TestMarkdownBound(t *testing.T) {
	huge := func(plans, resources int, value string) (before, after []plan.Document) {
		for i := range plans {
			for side, docs := range []*[]plan.Document{&before, &after} {
				d := document()
				d.Stack = fmt.Sprintf("stack-%04d", i)
				for j := range resources {
					add(&d, resource(container, fmt.Sprintf("c%d-%d", i, j), object{
						"image": fmt.Sprintf("%s:%d%d%d", value, i, j,
							side), "command": list(fmt.Sprint(value, side)),
						"user": fmt.Sprintf("```\n</details>%s%d", value, side)}))
				}

				*docs = append(*docs, d)
			}
		}

		return before, after
	}

	for name, c := range map[string]struct {
		plans, resources int
		value            string
	}{
		"small": {1, 1, "a"},
		"many":  {6, 400, "a"},
		"plans": {2000, 1, "a"},
		"long":  {2, 5, strings.Repeat("long ", 50000)},
		"all":   {100, 10, strings.Repeat("`é|<b>", 300)},
		"name":  {1, 1, strings.Repeat("x", 100000)},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := huge(c.plans, c.resources, c.value)
			out := diff.Markdown(compare(t, before, after))
			if len(out) > diff.MaxMarkdown {
				t.Errorf("%d bytes", len(out))
			}

			if !strings.HasPrefix(out, diff.Marker+"\n") ||
				!strings.HasSuffix(out, "</details>\n") {
				t.Error("it does not begin or end as it should")
			}

			total := fmt.Sprintf("%d to replace", c.plans*c.resources)
			if !strings.Contains(out, total) {
				t.Errorf("it does not say %q", total)
			}

			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "</details>") || strings.HasPrefix(line, "<details>") {
					continue
				}
				if strings.Contains(line, "</details>") && !strings.HasPrefix(line, "  ") &&
					!strings.Contains(line, "`") {
					t.Errorf("a value of the plan closes the fold: %q", line)
				}
			}
		})
	}
}

// TestPicture checks that a plan is drawn where its topology changes, and only there.
func TestPicture(t *testing.T) {
	documents := shipped(t)
	edited := func(edit func(*types.ServiceConfig)) []plan.Document {
		out := slices.Clone(documents)
		for i, d := range out {
			if d.Stack != "dev" || !d.Chosen {
				continue
			}

			project := *d.Docker.Project
			project.Services = maps.Clone(project.Services)
			redis := project.Services[stacks.Redis]
			edit(&redis)
			project.Services[stacks.Redis] = redis
			rendering := *d.Docker
			rendering.Project = &project
			out[i].Docker = &rendering
		}

		return out
	}

	for _, c := range []struct {
		name string
		edit func(*types.ServiceConfig)
		drew int
	}{
		{"limit", func(c *types.ServiceConfig) { c.MemLimit /= 2 }, 0},
		{"port", func(c *types.ServiceConfig) { c.Ports = nil }, 1},
	} {
		r := compare(t, documents, edited(c.edit))
		text := diff.Markdown(r)
		if got := strings.Count(text,
			"```mermaid\n%% dev on docker\nflowchart"); !r.Changed() || got != c.drew ||
			strings.Count(text, "mermaid") != c.drew {
			t.Errorf("%s: changed: %v, drawn %d times, want %d", c.name, r.Changed(), got, c.drew)
		}
	}

	if text := diff.Markdown(compare(t, documents, nil)); strings.Contains(text, "mermaid") {
		t.Error("stacks that are gone are drawn")
	}
}

// TestTextWidth checks that no line of a report is wider than the terminal.
func TestTextWidth(t *testing.T) {
	before := document(resource(container, "c",
		object{"image": strings.Repeat("a", 300), "envs": list("A=\x1b[31mred")}))
	after := document(resource(container, "c",
		object{"image": "b", "envs": list("A=" + strings.Repeat("word ", 90))}))
	for _, width := range []int{50, 80, 200} {
		var out strings.Builder
		if err := diff.Text(&out, compare(t, []plan.Document{before}, []plan.Document{after}),
			width, nil); err != nil {
			t.Fatal(err)
		}

		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
				t.Errorf("%d columns in %d: %s", n, width, line)
			}
		}

		if strings.Contains(out.String(), "\x1b") {
			t.Error("a value of the plan moves the cursor")
		}
	}
}

func TestLines(t *testing.T) {
	for name, c := range map[string]struct{ before, after, want string }{
		"same":    {"a\nb", "a\nb", ""},
		"changed": {"a\nb\nc\nd\ne", "a\nb\nC\nd\ne", " b,-c,+C, d"},
		"added":   {"a\nb", "a\nx\nb", " a,+x, b"},
		"gone":    {"a\nb\nc", "b\nc", "-a, b"},
		"apart":   {"1\n2\n3\n4\n5\n6\n7", "x\n2\n3\n4\n5\n6\ny", "-1,+x, 2, …, 6,-7,+y"},
		"moved":   {"a\nb\nc", "c\na\nb", "+c, a, b,-c"},
		"empty":   {"", "a", "+a"},
		"long, one line changed": {strings.Repeat("a\n", 3000) + "b\nc\nd",
			strings.Repeat("a\n", 3000) + "b\nC\nd",
			" b,-c,+C, d"},
		"long": {strings.Repeat("a\n", 3000), "b", strings.Repeat("-a,", 3000) + "+b"},
	} {
		var got []string
		for _, l := range diff.Lines(c.before, c.after) {
			got = append(got, l.Sign+l.Text)
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: got %q, want %q", name, strings.Join(got, ","), c.want)
		}
	}
}

// TestShipped checks that the shipped stacks, compared with themselves, do not change.
func TestShipped(t *testing.T) {
	documents := shipped(t)
	r := compare(t, documents, documents)
	if r.Changed() || len(r.Plans) != len(documents) {
		t.Errorf("%d plans, changed: %v", len(r.Plans), r.Changed())
	}
	if gone := compare(t, documents, nil); !gone.Changed() || gone.Counts().Delete == 0 {
		t.Errorf("nothing is deleted where all stacks are gone: %+v", gone.Counts())
	}
}

func shipped(t testing.TB) []plan.Document {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	documents, err := plan.Documents(context.Background(), root, nil, []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}

	return documents
}

// BenchmarkCompare compares the shipped stacks with nothing: every fact and property of all plans.
func BenchmarkCompare(b *testing.B) {
	documents := shipped(b)
	for b.Loop() {
		r, err := diff.Compare("base", "head", nil, documents)
		if err != nil {
			b.Fatal(err)
		}
		if len(diff.Markdown(r)) == 0 {
			b.Fatal("nothing")
		}
	}
}
