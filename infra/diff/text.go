package diff

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Style is how a part of the text looks, where styles can be shown.
type Style int

// The styles.
const (
	Heading Style = iota
	Added
	Removed
	Changed
	Alarm
	Quiet
)

// Text writes the report for a terminal of width columns. paint colours; it may be nil.
func Text(w io.Writer, r Report, width int, paint func(Style, string) string) error {
	if paint == nil {
		paint = func(_ Style, s string) string { return s }
	}

	t := &texter{width: max(width, 40), paint: paint, plans: len(r.Plans)}
	sections := layout(r)
	t.wrapped("", sentence(r, sections))
	if r.Changed() {
		t.table(r)
	}

	for _, s := range sections {
		t.line("")
		t.line(paint(Heading, s.title))
		for _, e := range s.entries {
			t.entry(e)
		}
	}

	t.line("")
	t.line(paint(Heading, "What this cannot know"))
	for _, u := range r.Unknown {
		t.wrapped("  - ", u)
	}

	_, err := io.WriteString(w, t.out.String())
	return err
}

type texter struct {
	out   strings.Builder
	width int
	plans int
	paint func(Style, string) string
}

func (t *texter) line(s string) { t.out.WriteString(s + "\n") }

// wrapped writes text in lines of the width, below each other after a prefix.
func (t *texter) wrapped(prefix, s string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(prefix))
	for _, l := range wrap(s, t.width-len(indent)) {
		t.line(prefix + l)
		prefix = indent
	}
}

// painted writes text in lines of the width, indented and with a sign before the first of them.
func (t *texter) painted(indent int, style Style, sign, s string) {
	for _, l := range wrap(s, t.width-indent-2) {
		t.line(strings.Repeat(" ", indent) + t.paint(style, strings.TrimRight(sign+" "+l, " ")))
		sign = " "
	}
}

func (t *texter) table(r Report) {
	rows := [][6]string{{"STACK", "TARGET", "CREATE", "UPDATE", "REPLACE", "DELETE"}}
	for _, p := range r.Plans {
		target := string(p.Target)
		if p.Chosen {
			target += " *"
		}

		c := p.Counts
		row := [6]string{p.Stack, target,
			count(c.Create), count(c.Update), count(c.Replace), count(c.Delete)}
		if p.Refused != nil && p.Refused.After != "" {
			row = [6]string{p.Stack, target, "refused"}
		}

		rows = append(rows, row)
	}

	var widths [6]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}

	t.line("")
	for i, row := range rows {
		line := ""
		for x, cell := range row {
			if x >= 2 && cell != "refused" { // numbers to the right
				line += fmt.Sprintf("  %*s", widths[x], cell)
			} else {
				line += fmt.Sprintf("  %-*s", widths[x], cell)
			}
		}

		line = strings.TrimRight(line, " ")
		if i == 0 {
			line = t.paint(Quiet, line)
		}

		t.line(line)
	}

	t.wrapped("  ", "* the target that the stack's settings name; the others are what if.")
}

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

var signStyles = map[string]Style{"+": Added, "-": Removed, "~": Changed, "±": Changed, "!": Alarm}

func (t *texter) entry(e entry) {
	t.painted(2, signStyles[e.sign], e.sign, e.head())
	for _, l := range wrap(places(e.where, t.plans), t.width-6) {
		t.line("      " + t.paint(Quiet, l))
	}

	for _, p := range e.props {
		t.property(p)
	}

	t.lines(e.lines)
}

func (t *texter) property(p Property) {
	title, notes := plainText(p.Path), p.notes()
	if notes != "" {
		notes = "  (" + notes + ")"
	}

	if lines := p.linesOf(); lines != nil && !p.noted() {
		t.line("      " + title + notes)
		t.lines(lines)
		return
	}

	before, after := p.texts()
	one, both := title, ""
	switch {
	case p.noted():
		before, after = "", ""
	case before == "":
		one += ": + " + after
	case after == "":
		one += ": - " + before
	default:
		both = before + " → " + after
		one += ": " + both
	}

	if utf8.RuneCountInString(one+notes)+6 <= t.width {
		t.line("      " + one + t.paint(Quiet, notes))
		return
	}

	t.wrapped("      ", title+notes)
	if both != "" && utf8.RuneCountInString(both)+8 <= t.width {
		t.line("        " + both)
		return
	}

	if before != "" {
		t.painted(8, Removed, "-", before)
	}
	if after != "" {
		t.painted(8, Added, "+", after)
	}
}

func (t *texter) lines(lines []Line) {
	styles := map[string]Style{"-": Removed, "+": Added, " ": Quiet}
	for _, l := range lines {
		if l.Sign != " " || strings.TrimSpace(l.Text) != "" {
			t.painted(8, styles[l.Sign], l.Sign, plainText(l.Text))
		}
	}
}

// plainText takes out what would move a cursor: the text is a pull request's.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0:
			return -1
		}
		return r
	}, s)
}

// wrap breaks the text into lines of at most n characters: at spaces where there are some, else
// before a part of a path.
func wrap(s string, n int) []string {
	n = max(n, 8)
	var out []string
	rest := []rune(plainText(s))
	for len(rest) > n {
		at := lastOf(rest[:n+1], " ")
		if at <= n/2 {
			at = lastOf(rest[:n+1], ".[/")
		}
		if at <= n/2 {
			at = n
		}

		out = append(out, strings.TrimRight(string(rest[:at]), " "))
		rest = []rune(strings.TrimLeft(string(rest[at:]), " "))
	}

	return append(out, string(rest))
}

// lastOf returns the index of the last of the characters, -1 where there is none.
func lastOf(text []rune, chars string) int {
	for i := len(text) - 1; i >= 0; i-- {
		if strings.ContainsRune(chars, text[i]) {
			return i
		}
	}
	return -1
}
