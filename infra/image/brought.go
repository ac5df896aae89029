package image

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// BroughtFile is the file of a checkout that lists the references of the images that a bundle
// brought, one a line.
const BroughtFile = ".bundle/images"

// IsBrought reports whether a bundle brought the image to the project at root: it is used as it is,
// and neither built nor pulled. This is asked of a file and not of an engine, so that a plan is the
// same wherever it is made.
func IsBrought(root fs.FS, ref string) (bool, error) {
	list, err := fs.ReadFile(root, BroughtFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(strings.Fields(string(list)), ref), err
}

// Upstream returns the reference under which an upstream image is used, and reports whether a
// bundle brought it. One that was brought has its tag alone: an engine or a node that did not pull
// it knows no digest of it, and the signature of the bundle holds what it is.
func Upstream(root fs.FS, ref string) (string, bool, error) {
	tag := stacks.TagOf(ref)
	brought, err := IsBrought(root, tag)
	if brought {
		return tag, true, err
	}
	return ref, false, err
}
