// Package markdown turns the Markdown of a message (GitHub flavour) into HTML that is safe to put into the page, whole
// or block by block while it is being written.
//
// Safe means: no markup of the message reaches the page. Raw HTML is shown as the text it is, images become links (the
// page must not load what a model makes up), links keep only the schemes http, https and mailto and show where they go,
// and what the renderer makes goes through an allow-list once more.
package markdown

import (
	"bytes"
	"html/template"
	"regexp"
	"strings"
	"time"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// Renderer renders Markdown. It is safe for use by many goroutines.
type Renderer struct {
	answer, question goldmark.Markdown
	policy           *bluemonday.Policy
	code             *highlighter
	citations        Citations
}

// New makes a renderer.
func New() *Renderer {
	gfm := goldmark.WithExtensions(
		// A style attribute would need a looser Content-Security-Policy: cells are aligned by attribute.
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		extension.Strikethrough, extension.Linkify, extension.TaskList,
	)
	cites := goldmark.WithParserOptions(parser.WithInlineParsers(
		util.Prioritized(citationParser{}, 150))) // before that of links
	nodes := renderer.WithNodeRenderers(util.Prioritized(nodeRenderer{}, 100))
	return &Renderer{
		answer: goldmark.New(gfm, cites, goldmark.WithRendererOptions(nodes)),
		// A person who breaks a line means it.
		question: goldmark.New(gfm, goldmark.WithRendererOptions(nodes, html.WithHardWraps())),
		policy:   policy(),
		code:     newHighlighter(),
	}
}

// Page returns a renderer for the texts of one page: together they have the time to colour code that
// a text has by itself.
func (r *Renderer) Page() *Renderer {
	code := *r.code
	code.end = time.Now().Add(code.limit)
	page := *r
	page.code = &code

	return &page
}

// Answer renders what a model wrote.
func (r *Renderer) Answer(src string) template.HTML {
	return template.HTML(strings.Join(r.Blocks(src), "")) //nolint:gosec // sanitised block by block
}

// Begun renders what a model has written so far, as a stream shows it.
func (r *Renderer) Begun(src string) template.HTML {
	s := r.NewStream()
	s.Write(src)
	out := strings.Join(s.Snapshot().HTML, "")
	return template.HTML(out) //nolint:gosec // sanitised block by block
}

// Question renders what a person wrote: line breaks are kept.
func (r *Renderer) Question(src string) template.HTML {
	source := clean(src)
	doc := r.question.Parser().Parse(text.NewReader(source))
	r.code.colour(doc, source, true)
	var b strings.Builder
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		b.WriteString(r.block(r.question, source, n))
	}
	return template.HTML(b.String()) //nolint:gosec // sanitised block by block
}

// Blocks renders what a model wrote as one piece of HTML per top-level block.
func (r *Renderer) Blocks(src string) []string {
	source := clean(src)
	doc := r.answer.Parser().Parse(text.NewReader(source), parser.WithContext(r.context()))
	r.code.colour(doc, source, true)
	var out []string
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		out = append(out, r.block(r.answer, source, n))
	}
	return out
}

// block renders one top-level block.
func (r *Renderer) block(md goldmark.Markdown, source []byte, n ast.Node) string {
	if code, ok := n.(*ast.FencedCodeBlock); ok {
		// Made of escaped text and fixed markup only, and large: it needs no second pass.
		return fencedHTML(code, source)
	}
	var b bytes.Buffer
	if err := md.Renderer().Render(&b, source, n); err != nil {
		// A buffer cannot fail and the node renderers return no errors; the text as it stands is the safe way out.
		return "<p>" + template.HTMLEscapeString(string(source)) + "</p>\n"
	}
	return r.linked(string(r.policy.SanitizeBytes(b.Bytes())))
}

// clean drops what the parser would treat in ways that depend on where a chunk ends.
func clean(src string) []byte {
	return []byte(strings.NewReplacer("\r\n", "\n", "\r", "", "\x00", "").Replace(src))
}

// policy is the allow-list of what the renderers make.
func policy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h3", "h4", "h5", "h6", "em", "strong", "del", "blockquote",
		"ul", "li", "code", "pre", "table", "thead", "tbody", "tr")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowElements("ol", "th", "td", "div", "span", "button", "input")
	sides := regexp.MustCompile(`^(left|center|right)$`)
	p.AllowAttrs("align").Matching(sides).OnElements("th", "td")
	parts := regexp.MustCompile(`^(code|code-head|code-lang|copy|scroll-x)$`)
	p.AllowAttrs("class").Matching(parts).OnElements("div", "span", "button")
	tokens := regexp.MustCompile(`^(k|kt|nf|s|m|c|gd|gi|gh)$`)
	p.AllowAttrs("class").Matching(tokens).OnElements("span")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^(cite|target)$`)).OnElements("span")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^(raw|image)$`)).OnElements("p", "code", "a")
	types := regexp.MustCompile(`^(button|checkbox)$`)
	p.AllowAttrs("type").Matching(types).OnElements("button", "input")
	p.AllowAttrs("tabindex").Matching(regexp.MustCompile(`^0$`)).OnElements("pre", "div")
	p.AllowAttrs("checked", "disabled").Matching(regexp.MustCompile(`^$`)).OnElements("input")
	p.AllowAttrs("href", "title").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.RequireParseableURLs(true)
	p.AllowRelativeURLs(false) // a model has no business with the pages of this site
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true) // brings rel="noopener"
	return p
}

// nodeRenderer replaces goldmark's rendering of what a message must not decide.
type nodeRenderer struct{}

// RegisterFuncs implements renderer.NodeRenderer.
func (nodeRenderer) RegisterFuncs(reg renderer.NodeRendererFuncRegisterer) {
	reg.Register(ast.KindHeading, heading)
	reg.Register(ast.KindHTMLBlock, htmlBlock)
	reg.Register(ast.KindRawHTML, rawHTML)
	reg.Register(ast.KindLink, link)
	reg.Register(ast.KindImage, image)
	reg.Register(citationKind, renderCitation)
	reg.Register(ast.KindFencedCodeBlock, fencedCode)
	reg.Register(ast.KindCodeBlock, indentedCode)
}

// heading moves headings below the page's own two levels, so that the page keeps one outline.
func heading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	level := "3456666"[n.(*ast.Heading).Level-1]
	if entering {
		_, _ = w.WriteString("<h" + string(level) + ">")
	} else {
		_, _ = w.WriteString("</h" + string(level) + ">\n")
	}
	return ast.WalkContinue, nil
}

// htmlBlock shows raw HTML as text.
func htmlBlock(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.HTMLBlock)
	raw := block.Lines().Value(source)
	if block.HasClosure() {
		raw = append(raw[:len(raw):len(raw)], block.ClosureLine.Value(source)...)
	}
	_, _ = w.WriteString(`<p class="raw">`)
	_, _ = w.Write(util.EscapeHTML(bytes.TrimRight(raw, "\n")))
	_, _ = w.WriteString("</p>\n")
	return ast.WalkContinue, nil
}

// br is the one tag that is taken at its word: models break lines in table cells with it.
var br = regexp.MustCompile(`(?i)^<br\s*/?>$`)

func rawHTML(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkSkipChildren, nil
	}
	raw := n.(*ast.RawHTML).Segments.Value(source)
	if br.Match(raw) {
		_, _ = w.WriteString("<br>")
	} else {
		_, _ = w.Write(util.EscapeHTML(raw))
	}
	return ast.WalkSkipChildren, nil
}

func fencedCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(fencedHTML(n.(*ast.FencedCodeBlock), source))
	}
	return ast.WalkSkipChildren, nil
}

func indentedCode(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if entering {
		_, _ = w.WriteString(codeHTML("", template.HTMLEscapeString(lines(n, source))))
	}
	return ast.WalkSkipChildren, nil
}

// lines is the text of a block's lines. A line's padding is what is left of a tab that its indentation cut.
func lines(n ast.Node, source []byte) string {
	var b strings.Builder
	segments := n.Lines()
	for i := range segments.Len() {
		s := segments.At(i)
		b.Write(s.Value(source))
	}
	return b.String()
}
