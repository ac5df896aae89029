package diff

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Style is how a part of the text is shown, where styles can be shown.
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
	t.wrapped("", "", sentence(r, sections))
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
		t.wrapped("  - ", "    ", u)
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

// wrapped writes text in lines of the width; a longer word is broken.
func (t *texter) wrapped(first, next, s string) {
	for i, l := range wrap(s, t.width-utf8.RuneCountInString(first)) {
		if i == 0 {
			t.line(first + l)
		} else {
			t.line(next + l)
		}
	}
}

func (t *texter) table(r Report) {
	rows := [][]string{{"STACK", "TARGET", "CREATE", "UPDATE", "REPLACE", "DELETE"}}
	for _, p := range r.Plans {
		target := string(p.Target)
		if p.Chosen {
			target += " *"
		}
		row := []string{p.Stack, target}
		for _, n := range []int{p.Counts.Create, p.Counts.Update, p.Counts.Replace, p.Counts.Delete} {
			row = append(row, count(n))
		}
		if p.Refused != nil && p.Refused.After != "" {
			row = append(row[:2], "refused")
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
		var b strings.Builder
		for x, cell := range row {
			pad := strings.Repeat(" ", widths[x]-utf8.RuneCountInString(cell))
			if x >= 2 && cell != "refused" { // numbers to the right
				b.WriteString("  " + pad + cell)
			} else {
				b.WriteString("  " + cell + pad)
			}
		}
		s := strings.TrimRight(b.String(), " ")
		if i == 0 {
			s = t.paint(Quiet, s)
		}
		t.line(s)
	}
	t.wrapped("  ", "  ", "* the target that the stack's settings name; the others are what if.")
}

func count(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

var signStyles = map[string]Style{"+": Added, "-": Removed, "~": Changed, "±": Changed, "!": Alarm}

func (t *texter) entry(e entry) {
	head := wrap(e.head(), t.width-4)
	for i, l := range head {
		if i == 0 {
			t.line("  " + t.paint(signStyles[e.sign], e.sign+" "+l))
		} else {
			t.line("    " + t.paint(signStyles[e.sign], l))
		}
	}
	for _, l := range wrap(places(e.where, t.plans), t.width-6) {
		t.line("      " + t.paint(Quiet, l))
	}
	for _, p := range e.props {
		t.property(p)
	}
	t.lines(e.lines)
}

func (t *texter) property(p Property) {
	notes := p.notes()
	if notes != "" {
		notes = "  (" + notes + ")"
	}
	if lines := p.linesOf(); lines != nil && !p.noted() {
		t.line("      " + plainText(p.Path) + notes)
		t.lines(lines)
		return
	}
	before, after := p.texts()
	one := ""
	switch {
	case p.noted():
		before, after = "", ""
		one = plainText(p.Path)
	case before == "":
		one = plainText(p.Path) + ": + " + after
	case after == "":
		one = plainText(p.Path) + ": - " + before
	default:
		one = plainText(p.Path) + ": " + before + " → " + after
	}
	if utf8.RuneCountInString(one+notes)+6 <= t.width {
		t.line("      " + one + t.paint(Quiet, notes))
		return
	}
	t.wrapped("      ", "      ", plainText(p.Path)+notes)
	if both := before + " → " + after; before != "" && after != "" && utf8.RuneCountInString(both)+8 <= t.width {
		t.line("        " + both)
		return
	}
	t.value(Removed, "- ", before)
	t.value(Added, "+ ", after)
}

func (t *texter) value(style Style, sign, s string) {
	if s == "" {
		return
	}
	for i, l := range wrap(s, t.width-10) {
		if i > 0 {
			sign = "  "
		}
		t.line("        " + t.paint(style, sign+l))
	}
}

func (t *texter) lines(lines []Line) {
	for _, l := range lines {
		if l.Sign == " " && strings.TrimSpace(l.Text) == "" {
			continue
		}
		style := Quiet
		switch l.Sign {
		case "-":
			style = Removed
		case "+":
			style = Added
		}
		for i, part := range wrap(plainText(l.Text), t.width-10) {
			sign := l.Sign
			if i > 0 {
				sign = " "
			}
			t.line("        " + t.paint(style, strings.TrimRight(sign+" "+part, " ")))
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

// wrap breaks the text into lines of at most n characters: at spaces where there are some, else before a part of a path.
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
		rest = rest[at:]
		for len(rest) > 0 && rest[0] == ' ' {
			rest = rest[1:]
		}
	}
	return append(out, string(rest))
}

// lastOf is where the last of the characters is; -1 where none is.
func lastOf(text []rune, chars string) int {
	for i := len(text) - 1; i >= 0; i-- {
		if strings.ContainsRune(chars, text[i]) {
			return i
		}
	}
	return -1
}
