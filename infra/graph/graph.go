// Package graph draws a plan as a Mermaid flowchart, which GitHub renders: services, the networks
// that they are on, volumes, and what is exposed.
//
// The same plan gives the same text, and an edit of a source changes nothing: only the topology
// shows.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Mermaid draws the view, without the fence of Markdown around it. It names no colours: GitHub has
// a light and a dark theme.
func Mermaid(v workload.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%%%% %s on %s\nflowchart LR\n", v.Stack, v.Target)

	ways := ways(v.Exposed)
	for _, from := range []struct{ id, title string }{
		{network, "the network"}, {machine, "this machine"},
	} {
		if slices.ContainsFunc(ways, func(e edge) bool { return e.from == from.id }) {
			fmt.Fprintf(&b, "  %s([%s])\n", from.id, text(from.title))
		}
	}

	services := v.Services()
	groups, edges := []group(nil), ways
	for _, s := range exposedFirst(v, services) {
		if g := groupOf(v, s[0]); !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
		edges = append(edges, edgesOf(s)...)
	}

	for i, g := range groups {
		fmt.Fprintf(&b, "  subgraph network_%d[%s]\n", i, quote(g.title))
		for _, s := range services {
			if groupOf(v, s[0]) == g {
				fmt.Fprintf(&b, "    %s[%s]\n", serviceID(s[0].Service), serviceText(v, s))
			}
		}
		b.WriteString("  end\n")
	}

	for _, x := range v.Volumes {
		var lines []string
		if x.Size > 0 {
			lines = append(lines, size(x.Size))
		}
		fmt.Fprintf(&b, "  %s[(%s)]\n", volumeID(x.Name), text(x.Name, lines...))
	}

	for _, e := range edges {
		fmt.Fprintf(&b, "  %s %s %s\n", e.from, e.arrow, e.to)
	}

	for i, g := range groups {
		if g.internal {
			fmt.Fprintf(&b, "  style network_%d stroke-dasharray: 6 4\n", i)
		}
	}

	return b.String()
}

// The nodes of those who reach the stack.
const (
	network = "network"
	machine = "machine"
)

// edge leads from one node to another, by their IDs.
type edge struct{ from, arrow, to string }

// ways returns the edges from those who reach the stack, with the addresses as labels.
func ways(exposed []workload.Exposure) []edge {
	labels := map[edge][]string{}
	var out []edge
	for _, e := range exposed {
		way, label := edge{network, "==>", serviceID(e.Service)}, e.String()
		switch {
		case e.Loopback:
			way.from, way.arrow, label = machine, "-->", ":"+strconv.Itoa(e.Port)
		case e.How != "port":
			label = e.How + " " + label
		}

		if labels[way] == nil {
			out = append(out, way)
		}

		labels[way] = append(labels[way], label)
	}

	for i, way := range out {
		out[i].arrow += "|" + quote(strings.Join(labels[way], " ")) + "|"
	}

	return out
}

// exposedFirst returns the services, with those first where people come in: the drawing begins
// there.
func exposedFirst(v workload.View, services [][]workload.Workload) [][]workload.Workload {
	rank := func(s []workload.Workload) int {
		at := slices.IndexFunc(v.Exposed, func(e workload.Exposure) bool {
			return e.Service == s[0].Service
		})
		return min(at, 0) // -1 where it is not exposed
	}

	return slices.SortedStableFunc(slices.Values(services), func(a, b []workload.Workload) int {
		return cmp.Compare(rank(b), rank(a))
	})
}

// edgesOf returns those to what the service stores in and calls. Its workloads are replicas, or of
// several kinds.
func edgesOf(service []workload.Workload) []edge {
	var out []edge
	add := func(arrow, to string) {
		if e := (edge{serviceID(service[0].Service), arrow, to}); !slices.Contains(out, e) {
			out = append(out, e)
		}
	}

	for _, w := range service {
		for _, c := range w.Containers {
			for _, m := range c.Mounts {
				if m.Kind == workload.Storage {
					add("---", volumeID(m.Source))
				}
			}
		}

		for _, called := range w.Calls {
			add("-->", serviceID(called))
		}
	}

	return out
}

// serviceText returns what stands in a service's node.
func serviceText(v workload.View, service []workload.Workload) string {
	first := service[0]
	title, replicas := first.Service, 0
	for _, w := range service {
		if w.Kind == first.Kind {
			replicas += w.Replicas
		}
	}

	if first.Kind == "Job" {
		title += " (job)"
	}
	if replicas > 1 {
		title += " ×" + strconv.Itoa(replicas)
	}

	var lines []string
	if len(first.Containers) > 0 {
		lines = append(lines, image(first.Containers[0]), limits(first.Containers[0]))
	}

	if v.Target != stacks.Docker { // on an engine, the network is the way out
		for _, way := range first.WaysOut {
			lines = append(lines, "→ "+way)
		}
	}

	return text(title, lines...)
}

// group is a set of networks with the services that are on exactly those.
type group struct {
	// title names the networks.
	title string
	// internal reports whether there is no way out.
	internal bool
}

func groupOf(v workload.View, w workload.Workload) group {
	g := group{internal: true}
	var names []string
	for _, n := range v.Networks {
		if !slices.Contains(w.Networks, n.Name) {
			continue
		}

		name := n.Name
		switch {
		case n.Internal:
			name += " (internal, no way out)"
		case n.Inbound:
			name += " (way in, no way out)"
		}

		names, g.internal = append(names, name), g.internal && (n.Internal || n.Inbound)
	}

	if len(names) == 0 {
		return group{title: "no network of the stack"}
	}

	g.title = strings.Join(names, " + ")
	return g
}

// image returns the last part of the reference, without what an edit of a source changes.
func image(c workload.Container) string {
	if c.Built {
		return "built here"
	}
	name, _, _ := strings.Cut(c.Image, "@")
	return name[strings.LastIndex(name, "/")+1:]
}

func limits(c workload.Container) string {
	var parts []string
	if c.CPU > 0 {
		parts = append(parts, c.CPU.Cores()+" CPU")
	}
	if c.Memory > 0 {
		parts = append(parts, size(c.Memory))
	}
	if c.GPU != "" {
		parts = append(parts, "GPU "+c.GPU)
	}
	if len(parts) == 0 {
		return "no limits"
	}

	return strings.Join(parts, " · ")
}

// size writes bytes with a space and the whole unit: 8 GiB.
func size(b stacks.Bytes) string {
	digits := strings.TrimRight(b.String(), "KMGTi")
	return digits + " " + strings.TrimPrefix(b.String(), digits) + "B"
}

func serviceID(name string) string { return id("service", name) }
func volumeID(name string) string  { return id("volume", name) }

// id returns a name that Mermaid takes as it is: lower-case letters, digits and underscores.
func id(kind, name string) string {
	return kind + "_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
}

// text returns what stands in a node.
func text(title string, lines ...string) string {
	out := "<b>" + escape(title) + "</b>"
	for _, l := range lines {
		out += "<br>" + escape(l)
	}
	return `"` + out + `"`
}

func quote(s string) string { return `"` + escape(s) + `"` }

// escape writes what Mermaid or the HTML in its labels would read as its own with entities.
func escape(s string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;",
		"`", "#96;").Replace(s)
}
