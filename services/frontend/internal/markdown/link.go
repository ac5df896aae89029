package markdown

import (
	"bytes"
	"regexp"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/util"
)

// opens are the schemes with which a link of an answer is one (see policy).
var opens = regexp.MustCompile(`(?i)^(?:https?://|mailto:)`)

// link is a link that says where it goes: a model may have been told, by a text that it was given,
// to put something into an address, which nobody sees behind other words.
func link(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	l := n.(*ast.Link)
	if !entering {
		_, _ = w.WriteString("</a>")
		writeTarget(w, source, n, l.Destination)
		return ast.WalkContinue, nil
	}

	_, _ = w.WriteString(`<a href="`)
	_, _ = w.Write(util.EscapeHTML(util.URLEscape(l.Destination, true)))
	if len(l.Title) > 0 {
		_, _ = w.WriteString(`" title="`)
		_, _ = w.Write(util.EscapeHTML(l.Title))
	}
	_, _ = w.WriteString(`">`)
	return ast.WalkContinue, nil
}

// image is a link to the image, named by its description. The policy drops the link where the scheme
// is not allowed.
func image(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	img := n.(*ast.Image)
	if !entering {
		_, _ = w.WriteString("</a>")
		writeTarget(w, source, n, img.Destination)
		return ast.WalkContinue, nil
	}

	_, _ = w.WriteString(`<a class="image" href="`)
	_, _ = w.Write(util.EscapeHTML(util.URLEscape(img.Destination, true)))
	_, _ = w.WriteString(`">`)
	if !img.HasChildren() {
		_, _ = w.WriteString("Image")
	}
	return ast.WalkContinue, nil
}

// writeTarget writes the whole address behind a link with other words.
func writeTarget(w util.BufWriter, source []byte, n ast.Node, destination []byte) {
	target := util.URLEscape(destination, true)
	if !opens.Match(target) || bytes.Equal(words(n, source), destination) {
		return
	}

	_, _ = w.WriteString(`<span class="target"> (`)
	_, _ = w.Write(util.EscapeHTML(target))
	_, _ = w.WriteString(`)</span>`)
}

// words returns the text of a link that is nothing but text.
func words(n ast.Node, source []byte) []byte {
	var out []byte
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		t, ok := c.(*ast.Text)
		if !ok {
			return nil
		}
		out = append(out, t.Segment.Value(source)...)
	}
	return out
}
