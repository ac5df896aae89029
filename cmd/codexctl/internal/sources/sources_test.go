package sources

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// project makes a git checkout with those files.
func project(t *testing.T, files map[string]string) Checkout {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args[0], err, out)
		}
	}

	return Checkout{Root: root, Cache: t.TempDir(), Environ: os.Environ()}
}

// entries returns the names in an archive, and the content of each file.
func entries(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	out := map[string]string{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}

		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(text) + h.Linkname
	}
}

// sums returns the lines of this repository's go.sum for a module.
func sums(t *testing.T, module string) string {
	t.Helper()
	text, err := os.ReadFile("../../../../go.sum")
	if err != nil {
		t.Fatal(err)
	}

	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, module+" ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestPack(t *testing.T) {
	c := project(t, map[string]string{
		"go.mod": "module example.com/x\n\ngo 1.26\n\nrequire (\n\tgithub.com/google/go-cmp v0.7.0\n" +
			"\tgopkg.in/yaml.v3 v3.0.1\n)\n",
		"go.sum":               sums(t, "github.com/google/go-cmp") + sums(t, "gopkg.in/yaml.v3"),
		".gitignore":           "/secret\n",
		"services/a/a.go":      "package a\n",
		"services/a/gone.go":   "package a\n",
		"services/a/a_test.go": "package a\n\nimport _ \"github.com/google/go-cmp/cmp\"\n",
		"services/b/b.go":      "package b\n\nimport _ \"gopkg.in/yaml.v3\"\n",
		"linked/secret":        "",
		"file/x":               "",
	})
	outside := t.TempDir()
	for _, dir := range []string{"linked", "file"} {
		if err := os.RemoveAll(filepath.Join(c.Root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(c.Root, "linked")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"secret":          "of nobody else",
		"services/a/a.go": "package a // edited\n",
		"services/a/n.go": "package a // new\n",
		"linked/secret":   "outside of the checkout",
		"file":            "a folder before",
	} {
		if err := os.WriteFile(filepath.Join(c.Root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(c.Root, "services/a/gone.go")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.go", filepath.Join(c.Root, "services/a/link")); err != nil {
		t.Fatal(err)
	}

	var b bytes.Buffer
	if err := c.Pack(t.Context(), "./services/a/...", &b); err != nil {
		t.Fatal(err)
	}

	got := entries(t, &b)
	for name, text := range map[string]string{
		"services/a/a.go": "package a // edited\n",
		"services/a/n.go": "package a // new\n",
		"services/a/link": "a.go",
		"linked":          outside,
		"file":            "a folder before",
		"services/b/b.go": "package b\n\nimport _ \"gopkg.in/yaml.v3\"\n",
	} {
		if got[name] != text {
			t.Errorf("%s has %q, want %q", name, got[name], text)
		}
	}
	for _, name := range []string{
		"secret", "services/a/gone.go", ".git/config", "linked/secret", "file/x",
	} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is sent", name)
		}
	}

	var zips []string
	for name := range got {
		if strings.HasSuffix(name, ".zip") {
			zips = append(zips, name)
		}
	}
	want := []string{Modules + "/github.com/google/go-cmp/@v/v0.7.0.zip"}
	if !slices.Equal(zips, want) { // of another package's module none
		t.Errorf("modules %v, want %v", zips, want)
	}
}

// TestPackRefuses checks that nothing is sent of a checkout that is none, or does not build.
func TestPackRefuses(t *testing.T) {
	c := project(t, map[string]string{
		"go.mod":          "module example.com/x\n\ngo 1.26\n",
		"go.sum":          "",
		"services/a/a.go": "package a\n\nimport _ \"example.com/nowhere\"\n",
	})
	var b bytes.Buffer
	err := c.Pack(t.Context(), "./services/a/...", &b)
	if err == nil || !strings.Contains(err.Error(), "example.com/nowhere") || b.Len() > 0 {
		t.Errorf("an unknown module: %v, %d bytes sent", err, b.Len())
	}

	large := filepath.Join(c.Root, "model.gguf")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 300<<20); err != nil {
		t.Fatal(err)
	}
	err = c.Pack(t.Context(), "./services/a/...", &b)
	if err == nil || !strings.Contains(err.Error(), "the largest is model.gguf with 300Mi: name "+
		"it in .gitignore") || b.Len() > 0 {
		t.Errorf("a large file: %v, %d bytes sent", err, b.Len())
	}

	c.Root = t.TempDir()
	err = c.Pack(t.Context(), "./services/a/...", &b)
	if err == nil || !strings.Contains(err.Error(), "git ls-files") || b.Len() > 0 {
		t.Errorf("no checkout: %v, %d bytes sent", err, b.Len())
	}
}
