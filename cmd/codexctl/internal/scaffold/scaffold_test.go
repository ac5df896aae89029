package scaffold_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/scaffold"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/google/go-cmp/cmp"
)

func TestParseName(t *testing.T) {
	n, err := scaffold.ParseName("legal-advice2")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{n.Package(), n.Identifier(), n.Exported(), n.Title()}
	want := []string{"legaladvice2", "legalAdvice2", "LegalAdvice2", "Legal Advice2"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}

	// What means something in Go is fine: every identifier is longer than the name.
	for _, name := range []string{"go", "new", "real", strings.Repeat("a", 26)} {
		if _, err := scaffold.ParseName(name); err != nil {
			t.Error(err)
		}
	}

	for name, want := range map[string]string{
		"":                      "use lower-case letters",
		"Legal":                 "use lower-case letters",
		"2nd":                   "use lower-case letters",
		"legal_advice":          "use lower-case letters",
		"-legal":                "use lower-case letters",
		"legal-":                "use lower-case letters",
		"legal--advice":         "use lower-case letters",
		"../legal":              "use lower-case letters",
		"legal\n":               "use lower-case letters",
		"legal-2":               "each word beginning with a letter",
		strings.Repeat("a", 27): "has 27 characters: use at most 26",
	} {
		if _, err := scaffold.ParseName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to hold %q", name, err, want)
		}
	}
}

// TestWriteIsWhole holds that a change which cannot be made leaves nothing behind.
func TestWriteIsWhole(t *testing.T) {
	grow := func(text []byte) ([]byte, error) { return append(text, " and more"...), nil }
	change := scaffold.Change{
		Files: []scaffold.File{{Path: "new/folder/a.txt", Text: "a"}, {Path: "new/b.txt", Text: "b"},
			{Path: "new/link", Link: "b.txt"}},
		Edits: []scaffold.Edit{{Path: "one.txt", Apply: grow}, {Path: "sub/two.txt", Apply: grow}},
	}
	before := map[string]string{"one.txt": "one", "sub/two.txt": "two"}
	after := map[string]string{
		"one.txt": "one and more", "sub/two.txt": "two and more",
		"new/folder/a.txt": "a", "new/b.txt": "b", "new/link": "b",
	}

	for name, tc := range map[string]struct {
		// spoil makes the change impossible.
		spoil func(t *testing.T, dir string, c *scaffold.Change)
		want  string
	}{
		"nothing in the way": {},
		"files that exist": {func(t *testing.T, dir string, c *scaffold.Change) {
			c.Files = append(c.Files, scaffold.File{Path: "one.txt", Text: "mine"})
		}, "one.txt: exists already"},
		"an edit that fails": {func(t *testing.T, dir string, c *scaffold.Change) {
			c.Edits = append(c.Edits, scaffold.Edit{Path: "one.txt",
				Apply: func([]byte) ([]byte, error) { return nil, errors.New("no place for it") }})
		}, "one.txt: no place for it"},
		"a file in the place of a folder": {func(t *testing.T, dir string, c *scaffold.Change) {
			c.Files = append(c.Files, scaffold.File{Path: "new/b.txt/c.txt"})
		}, "new/b.txt"},
		"an edit that cannot be written": {func(t *testing.T, dir string, c *scaffold.Change) {
			// A folder in the place of the new text stops the second edit, after the first.
			c.Files = append(c.Files, scaffold.File{Path: "sub/two.txt.new/c.txt"})
		}, "sub/two.txt"},
		"a path that leads out": {func(t *testing.T, dir string, c *scaffold.Change) {
			c.Files = append(c.Files, scaffold.File{Path: "../out.txt"})
		}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), change
			want := after
			for path, text := range before {
				writeFile(t, filepath.Join(dir, path), text)
			}
			if tc.spoil != nil {
				tc.spoil(t, dir, &c)
				want = before
			}

			err := c.Write(dir)
			if tc.want == "" && err != nil {
				t.Fatal(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want it to hold %q", err, tc.want)
			}
			if d := cmp.Diff(want, tree(t, dir)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestWriteKeepsWhatIsBeside holds that a change overwrites and removes nothing that it has not
// written itself, where its new texts begin.
func TestWriteKeepsWhatIsBeside(t *testing.T) {
	for _, theirs := range []string{"one.txt.new", "one.txt.new/notes.txt"} {
		dir := t.TempDir()
		want := map[string]string{"one.txt": "one", theirs: "theirs"}
		for path, text := range want {
			writeFile(t, filepath.Join(dir, path), text)
		}

		c := scaffold.Change{Edits: []scaffold.Edit{{
			Path:  "one.txt",
			Apply: func([]byte) ([]byte, error) { return []byte("more"), nil },
		}}}
		if err := c.Write(dir); err == nil || !strings.Contains(err.Error(), "one.txt.new") {
			t.Errorf("%s: got %v, want it to name one.txt.new", theirs, err)
		}
		if d := cmp.Diff(want, tree(t, dir)); d != "" {
			t.Errorf("%s (-want +got):\n%s", theirs, d)
		}
	}
}

// TestDomain holds that a domain is a line of the registry and files of its own.
func TestDomain(t *testing.T) {
	name, err := scaffold.ParseName("legal-advice")
	if err != nil {
		t.Fatal(err)
	}
	change, err := scaffold.Domain("", name)
	if err != nil {
		t.Fatal(err)
	}

	text, err := change.Edits[0].Apply([]byte(`package stacks

var overlays = map[string]func(){
	"dev":  dev, // a comment
	"prod": prod,
}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `package stacks

var overlays = map[string]func(){
	"dev":          dev, // a comment
	"prod":         prod,
	"legal-advice": legalAdviceDomain,
}
`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("the registry (-want +got):\n%s", d)
	}

	for text, want := range map[string]string{
		"package stacks\n":                                   "has no variable overlays",
		"package stacks\n\nvar overlays = names()\n":         "has no variable overlays",
		"package stacks\n\nvar overlays = []string{\"a\"}\n": "are not one a line",
		"package": "stacks/overlay.go:1",
	} {
		_, err := change.Edits[0].Apply([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to hold %q", text, err, want)
		}
	}
}

// TestDomainModel holds that the model of a new domain is one, that its evals are valid, and that one
// of them is a case of safety.
func TestDomainModel(t *testing.T) {
	change, err := scaffold.Domain("", "legal-advice")
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range change.Files {
		files[f.Path] = &fstest.MapFile{Data: []byte(f.Text)}
	}

	const name = "modelfiles/legal-advice/Modelfile"
	if _, err := modelfiles.Load(files, name, ""); err != nil {
		t.Error(err)
	}
	evals, err := modelfiles.LoadEvals(files, name)
	if err != nil || !slices.ContainsFunc(evals.Cases,
		func(c modelfiles.Case) bool { return c.Safety }) {
		t.Errorf("the cases are %+v, %v", evals.Cases, err)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree returns the files below dir with their text; a folder without any has an entry as well.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	fsys := os.DirFS(dir)
	err := fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if inside, err := fs.ReadDir(fsys, path); err != nil || len(inside) == 0 {
				out[path] = "empty folder"
			}
			return nil
		}
		text, err := fs.ReadFile(fsys, path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
