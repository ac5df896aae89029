package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// width is the greatest width of a printed line.
const width = 80

// unit is the unit of a cell's number.
type unit string

const (
	seconds      unit = "s"
	milliseconds unit = "ms"
	precise      unit = "ms to the hundredth"
	microseconds unit = "us"
	bytesUnit    unit = "B"
	kilobytes    unit = "kB"
	count        unit = "a number"
	ratio        unit = "x" // how many times the peer's figure; 1 is the same
)

// cell is one figure: the median of its samples.
type cell struct {
	Value   float64   `json:"value"`
	Unit    unit      `json:"unit"`
	Samples []float64 `json:"samples,omitempty"`
}

// row is one line of a table.
type row struct {
	Name  string           `json:"name"`
	Cells map[string]*cell `json:"cells"`
}

// table is a printed table.
type table struct {
	Title   string   `json:"title"`
	Columns []string `json:"columns"`
	Rows    []*row   `json:"rows"`

	// Note tells what a reader has to know to understand the figures.
	Note string `json:"note,omitempty"`
}

// skipped is a section that was not measured.
type skipped struct {
	Section string `json:"section"`
	Reason  string `json:"reason"`
}

// report is the result of a run.
type report struct {
	Machine  machine           `json:"machine"`
	Rounds   int               `json:"rounds"`
	Versions map[string]string `json:"versions"`
	Tables   []*table          `json:"tables"`
	Skipped  []skipped         `json:"skipped,omitempty"`
}

func newReport(rounds int) *report {
	return &report{Machine: thisMachine(), Rounds: rounds, Versions: map[string]string{}}
}

func (r *report) finish() { r.Machine.LoadAfter = load() }

func (r *report) table(title, note string, columns ...string) *table {
	t := &table{Title: title, Columns: columns, Note: note}
	r.Tables = append(r.Tables, t)
	return t
}

// row returns the row of that name, which it adds if it is new.
func (t *table) row(name string) *row {
	for _, r := range t.Rows {
		if r.Name == name {
			return r
		}
	}

	r := &row{Name: name, Cells: map[string]*cell{}}
	t.Rows = append(t.Rows, r)
	return r
}

// add adds a sample.
func (r *row) add(column string, u unit, value float64) {
	c := r.Cells[column]
	if c == nil {
		c = &cell{Unit: u}
		r.Cells[column] = c
	}
	c.Samples = append(c.Samples, value)
	c.Value = median(c.Samples)
}

func (r *row) addTime(column string, u unit, d time.Duration) {
	r.add(column, u,
		float64(d)/float64(map[unit]time.Duration{
			seconds:      time.Second,
			milliseconds: time.Millisecond,
			microseconds: time.Microsecond,
		}[u]))
}

// compare fills a column with the ratio of the medians of two other columns. Rows
// without both stay empty.
func (t *table) compare(column, ours, theirs string) {
	for _, r := range t.Rows {
		a, b := r.Cells[ours], r.Cells[theirs]
		if a != nil && b != nil && b.Value > 0 {
			r.Cells[column] = &cell{Value: a.Value / b.Value, Unit: ratio}
		}
	}
}

// median returns the middle of the values, or the mean of the two middle ones if
// their number is even.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (c *cell) String() string {
	switch {
	case c == nil:
		return "-"
	case c.Unit == bytesUnit:
		return fmt.Sprintf("%.1f MB", c.Value/1e6)
	case c.Unit == ratio:
		return fmt.Sprintf("%.2fx", c.Value)
	case c.Unit == count:
		return fmt.Sprintf("%.1f", c.Value)
	case c.Unit == seconds:
		return fmt.Sprintf("%.2f s", c.Value)
	case c.Unit == precise:
		return fmt.Sprintf("%.2f ms", c.Value)
	case c.Unit == microseconds || c.Unit == kilobytes:
		return fmt.Sprintf("%.0f %s", c.Value, c.Unit)
	default:
		return fmt.Sprintf("%.1f %s", c.Value, c.Unit)
	}
}

// print writes the tables, no line wider than width.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "%s/%s, %d CPUs, medians of %d", m.OS, m.Arch, m.CPUs, r.Rounds)
	if m.LoadBefore != "" {
		fmt.Fprintf(&b, ", load %s before, %s after", m.LoadBefore, m.LoadAfter)
	}

	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "  %-16s %s\n", name, r.Versions[name])
	}

	for _, t := range r.Tables {
		b.WriteByte('\n')
		t.print(&b)
	}

	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "\n%s: skipped: %s\n", s.Section, s.Reason)
	}

	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) print(b *strings.Builder) {
	name := 0
	for _, r := range t.Rows {
		name = max(name, len(r.Name))
	}

	fmt.Fprintf(b, "%s\n", t.Title)
	fmt.Fprintf(b, "  %-*s", name, "")
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = len(c)
		for _, r := range t.Rows {
			widths[i] = max(widths[i], len(r.Cells[c].String()))
		}
		fmt.Fprintf(b, "  %*s", widths[i], c)
	}

	b.WriteByte('\n')
	for _, r := range t.Rows {
		fmt.Fprintf(b, "  %-*s", name, r.Name)
		for i, c := range t.Columns {
			fmt.Fprintf(b, "  %*s", widths[i], r.Cells[c])
		}
		b.WriteByte('\n')
	}

	wrap(b, t.Note)
}

// wrap writes a text in lines of at most width columns.
func wrap(b *strings.Builder, text string) {
	line := " "
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			fmt.Fprintln(b, line)
			line = " "
		}
		line += " " + word
	}

	if line != " " {
		fmt.Fprintln(b, line)
	}
}
