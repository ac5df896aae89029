package words_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/words"
)

func open(t testing.TB, dir string) *words.Index {
	t.Helper()
	x, err := words.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func add(t testing.TB, x *words.Index, document string, texts ...string) {
	t.Helper()
	var passages []words.Passage
	for _, text := range texts {
		passages = append(passages, words.Passage{Text: text})
	}
	if err := x.Add(document, "A title", passages); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, text string, in ...*words.Index) []string {
	t.Helper()
	hits, err := words.Search(t.Context(), in, text, 10)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, h := range hits {
		ids = append(ids, h.ID)
	}
	return ids
}

func TestSearch(t *testing.T) {
	x := open(t, filepath.Join(t.TempDir(), "words"))
	add(t, x, "a", "The patient gets a letter.", "Nothing of the kind.")
	add(t, x, "b", "Patients getting letters are discharged.", "Überweisung zum Facharzt, 5 mg.")
	for question, want := range map[string][]string{
		"Who gets a letter?":  {"a-0", "b-0"}, // the word itself is better than its stem
		"überweisung":         {"b-1"},
		"ＦＡＣＨＡＲＺＴ":            {"b-1"},
		"unheard":             nil,
		`text:"letter" -kind`: {"a-1", "a-0", "b-0"}, // no language of queries
	} {
		got := find(t, question, x)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", question, got, want)
		}
	}

	if err := x.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if got := find(t, "letter", x); !slices.Equal(got, []string{"b-0"}) {
		t.Errorf("after the removal: %q", got)
	}
}

// TestSeveral checks that what is in an index which is not searched changes no score.
func TestSeveral(t *testing.T) {
	var x [3]*words.Index
	for i := range x {
		x[i] = open(t, filepath.Join(t.TempDir(), "words"))
	}
	add(t, x[0], "a", "rare common", "common", "common")
	add(t, x[1], "b", "common common", "other", "common")

	search := func() []words.Hit {
		hits, err := words.Search(t.Context(), x[:2], "rare common", 10)
		if err != nil {
			t.Fatal(err)
		}
		return hits
	}
	before := search()
	if len(before) != 5 || before[0].ID != "a-0" {
		t.Errorf("got %v", before)
	}

	for i := range 20 {
		add(t, x[2], fmt.Sprint("c", i), "rare", "rare")
	}
	if after := search(); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// TestPurge looks for a removed word in the dictionaries of the files. Those are compressed: to look
// for the word itself would show nothing.
func TestPurge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "words")
	x := open(t, dir)
	for i := range 20 {
		add(t, x, fmt.Sprint("d", i), "ordinary text about letters", fmt.Sprint("number ", i))
	}

	for _, state := range []string{"the first time", "again"} {
		add(t, x, "secret", "the word zyxwvutsrq is in it")
		if err := x.Purge(t.Context()); err != nil { // now it is in a file with others
			t.Fatal(err)
		}
		if err := x.Remove("secret"); err != nil {
			t.Fatal(err)
		}
		before := segments(t, dir)
		if known, err := x.Knows("zyxwvutsrq"); err != nil || !known {
			t.Fatalf("the word is gone before Purge, which the test is about: %v", err)
		}

		if err := x.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if known, err := x.Knows("zyxwvutsrq"); err != nil || known {
			t.Errorf("%s: the word is still in a file: %v", state, err)
		}
		for _, f := range segments(t, dir) {
			if slices.Contains(before, f) {
				t.Errorf("%s: the file %s is still there", state, f)
			}
		}
	}

	if got := find(t, "letters", x); len(got) != 10 {
		t.Errorf("found %q", got)
	}
	if got := find(t, "purged", x); len(got) != 0 {
		t.Errorf("found %q", got)
	}
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "store", "*.zap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no segments: %v", err)
	}
	return files
}

func TestAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "words")
	x := open(t, dir)
	add(t, x, "a", slices.Repeat([]string{"text"}, 1200)...)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	x = open(t, dir)
	if ok, err := x.Has("a", 1200); !ok || err != nil {
		t.Errorf("the document is not there: %v", err)
	}
	if ok, _ := x.Has("a", 1201); ok {
		t.Error("it has a passage too many")
	}
	if d, err := x.Documents(); err != nil || !slices.Equal(d, []string{"a"}) {
		t.Errorf("documents %q: %v", d, err)
	}
	if err := x.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if ok, _ := x.Has("a", 1200); ok || len(find(t, "text", x)) > 0 {
		t.Error("the document is still there")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}

	// What cannot be read is made anew.
	if err := os.WriteFile(filepath.Join(dir, "index_meta.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	x = open(t, dir)
	add(t, x, "b", "text")
	if got := find(t, "text", x); !slices.Equal(got, []string{"b-0"}) {
		t.Errorf("found %q", got)
	}
}

func TestID(t *testing.T) {
	if d, n, ok := words.ParseID(words.ID("abc", 12)); d != "abc" || n != 12 || !ok {
		t.Errorf("got %q %d %v", d, n, ok)
	}
	for _, id := range []string{"", "a", "a-", "a--1", "a-01", "a-x", "a-1-2"} {
		if _, _, ok := words.ParseID(id); ok {
			t.Errorf("%q is an id", id)
		}
	}
}

func BenchmarkPurge(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := open(b, filepath.Join(b.TempDir(), "words"))
			text := make([]string, n)
			for i := range text {
				text[i] = fmt.Sprintf("passage %d of %d has %x and more words than that", i, n, i*i)
			}
			add(b, x, "a", text...)
			for b.Loop() {
				add(b, x, "x", "one")
				if err := x.Remove("x"); err != nil {
					b.Fatal(err)
				}
				if err := x.Purge(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
