// Package graph draws a plan: services, the networks that they are on, volumes, and what is exposed. It writes
// Mermaid, which GitHub renders, and SVG.
//
// The same plan is the same text, and an edit of a source changes nothing: only the topology shows. The SVG's layout is
// this package's own, because the graphs have ten to twenty nodes: Graphviz compiled for Go adds 6 MB to the program and
// most of a second to each run.
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

// Graph is what is drawn.
type Graph struct {
	// Title names stack and target.
	Title  string
	Groups []Group
	Nodes  []Node
	Edges  []Edge
}

// Kind says what a node is.
type Kind string

// The kinds of nodes.
const (
	People  Kind = "people"
	Service Kind = "service"
	Volume  Kind = "volume"
)

// Group is a set of networks with the services that are on exactly those.
type Group struct {
	// Titles name the networks.
	Titles []string
	// Internal says that there is no way out.
	Internal bool
}

// Node is a service, a volume, or those who reach the stack.
type Node struct {
	// ID is made of lower-case letters, digits and underscores.
	ID    string
	Kind  Kind
	Title string
	Lines []string
	// Group is the index of the service's group; -1 for others.
	Group int
}

// EdgeKind says what an edge is.
type EdgeKind string

// The kinds of edges.
const (
	Calls    EdgeKind = "calls"
	Stores   EdgeKind = "stores"
	Local    EdgeKind = "local"  // reached from this machine
	Exposed  EdgeKind = "public" // reached from other machines
	anywhere          = "network"
	here              = "machine"
)

// Edge leads from one node to another, by their IDs.
type Edge struct {
	From, To string
	Kind     EdgeKind
	Label    string
}

// New makes the graph of a plan.
func New(v workload.View) Graph {
	g := Graph{Title: fmt.Sprintf("%s on %s", v.Stack, v.Target)}
	g.addPeople(v)
	services := v.Services()
	exposed := func(group []workload.Workload) bool {
		return slices.ContainsFunc(v.Exposed, func(e workload.Exposure) bool { return e.Service == group[0].Service })
	}
	for _, first := range []bool{true, false} { // the drawing begins where people come in
		for _, group := range services {
			if exposed(group) == first {
				g.addService(v, group)
			}
		}
	}
	for _, x := range v.Volumes {
		n := Node{ID: id("volume", x.Name), Kind: Volume, Title: x.Name, Group: -1}
		if x.Size > 0 {
			n.Lines = []string{size(x.Size)}
		}
		g.Nodes = append(g.Nodes, n)
	}
	return g
}

// addPeople adds those who reach the stack, with what they reach.
func (g *Graph) addPeople(v workload.View) {
	labels := map[Edge][]string{}
	var edges []Edge
	for _, e := range v.Exposed {
		edge, label := Edge{From: anywhere, To: id("service", e.Service), Kind: Exposed}, e.String()
		switch {
		case e.Loopback:
			edge.From, edge.Kind, label = here, Local, ":"+strconv.Itoa(e.Port)
		case e.How != "port":
			label = e.How + " " + label
		}
		if labels[edge] == nil {
			edges = append(edges, edge)
		}
		labels[edge] = append(labels[edge], label)
	}
	for _, p := range []Node{{ID: anywhere, Title: "the network"}, {ID: here, Title: "this machine"}} {
		if slices.ContainsFunc(edges, func(e Edge) bool { return e.From == p.ID }) {
			g.Nodes = append(g.Nodes, Node{ID: p.ID, Kind: People, Title: p.Title, Group: -1})
		}
	}
	for _, e := range edges {
		label := strings.Join(labels[e], " ")
		e.Label = label
		g.Edges = append(g.Edges, e)
	}
}

// addService adds a service with what it calls and stores. Its workloads are replicas, or of several kinds.
func (g *Graph) addService(v workload.View, all []workload.Workload) {
	w := all[0]
	n := Node{ID: id("service", w.Service), Kind: Service, Title: w.Service, Group: g.group(v, w)}
	replicas := 0
	for _, x := range all {
		if x.Kind == w.Kind {
			replicas += x.Replicas
		}
	}
	if w.Kind == "Job" {
		n.Title += " (job)"
	}
	if replicas > 1 {
		n.Title += " ×" + strconv.Itoa(replicas)
	}
	calls := map[string]bool{}
	stores := map[string]bool{}
	for i, x := range all {
		for j, c := range x.Containers {
			if i == 0 && j == 0 {
				n.Lines = append(n.Lines, image(c), limits(c))
			}
			for _, m := range c.Mounts {
				if m.Kind == workload.Storage && !stores[m.Source] {
					stores[m.Source] = true
					g.Edges = append(g.Edges, Edge{From: n.ID, To: id("volume", m.Source), Kind: Stores})
				}
			}
		}
		for _, called := range x.Calls {
			if !calls[called] {
				calls[called] = true
				g.Edges = append(g.Edges, Edge{From: n.ID, To: id("service", called), Kind: Calls})
			}
		}
	}
	if v.Target != stacks.Docker { // on an engine, the network is the way out
		for _, way := range w.WaysOut {
			n.Lines = append(n.Lines, "→ "+way)
		}
	}
	g.Nodes = append(g.Nodes, n)
}

// group finds or adds the group of the workload's networks.
func (g *Graph) group(v workload.View, w workload.Workload) int {
	internal := true
	var names []string
	for _, n := range v.Networks {
		if !slices.Contains(w.Networks, n.Name) {
			continue
		}
		name := n.Name
		if n.Internal {
			name += " (internal, no way out)"
		}
		names, internal = append(names, name), internal && n.Internal
	}
	group := Group{Titles: names, Internal: internal && len(names) > 0}
	if len(names) == 0 {
		group.Titles = []string{"no network of the stack"}
	}
	if i := slices.IndexFunc(g.Groups, func(x Group) bool { return slices.Equal(x.Titles, group.Titles) }); i >= 0 {
		return i
	}
	g.Groups = append(g.Groups, group)
	return len(g.Groups) - 1
}

// image is the last part of the reference, without what an edit of a source changes.
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
		parts = append(parts, strconv.FormatFloat(float64(c.CPU)/1000, 'f', -1, 64)+" CPU")
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

// size writes bytes in the greatest unit that leaves no fraction.
func size(b stacks.Bytes) string {
	for _, u := range []struct {
		unit stacks.Bytes
		name string
	}{{stacks.GiB, "GiB"}, {stacks.MiB, "MiB"}, {stacks.KiB, "KiB"}} {
		if b >= u.unit && b%u.unit == 0 {
			return fmt.Sprintf("%d %s", b/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d B", b)
}

// id is a name that every format takes as it is.
func id(kind, name string) string {
	return kind + "_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
}

// members are the nodes of the group, in order.
func (g Graph) members(group int) []Node {
	var out []Node
	for _, n := range g.Nodes {
		if n.Group == group {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
