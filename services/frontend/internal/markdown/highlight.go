package markdown

import (
	"crypto/sha256"
	"embed"
	"html"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/chroma/v2"
)

const (
	// maxCode is the size of a block that is coloured.
	maxCode = 32 << 10
	// maxColouring is how long a block may take, or all of a text. It is looked at between tokens
	// and between blocks; a match by itself has the 250 ms that chroma gives it.
	maxColouring = time.Second
	// maxColoured bounds the code that is kept coloured, in bytes: twice this at most.
	maxColoured = 2 << 20
	// perBlock is about what a block takes beside its HTML: a key and its place in a map.
	perBlock = 128
)

// lexerFiles holds the lexers that we use. Chroma's own package of them would embed all, 2.5 MB.
//
//go:embed lexers/*.xml
var lexerFiles embed.FS

// moreNames are names that fences use and chroma does not know, by the lexer that comes nearest.
var moreNames = map[string]string{
	"Bash":         "fish",
	"Bash Session": "shellsession sh-session",
	"C":            "objective-c objectivec objc obj-c",
	"C++":          "arduino cuda cu glsl hlsl",
	"CSS":          "less",
	"SCSS":         "sass",
	"Docker":       "modelfile",
	"HCL":          "terraform tf tfvars",
	"HTML":         "svelte vue",
	"INI":          "conf config dotenv editorconfig properties systemd",
	"JSON":         "json-with-comments",
	"Ruby":         "cr crystal elixir ex exs perl pl",
	"Rust":         "zig",
	"SQL":          "mariadb mysql pgsql plpgsql postgres postgresql psql sqlite sqlite3 tsql",
	"TypeScript":   "jsx react",
	"XML":          "svg",
}

// plainEnding is a file's ending that names one language: .h is C, .H is C++.
var plainEnding = regexp.MustCompile(`^[a-z0-9+#]+$`)

// highlighter colours code with chroma's lexers. It is safe for use by many goroutines.
type highlighter struct {
	lexers map[string]chroma.Lexer // by the names that fences use, in lower case
	limit  time.Duration
	end    time.Time // of all that this one colours; zero leaves each text its limit
	done   *coloured
}

// newHighlighter reads what the lexers are called. The rules of one are compiled at its first use.
func newHighlighter() *highlighter {
	files, err := lexerFiles.ReadDir("lexers")
	if err != nil {
		panic(err) // it is part of the program
	}
	registry := chroma.NewLexerRegistry() // where one finds that of a language inside its own
	for _, f := range files {
		registry.Register(chroma.MustNewXMLLexer(lexerFiles, "lexers/"+f.Name()))
	}

	h := &highlighter{lexers: map[string]chroma.Lexer{}, limit: maxColouring, done: &coloured{}}
	add := func(name string, l chroma.Lexer) {
		if name = strings.ToLower(name); h.lexers[name] == nil {
			h.lexers[name] = l
		}
	}
	for _, l := range registry.Lexers {
		add(l.Config().Name, l)
		for _, name := range l.Config().Aliases {
			add(name, l)
		}
		for name := range strings.FieldsSeq(moreNames[l.Config().Name]) {
			add(name, l)
		}
	}
	for _, l := range registry.Lexers { // behind the names: no ending takes one away
		for _, pattern := range l.Config().Filenames {
			ending, ok := strings.CutPrefix(pattern, "*.")
			if ok && plainEnding.MatchString(ending) {
				add(ending, l)
			}
		}
	}
	return h
}

// highlight returns the code escaped and, where the language is known, its tokens in spans with
// the classes that class returns. The text is never changed.
func (h *highlighter) highlight(lang, code string) string {
	lexer := h.lexers[strings.ToLower(lang)]
	if lexer == nil || len(code) > maxCode {
		return html.EscapeString(code)
	}
	key := sha256.Sum256([]byte(lexer.Config().Name + "\x00" + code))
	out, ok := h.done.get(key)
	if !ok {
		if out, ok = tokens(lexer, code, h.limit); !ok {
			out = html.EscapeString(code)
		}
		h.done.put(key, out)
	}
	return out
}

// tokens is the code escaped and coloured by the lexer. ok is false when the lexer fails, changes
// the text, or takes longer than limit.
func tokens(lexer chroma.Lexer, code string, limit time.Duration) (out string, ok bool) {
	defer func() {
		if recover() != nil { // how chroma's iterators return an error
			out, ok = "", false
		}
	}()
	next, err := lexer.Tokenise(nil, code) // the first time it compiles, which does not count
	if err != nil {
		return "", false
	}

	var b strings.Builder
	b.Grow(3 * len(code))
	open, rest, end := "", code, time.Now().Add(limit)
	for t := next(); t != chroma.EOF; t = next() {
		if time.Now().After(end) {
			return "", false
		}
		text := t.Value
		if len(text) > len(rest) {
			text = strings.TrimSuffix(text, "\n") // some lexers end the last line
		}
		var same bool
		if rest, same = strings.CutPrefix(rest, text); !same {
			return "", false
		}
		if c := class(t.Type); c != open {
			if open != "" {
				b.WriteString("</span>")
			}
			if c != "" {
				b.WriteString(`<span class="` + c + `">`)
			}
			open = c
		}
		b.WriteString(html.EscapeString(text))
	}
	if open != "" {
		b.WriteString("</span>")
	}
	return b.String(), rest == ""
}

// class is the class of a token that the page has a colour for, else "". The names are those of
// Pygments and chroma, one for each colour.
func class(t chroma.TokenType) string {
	switch t {
	case chroma.KeywordType, chroma.NameClass, chroma.NameDecorator, chroma.NameException,
		chroma.NameNamespace, chroma.NameTag:
		return "kt"
	case chroma.OperatorWord, chroma.NameKeyword:
		return "k"
	case chroma.NameAttribute, chroma.NameProperty:
		return "nf"
	case chroma.NameConstant, chroma.NameBuiltinPseudo, chroma.LiteralDate:
		return "m"
	case chroma.GenericDeleted:
		return "gd"
	case chroma.GenericInserted:
		return "gi"
	case chroma.GenericHeading, chroma.GenericSubheading:
		return "gh"
	}
	switch t.SubCategory() {
	case chroma.Keyword:
		return "k"
	case chroma.NameBuiltin, chroma.NameFunction, chroma.NameVariable:
		return "nf"
	case chroma.LiteralString:
		return "s"
	case chroma.LiteralNumber:
		return "m"
	case chroma.Comment, chroma.CommentPreproc:
		return "c"
	}
	return ""
}

// coloured keeps code that was coloured: a block in a list is rendered again with the list, and a
// page with each visit. What was not asked for since the newer half filled up is forgotten.
type coloured struct {
	mu           sync.Mutex
	newer, older map[[sha256.Size]byte]string
	size         int // of newer
}

func (c *coloured) get(key [sha256.Size]byte) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, ok := c.newer[key]
	if !ok {
		if out, ok = c.older[key]; ok {
			c.add(key, out)
		}
	}
	return out, ok
}

func (c *coloured) put(key [sha256.Size]byte, out string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, out)
}

func (c *coloured) add(key [sha256.Size]byte, out string) {
	size := len(out) + perBlock
	if c.newer == nil || c.size+size > maxColoured {
		c.newer, c.older, c.size = map[[sha256.Size]byte]string{}, c.newer, 0
	}
	c.newer[key] = out
	c.size += size
}
