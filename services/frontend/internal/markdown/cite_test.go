package markdown

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var twoSources = Citations{
	1: {Href: "/passages/a?in=c1", Title: `A "title" <b>`}, 2: {Href: "/passages/b", Title: "B"},
}

const (
	first  = `<a class="cite" href="/passages/a?in=c1" title="A &#34;title&#34; &lt;b&gt;">[1]</a>`
	second = `<a class="cite" href="/passages/b" title="B">[2]</a>`
)

// TestCitations: what cites a source is a link to it, and nothing else is.
func TestCitations(t *testing.T) {
	r := New().Citing(twoSources)
	for src, tc := range map[string]struct {
		want  string
		cited []int
	}{
		"Due [1].":        {"<p>Due " + first + ".</p>\n", []int{1}},
		"Due [1][2].":     {"<p>Due " + first + second + ".</p>\n", []int{1, 2}},
		"Due [1, 2], [2]": {"<p>Due " + first + second + ", " + second + "</p>\n", []int{1, 2}},
		"**[2]**":         {"<p><strong>" + second + "</strong></p>\n", []int{2}},
		"- [1] a":         {"<ul>\n<li>" + first + " a</li>\n</ul>\n", []int{1}},
		"Of none [3].":    {"<p>Of none [3].</p>\n", nil},
		"Half [1, 3].":    {"<p>Half [1, 3].</p>\n", nil},
		"[100] [01x] []":  {"<p>[100] [01x] []</p>\n", nil},
		`\[1\]`:           {"<p>[1]</p>\n", nil},
		"`a[1]`":          {"<p><code>a[1]</code></p>\n", nil},
		"    a[1]": {
			`<div class="code"><div class="code-head"><span class="code-lang">text</span><button ` +
				`type="button" class="copy">Copy</button></div><pre tabindex="0"><code>a[1]` +
				"\n</code></pre></div>\n", nil,
		},
		// Nobody makes a citation go elsewhere.
		"[1](https://evil.example/)": {
			"<p>" + first + `(<a href="https://evil.example/" rel="nofollow noreferrer noopener" ` +
				`target="_blank">https://evil.example/</a>)</p>` + "\n", []int{1},
		},
		"[1]\n\n[1]: https://evil.example/": {"<p>" + first + "</p>\n", []int{1}},
		// Nor makes one of raw HTML, nor a link in a link.
		`<span class="cite">1</span>`: {
			"<p>&lt;span class=&#34;cite&#34;&gt;1&lt;/span&gt;</p>\n", nil,
		},
		"[see [1]](https://a.example/)": {
			`<p><a href="https://a.example/" rel="nofollow noreferrer noopener" target="_blank">see ` +
				`[1]</a><span class="target"> (https://a.example/)</span></p>` + "\n", []int{1},
		},
	} {
		if d := cmp.Diff(tc.want, string(r.Answer(src))); d != "" {
			t.Errorf("%q (-want +got):\n%s", src, d)
		}

		s := New().NewStream()
		s.Cite(twoSources)
		for _, piece := range strings.SplitAfter(src, "") {
			s.Write(piece)
			s.Update()
		}
		s.Finish()
		if d := cmp.Diff(tc.want, strings.Join(s.Snapshot().HTML, "")); d != "" {
			t.Errorf("%q in a stream (-want +got):\n%s", src, d)
		}

		if got := slices.Sorted(maps.Keys(r.Cited(src))); !slices.Equal(got, tc.cited) {
			t.Errorf("%q cites %v, want %v", src, got, tc.cited)
		}
	}

	if got := string(New().Question("[1]")); got != "<p>[1]</p>\n" {
		t.Errorf("a question cites: %s", got)
	}
}
