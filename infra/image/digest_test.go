package image_test

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// closed is a file system in which a folder cannot be read.
type closed struct {
	fstest.MapFS
	dir string
}

func (c closed) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == c.dir {
		return nil, errors.New("permission denied")
	}
	return c.MapFS.ReadDir(name)
}

func (c closed) Sub(string) (fs.FS, error) { return c, nil }

// TestWalkContext holds what a build sees. A folder in which nothing is let in is not even opened.
func TestWalkContext(t *testing.T) {
	root := closed{dir: "private", MapFS: fstest.MapFS{
		"a.Dockerfile":              {},
		"a.Dockerfile.dockerignore": {Data: []byte("**\n!go.mod\n!services/a/**\n!lib/*.go\n**/x")},
		"go.mod":                    {},
		"lib/lib.go":                {},
		"lib/lib.txt":               {},
		"private/key":               {},
		"services/a/main.go":        {},
		"services/a/deep/a.go":      {},
		"services/a/deep/x/a.go":    {},
		"services/b/main.go":        {},
	}}
	var got []string
	build := stacks.Build{Context: ".", Dockerfile: "a.Dockerfile"}
	err := image.WalkContext(root, build, func(name string, _ fs.FileMode) error {
		got = append(got, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	want := []string{"go.mod", "lib/lib.go", "services/a/deep/a.go", "services/a/main.go"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRef holds what a tag depends on beside the files: the platform, whatever machine asks, and what
// the image is built from.
func TestRef(t *testing.T) {
	root := fstest.MapFS{"Dockerfile": {Data: []byte("ARG GO_IMAGE\nFROM ${GO_IMAGE}\n")}}
	build := func(change func(*stacks.Build)) stacks.Build {
		b := stacks.Build{
			Repository: "codexcontinue/x", Context: ".", Dockerfile: "Dockerfile",
			Args: map[string]string{"GO_IMAGE": "golang:1.26"},
		}
		change(&b)
		return b
	}
	plain := build(func(*stacks.Build) {})

	seen := map[string]string{}
	for name, c := range map[string]struct {
		build    stacks.Build
		platform string
	}{
		"plain":    {plain, "linux/amd64"},
		"platform": {plain, "linux/arm64"},
		"both":     {plain, "linux/amd64,linux/arm64"},
		"digest": {build(func(b *stacks.Build) {
			b.Args["GO_IMAGE"] = "golang:1.26@sha256:1"
		}), "linux/amd64"},
		"ID": {build(func(b *stacks.Build) {
			b.BaseIDs = map[string]string{"golang:1.26": "sha256:1"}
		}), "linux/amd64"},
		"another ID": {build(func(b *stacks.Build) {
			b.BaseIDs = map[string]string{"golang:1.26": "sha256:2"}
		}), "linux/amd64"},
	} {
		ref, err := image.Ref(root, c.build, c.platform)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[ref]; ok {
			t.Errorf("%s and %s are both %s", name, other, ref)
		}
		seen[ref] = name
	}

	// Computed once, by hand, so that it shows when the machine has a part in it.
	const want = "codexcontinue/x:cd93bdd7627f"
	if ref, err := image.Ref(root, plain, "linux/amd64"); err != nil || ref != want {
		t.Errorf("got %s, %v, want %s", ref, err, want)
	}
}
