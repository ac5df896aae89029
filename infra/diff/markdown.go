package diff

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxMarkdown is the greatest length of Markdown in bytes: GitHub refuses comments of more than
// 65,536 characters, and whoever posts one may add some of their own.
const MaxMarkdown = 60_000

// Marker is the first line of Markdown, by which a comment is found again.
const Marker = "<!-- codexctl diff -->"

// detail bounds what Markdown shows.
type detail struct {
	// entries of a section and props of an entry are shown one by one; the others are counted.
	entries, props int

	// value is the greatest length of a value that is shown; a longer one is its length alone.
	value int

	// lines is the greatest number of changed lines of a text.
	lines int

	// pictures is how many plans are drawn; of the others only the number is shown.
	pictures int
}

// details are tried in order until the Markdown is short enough. The last fits
// whatever the report is.
var details = []detail{
	{1 << 30, 1 << 30, 1 << 30, 1 << 30, 6},
	{1 << 30, 1 << 30, 400, 60, 3},
	{400, 40, 200, 40, 1},
	{150, 15, 120, 20, 0},
	{80, 5, 80, 5, 0},
	{40, 0, 80, 0, 0},
	{10, 0, 80, 0, 0},
}

// Markdown writes the report for a comment on a pull request, of at most MaxMarkdown bytes. A
// report that is too long is summed up: what is left out is counted, and nothing ends in the
// middle. Whatever the plans hold stands in code, where it can neither mention people nor draw
// anything but the pictures of the topology, whose labels are escaped.
func Markdown(r Report) string {
	var out string
	sections := layout(r)
	for _, d := range details {
		if out = markdown(r, sections, d); len(out) <= MaxMarkdown {
			return out
		}
	}

	return out
}

func markdown(r Report, sections []section, d detail) string {
	m := &marker{detail: d, plans: len(r.Plans)}
	m.line("%s", Marker)
	m.line("### Plan")
	m.line("")
	m.line("%s", m.sentence(r, sections))
	if r.Changed() {
		m.table(r)
	}

	m.drawn(r)
	for _, s := range sections {
		m.section(s)
	}

	m.line("")
	m.fold("What this cannot know", func() {
		for _, u := range r.Unknown {
			m.line("- %s", u)
		}
	})

	return m.out.String()
}

type marker struct {
	detail
	out   strings.Builder
	plans int
}

func (m *marker) line(format string, args ...any) { fmt.Fprintf(&m.out, format+"\n", args...) }

// fold writes what body does in a part that opens at a click on the summary.
func (m *marker) fold(summary string, body func()) {
	m.line("<details><summary>%s</summary>", summary)
	m.line("")
	body()
	m.line("")
	m.line("</details>")
}

// sentence returns the sentence with the names of the revisions as code.
func (m *marker) sentence(r Report, sections []section) string {
	r.Base, r.Head = code(m.short(r.Base)), code(m.short(r.Head))
	return sentence(r, sections)
}

func (m *marker) table(r Report) {
	m.line("")
	m.line("| stack | target | create | update | replace | delete |")
	m.line("|---|---|--:|--:|--:|--:|")
	shown := min(len(r.Plans), m.entries)
	for _, p := range r.Plans[:shown] {
		stack, target, c := cell(m.short(p.Stack)), string(p.Target), p.Counts
		if p.Chosen {
			target = "**" + target + "**"
		}

		if p.Refused != nil && p.Refused.After != "" {
			m.line("| %s | %s | refused | | | |", stack, target)
			continue
		}

		m.line("| %s | %s | %s | %s | %s | %s |", stack, target,
			count(c.Create), count(c.Update), count(c.Replace), count(c.Delete))
	}

	m.line("")

	if rest := len(r.Plans) - shown; rest > 0 {
		m.line("…and %s. ", plural(rest, "more plan", "more plans"))
	}

	m.line("In bold: the target that the stack's settings name. The others are what if.")
}

// drawn draws the plans whose topology changes.
func (m *marker) drawn(r Report) {
	drawn, rest := 0, 0
	for _, p := range r.Plans {
		if p.Picture == "" {
			continue
		}

		if drawn >= m.pictures || len(p.Picture) > MaxMarkdown/10 {
			rest++
			continue
		}

		drawn++
		stack := html.EscapeString(plainText(p.Stack))
		fence := fence("```", p.Picture)
		m.line("")
		m.fold(fmt.Sprintf("Picture of <code>%s</code> on %s after the change", stack, p.Target),
			func() {
				m.line("%smermaid", fence)
				m.out.WriteString(p.Picture)
				m.line("%s", fence)
			})
	}

	if rest > 0 {
		m.line("")
		m.line("The topology of %s changes; `codexctl graph STACK` draws it.",
			plural(rest, "more plan", "more plans"))
	}
}

// cell returns the text as code in a table, which a | would end.
func cell(s string) string { return strings.ReplaceAll(code(s), "|", "¦") }

func (m *marker) section(s section) {
	m.line("")
	if s.fold {
		m.fold(fmt.Sprintf("%s (%d)", s.title, len(s.entries)), func() { m.list(s.entries) })
		return
	}

	m.line("#### %s", s.title)
	m.line("")
	m.list(s.entries)
}

func (m *marker) list(entries []entry) {
	for i, e := range entries {
		if m.out.Len() > MaxMarkdown {
			return // too long already: the next level of detail is tried
		}

		if i >= m.entries {
			m.line("- %s", rest(entries[i:]))
			break
		}

		m.entry(e)
	}
}

// rest counts entries that are not shown one by one, by kind.
func rest(entries []entry) string {
	kinds := map[string]int{}
	for _, e := range entries {
		kinds[e.sign+" "+e.kind] += max(1, len(e.names))
	}

	names := keysOf(kinds, nil)
	slices.SortStableFunc(names, func(a, b string) int { return kinds[b] - kinds[a] })
	var parts []string
	for i, k := range names {
		if i == 8 {
			parts = append(parts, fmt.Sprintf("and %s more", plural(len(names)-i, "kind", "kinds")))
			break
		}
		parts = append(parts, fmt.Sprintf("%d × %s", kinds[k], code(atMost(60, "name", k))))
	}

	return "…and more, which `codexctl diff` tells one by one: " + strings.Join(parts, ", ")
}

func (m *marker) entry(e entry) {
	if len(e.names) > 0 {
		e.names = []string{m.short(strings.Join(e.names, ", "))}
	}

	// The sign is code too: after the bullet it would begin a list of its own.
	m.line("- %s — %s", code(e.sign+" "+m.short(e.head())), m.places(e.where))

	var body []string
	for i, p := range e.props {
		if i >= m.props {
			more := plural(len(e.props)-i, "more property", "more properties")
			body = append(body, "  …and "+more)
			break
		}
		body = append(body, m.property(p)...)
	}

	body = append(body, m.changedLines(e.lines)...)
	if len(body) == 0 || m.props == 0 {
		return
	}

	fence := fence("```", strings.Join(body, "\n"))
	m.line("  %sdiff", fence)
	for _, l := range body {
		m.line("  %s", l)
	}

	m.line("  %s", fence)
}

func (m *marker) places(where []place) string {
	text := places(where, m.plans)
	if utf8.RuneCountInString(text) > 200 {
		return plural(len(where), "plan", "plans")
	}

	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("`*_<>[]()|\\@#&\n\r", r) {
			return '·'
		}
		return r
	}, text)
}

func (m *marker) property(p Property) []string {
	title := "  " + m.short(plainText(p.Path))
	if n := p.notes(); n != "" {
		title += " (" + m.short(n) + ")"
	}
	if lines := p.linesOf(); lines != nil && !p.noted() {
		return append([]string{title}, m.changedLines(lines)...)
	}

	out := []string{title}
	if p.noted() {
		return out
	}

	before, after := p.texts()
	if before != "" {
		out = append(out, "- "+m.short(before))
	}
	if after != "" {
		out = append(out, "+ "+m.short(after))
	}

	return out
}

func (m *marker) changedLines(lines []Line) []string {
	if len(lines) > m.lines {
		n := map[string]int{}
		for _, l := range lines {
			n[l.Sign]++
		}
		return []string{fmt.Sprintf("  (%s added, %d removed)", plural(n["+"], "line", "lines"),
			n["-"])}
	}

	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimRight(l.Sign+" "+m.short(plainText(l.Text)), " "))
	}

	return out
}

// short returns the text, or its length where it is too long to be shown.
func (d detail) short(s string) string { return atMost(d.value, "text", s) }

func atMost(n int, what, s string) string {
	if length := utf8.RuneCountInString(s); length > n {
		return fmt.Sprintf("(a %s of %d characters)", what, length)
	}
	return plainText(s)
}

// code returns the text as code: between more backticks than it has in a row.
func code(s string) string {
	s = plainText(s)
	fence := fence("`", s)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || s == "" {
		s = " " + s + " "
	}
	return fence + s + fence
}

// fence returns the mark, with as many more backticks as it takes not to be in the text.
func fence(mark, text string) string {
	for strings.Contains(text, mark) {
		mark += "`"
	}
	return mark
}
