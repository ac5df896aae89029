// Package image names the images that a stack builds: both targets use the same names, and
// codexctl builds under them.
package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ref returns the reference of the image that the build makes for the platform, which may be
// several separated by commas: its repository, and the digest of its inputs as the tag. root is the
// project's.
func Ref(root fs.FS, b stacks.Build, platform string) (string, error) {
	digest, err := inputsDigest(root, b, platform)
	if err != nil {
		return "", err
	}
	return b.Repository + ":" + digest[:12], nil
}

// WalkContext calls visit for each file of the build's context that its .dockerignore lets in, in
// lexical order. Names are relative to the context.
func WalkContext(
	root fs.FS, b stacks.Build, visit func(name string, mode fs.FileMode) error,
) error {
	context, err := fs.Sub(root, path.Clean(b.Context))
	if err != nil {
		return err
	}

	patterns, err := ignorePatterns(root, b)
	if err != nil {
		return err
	}

	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return fmt.Errorf(".dockerignore: %w", err)
	}

	return fs.WalkDir(context, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}

		ignored, err := matcher.MatchesOrParentMatches(name)
		if err != nil {
			return err
		}

		if entry.IsDir() {
			if ignored && !letsInBelow(matcher, name) {
				return fs.SkipDir
			}
			return nil
		}

		// Sockets, pipes and devices have no place in a context.
		if ignored || entry.Type()&^fs.ModeSymlink != 0 {
			return nil
		}

		info, err := entry.Info()
		if err != nil {
			return err
		}

		return visit(name, info.Mode())
	})
}

// inputsDigest returns the sha256 (hex) of all a build depends on: Dockerfile, stage, arguments,
// platform, and the name, executable bit and content of each file of the context that the
// Dockerfile's .dockerignore lets in. It does not depend on time stamps, owners or the umask, so
// every clone of one commit gets the same.
//
// A base image counts by its digest or ID if the lock file has one, which is part of an argument or
// of BaseIDs, else by the reference that the argument names.
func inputsDigest(root fs.FS, b stacks.Build, platform string) (string, error) {
	h := sha256.New()
	// Each part is framed by its length: no two different inputs look alike.
	part := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }

	dockerfile, err := fs.ReadFile(root, path.Clean(b.Dockerfile))
	if err != nil {
		return "", fmt.Errorf("image.build.dockerfile: %w", err)
	}

	part(string(dockerfile))
	part(b.Target)
	part(platform)
	for _, k := range slices.Sorted(maps.Keys(b.Args)) {
		part(k)
		part(b.Args[k])
	}
	for _, ref := range slices.Sorted(maps.Keys(b.BaseIDs)) {
		part(ref)
		part(b.BaseIDs[ref])
	}

	context, err := fs.Sub(root, path.Clean(b.Context))
	if err != nil {
		return "", fmt.Errorf("image.build.context: %w", err)
	}

	err = WalkContext(root, b, func(name string, mode fs.FileMode) error {
		part(name)
		if mode&fs.ModeSymlink != 0 {
			target, err := fs.ReadLink(context, name)
			if err != nil {
				return err
			}
			part("link")
			part(target)
			return nil
		}

		f, err := context.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()

		content := sha256.New()
		if _, err := io.Copy(content, f); err != nil {
			return err
		}

		part(fmt.Sprint(mode&0o100 != 0))
		part(string(content.Sum(nil)))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("image.build.context: %w", err)
	}

	return hex.EncodeToString(h.Sum(nil)), nil
}

// ignorePatterns reads what the builder would: <Dockerfile>.dockerignore, else .dockerignore
// at the context's root.
func ignorePatterns(root fs.FS, b stacks.Build) ([]string, error) {
	for _, name := range []string{
		path.Clean(b.Dockerfile) + ".dockerignore",
		path.Join(path.Clean(b.Context), ".dockerignore"),
	} {
		text, err := fs.ReadFile(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("image.build: %w", err)
		}

		patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("image.build: %s: %w", name, err)
		}

		return patterns, nil
	}

	return nil, nil
}

// letsInBelow reports whether an exception (!pattern) may match below the ignored directory.
func letsInBelow(matcher *patternmatcher.PatternMatcher, dir string) bool {
	for _, p := range matcher.Patterns() {
		if !p.Exclusion() {
			continue
		}

		// What the pattern begins with, up to its first wildcard.
		prefix := strings.TrimPrefix(p.String(), "!") + "/"
		if i := strings.IndexAny(prefix, `*?[\`); i >= 0 {
			prefix = prefix[:i]
		}
		if strings.HasPrefix(prefix, dir+"/") || strings.HasPrefix(dir+"/", prefix) {
			return true
		}
	}

	return false
}
