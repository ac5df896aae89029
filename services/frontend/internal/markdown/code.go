package markdown

import (
	"bytes"
	"html"
	"regexp"
	"time"

	"github.com/yuin/goldmark/ast"
)

// What stands around the code. The button does nothing without JavaScript, and is hidden there.
const (
	codeHeadOpen  = `<div class="code"><div class="code-head"><span class="code-lang">`
	codeHeadClose = `</span><button type="button" class="copy">Copy</button></div><pre tabindex="0"><code>`
	codeFoot      = "</code></pre></div>\n"
)

// codeHTML is a whole code block with its label. inner is the code as HTML.
func codeHTML(lang, inner string) string {
	label := lang
	if label == "" {
		label = "text"
	}
	return codeHeadOpen + html.EscapeString(label) + codeHeadClose + inner + codeFoot
}

// fencedHTML is a whole fenced code block, coloured where colour did so.
func fencedHTML(code *ast.FencedCodeBlock, source []byte) string {
	if inner, ok := code.AttributeString(colouredCode); ok {
		return codeHTML(language(code, source), inner.(string))
	}
	return codeHTML(language(code, source), html.EscapeString(lines(code, source)))
}

// colouredCode is the attribute of a code block that holds its code as HTML.
const colouredCode = "coloured"

// colour colours the code blocks in doc: all when doc is the whole text, else those whose fence is
// closed. What is still being written stays plain: to colour it anew with every piece that arrives
// costs too much, and a string that is not closed yet would take in all that follows.
func (h *highlighter) colour(doc ast.Node, source []byte, whole bool) {
	end := h.end
	if end.IsZero() {
		end = time.Now().Add(h.limit)
	}
	// The function returns no error.
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		code, ok := n.(*ast.FencedCodeBlock)
		if ok && entering && (whole || ended(code, source)) && time.Now().Before(end) {
			inner := h.highlight(language(code, source), lines(code, source))
			code.SetAttributeString(colouredCode, inner)
		}
		return ast.WalkContinue, nil
	})
}

// ended reports whether a complete line closes the fence. It is false of a block without a line of
// code, which has nothing to be coloured.
func ended(code *ast.FencedCodeBlock, source []byte) bool {
	n := code.Lines().Len()
	if n == 0 {
		return false
	}
	// Behind the code stands what ended it; in a quote or list that line has its prefix.
	line, _, complete := bytes.Cut(source[code.Lines().At(n-1).Stop:], []byte("\n"))
	line = bytes.TrimLeft(line, " \t>")
	return complete && (bytes.HasPrefix(line, []byte("```")) || bytes.HasPrefix(line, []byte("~~~")))
}

// langName is what may be shown as a language's name: "go", "c++", "objective-c", "f#", "asp.net".
var langName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+#._-]{0,31}$`)

// language is the first word of the fence's info string when it can be a language's name, else "".
func language(code *ast.FencedCodeBlock, source []byte) string {
	lang := string(code.Language(source))
	if !langName.MatchString(lang) {
		return ""
	}
	return lang
}
