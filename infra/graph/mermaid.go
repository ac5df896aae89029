package graph

import (
	"fmt"
	"strings"
)

// Mermaid writes the graph as a Mermaid flowchart, without the fence of Markdown around it. It names no colours: GitHub
// has a light and a dark theme.
func (g Graph) Mermaid() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%%%% %s\nflowchart LR\n", g.Title)
	for _, n := range g.Nodes {
		if n.Kind == People {
			fmt.Fprintf(&b, "  %s([%s])\n", n.ID, mermaidText(n))
		}
	}
	for i, group := range g.Groups {
		fmt.Fprintf(&b, "  subgraph network_%d[%s]\n", i, mermaidQuote(strings.Join(group.Titles, " + ")))
		for _, n := range g.members(i) {
			fmt.Fprintf(&b, "    %s[%s]\n", n.ID, mermaidText(n))
		}
		b.WriteString("  end\n")
	}
	for _, n := range g.Nodes {
		if n.Kind == Volume {
			fmt.Fprintf(&b, "  %s[(%s)]\n", n.ID, mermaidText(n))
		}
	}
	for _, e := range g.Edges {
		arrow := map[EdgeKind]string{Calls: "-->", Stores: "---", Local: "-->", Exposed: "==>"}[e.Kind]
		if e.Label != "" {
			arrow += "|" + mermaidQuote(e.Label) + "|"
		}
		fmt.Fprintf(&b, "  %s %s %s\n", e.From, arrow, e.To)
	}
	for i, group := range g.Groups {
		if group.Internal {
			fmt.Fprintf(&b, "  style network_%d stroke-dasharray: 6 4\n", i)
		}
	}
	return b.String()
}

func mermaidText(n Node) string {
	lines := []string{"<b>" + mermaidEscape(n.Title) + "</b>"}
	for _, l := range n.Lines {
		lines = append(lines, mermaidEscape(l))
	}
	return `"` + strings.Join(lines, "<br>") + `"`
}

func mermaidQuote(s string) string { return `"` + mermaidEscape(s) + `"` }

// mermaidEscape writes what Mermaid or the HTML in its labels would read as its own with entities.
func mermaidEscape(s string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", "`", "#96;").Replace(s)
}
