package stacks

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// LockFile is the file of a checkout that says what the tags of the upstream images mean.
const LockFile = "images.lock.yaml"

// lockHead is what stands above the images in LockFile.
const lockHead = `# What the tags of the upstream images mean. "codexctl images update" writes it,
# Renovate (renovate.json) keeps it. An image without a digest is known by its tag alone, or by the
# ID (ids) that it has on an engine into which it was loaded by hand.
`

// Lock says what the tags of upstream images mean.
type Lock struct {
	Images []LockedImage `yaml:"images"`
}

// LockedImage is what a tag means. It has a Digest, or IDs, or neither, if nobody has asked a
// registry or an engine yet: none is ever invented.
type LockedImage struct {
	// Name and Tag are those of a reference, such as redis and 8.2.1-bookworm.
	Name string `yaml:"image"`
	Tag  string `yaml:"tag"`

	// Digest is that of the tag's manifest, which has the images of all its platforms.
	Digest string `yaml:"digest,omitempty"`

	// Platforms are those that there is an image for; none if that is not known.
	Platforms []string `yaml:"platforms,omitempty,flow"`

	// IDs are what engines call the image for each platform, where it was loaded by hand and has
	// no digest.
	IDs map[string]string `yaml:"ids,omitempty"`
}

// Ref returns the reference with the tag.
func (l LockedImage) Ref() string { return l.Name + ":" + l.Tag }

// digestRule is a digest of an OCI image, or an engine's ID of one.
var digestRule = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ReadLock reads the lock file of the project at root strictly. Without a file nothing is locked.
func ReadLock(root fs.FS) (Lock, error) {
	text, err := fs.ReadFile(root, LockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil
	}
	if err != nil {
		return Lock{}, fmt.Errorf("%s: %w", LockFile, err)
	}

	var l Lock
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&l); err != nil && !errors.Is(err, io.EOF) {
		return Lock{}, fmt.Errorf("%s: %w", LockFile, err)
	}
	return l, l.check()
}

// check reports every problem of the lock at once.
func (l Lock) check() error {
	var p problems
	seen := map[string]bool{}
	for i, x := range l.Images {
		at := fmt.Sprintf("%s: images.%d", LockFile, i)
		if x.Name == "" || x.Tag == "" || !referenceRule.MatchString(x.Ref()) {
			p.add(at, "%q is no reference: set image and tag", x.Ref())
		}
		if seen[x.Ref()] {
			p.add(at, "%s is there twice", x.Ref())
		}
		seen[x.Ref()] = true

		for name, id := range x.IDs {
			if !digestRule.MatchString(id) || !slices.Contains(platforms, name) {
				p.add(at+".ids", "%s: %q: must be the platform and an ID such as sha256:...",
					name, id)
			}
		}
		switch {
		case x.Digest != "" && !digestRule.MatchString(x.Digest):
			p.add(at+".digest", "%q must be sha256: and 64 hexadecimal digits", x.Digest)
		case x.Digest != "" && len(x.IDs) > 0:
			p.add(at, "%s has a digest and ids: the digest says it all, remove ids", x.Ref())
		}
	}
	return p.sorted()
}

// Encode returns the text of the lock file.
func (l Lock) Encode() ([]byte, error) {
	l.Images = slices.SortedFunc(slices.Values(l.Images), func(a, b LockedImage) int {
		return cmp.Compare(a.Ref(), b.Ref())
	})

	var out bytes.Buffer
	out.WriteString(lockHead)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(l)
	return out.Bytes(), errors.Join(err, enc.Close())
}

// Find returns what the lock says of a reference with a tag, and reports whether it says anything.
func (l Lock) Find(ref string) (LockedImage, bool) {
	i := slices.IndexFunc(l.Images, func(x LockedImage) bool { return x.Ref() == ref })
	if i < 0 {
		return LockedImage{}, false
	}
	return l.Images[i], true
}

// TagOf returns the reference without its digest.
func TagOf(ref string) string {
	tag, _, _ := strings.Cut(ref, "@")
	return tag
}

// SplitTag returns the name and the tag of a reference without a digest; the tag is empty if there is
// none.
func SplitTag(ref string) (name, tag string) {
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

// baseImage ends the name of an argument of a build that names an image to build from.
const baseImage = "_IMAGE"

// Bases returns the images that the build is made from, in the order of their arguments.
func (b Build) Bases() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.Args)) {
		if strings.HasSuffix(name, baseImage) {
			out = append(out, b.Args[name])
		}
	}
	return out
}

// pin gives the upstream images, and those that the stack's own are built from, what the lock says
// of them: a digest becomes part of the reference, and so of the inputs of a build.
func (s *Stack) pin(l Lock) error {
	var errs []error
	pin := func(ref string) (pinned, id string) {
		x, ok := l.Find(ref)
		if !ok {
			return ref, ""
		}
		for _, p := range strings.Split(s.Platform(), ",") {
			if len(x.Platforms) > 0 && !slices.Contains(x.Platforms, p) {
				errs = append(errs, fmt.Errorf("%s:platform: there is no %s for %s: %s has it "+
					"for %s", Project, ref, p, LockFile, strings.Join(x.Platforms, ", ")))
			}
		}

		switch {
		case x.Digest != "":
			return ref + "@" + x.Digest, ""
		case len(x.IDs) > 0:
			if id = x.IDs[s.Platform()]; id == "" {
				errs = append(errs, fmt.Errorf("%s:platform: %s has no ID of %s for %s: "+
					"`codexctl images update`", Project, LockFile, ref, s.Platform()))
			}
		}
		return ref, id
	}

	for i := range s.Services {
		img := &s.Services[i].Image
		if img.Build == nil {
			img.Ref, img.ID = pin(img.Ref)
			continue
		}

		for name, ref := range img.Build.Args {
			if !strings.HasSuffix(name, baseImage) {
				continue
			}
			pinned, id := pin(ref)
			img.Build.Args[name] = pinned
			if id != "" {
				if img.Build.BaseIDs == nil {
					img.Build.BaseIDs = map[string]string{}
				}
				img.Build.BaseIDs[ref] = id
			}
		}
	}

	return errors.Join(errs...)
}
