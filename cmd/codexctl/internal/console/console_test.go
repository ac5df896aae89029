package console

import (
	"bytes"
	"slices"
	"testing"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b[31mred\x1b[0m":            "red",
		"\x1b]0;a title\x07text":        "text",
		"\x1b]8;;http://x\x1b\\a link":  "a link",
		"\tone\r\ntwo\x7f\u0085":        " onetwo",
		"\x1b[2J\x1b[1;1Hto the corner": "to the corner",
		"ein Umlaut: ä, 日本":             "ein Umlaut: ä, 日本",
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"as it is", 8, "as it is"},
		{"too long", 7, "too lo…"},
		{"x and y", 1, "…"},
		{"x", 0, ""},
		{"日本語日本語", 6, "日本…"},
	} {
		if got := Cut(c.text, c.n); got != c.want {
			t.Errorf("%q to %d: got %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"add --with-other-changes  or wait", []string{"add", "--with-other-changes", "or wait"}},
		{"日本語 日本語", []string{"日本語", "日本語"}},
	} {
		if got := Wrap(c.text, 10); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestColumns(t *testing.T) {
	var b bytes.Buffer
	c := &Console{Writer: &b, Color: true}
	c.Table([][]string{{"日本", "x", "end"}, {"a", "", ""}}, func(_, col int) Paint {
		if col == 0 {
			return Red
		}
		return ""
	})

	c.Hanging(c.Paint(Bold, "head: "),
		"a text of more than eighty columns, which goes on below its "+
			"start and not below the head")
	want := "\x1b[31m日本\x1b[0m  x  end\n\x1b[31ma\x1b[0m\n" +
		"\x1b[1mhead: \x1b[0ma text of more than eighty columns, which goes on below its start and not\n" +
		"      below the head\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
