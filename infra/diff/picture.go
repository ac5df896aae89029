package diff

import (
	"reflect"

	"github.com/codexcontinue/codexcontinue/infra/graph"
	"github.com/codexcontinue/codexcontinue/infra/workload"
)

// picture is the Mermaid flowchart of the plan after the change, where the change adds or takes away a service, a network, a
// volume or a way between them; empty otherwise.
func picture(before, after workload.View) string {
	now := graph.New(after)
	if len(after.Workloads) == 0 || reflect.DeepEqual(shape(graph.New(before)), shape(now)) {
		return ""
	}
	return now.Mermaid()
}

// shape is the graph without what a node says of itself: images, limits, how many replicas.
func shape(g graph.Graph) graph.Graph {
	nodes := make([]graph.Node, len(g.Nodes))
	for i, n := range g.Nodes {
		nodes[i] = graph.Node{ID: n.ID, Kind: n.Kind, Group: n.Group}
	}
	g.Nodes = nodes
	return g
}
