package diff

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxMarkdown is the greatest length of Markdown in bytes: GitHub refuses comments of more than 65,536 characters, and
// whoever posts one may add some of their own.
const MaxMarkdown = 60_000

// Marker is the first line of Markdown, by which a comment is found again.
const Marker = "<!-- codexctl diff -->"

// detail says how much Markdown tells.
type detail struct {
	// entries of a section and props of an entry are told one by one; the others are counted.
	entries, props int
	// value is the greatest length of a value that is told; of a longer one only the length is.
	value int
	// lines is the greatest number of changed lines of a text.
	lines int
	// pictures is how many plans are drawn; of the others it is said that their topology changes.
	pictures int
}

// details are tried in order until the Markdown is short enough. The last fits whatever the report is.
var details = []detail{
	{1 << 30, 1 << 30, 1 << 30, 1 << 30, 6},
	{1 << 30, 1 << 30, 400, 60, 3},
	{400, 40, 200, 40, 1},
	{150, 15, 120, 20, 0},
	{80, 5, 80, 5, 0},
	{40, 0, 80, 0, 0},
	{10, 0, 80, 0, 0},
}

// Markdown writes the report for a comment on a pull request, of at most MaxMarkdown bytes. A report that is too long is
// summed up: what is left out is counted, and nothing ends in the middle. Whatever the plans hold stands in code, where it
// can neither mention people nor draw anything but the pictures of the topology, whose labels are escaped.
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
	m.line("%s", markdownSentence(r, sections, d))
	if r.Changed() {
		m.table(r)
	}
	m.drawn(r)
	for _, s := range sections {
		m.section(s)
	}
	m.line("")
	m.line("<details><summary>What this cannot know</summary>")
	m.line("")
	for _, u := range r.Unknown {
		m.line("- %s", u)
	}
	m.line("")
	m.line("</details>")
	return m.out.String()
}

// markdownSentence is the sentence with the names of the revisions as code.
func markdownSentence(r Report, sections []section, d detail) string {
	r.Base, r.Head = code(d.short(r.Base)), code(d.short(r.Head))
	return sentence(r, sections)
}

type marker struct {
	detail
	out   strings.Builder
	plans int
}

func (m *marker) line(format string, args ...any) { fmt.Fprintf(&m.out, format+"\n", args...) }

func (m *marker) table(r Report) {
	m.line("")
	m.line("| stack | target | create | update | replace | delete |")
	m.line("|---|---|--:|--:|--:|--:|")
	rest := 0
	for i, p := range r.Plans {
		if i >= m.entries {
			rest++
			continue
		}
		target := string(p.Target)
		if p.Chosen {
			target = "**" + target + "**"
		}
		if p.Refused != nil && p.Refused.After != "" {
			m.line("| %s | %s | refused | | | |", cell(m.short(p.Stack)), target)
			continue
		}
		m.line("| %s | %s | %s | %s | %s | %s |", cell(m.short(p.Stack)), target, count(p.Counts.Create), count(p.Counts.Update), count(p.Counts.Replace), count(p.Counts.Delete))
	}
	m.line("")
	if rest > 0 {
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
		lines := strings.Split(strings.TrimSuffix(p.Picture, "\n"), "\n")
		fence := fenceFor(lines)
		m.line("")
		m.line("<details><summary>Picture of <code>%s</code> on %s after the change</summary>", html.EscapeString(plainText(p.Stack)), p.Target)
		m.line("")
		m.line("%smermaid", fence)
		for _, l := range lines {
			m.line("%s", l)
		}
		m.line("%s", fence)
		m.line("")
		m.line("</details>")
	}
	if rest > 0 {
		m.line("")
		m.line("The topology of %s changes; `codexctl graph STACK` draws it.", plural(rest, "more plan", "more plans"))
	}
}

// cell is code in a table, which a | would end.
func cell(s string) string { return strings.ReplaceAll(code(s), "|", "¦") }

func (m *marker) section(s section) {
	m.line("")
	if s.fold {
		m.line("<details><summary>%s (%d)</summary>", s.title, len(s.entries))
		m.line("")
		defer func() {
			m.line("")
			m.line("</details>")
		}()
	} else {
		m.line("#### %s", s.title)
		m.line("")
	}
	for i, e := range s.entries {
		if m.out.Len() > MaxMarkdown {
			return // too long already: the next level of detail is tried
		}
		if i >= m.entries {
			m.line("- %s", rest(s.entries[i:]))
			break
		}
		m.entry(e)
	}
}

// rest counts entries that are not told one by one, by kind.
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
		parts = append(parts, fmt.Sprintf("%d × %s", kinds[k], code(clip(k, 60))))
	}
	return "…and more, which `codexctl diff` tells one by one: " + strings.Join(parts, ", ")
}

func (m *marker) entry(e entry) {
	head := e.text
	if len(e.names) > 0 {
		head = e.kind + " " + m.short(strings.Join(e.names, ", ")) + ": " + e.text
	}
	// The sign is code too: after the bullet it would begin a list of its own.
	m.line("- %s — %s", code(e.sign+" "+m.short(head)), m.places(e.where))
	var body []string
	for i, p := range e.props {
		if i >= m.props {
			body = append(body, fmt.Sprintf("  …and %s", plural(len(e.props)-i, "more property", "more properties")))
			break
		}
		body = append(body, m.property(p)...)
	}
	body = append(body, m.changedLines(e.lines)...)
	if len(body) == 0 || m.props == 0 {
		return
	}
	fence := fenceFor(body)
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
		added, removed := 0, 0
		for _, l := range lines {
			switch l.Sign {
			case "+":
				added++
			case "-":
				removed++
			}
		}
		return []string{fmt.Sprintf("  (%s added, %d removed)", plural(added, "line", "lines"), removed)}
	}
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimRight(l.Sign+" "+m.short(plainText(l.Text)), " "))
	}
	return out
}

// short is the text, or what it is where it is too long to be told.
func (d detail) short(s string) string {
	if n := utf8.RuneCountInString(s); n > d.value {
		return fmt.Sprintf("(a text of %d characters)", n)
	}
	return plainText(s)
}

func clip(s string, n int) string {
	if utf8.RuneCountInString(s) > n {
		return fmt.Sprintf("(a name of %d characters)", utf8.RuneCountInString(s))
	}
	return s
}

// code is the text as code: between more backticks than it has in a row.
func code(s string) string {
	s = strings.ReplaceAll(plainText(s), "\n", " ")
	fence := strings.Repeat("`", backticks(s)+1)
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || s == "" {
		s = " " + s + " "
	}
	return fence + s + fence
}

func fenceFor(body []string) string {
	most := 2
	for _, l := range body {
		most = max(most, backticks(l))
	}
	return strings.Repeat("`", most+1)
}

// backticks is the longest run of them.
func backticks(s string) int {
	most, run := 0, 0
	for _, r := range s {
		run++
		if r != '`' {
			run = 0
		}
		most = max(most, run)
	}
	return most
}
