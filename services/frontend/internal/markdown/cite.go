package markdown

import (
	"fmt"
	"html/template"
	"regexp"
	"strconv"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Citations are the sources that an answer may cite, by their numbers. In the answer [1], or
// [1, 2], is then a link to the source, before anything else that the brackets may mean.
type Citations map[int]Citation

// Citation is where a source is opened, and what it is called.
type Citation struct{ Href, Title string }

// Citing returns a renderer of an answer that may cite the sources.
func (r *Renderer) Citing(c Citations) *Renderer {
	citing := *r
	citing.citations = c
	return &citing
}

// Cite makes what is rendered from now on cite the sources. It must be called before the first text.
func (s *Stream) Cite(c Citations) { s.r = s.r.Citing(c) }

// Cited returns which of the sources the answer cites so far.
func (s *Stream) Cited() map[int]bool { return s.r.Cited(string(s.src)) }

// Cited returns which of the sources the answer cites.
func (r *Renderer) Cited(src string) map[int]bool {
	out := map[int]bool{}
	doc := r.answer.Parser().Parse(text.NewReader(clean(src)), parser.WithContext(r.context()))
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if c, ok := n.(*citation); ok && entering {
			for _, n := range c.numbers {
				out[n] = true
			}
		}
		return ast.WalkContinue, nil
	})

	return out
}

// context returns what the parser knows of an answer before its first word.
func (r *Renderer) context() parser.Context {
	ctx := parser.NewContext()
	ctx.Set(citationsKey, r.citations)
	return ctx
}

var (
	citationsKey = parser.NewContextKey()
	citationKind = ast.NewNodeKind("Citation")
)

// citation is a [1] or [1, 2] in an answer.
type citation struct {
	ast.BaseInline
	numbers []int
}

// Kind implements ast.Node.
func (*citation) Kind() ast.NodeKind { return citationKind }

// Dump implements ast.Node.
func (c *citation) Dump(source []byte, level int) {
	ast.DumpHelper(c, source, level, map[string]string{"Numbers": fmt.Sprint(c.numbers)}, nil)
}

// citationParser finds the citations of sources that there are.
type citationParser struct{}

var brackets = regexp.MustCompile(`^\[(\d{1,2}(?:, ?\d{1,2})*)\]`)

// Trigger implements parser.InlineParser.
func (citationParser) Trigger() []byte { return []byte{'['} }

// Parse implements parser.InlineParser.
func (citationParser) Parse(_ ast.Node, block text.Reader, ctx parser.Context) ast.Node {
	known, _ := ctx.Get(citationsKey).(Citations)
	line, _ := block.PeekLine()
	m := brackets.FindSubmatch(line)
	if len(known) == 0 || m == nil {
		return nil
	}

	c := &citation{}
	for part := range strings.SplitSeq(string(m[1]), ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if _, ok := known[n]; !ok || err != nil {
			return nil
		}
		c.numbers = append(c.numbers, n)
	}

	block.Advance(len(m[0]))
	return c
}

// renderCitation writes elements that the policy lets through, and that no text can make; linked
// makes links of them. In a link it is text, as a link holds no other.
func renderCitation(
	w util.BufWriter, _ []byte, n ast.Node, entering bool,
) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}

	format := `<span class="cite">%d</span>`
	for p := n.Parent(); p != nil; p = p.Parent() {
		if p.Kind() == ast.KindLink || p.Kind() == ast.KindImage {
			format = "[%d]"
		}
	}

	for _, n := range n.(*citation).numbers {
		_, _ = fmt.Fprintf(w, format, n)
	}
	return ast.WalkContinue, nil
}

var cites = regexp.MustCompile(`<span class="cite">(\d+)</span>`)

// linked returns sanitised HTML with its citations as links.
func (r *Renderer) linked(safe string) string {
	if len(r.citations) == 0 {
		return safe
	}

	return cites.ReplaceAllStringFunc(safe, func(span string) string {
		n, _ := strconv.Atoi(cites.FindStringSubmatch(span)[1])
		c := r.citations[n]
		return fmt.Sprintf(`<a class="cite" href="%s" title="%s">[%d]</a>`,
			template.HTMLEscapeString(c.Href), template.HTMLEscapeString(c.Title), n)
	})
}
