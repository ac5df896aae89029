package graph

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Text measures in pixels; widths are those of wide fonts, so that no text leaves its box.
const (
	titleSize, lineSize     = 14.0, 12.0
	titleAdvance, lineWidth = 8.4, 7.0
	lineHeight              = 17.0
	titleHeight             = 18.0
	padX, padY              = 14.0, 10.0
	capHeight               = 7.0 // of a volume's cylinder
)

// style has both themes: the drawing brings its own background, so that it is readable wherever it is shown.
const style = `
    svg { --back: #ffffff; --text: #1f2328; --dim: #59636e; --line: #818b98; --card: #f6f8fa; --frame: #d1d9e0; --fill: #fbfcfd; --local: #0969da; --public: #bc4c00; }
    @media (prefers-color-scheme: dark) {
      svg { --back: #0d1117; --text: #f0f6fc; --dim: #9198a1; --line: #7d8590; --card: #1c2128; --frame: #3d444d; --fill: #10151c; --local: #58a6ff; --public: #f0883e; }
    }
    text { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; font-size: 12px; fill: var(--dim); }
    .title { font-size: 14px; font-weight: 600; fill: var(--text); }
    .back { fill: var(--back); }
    .frame { fill: var(--fill); stroke: var(--frame); stroke-width: 1.5; }
    .internal { stroke-dasharray: 7 5; }
    .card { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
    .edge { fill: none; stroke: var(--line); stroke-width: 1.5; }
    .stores { stroke-dasharray: 2 4; stroke-linecap: round; }
    path.local { stroke: var(--local); }
    path.public { stroke: var(--public); stroke-width: 2.2; }
    text.label { paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round; }
    text.local { fill: var(--local); }
    text.public { fill: var(--public); font-weight: 600; }
    .head { fill: var(--line); }
    path.head.local { fill: var(--local); stroke: none; }
    path.head.public { fill: var(--public); stroke: none; }
  `

// SVG draws the graph. It is readable on a light and on a dark screen, and holds its text as text.
func (g Graph) SVG() string {
	sizes, labels := make([]point, len(g.Nodes)), make([]float64, len(g.Edges))
	for i, n := range g.Nodes {
		sizes[i] = measure(n)
	}
	for i, e := range g.Edges {
		if e.Label != "" {
			labels[i] = textWidth(e.Label, lineWidth)
		}
	}
	l := arrange(g, sizes, labels)
	w := l.w
	for i := range g.Groups { // a long title makes its frame wider
		w = max(w, l.frame(g, i).right()+margin)
	}
	w, h := math.Ceil(w), math.Ceil(l.h)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-labelledby="title desc">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "  <title id=\"title\">%s</title>\n  <desc id=\"desc\">%s</desc>\n  <style>%s</style>\n", escape(g.Title), escape(g.describe()), style)
	fmt.Fprintf(&b, `  <rect class="back" width="%.0f" height="%.0f" rx="8"/>`+"\n", w, h)
	for i, group := range g.Groups {
		f := l.frame(g, i)
		class := "frame"
		if group.Internal {
			class += " internal"
		}
		fmt.Fprintf(&b, `  <rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="10"/>`+"\n", class, f.x, f.y, f.w, f.h)
		for j, title := range group.Titles {
			fmt.Fprintf(&b, `  <text x="%.1f" y="%.1f">%s</text>`+"\n", f.x+12, f.y+titleHeight*float64(j+1), escape(title))
		}
	}
	leave, reach := l.ends()
	for i, e := range g.Edges {
		writeEdge(&b, l, l.routes[i], e, leave[i], reach[i])
	}
	for i, e := range g.Edges { // above all lines
		if e.Label != "" {
			fmt.Fprintf(&b, `  <text class="label %s" x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", e.Kind, reach[i].x-framePad-6, reach[i].y-6, escape(e.Label))
		}
	}
	for i, n := range g.Nodes {
		writeNode(&b, n, l.slots[i].box)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// describe says in words what the drawing shows.
func (g Graph) describe() string {
	titles := map[string]string{}
	for _, n := range g.Nodes {
		titles[n.ID] = n.Title
	}
	var parts []string
	for _, e := range g.Edges {
		verb := map[EdgeKind]string{Calls: "calls", Stores: "stores in", Local: "reaches", Exposed: "reaches"}[e.Kind]
		text := titles[e.From] + " " + verb + " " + titles[e.To]
		if e.Label != "" {
			text += " at " + e.Label
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func measure(n Node) point {
	w := textWidth(n.Title, titleAdvance)
	for _, line := range n.Lines {
		w = max(w, textWidth(line, lineWidth))
	}
	p := point{w + 2*padX, titleHeight + float64(len(n.Lines))*lineHeight + 2*padY}
	if n.Kind == Volume {
		p.y += 2 * capHeight
	}
	return p
}

func textWidth(s string, advance float64) float64 {
	return float64(utf8.RuneCountInString(s)) * advance
}

func writeNode(b *strings.Builder, n Node, at box) {
	top := at.y + padY
	switch n.Kind {
	case Volume:
		top += 2 * capHeight
		x, r := at.x, at.w/2
		fmt.Fprintf(b, `  <path class="card" d="M%.1f %.1fa%.1f %.1f 0 0 1 %.1f 0v%.1fa%.1f %.1f 0 0 1 %.1f 0z"/>`+"\n",
			x, at.y+capHeight, r, capHeight, at.w, at.h-2*capHeight, r, capHeight, -at.w)
		fmt.Fprintf(b, `  <path class="edge" d="M%.1f %.1fa%.1f %.1f 0 0 0 %.1f 0"/>`+"\n", x, at.y+capHeight, r, capHeight, at.w)
	case People:
		fmt.Fprintf(b, `  <rect class="card" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.1f"/>`+"\n", at.x, at.y, at.w, at.h, at.h/2)
	default:
		fmt.Fprintf(b, `  <rect class="card" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="6"/>`+"\n", at.x, at.y, at.w, at.h)
	}
	middle := at.x + at.w/2
	fmt.Fprintf(b, `  <text class="title" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", middle, top+titleSize-1, escape(n.Title))
	for i, line := range n.Lines {
		fmt.Fprintf(b, `  <text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", middle, top+titleHeight+float64(i)*lineHeight+lineSize, escape(line))
	}
}

// writeEdge draws an edge as a curve that leaves and reaches horizontally, with an arrow head of its own: markers do not
// take the colour of their line everywhere.
func writeEdge(b *strings.Builder, l layout, way []int, e Edge, leave, reach point) {
	const head = 8.0
	class := string(e.Kind)
	end := point{reach.x - head, reach.y}
	if e.Kind == Stores {
		end = reach
	}
	path := fmt.Sprintf("M%.1f %.1f", leave.x, leave.y)
	at := leave
	to := func(p point) {
		half := (p.x - at.x) / 2
		path += fmt.Sprintf("C%.1f %.1f %.1f %.1f %.1f %.1f", at.x+half, at.y, p.x-half, p.y, p.x, p.y)
		at = p
	}
	for _, s := range way[1 : len(way)-1] {
		slot := l.slots[s]
		to(point{slot.x, slot.middle()})
		path += fmt.Sprintf("H%.1f", slot.right())
		at = point{slot.right(), slot.middle()}
	}
	to(end)
	fmt.Fprintf(b, `  <path class="edge %s" d="%s"/>`+"\n", class, path)
	if e.Kind != Stores {
		fmt.Fprintf(b, `  <path class="head %s" d="M%.1f %.1fl-9 -4.5v9z"/>`+"\n", class, reach.x, reach.y)
	}
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
