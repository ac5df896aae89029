package markdown

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/chroma/v2"
)

// TestHighlightKeepsTheText: a copy button that copies something else than what the model wrote is
// worse than none.
func TestHighlightKeepsTheText(t *testing.T) {
	h := newPatient()
	for lang, code := range map[string]string{
		"go":         "package main\n\nfunc main() {\n\tprintln(\"é😀\")\n}\n",
		"python":     "def f(x):\n    return x\n",
		"json":       `{"a": [1, 2]}`,
		"bash":       "set -e\necho \"$X\" | grep -v y\n",
		"diff":       "-a\n+b\n",
		"html":       "<b onclick='x'>y</b>",
		"yaml":       "a: [1]\n",
		"":           "\n\n x ",
		"sql":        "select 1",
		"js":         "const x = `a${b}`",
		"unknown":    "<&>\"'",
		"php":        "<?php echo 1; ?>",
		"dockerfile": "FROM scratch\n",
		"c++":        "int x;",
		"nginx":      "a\rb\xff\n",
	} {
		got := html.UnescapeString(spans.ReplaceAllString(h.highlight(lang, code), ""))
		if got != code {
			t.Errorf("%s: %q became %q", lang, code, got)
		}
	}
}

// newPatient is a highlighter for machines with much to do.
func newPatient() *highlighter {
	h := newHighlighter()
	h.limit = time.Minute
	return h
}

var spans = regexp.MustCompile(`<span class="(k|kt|nf|s|m|c|gd|gi|gh)">|</span>`)

func TestHighlight(t *testing.T) {
	h := newPatient()
	for _, tt := range []struct{ lang, code, want string }{
		{"go", "// c\nfunc f(s string) { g(`a\nb`, 'x', 1.5e3) }",
			"«c // c»\n«k func» «nf f»(s «kt string») { «nf g»(«s `a\nb`», «s 'x'», «m 1.5e3») }"},
		{"Python", "x = '''a\nb''' # c#", "x = «s '''a\nb'''» «c # c#»"},
		{"rust", "fn f<'a>(x: &'a str)", "«k fn» «nf f»<«nf 'a»>(x: «k &»«nf 'a» «kt str»)"},
		{"json", `{"a": [1, "b", true]}`, `{«kt "a"»: [«m 1», «s "b"», «k true»]}`},
		{"yaml", "a-b: http://x # c", "«kt a-b»: http://x «c # c»"},
		{"sql", "SELECT 'it''s' FROM t -- c", "«k SELECT» «s 'it''s'» «k FROM» t «c -- c»"},
		{"bash", `echo "$X" ${#y} # c`, `«nf echo» «s "»«nf $X»«s "» «s ${#»«nf y»«s }» «c # c»`},
		{"html", `<a href="x">y</a><!-- z -->`, `<«kt a» «nf href»=«s "x"»>y</«kt a»>«c <!-- z -->»`},
		{"html", `<style>a{top:0}</style>`, `<«kt style»>«kt a»{«k top»:«m 0»}</«kt style»>`},
		{"diff", "@@ -1 +1 @@\n-a\n+b\n c\n\n", "«gh @@ -1 +1 @@\n»«gd -a\n»«gi +b\n» c\n\n"},
		{"js", "a.replace(/[\"']/g, `x${y}`)", "a.replace(«s /[\"']/g», «s `x${»y«s }`»)"},
		{"jsx", "return <b id={x}>it's</b>", "«k return» <«kt b» «nf id»={x}>it's</«kt b»>"},
		{"scss", "$x: 1px; a { b { top: $x } }",
			"«nf $x»: «m 1»«kt px»; «kt a» { «kt b» { «nf top»: «nf $x» } }"},
	} {
		if got := marked(h.highlight(tt.lang, tt.code)); got != tt.want {
			t.Errorf("%s %q\n got %s\nwant %s", tt.lang, tt.code, got, tt.want)
		}
	}
}

// marked is the HTML of code as a person reads it: «class text».
func marked(out string) string {
	return html.UnescapeString(strings.ReplaceAll(spans.ReplaceAllString(out, "«$1 "), "« ", "»"))
}

// TestNames: what people and models write behind a fence.
func TestNames(t *testing.T) {
	h := newPatient()
	for name := range strings.FieldsSeq(`
		arduino bash bzl c c# c++ cc cfg cjs conf console containerfile cpp cr crystal cs csharp
		css cuda cxx dart diff docker dockerfile elixir ex exs fish gql glsl go golang gradle
		graphql groovy h haskell hcl hpp hs htm html ini java javascript js json json5 jsonc
		jsonl jsx kotlin kt kts less lua make makefile mjs mk modelfile mysql nginx objc
		objective-c patch perl php pl plpgsql postgres postgresql powershell properties proto
		protobuf ps1 psql pwsh py python python3 r rb rs ruby rust sass scala scss sh shell
		shell-session sql sqlite starlark svelte svg swift terraform tf toml ts tsx typescript
		vue xhtml xml yaml yml zig zsh Go JSON TypeScript C++ Dockerfile`) {
		if h.lexers[strings.ToLower(name)] == nil {
			t.Errorf("no lexer for %s", name)
		}
	}
	for name, want := range map[string]string{
		"c": "C", "h": "C", "cpp": "C++", "r": "R", "s": "R", "sh": "Bash", "ts": "TypeScript",
		"console": "Bash Session", "html": "HTML", "vue": "HTML", "text": "", "": "",
	} {
		got := ""
		if l := h.lexers[name]; l != nil {
			got = l.Config().Name
		}
		if got != want {
			t.Errorf("%q is coloured as %q, want %q", name, got, want)
		}
	}
	for lexer := range moreNames {
		if l := h.lexers[strings.ToLower(lexer)]; l == nil || l.Config().Name != lexer {
			t.Errorf("names of %s, which is none of the lexers", lexer)
		}
	}
}

// TestEveryLexer compiles each, and that each language within another is there.
func TestEveryLexer(t *testing.T) {
	h := newPatient()
	inner := regexp.MustCompile(`<using lexer="([^"]*)"`)
	files, err := lexerFiles.ReadDir("lexers")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d lexers: %v", len(files), err)
	}
	for _, f := range files {
		src, err := lexerFiles.ReadFile("lexers/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inner.FindAllSubmatch(src, -1) {
			if h.lexers[strings.ToLower(string(m[1]))] == nil {
				t.Errorf("%s uses %s, which is none of the lexers", f.Name(), m[1])
			}
		}
	}
	for name, l := range h.lexers {
		if _, err := l.Tokenise(nil, "x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestColourIsBounded(t *testing.T) {
	hostile := chroma.MustNewLexer(&chroma.Config{}, func() chroma.Rules {
		return chroma.Rules{"root": {
			{Pattern: `(a|aa)+!`, Type: chroma.Keyword},
			{Pattern: `a`, Type: chroma.Name},
		}}
	})
	begin := time.Now()
	if out, ok := tokens(hostile, strings.Repeat("a", 1000), maxColouring); ok {
		t.Errorf("coloured: %.100s", out)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("gave up after %v", took)
	}
	if out, ok := tokens(hostile, "aa!", time.Minute); !ok || out != `<span class="k">aa!</span>` {
		t.Errorf("harmless code is %q, %v", out, ok)
	}
	failing := chroma.MustNewLexer(&chroma.Config{}, func() chroma.Rules {
		return chroma.Rules{"root": {{Pattern: `a`, Type: chroma.Using("nosuch")}}}
	})
	if out, ok := tokens(failing, "a", maxColouring); ok {
		t.Errorf("a lexer that fails gave %q", out)
	}
}

// TestColouringATextIsBounded: many slow blocks cost no more than one.
func TestColouringATextIsBounded(t *testing.T) {
	r := New()
	for limit, want := range map[time.Duration]bool{0: false, time.Minute: true} {
		r.code.limit = limit
		got := string(r.Answer("```go\nfunc f() {}\n```\n"))
		if strings.Contains(got, `<span class="k">`) != want {
			t.Errorf("with %v it is %s", limit, got)
		}
	}
}

func TestLargeCodeIsPlain(t *testing.T) {
	h := newPatient()
	code := strings.Repeat("-a\n", maxCode/3+1)
	if got := h.highlight("diff", code); got != code {
		t.Errorf("%d bytes are coloured: %.100s", len(code), got)
	}
	if got := h.highlight("diff", code[:300]); got == code[:300] {
		t.Error("300 bytes are not coloured")
	}
}

// TestColouredIsBounded: what is in use stays, and the rest is forgotten.
func TestColouredIsBounded(t *testing.T) {
	var done coloured
	used := [32]byte{1}
	done.put(used, "in use")
	for i := range 1000 {
		done.put([32]byte{2, byte(i), byte(i >> 8)}, strings.Repeat("x", 10_000))
		if out, ok := done.get(used); !ok || out != "in use" {
			t.Fatalf("after %d blocks: %q, %v", i, out, ok)
		}
	}
	kept := 0
	for _, half := range []map[[32]byte]string{done.newer, done.older} {
		for _, out := range half {
			kept += len(out)
		}
	}
	if kept > 2*maxColoured || kept < maxColoured {
		t.Errorf("%d bytes are kept, want between %d and twice that", kept, maxColoured)
	}
}

// FuzzHighlight: in every language the text stays what it was, and nothing but spans is added.
func FuzzHighlight(f *testing.F) {
	f.Add("a \"b\\\" 'c' `d` # e\n// f\n/* g */ -- <h i=\"j\">&amp;</h> @k $l ${m} 1.2e3 \"\"\"n")
	f.Add("\\\"'\"\\")
	h := newPatient()
	lexers := map[string]chroma.Lexer{}
	for _, l := range h.lexers {
		lexers[l.Config().Name] = l
	}
	f.Fuzz(func(t *testing.T, code string) {
		for name := range lexers {
			out := h.highlight(name, code)
			plain := spans.ReplaceAllString(out, "")
			if strings.ContainsAny(plain, "<>") || html.UnescapeString(plain) != code {
				t.Fatalf("%s: %q became %q", name, code, out)
			}
		}
	})
}

// TestPageHasOneBudget checks that the texts of one page share the time to colour code, and that a
// renderer of no page gives each its own.
func TestPageHasOneBudget(t *testing.T) {
	r := New()
	r.code.limit = 0
	page := r.Page()
	r.code.limit = time.Minute

	const text = "```go\nfunc f()\n```\n"
	if got := string(page.Answer(text)); strings.Contains(got, "<span class=\"k\"") {
		t.Errorf("a page without time left colours %s", got)
	}
	if got := string(r.Answer(text)); !strings.Contains(got, "<span class=\"k\"") {
		t.Errorf("a text with time left is plain: %s", got)
	}
}
