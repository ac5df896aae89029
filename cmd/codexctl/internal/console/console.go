// Package console writes to people: within the width of the terminal, in colour only if the
// terminal shows it and the person wants it.
package console

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// DefaultWidth is the width without a terminal: what mails, log viewers and tickets
// show without wrapping.
const DefaultWidth = 80

// Console is one output stream.
type Console struct {
	io.Writer

	// Terminal reports whether a person watches, so that lines may be redrawn.
	Terminal bool

	// Color reports whether colours are shown and not refused by NO_COLOR
	// (https://no-color.org) or TERM=dumb.
	Color bool
	file  *os.File
}

// New returns a console that writes to w, with the width and colours of w if it is a terminal.
func New(w io.Writer, getenv func(string) string) *Console {
	c := &Console{Writer: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return c
	}

	c.file = f
	c.Terminal = getenv("TERM") != "dumb" && getenv("CI") == ""
	c.Color = c.Terminal && getenv("NO_COLOR") == ""
	return c
}

// Width returns the number of columns, or DefaultWidth if they are not known.
func (c *Console) Width() int {
	if c.file == nil {
		return DefaultWidth
	}
	if w, _, err := term.GetSize(int(c.file.Fd())); err == nil && w >= 20 {
		return w
	}
	return DefaultWidth
}

// Printf writes one line, adding the end of line.
func (c *Console) Printf(format string, args ...any) {
	fmt.Fprintf(c, format+"\n", args...)
}

// Paint is the code of an SGR colour.
type Paint string

// The colours that codexctl uses.
const (
	Green  Paint = "32"
	Yellow Paint = "33"
	Red    Paint = "31"
	Cyan   Paint = "36"
	Dim    Paint = "2"
	Bold   Paint = "1"
)

// Paint returns the text in the colour, if colours are shown.
func (c *Console) Paint(p Paint, text string) string {
	if !c.Color || p == "" || text == "" {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

// Cut shortens the text to at most n columns.
func Cut(text string, n int) string { return ansi.Truncate(text, n, "…") }

// Plain returns the text without control sequences, which would move the cursor or change colours:
// the text of containers and builds is not trusted.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, ansi.Strip(text))
}

// Elapsed formats a duration as minutes and seconds, 1:02, with hours from one hour on.
func Elapsed(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Age formats a duration in its greatest unit, as in 4d, 3h, 12m, 9s.
func Age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}

	return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
}

// Size formats a number of bytes with a binary unit and at most four digits: 512Mi, 4.7Gi.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}

	v, i := float64(n)/1024, 0
	for v >= 1023.95 && i < len(units)-1 {
		v, i = v/1024, i+1
	}

	s := fmt.Sprintf("%.1f", v)
	if v >= 99.95 || strings.HasSuffix(s, ".0") {
		s = fmt.Sprintf("%.0f", v)
	}

	return s + units[i:i+1] + "i"
}

// Table writes rows in columns, each as wide as its widest cell, two spaces apart. The last column
// is not padded. colour returns the colour of a cell; it may be nil.
//
// It is not text/tabwriter, which counts the colours and gives wide characters one column.
func (c *Console) Table(rows [][]string, colour func(row, col int) Paint) {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], Width(cell))
		}
	}

	for y, r := range rows {
		var b strings.Builder
		for x, cell := range r {
			pad := strings.Repeat(" ", widths[x]-Width(cell)+2)
			if colour != nil {
				cell = c.Paint(colour(y, x), cell)
			}
			b.WriteString(cell + pad)
		}

		c.Printf("%s", strings.TrimRight(b.String(), " "))
	}
}

// Width returns the number of columns that the text takes.
func Width(text string) int { return ansi.StringWidth(text) }

// Wrap breaks the text at spaces into lines of at most n columns. A longer word has a line of its
// own. It is not ansi.Wordwrap, which also breaks flags and names at their hyphens.
func Wrap(text string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) > n:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}

	return append(lines, line)
}

// Hanging writes the text behind the head, wrapped to the width: what follows the first line stands
// below its start.
func (c *Console) Hanging(head, text string) {
	indent := Width(head)
	for _, line := range Wrap(text, max(c.Width()-indent, 20)) {
		c.Printf("%s%s", head, line)
		head = strings.Repeat(" ", indent)
	}
}
