package split_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
	"github.com/google/go-cmp/cmp"
)

func TestStructure(t *testing.T) {
	blocks := []parse.Block{
		{Kind: parse.Paragraph, Text: "Before."},
		{Kind: parse.Heading, Level: 1, Text: "Discharge"},
		{Kind: parse.Paragraph, Text: "Who leaves gets a letter."},
		{Kind: parse.Heading, Level: 2, Text: "Letters"},
		{Kind: parse.Item, Text: "one"},
		{Kind: parse.Item, Text: "two"},
		{Kind: parse.Paragraph, Text: "after"},
		{Kind: parse.Heading, Level: 1, Text: "Other"},
		{Kind: parse.Paragraph, Page: 2, Text: "a"},
		{Kind: parse.Paragraph, Page: 3, Text: "b"},
		{Kind: parse.Heading, Level: 3, Text: "Nothing below it"},
	}
	got, left := split.Document(blocks, 100)
	want := []split.Passage{
		{Text: "Before."},
		{Heading: "Discharge", Text: "Who leaves gets a letter."},
		{Heading: "Discharge > Letters", Text: "- one\n- two\n\nafter"},
		{Heading: "Other", Page: 2, Text: "a"},
		{Heading: "Other", Page: 3, Text: "b"},
	}
	if d := cmp.Diff(want, got); d != "" || left != 0 {
		t.Errorf("%d left out (-want +got):\n%s", left, d)
	}
}

func TestTable(t *testing.T) {
	blocks := []parse.Block{
		{Kind: parse.Row, Text: "Name | Dose"},
		{Kind: parse.Row, Text: "first | " + strings.Repeat("x ", 20) + "mg"},
		{Kind: parse.Row, Text: "second | " + strings.Repeat("y ", 20) + "mg"},
	}
	got, _ := split.Document(blocks, 80)
	if len(got) != 2 || !strings.HasPrefix(got[0].Text, "Name | Dose\nfirst") ||
		!strings.HasPrefix(got[1].Text, "Name | Dose\nsecond") {
		t.Errorf("got %+v", got)
	}
}

// TestLong checks that a long text is whole in its passages, and cut between words alone.
func TestLong(t *testing.T) {
	for name, text := range map[string]string{
		"sentences": strings.Repeat("Give 5.5 mg to Mr. O'Neil, twice (in the morning). ", 200),
		"words":     strings.Repeat("abc-def, ", 500),
		"lines":     strings.Repeat("a line\n", 500),
		"ideograms": strings.Repeat("患者每日服用两次。", 300),
		"one long":  strings.Repeat("漢字", 2000),
	} {
		got, left := split.Document([]parse.Block{{Kind: parse.Paragraph, Text: text}}, 200)
		if left != 0 {
			t.Errorf("%s: %d words are left out", name, left)
		}

		spaces := strings.NewReplacer(" ", "", "\n", "")
		var all strings.Builder
		for _, p := range got {
			if n := utf8.RuneCountInString(p.Text); n > 200 || n == 0 {
				t.Errorf("%s: a passage has %d characters", name, n)
			}
			all.WriteString(p.Text)
			if name == "words" && !strings.HasSuffix(p.Text, "abc-def,") {
				t.Errorf("a passage ends with %q", p.Text[len(p.Text)-10:])
			}
			if name == "sentences" && !strings.HasSuffix(p.Text, "(in the morning).") &&
				!strings.HasSuffix(p.Text, "Mr.") {
				t.Errorf("a passage ends with %q", p.Text[len(p.Text)-10:])
			}
		}
		if spaces.Replace(all.String()) != spaces.Replace(text) {
			t.Errorf("%s: something is lost", name)
		}
	}
}

func TestEndlessWord(t *testing.T) {
	text := "before " + strings.Repeat("x", 5000) + " after"
	got, left := split.Document([]parse.Block{{Kind: parse.Paragraph, Text: text}}, 1500)
	if left != 1 || len(got) != 1 || got[0].Text != "before after" {
		t.Errorf("%d left out, got %+v", left, got)
	}
}

func FuzzDocument(f *testing.F) {
	f.Add("A text. With sentences, and 'marks'.\n\nMore 漢字。", 10)
	f.Fuzz(func(t *testing.T, text string, size int) {
		if size < 4 || size > 3000 || !utf8.ValidString(text) {
			return
		}
		got, _ := split.Document([]parse.Block{{Kind: parse.Paragraph, Text: text}}, size)
		for _, p := range got {
			if utf8.RuneCountInString(p.Text) > size {
				t.Errorf("a passage has %d characters: %q", utf8.RuneCountInString(p.Text), p.Text)
			}
		}
	})
}
