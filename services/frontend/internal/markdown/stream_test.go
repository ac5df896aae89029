package markdown

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// reader applies updates as the page's script does, in UTF-16.
type reader struct{ blocks []string }

func (r *reader) apply(t testing.TB, u Update) {
	t.Helper()
	if u.From > len(r.blocks) {
		t.Fatalf("update from block %d, the reader has %d", u.From, len(r.blocks))
	}
	html := append([]string{}, u.HTML...)
	if u.Keep > 0 {
		units := utf16.Encode([]rune(r.blocks[u.From]))
		html[0] = string(utf16.Decode(units[:u.Keep])) + html[0]
	}
	r.blocks = append(r.blocks[:u.From], html...)
}

// documents are answers with everything whose beginning looks like something else.
var documents = []string{
	"",
	"One paragraph\nof two lines.\n\nAnother.",
	"Title\n===\n\nSub\n---\n\ntext\n- list\n- [ ] open\n- [x] done\n\n---\n\n***\nend",
	"# One\n## Two\ntext\n### Three #\n#nothing\n",
	"- a\n\n  b\n- c\n    - d\n      1. e\n\n\n1. one\n2) other list\n* star\n+ plus\n",
	"1. a\n   ```go\n   func main() {}\n   ```\n2. b\n",
	"before\n```go\npackage main\n\nfunc main() { println(\"é😀\") }\n```\nafter\n\n~~~\ntilde\n```\n~~~",
	"```\nnever closed\n``\n` x",
	"````md\n```go\nx\n```\n````\n",
	"x\n| a | b |\n|---|:-:|\n| 1 | 2 |\n| `|` | <br> |\n\nafter",
	"a|b\n-|-\n1|2\n===\n",
	"> quote\nlazy\n> - list\n\n> next\n\n    indented\n\n    code\n",
	"<div>\nraw *not em*\n\n</div>\n\n<script>alert(1)</script>\n\ntext <b>x</b> <br/> end",
	"<!-- comment\n\nstill -->\n\nafter",
	"*em* **strong** ~~del~~ `code` [link](https://example.com \"t\") <https://example.com> " +
		"www.example.com\n\\* &amp; &copy; 😀é\n",
	"[a]: https://example.com/a\n\nUses [a] after.\n\n[b]: https://example.com/b\n  'title'\n\n[b] too",
	"hard  \nbreak\\\nhere\r\nwindows\r\n\r\nnew",
	"- one\n-\n- three\n\n-\n\ntext\n\n10. ten\n11. eleven\n",
	"\t- tab\n\n- \ttab\n\n\n\n   three spaces\n\n    \n\n```\t\n\tx\n```",
	"![img](https://example.com/x.png) ![](http://example.com/y.png)\n",
}

// backward documents use a link before they define it: only Finish can know.
var backward = []string{
	"See [a] and [b].\n\nMore.\n\n[a]: https://example.com/a\n[b]: https://example.com/b\n",
}

// chunks cuts s at random byte positions, as tokens do not, but as nothing forbids.
func chunks(rng *rand.Rand, s string, most int) []string {
	var out []string
	for len(s) > 0 {
		n := min(1+rng.IntN(most), len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n++
		}
		out, s = append(out, s[:n]), s[n:]
	}
	return out
}

// play streams the document and returns what the reader has before and after Finish.
func play(t testing.TB, r *Renderer, rng *rand.Rand, doc string, most int) (before, after []string) {
	t.Helper()
	s, rd := r.NewStream(), &reader{}
	for _, c := range chunks(rng, doc, most) {
		s.Write(c)
		if rng.IntN(3) > 0 {
			if u, ok := s.Update(); ok {
				rd.apply(t, u)
			}
		}
	}
	if u, ok := s.Update(); ok {
		rd.apply(t, u)
	}
	before = append([]string{}, rd.blocks...)
	if u, ok := s.Finish(); ok {
		rd.apply(t, u)
	}
	if u, ok := s.Finish(); ok {
		t.Errorf("Finish twice gave %+v", u)
	}
	return before, rd.blocks
}

// patient is a renderer for machines with much to do.
func patient() *Renderer {
	r := New()
	r.code.limit = time.Minute
	return r
}

func TestStreamEqualsFullRender(t *testing.T) {
	r := patient()
	rng := rand.New(rand.NewPCG(1, 2))
	var all []string
	all = append(all, documents...)
	for range 60 { // documents of several documents: blocks meet in every order
		var b strings.Builder
		for range 2 + rng.IntN(3) {
			b.WriteString(documents[rng.IntN(len(documents))])
			b.WriteString([]string{"\n", "\n\n"}[rng.IntN(2)])
		}
		all = append(all, b.String())
	}
	for i, doc := range all {
		want := r.Blocks(doc)
		for _, most := range []int{1, 3, 8, 40} {
			before, after := play(t, r, rng, doc, most)
			if d := cmp.Diff(strings.Join(want, ""), strings.Join(before, "")); d != "" {
				t.Errorf("document %d in chunks of <= %d, before Finish (-full +stream):\n%s\n%q", i, most, d, doc)
			}
			if d := cmp.Diff(strings.Join(want, ""), strings.Join(after, "")); d != "" {
				t.Errorf("document %d in chunks of <= %d (-full +stream):\n%s", i, most, d)
			}
		}
	}
}

func TestFinishResolvesLinksDefinedAfterUse(t *testing.T) {
	r := New()
	for _, doc := range backward {
		_, after := play(t, r, rand.New(rand.NewPCG(3, 4)), doc, 5)
		if d := cmp.Diff(r.Blocks(doc), after); d != "" {
			t.Errorf("(-full +stream):\n%s", d)
		}
		if !strings.Contains(strings.Join(after, ""), `href="https://example.com/a"`) {
			t.Errorf("no link in %q", after)
		}
	}
}

// TestCodeIsColouredWhenItsFenceIsClosed: that is before the next block is there, and in a list that
// goes on.
func TestCodeIsColouredWhenItsFenceIsClosed(t *testing.T) {
	for _, tt := range []struct{ name, before, closing string }{
		{"fence", "```go\nfunc f() {}\n``", "`\n"},
		{"tildes", "~~~~go\nfunc f() {}\n~~~\n", "~~~~\n"},
		{"behind text", "text\n```go\nfunc f() {}\n```", "\n"},
		{"in a list", "1. a\n   ```go\n   func f() {}\n   ```", "\n2. b\n"},
		{"in a list in a list", "- a\n  - b\n    ```go\n    func f() {}\n", "    ```\n"},
		{"in a quote", "> ```go\n> func f() {}\n> ``", "`\n"},
		{"the end", "```go\nfunc f() {}\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, rd := patient().NewStream(), &reader{}
			show := func(u Update, ok bool) string {
				if ok {
					rd.apply(t, u)
				}
				return strings.Join(rd.blocks, "")
			}
			s.Write(tt.before)
			got := show(s.Update())
			if !strings.Contains(got, "func f()") || strings.Contains(got, `class="k"`) {
				t.Errorf("while it is open: %s", got)
			}
			s.Write(tt.closing)
			if tt.closing != "" {
				got = show(s.Update())
			} else {
				got = show(s.Finish())
			}
			if !strings.Contains(got, `<span class="k">func</span>`) {
				t.Errorf("when it is closed: %s", got)
			}
		})
	}
}

// TestBegun: a page that is loaded in the middle of an answer shows what its stream goes on with.
func TestBegun(t *testing.T) {
	r, src := patient(), "```go\nfunc f() {}\n```\n\n```go\nfunc g() {"
	s := r.NewStream()
	s.Write(src)
	got, want := string(r.Begun(src)), strings.Join(s.Snapshot().HTML, "")
	if got != want || strings.Count(got, `<span class="k">func</span>`) != 1 {
		t.Errorf("it begins with %s, the stream with %s", got, want)
	}
}

// TestCodeIsColouredOnce: nothing of a closed block is rendered or sent again.
func TestCodeIsColouredOnce(t *testing.T) {
	s := patient().NewStream()
	s.Write("```go\nfunc f() {}\n```\n")
	if _, ok := s.Update(); !ok || s.OpenSize() != 0 {
		t.Errorf("%d bytes are still open", s.OpenSize())
	}
	s.Write("\nAnd then")
	want := Update{From: 1, HTML: []string{"<p>And then</p>\n"}}
	if u, _ := s.Update(); !cmp.Equal(u, want) {
		t.Errorf("the next block is %+v", u)
	}
	if u, ok := s.Finish(); ok {
		t.Errorf("Finish gave %+v", u)
	}
}

func FuzzStream(f *testing.F) {
	for i, d := range append(append([]string{}, documents...), backward...) {
		f.Add(d, uint64(i))
	}
	r := New()
	f.Fuzz(func(t *testing.T, doc string, seed uint64) {
		if !utf8.ValidString(doc) || len(doc) > 4096 {
			t.Skip("the backend sends valid UTF-8")
		}
		_, after := play(t, r, rand.New(rand.NewPCG(seed, 0)), doc, 12)
		if d := cmp.Diff(strings.Join(r.Blocks(doc), ""), strings.Join(after, "")); d != "" {
			t.Errorf("(-full +stream):\n%s", d)
		}
	})
}

func TestClosedBlocksAreSentOnce(t *testing.T) {
	s, n, sent := New().NewStream(), 400, 0
	for i := range n {
		s.Write(fmt.Sprintf("Paragraph %d has a few words.\n\n", i))
		if u, ok := s.Update(); ok {
			for _, h := range u.HTML {
				sent += len(h)
			}
		}
	}
	total := len(strings.Join(s.Snapshot().HTML, ""))
	if sent > 2*total {
		t.Errorf("sent %d bytes for %d of HTML", sent, total)
	}
	if open := len(s.src) - s.base; open > 100 {
		t.Errorf("%d bytes are still open after %d paragraphs", open, n)
	}
}

func BenchmarkStreamLongAnswer(b *testing.B) {
	r := New()
	doc := strings.Repeat(documents[1]+"\n\n"+documents[6]+"\n\n"+documents[9]+"\n\n", 40)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		r.code.done = &coloured{}
		s := r.NewStream()
		for i := 0; i < len(doc); i += 40 {
			s.Write(doc[i:min(i+40, len(doc))])
			s.Update()
		}
		s.Finish()
	}
}

func BenchmarkStreamOneCodeBlock(b *testing.B) {
	for _, kb := range []int{8, 16, 32, 64} {
		b.Run(fmt.Sprintf("%dKiB", kb), func(b *testing.B) {
			r := New()
			doc := "```go\n" + strings.Repeat("func add(a, b int) int { return a + b } // sum\n", kb*1024/47) + "```\n"
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				r.code.done = &coloured{}
				s := r.NewStream()
				for i := 0; i < len(doc); i += 40 {
					s.Write(doc[i:min(i+40, len(doc))])
					s.Update()
				}
			}
		})
	}
}
