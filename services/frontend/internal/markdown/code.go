package markdown

import (
	"html"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
)

// What stands around the code. The button does nothing without JavaScript, and is hidden there.
const (
	codeHeadOpen  = `<div class="code"><div class="code-head"><span class="code-lang">`
	codeHeadClose = `</span><button type="button" class="copy">Copy</button></div><pre tabindex="0"><code>`
	codeFoot      = "</code></pre></div>\n"
)

// codeHTML is a whole code block with its label.
func codeHTML(lang, code string) string {
	label := lang
	if label == "" {
		label = "text"
	}
	return codeHeadOpen + html.EscapeString(label) + codeHeadClose + highlight(lang, code) + codeFoot
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

// highlight is the code escaped, its tokens in spans with the class names that Pygments and Chroma use: k keyword, kt
// type, kc constant, s string, m number, c comment, nf function, nt key or tag, na attribute or variable, gd and gi
// lines of a diff. It is one pass without look-back over a table of what languages are made of (see syntax), which is
// less exact than a grammar for each, a hundred times faster, and 4 MB smaller in the image. The text is never changed.
func highlight(lang, code string) string {
	s, ok := syntaxes[strings.ToLower(lang)]
	if !ok {
		return html.EscapeString(code)
	}
	p := &painter{syntax: s, code: code}
	p.out.Grow(len(code) * 3)
	switch s.kind {
	case kindDiff:
		p.diff()
	case kindMarkup:
		p.markup()
	default:
		p.source()
	}
	return p.out.String()
}

// painter writes code[:at] coloured.
type painter struct {
	*syntax
	code  string
	at    int
	plain int // code[plain:at] is not written yet, and has no colour
	out   strings.Builder
}

// paint writes the next n bytes in the class.
func (p *painter) paint(class string, n int) {
	p.flush()
	p.out.WriteString(`<span class="`)
	p.out.WriteString(class)
	p.out.WriteString(`">`)
	p.out.WriteString(html.EscapeString(p.code[p.at : p.at+n]))
	p.out.WriteString("</span>")
	p.at += n
	p.plain = p.at
}

func (p *painter) flush() {
	p.out.WriteString(html.EscapeString(p.code[p.plain:p.at]))
	p.plain = p.at
}

func (p *painter) rest() string { return p.code[p.at:] }

// source colours a programming language.
func (p *painter) source() {
	for p.at < len(p.code) {
		if n, class := p.comment(); n > 0 {
			p.paint(class, n)
			continue
		}
		if n := p.quoted(); n > 0 {
			class := "s"
			if p.keys != 0 && p.followedBy(p.at+n, p.keys) {
				class = "nt"
			}
			p.paint(class, n)
			continue
		}
		c := p.code[p.at]
		switch {
		case digit(c):
			p.paint("m", p.span(func(c byte) bool { return letter(c) || digit(c) || c == '.' }))
		case letter(c) || strings.IndexByte(p.sigils, c) >= 0 && p.at+1 < len(p.code) && (letter(p.code[p.at+1]) || p.code[p.at+1] == '{'):
			p.word()
		default:
			_, n := utf8.DecodeRuneInString(p.rest())
			p.at += n
		}
	}
	p.flush()
}

// word colours an identifier by what it is or what follows it.
func (p *painter) word() {
	sigil := strings.IndexByte(p.sigils, p.code[p.at]) >= 0
	n := 1 + spanOf(p.code[p.at+1:], func(c byte) bool { return letter(c) || digit(c) || strings.IndexByte(p.inWords, c) >= 0 })
	w := p.code[p.at : p.at+n]
	if p.fold {
		w = strings.ToLower(w)
	}
	switch {
	case sigil:
		p.paint("na", n)
	case p.keys != 0 && p.followedBy(p.at+n, p.keys):
		p.paint("nt", n)
	case p.words[w] != "":
		p.paint(p.words[w], n)
	case p.calls && p.at+n < len(p.code) && p.code[p.at+n] == '(':
		p.paint("nf", n)
	default:
		p.at += n
	}
}

// comment is the length of the comment that begins here.
func (p *painter) comment() (n int, class string) {
	for _, open := range p.line {
		if strings.HasPrefix(p.rest(), open) && (open != "#" || p.at == 0 || strings.IndexByte(" \t\n;", p.code[p.at-1]) >= 0) {
			return lineLength(p.rest()), "c"
		}
	}
	for _, b := range p.block {
		if strings.HasPrefix(p.rest(), b[0]) {
			return len(b[0]) + until(p.rest()[len(b[0]):], b[1]), "c"
		}
	}
	return 0, ""
}

// quoted is the length of the string that begins here. One that its line does not close ends with the line, except
// where the language lets it go on.
func (p *painter) quoted() int {
	for _, q := range p.quotes {
		if !strings.HasPrefix(p.rest(), q.mark) {
			continue
		}
		body := p.rest()[len(q.mark):]
		if _, n := utf8.DecodeRuneInString(body); q.short && !strings.HasPrefix(body, `\`) && !strings.HasPrefix(body[n:], q.mark) {
			continue // a lifetime
		}
		for i := 0; i < len(body); i++ {
			switch {
			case body[i] == '\\' && !q.raw:
				i++
			case strings.HasPrefix(body[i:], q.mark):
				return len(q.mark) + i + len(q.mark)
			case body[i] == '\n' && !q.lines:
				if q.maybe {
					return 0 // an apostrophe
				}
				return len(q.mark) + i
			}
		}
		if q.maybe {
			return 0
		}
		return len(p.rest())
	}
	return 0
}

// followedBy says that the next byte after blanks is c, and what stands before begins a line or an entry.
func (p *painter) followedBy(at int, c byte) bool {
	at += spanOf(p.code[at:], func(c byte) bool { return c == ' ' })
	return at < len(p.code) && p.code[at] == c && (c != ':' || at+1 == len(p.code) || strings.IndexByte(" \n\t\"{[0123456789", p.code[at+1]) >= 0)
}

func (p *painter) span(in func(byte) bool) int { return spanOf(p.rest(), in) }

// markup colours HTML and XML: comments, tags, attributes and their values.
func (p *painter) markup() {
	inTag := false
	for p.at < len(p.code) {
		rest := p.rest()
		c := rest[0]
		switch {
		case strings.HasPrefix(rest, "<!--"):
			p.paint("c", 4+until(rest[4:], "-->"))
		case !inTag && c == '<' && len(rest) > 1 && (letter(rest[1]) || strings.IndexByte("/!?", rest[1]) >= 0):
			p.paint("nt", 2+spanOf(rest[2:], func(c byte) bool { return letter(c) || digit(c) || c == '-' || c == ':' }))
			inTag = true
		case inTag && c == '>':
			p.paint("nt", 1)
			inTag = false
		case inTag && (c == '"' || c == '\''):
			p.paint("s", 1+until(rest[1:], string(c)))
		case inTag && letter(c):
			p.paint("na", spanOf(rest, func(c byte) bool { return letter(c) || digit(c) || c == '-' || c == ':' }))
		default:
			_, n := utf8.DecodeRuneInString(rest)
			p.at += n
		}
	}
	p.flush()
}

// diff colours whole lines by how they begin.
func (p *painter) diff() {
	for p.at < len(p.code) {
		n := lineLength(p.rest())
		class := ""
		switch rest := p.rest(); {
		case strings.HasPrefix(rest, "+++"), strings.HasPrefix(rest, "---"), strings.HasPrefix(rest, "@@"), strings.HasPrefix(rest, "diff "):
			class = "gh"
		case rest[0] == '+':
			class = "gi"
		case rest[0] == '-':
			class = "gd"
		}
		if class != "" && n > 0 {
			p.paint(class, n)
		} else {
			p.at += n
		}
		if p.at < len(p.code) {
			p.at++ // the line break
		}
	}
	p.flush()
}

func letter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
func digit(c byte) bool { return c >= '0' && c <= '9' }

func spanOf(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func lineLength(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		return i
	}
	return len(s)
}

// until is the length of s up to and with end; all of s when there is none.
func until(s, end string) int {
	if i := strings.Index(s, end); i >= 0 {
		return i + len(end)
	}
	return len(s)
}
