// Package export writes a plan in the form of other tools, for people who cannot run Pulumi where
// the stack is to run: a compose file, or the manifests that kubectl applies. It is made of the
// plan that `up` would carry out, never of a second description.
//
// The value of a secret is never written: an export carries the command that
// makes it where it is used.
package export

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// File is one file of an export.
type File struct {
	// Path is relative to the export's folder, with slashes.
	Path string
	Mode fs.FileMode
	Text string
}

// Source is what is exported.
type Source struct {
	program.Rendered

	// Stack is what was rendered.
	Stack stacks.Stack

	// Root is the absolute path of the project's root, Dir that of the folder that the files will
	// be in: paths of the checkout are relative to it.
	Root, Dir string
}

// refuse returns an error if the files cannot be those of a running stack.
func (s Source) refuse() error {
	if !s.Stack.InternalTLS() {
		return nil
	}
	return fmt.Errorf("%s:internalTLS: the certificates come of a secret that only `codexctl up` "+
		"opens, and no script makes them: set the key to false for an export that speaks plain HTTP "+
		"inside", stacks.Project)
}

// fromRoot turns a path relative to the project's root into one that is relative
// to the export's folder.
func (s Source) fromRoot(path string) (string, error) {
	rel, err := filepath.Rel(s.Dir, filepath.Join(s.Root, path))
	if err != nil {
		return "", fmt.Errorf("%s: %w: write the export to a folder of the same disk", path, err)
	}

	rel = filepath.ToSlash(rel)
	if rel != ".." && !strings.HasPrefix(rel, "../") && rel != "." {
		rel = "./" + rel // compose takes a bare name for that of a volume
	}

	return rel, nil
}
