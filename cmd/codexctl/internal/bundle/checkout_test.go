package bundle

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tree writes files; one that ends in * can be executed, one with -> is a link.
func tree(t *testing.T, files map[string]string) (string, []string) {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for name, text := range files {
		name, to, link := strings.Cut(name, "->")
		mode := fs.FileMode(0o644)
		if plain, ok := strings.CutSuffix(name, "*"); ok {
			name, mode = plain, 0o755
		}

		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		var err error
		if link {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}

	return dir, names
}

// again reads what is packed, as often as it is asked.
func again(packed []byte) func(use func(from io.Reader) error) error {
	return func(use func(from io.Reader) error) error { return use(bytes.NewReader(packed)) }
}

func unpack(t *testing.T, files map[string]string, dir string) []string {
	t.Helper()
	root, names := tree(t, files)
	var packed bytes.Buffer
	if err := Pack(root, names, &packed); err != nil {
		t.Fatal(err)
	}

	kept, err := Unpack(again(packed.Bytes()), dir)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// TestUnpack loads a checkout, changes what belongs to who runs it, and loads a newer one.
func TestUnpack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkout")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err.Error()
		}
		return string(text)
	}

	first := map[string]string{
		"Pulumi.prod.yaml": "first", "services/a/main.go": "first", "services/old.go": "old",
		"build.sh*": "first", "services/b.Dockerfile->a/main.go": "", "tools/Pulumi.x.yaml": "first",
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for range 2 {
		if kept := unpack(t, first, dir); len(kept) != 0 {
			t.Errorf("kept %v", kept)
		}
	}

	if got := read("services/b.Dockerfile"); got != "first" {
		t.Errorf("the link leads to %q", got)
	}
	for name, want := range map[string]fs.FileMode{
		"build.sh": 0o755, "services/old.go": 0o644, "services/a": fs.ModeDir | 0o755,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s has %v, %v, want %v", name, info.Mode(), err, want)
		}
	}

	for name, text := range map[string]string{
		"Pulumi.prod.yaml": "mine", ".state": "mine", "mine.txt": "mine", "services/a/main.go": "mine",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	kept := unpack(t, map[string]string{
		"Pulumi.prod.yaml": "second", "services/a/main.go": "second", "build.sh": "second",
		"services/b.Dockerfile": "second", "tools/Pulumi.x.yaml": "second",
	}, dir)
	if len(kept) != 1 || kept[0] != "Pulumi.prod.yaml" {
		t.Errorf("kept %v", kept)
	}
	for name, want := range map[string]string{
		"Pulumi.prod.yaml": "mine", ".state": "mine", "mine.txt": "mine",
		"services/a/main.go": "second", "services/b.Dockerfile": "second", "build.sh": "second",
		"tools/Pulumi.x.yaml": "second",
	} {
		if got := read(name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}

	if _, err := os.Stat(filepath.Join(dir, "services/old.go")); err == nil {
		t.Error("a file that the second one does not have is still there")
	}
	info, err := os.Stat(filepath.Join(dir, "build.sh"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("build.sh has %v, %v", info.Mode(), err)
	}
}

// TestUnpackAfterChanges: a file may become a folder and the reverse, also where a load in between
// was interrupted. A folder that holds somebody's own files stays.
func TestUnpackAfterChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkout")
	one := map[string]string{"a": "one", "b/c/d": "one", "e/f": "one"}
	two := map[string]string{"a/x": "two", "b": "two", "g/h": "two"}
	unpack(t, one, dir)
	if err := os.WriteFile(filepath.Join(dir, "e", "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	unpack(t, two, dir)
	if text, err := os.ReadFile(filepath.Join(dir, "e", "mine")); err != nil {
		t.Errorf("e/mine: %q, %v", text, err)
	}

	// One is loaded again, but for the end, and then two.
	root, names := tree(t, one)
	var packed bytes.Buffer
	if err := Pack(root, names, &packed); err != nil {
		t.Fatal(err)
	}
	reads := 0
	_, err := Unpack(func(use func(from io.Reader) error) error {
		if reads++; reads == 2 {
			return use(bytes.NewReader(packed.Bytes()[:packed.Len()-1024-511]))
		}
		return use(bytes.NewReader(packed.Bytes()))
	}, dir)
	if err == nil {
		t.Fatal("the interrupted load has no error")
	}

	unpack(t, two, dir)
	var left []string
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if !d.IsDir() && !strings.HasPrefix(name, Folder) {
			left = append(left, name)
		}
		return err
	})
	want := []string{"a/x", "b", "e/mine", "g/h"}
	if err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v, want %v", left, err, want)
	}
}

// TestUnpackRefuses is about archives that would write elsewhere.
func TestUnpackRefuses(t *testing.T) {
	outside := t.TempDir()
	for name, c := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"up":       {[]tar.Header{{Name: "../a"}}, `"../a" is no name of a file`},
		"absolute": {[]tar.Header{{Name: outside + "/a"}}, "is no name of a file"},
		"within":   {[]tar.Header{{Name: "a/../../b"}}, "is no name of a file"},
		"state":    {[]tar.Header{{Name: ".state/a"}}, "is no file of a checkout"},
		"own":      {[]tar.Header{{Name: ".bundle/images"}}, "is no file of a checkout"},
		"programs": {[]tar.Header{{Name: "bin/codexctl"}}, "is no file of a checkout"},
		"a link out": {[]tar.Header{
			{Name: "a", Typeflag: tar.TypeSymlink, Linkname: outside}},
			"a link that leaves the checkout"},
		"a link up": {[]tar.Header{
			{Name: "a/b", Typeflag: tar.TypeSymlink, Linkname: "../../c"}},
			"a link that leaves the checkout"},
		"a hard link": {[]tar.Header{
			{Name: "a", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
			"neither a file nor a link"},
		"a device": {[]tar.Header{{Name: "a", Typeflag: tar.TypeChar}},
			"neither a file nor a link"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			for _, h := range c.entries {
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}

			_, err := Unpack(again(out.Bytes()), filepath.Join(t.TempDir(), "checkout"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}

	t.Run("through a link that is there", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, "services")); err != nil {
			t.Fatal(err)
		}

		root, names := tree(t, map[string]string{"services/main.go": "text"})
		var packed bytes.Buffer
		if err := Pack(root, names, &packed); err != nil {
			t.Fatal(err)
		}
		if _, err := Unpack(again(packed.Bytes()), dir); err == nil {
			t.Error("a link leads out of the folder")
		}
	})

	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("written outside: %v, %v", list, err)
	}
}

// TestUnpackCutOff checks that a file that is not whole has not its name.
func TestUnpackCutOff(t *testing.T) {
	root, names := tree(t, map[string]string{"a": strings.Repeat("a", 4096)})
	var packed bytes.Buffer
	if err := Pack(root, names, &packed); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	if _, err := Unpack(again(packed.Bytes()[:1024]), dir); err == nil {
		t.Error("half an archive passes")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}
