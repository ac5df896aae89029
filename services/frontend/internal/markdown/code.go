package markdown

import (
	"html"
	"regexp"
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/yuin/goldmark/ast"
)

// maxHighlight is the greatest length of code that is coloured, in bytes: beyond it the time is not worth it.
const maxHighlight = 128 << 10

// codeHead and codeFoot stand around the code. The button does nothing without JavaScript, and is hidden there.
const (
	codeHeadOpen  = `<div class="code"><div class="code-head"><span class="code-lang">`
	codeHeadClose = `</span><button type="button" class="copy">Copy</button></div><pre tabindex="0"><code>`
	codeFoot      = "</code></pre></div>\n"
)

// frame is a whole code block with its label around the code's HTML.
func frame(lang, inner string) string {
	label := lang
	if label == "" {
		label = "text"
	}
	return codeHeadOpen + html.EscapeString(label) + codeHeadClose + inner + codeFoot
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

// aliases maps the lower-case names and aliases of all lexers to them. The registry's own look-up goes on to match file
// name patterns, which takes 10 ms for a name that it does not know.
var aliases = sync.OnceValue(func() map[string]chroma.Lexer {
	m := map[string]chroma.Lexer{}
	for _, l := range lexers.GlobalLexerRegistry.Lexers {
		c := l.Config()
		for _, name := range append([]string{c.Name}, c.Aliases...) {
			m[strings.ToLower(name)] = l
		}
	}
	return m
})

// highlight is the code escaped, its tokens in spans with chroma's short class names.
func highlight(lang, code string) string {
	lexer := aliases()[strings.ToLower(lang)]
	if lexer == nil || len(code) > maxHighlight {
		return html.EscapeString(code)
	}
	// Nothing is added: the tokens' text must be the code, byte for byte.
	it, err := lexer.Tokenise(&chroma.TokeniseOptions{State: "root", EnsureLF: false}, code)
	if err != nil {
		return html.EscapeString(code)
	}
	var b strings.Builder
	b.Grow(len(code) * 4)
	n := 0
	for t := it(); t != chroma.EOF; t = it() {
		value := t.Value
		if n+len(value) > len(code) { // a line break that the lexer wants at the end
			value = value[:len(code)-n]
		}
		n += len(value)
		class := class(t.Type)
		if class == "" || strings.TrimSpace(value) == "" {
			b.WriteString(html.EscapeString(value))
			continue
		}
		b.WriteString(`<span class="`)
		b.WriteString(class)
		b.WriteString(`">`)
		b.WriteString(html.EscapeString(value))
		b.WriteString("</span>")
	}
	if n != len(code) {
		return html.EscapeString(code) // a lexer that loses text is no help
	}
	return b.String()
}

// class is the class of the token's type, or of the kind it belongs to; "" where the style sheet has no colour for it.
func class(t chroma.TokenType) string {
	switch {
	case t.InCategory(chroma.Keyword), t.InCategory(chroma.Comment), t.InCategory(chroma.Generic),
		t.InSubCategory(chroma.LiteralString), t.InSubCategory(chroma.LiteralNumber),
		t.InCategory(chroma.Name), t.InCategory(chroma.Operator):
		return chroma.StandardTypes[t]
	}
	return ""
}
