package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

func TestLicences(t *testing.T) {
	dir, _ := tree(t, map[string]string{
		"mod/example.org/!m/a@v1.0.0/LICENSE":      "licence of A",
		"mod/example.org/!m/a@v1.0.0/NOTICE.txt":   "notice of A",
		"mod/example.org/!m/a@v1.0.0/licenses.go":  "package a",
		"mod/example.org/!m/a@v1.0.0/copying/file": "no file",
		"go/LICENSE":   "licence of Go",
		"root/LICENSE": "licence of this",
	})

	a, own := module.Version{Path: "example.org/M/a", Version: "v1.0.0"}, module.Version{Path: "own"}
	gone := module.Version{Path: "example.org/gone", Version: "v2.0.0"}
	l := Licences{
		Programs: []Program{
			{"one", []module.Version{{Path: goModule, Version: "go1.26"}, a, own}},
			{"two", []module.Version{a, gone, {Path: "example.org/devel", Version: "(devel)"}}},
		},
		ModCache: filepath.Join(dir, "mod"), GoRoot: filepath.Join(dir, "go"),
		Root: filepath.Join(dir, "root"), Own: "own",
	}

	var out bytes.Buffer
	if err := l.Write(&out); err != nil {
		t.Fatal(err)
	}

	got := map[string]string{}
	for entries := tar.NewReader(&out); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(text)
	}

	for name, want := range map[string]string{
		"go@go1.26/LICENSE": "licence of Go", "own/LICENSE": "licence of this",
		"example.org/M/a@v1.0.0/LICENSE":    "licence of A",
		"example.org/M/a@v1.0.0/NOTICE.txt": "notice of A",
	} {
		if got[name] != want {
			t.Errorf("%s holds %q, want %q", name, got[name], want)
		}
	}
	if len(got) != 5 {
		t.Errorf("the archive has %v", got)
	}

	for _, line := range []string{
		"one\texample.org/M/a\tv1.0.0\texample.org/M/a@v1.0.0\n",
		"two\texample.org/M/a\tv1.0.0\texample.org/M/a@v1.0.0\n",
		"two\texample.org/gone\tv2.0.0\thttps://pkg.go.dev/example.org/gone?tab=licenses\n",
		"two\texample.org/devel\t(devel)\thttps://pkg.go.dev/example.org/devel?tab=licenses\n",
	} {
		if !strings.Contains(got["modules.tsv"], line) {
			t.Errorf("the table lacks %q:\n%s", line, got["modules.tsv"])
		}
	}
}

func TestModules(t *testing.T) {
	got := modulesOf(&debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Path: "own", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "a", Version: "v1.0.0"},
			{Path: "b", Version: "v1.0.0", Replace: &debug.Module{Path: "c", Version: "v2.0.0"}},
			{Path: "d", Version: "v1.0.0", Replace: &debug.Module{Path: "../d"}},
		},
	})
	want := []module.Version{
		{Path: goModule, Version: "go1.26.0"}, {Path: "a", Version: "v1.0.0"},
		{Path: "c", Version: "v2.0.0"}, {Path: "d", Version: "v1.0.0"},
		{Path: "own", Version: "(devel)"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	if _, err := ReadProgram("text", "licence_test.go"); err == nil {
		t.Error("a text passes for a program")
	}
}
