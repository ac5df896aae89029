package graph

import (
	"cmp"
	"slices"
)

// point is a place on the drawing, in pixels from its top left corner.
type point struct{ x, y float64 }

// box is a rectangle.
type box struct{ x, y, w, h float64 }

func (b box) right() float64  { return b.x + b.w }
func (b box) bottom() float64 { return b.y + b.h }
func (b box) middle() float64 { return b.y + b.h/2 }

// slot is a node, or the place where an edge passes a column.
type slot struct {
	box
	node  int // -1 where an edge passes
	layer int
	// band keeps groups apart: each has rows of its own.
	band int
	next []int // slots that edges lead to, in the order of their making
	prev []int
	rank float64
}

// layout is a layered drawing from left to right: a node is right of all that lead to it.
type layout struct {
	slots  []slot
	routes [][]int // the slots of each edge
	w, h   float64
}

// Distances in pixels.
const (
	gapColumn = 50.0 // between columns, beside the labels of edges
	gapRow    = 22.0 // between nodes of a column
	gapBand   = 20.0 // between the frames of bands
	margin    = 20.0 // around the drawing
	framePad  = 16.0 // between a frame and its nodes
)

// arrange lays out nodes of these sizes. labels are the widths of the edges' labels.
func arrange(g Graph, sizes []point, labels []float64) layout {
	l := layout{}
	index := map[string]int{}
	last := 0
	for i, n := range g.Nodes {
		index[n.ID] = i
		last = max(last, n.Group+1)
	}
	for i, n := range g.Nodes {
		band := n.Group
		switch n.Kind {
		case People:
			band = 0
		case Volume:
			band = last
		}
		l.slots = append(l.slots, slot{box: box{w: sizes[i].x, h: sizes[i].y}, node: i, band: band})
	}
	l.assignLayers(g, index)
	for _, e := range g.Edges {
		l.routes = append(l.routes, l.route(index[e.From], index[e.To]))
	}
	columns := l.columns()
	l.order(columns)
	l.place(g, columns, labels)
	return l
}

// assignLayers gives each node the length of the longest way to it. An edge that closes a circle does not count.
func (l *layout) assignLayers(g Graph, index map[string]int) {
	from := map[int][]int{}
	for _, e := range g.Edges {
		from[index[e.To]] = append(from[index[e.To]], index[e.From])
	}
	state := make([]int, len(l.slots)) // 1: on the way, 2: done
	var visit func(i int) int
	visit = func(i int) int {
		if state[i] == 2 {
			return l.slots[i].layer
		}
		state[i] = 1
		for _, p := range from[i] {
			if state[p] != 1 {
				l.slots[i].layer = max(l.slots[i].layer, visit(p)+1)
			}
		}
		state[i] = 2
		return l.slots[i].layer
	}
	for i := range l.slots {
		visit(i)
	}
	// What nothing leads to stands before what it leads to, not at the far left.
	for i := range l.slots {
		first := -1
		for _, e := range g.Edges {
			if to := l.slots[index[e.To]].layer; index[e.From] == i && (first < 0 || to < first) {
				first = to
			}
		}
		if len(from[i]) == 0 && first > 0 {
			l.slots[i].layer = first - 1
		}
	}
}

// route makes the way of an edge, with a slot in each column that it passes.
func (l *layout) route(from, to int) []int {
	way := []int{from}
	for layer := l.slots[from].layer + 1; layer < l.slots[to].layer; layer++ {
		l.slots = append(l.slots, slot{box: box{h: 10}, node: -1, layer: layer, band: l.slots[to].band})
		way = append(way, len(l.slots)-1)
	}
	way = append(way, to)
	for i := range way[1:] {
		l.slots[way[i]].next = append(l.slots[way[i]].next, way[i+1])
		l.slots[way[i+1]].prev = append(l.slots[way[i+1]].prev, way[i])
	}
	return way
}

func (l *layout) columns() [][]int {
	var out [][]int
	for i, s := range l.slots {
		for len(out) <= s.layer {
			out = append(out, nil)
		}
		out[s.layer] = append(out[s.layer], i)
	}
	return out
}

// order sorts each column so that few edges cross: each slot goes near the mean place of its neighbours, for as many
// sweeps as graphs of this size need.
func (l *layout) order(columns [][]int) {
	for _, column := range columns {
		l.sortColumn(column)
	}
	for sweep := range 12 {
		for i := range columns {
			column := columns[i]
			if sweep%2 == 1 {
				column = columns[len(columns)-1-i]
			}
			for _, s := range column {
				near := l.slots[s].prev
				if sweep%2 == 1 {
					near = l.slots[s].next
				}
				if len(near) == 0 {
					continue
				}
				sum := 0.0
				for _, n := range near {
					sum += l.slots[n].rank
				}
				l.slots[s].rank = sum / float64(len(near))
			}
			l.sortColumn(column)
		}
	}
}

// sortColumn sorts by band and rank, and makes the ranks places between 0 and 1.
func (l *layout) sortColumn(column []int) {
	slices.SortStableFunc(column, func(a, b int) int {
		return cmp.Or(cmp.Compare(l.slots[a].band, l.slots[b].band), cmp.Compare(l.slots[a].rank, l.slots[b].rank))
	})
	for i, s := range column {
		l.slots[s].rank = (float64(i) + 0.5) / float64(len(column))
	}
}

// place gives every slot its place: columns as wide as their widest node, bands as high as their highest column.
func (l *layout) place(g Graph, columns [][]int, labels []float64) {
	heights := map[int]float64{}
	bands := 0
	for _, column := range columns {
		for band, h := range l.heights(column) {
			heights[band] = max(heights[band], h)
			bands = max(bands, band+1)
		}
	}
	tops := make([]float64, bands)
	y := margin
	for band := range bands {
		if heights[band] == 0 {
			continue
		}
		y += framePad
		if band < len(g.Groups) {
			y += titleHeight * float64(len(g.Groups[band].Titles))
		}
		tops[band] = y
		y += heights[band] + framePad + gapBand
	}
	l.h = y - gapBand + margin
	widest := make([]float64, len(columns)) // label of an edge that ends in the column
	for i, way := range l.routes {
		end := l.slots[way[len(way)-1]].layer
		widest[end] = max(widest[end], labels[i])
	}
	x := margin + framePad
	for i, column := range columns {
		if i > 0 {
			x += gapColumn + widest[i]
		}
		w := 0.0
		for _, s := range column {
			w = max(w, l.slots[s].w)
		}
		used := l.heights(column)
		at := map[int]float64{}
		for _, s := range column {
			slot := &l.slots[s]
			if _, ok := at[slot.band]; !ok {
				at[slot.band] = tops[slot.band] + (heights[slot.band]-used[slot.band])/2
			}
			slot.x, slot.y = x, at[slot.band]
			if slot.node < 0 {
				slot.w = w
			} else {
				slot.x += (w - slot.w) / 2
			}
			at[slot.band] += slot.h + gapRow
		}
		x += w
	}
	l.w = x + framePad + margin
}

// heights are how high the slots of each band are in the column.
func (l *layout) heights(column []int) map[int]float64 {
	out := map[int]float64{}
	for _, s := range column {
		band := l.slots[s].band
		if out[band] > 0 {
			out[band] += gapRow
		}
		out[band] += l.slots[s].h
	}
	return out
}

// ends are where each edge leaves its first slot and reaches its last: spread over the sides, in the order of the places
// that they lead to.
func (l *layout) ends() (leave, reach []point) {
	leave, reach = make([]point, len(l.routes)), make([]point, len(l.routes))
	for s := range l.slots {
		if l.slots[s].node < 0 {
			continue
		}
		var out, in []int
		for i, way := range l.routes {
			if way[0] == s {
				out = append(out, i)
			}
			if way[len(way)-1] == s {
				in = append(in, i)
			}
		}
		b := l.slots[s].box
		slices.SortStableFunc(out, func(x, y int) int {
			return cmp.Compare(l.slots[l.routes[x][1]].middle(), l.slots[l.routes[y][1]].middle())
		})
		for k, i := range out {
			leave[i] = point{b.right(), b.y + b.h*float64(k+1)/float64(len(out)+1)}
		}
		before := func(i int) float64 { way := l.routes[i]; return l.slots[way[len(way)-2]].middle() }
		slices.SortStableFunc(in, func(x, y int) int { return cmp.Compare(before(x), before(y)) })
		for k, i := range in {
			reach[i] = point{b.x, b.y + b.h*float64(k+1)/float64(len(in)+1)}
		}
	}
	return leave, reach
}

// frame is the rectangle around a group's nodes, its title, and the edges that pass between the nodes.
func (l *layout) frame(g Graph, group int) box {
	var b box
	first := true
	for _, s := range l.slots {
		if s.node < 0 || g.Nodes[s.node].Group != group {
			continue
		}
		if first {
			b, first = s.box, false
			continue
		}
		right, bottom := max(b.right(), s.right()), max(b.bottom(), s.bottom())
		b.x, b.y = min(b.x, s.x), min(b.y, s.y)
		b.w, b.h = right-b.x, bottom-b.y
	}
	for _, s := range l.slots {
		if s.node < 0 && s.band == group && s.x >= b.x && s.right() <= b.right() {
			bottom := max(b.bottom(), s.bottom())
			b.y = min(b.y, s.y)
			b.h = bottom - b.y
		}
	}
	title := titleHeight * float64(len(g.Groups[group].Titles))
	width := b.w + 2*framePad
	for _, t := range g.Groups[group].Titles {
		width = max(width, textWidth(t, lineWidth)+2*framePad)
	}
	return box{b.x - framePad, b.y - framePad - title, width, b.h + 2*framePad + title}
}
