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
