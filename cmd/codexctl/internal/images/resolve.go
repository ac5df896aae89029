package images

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/mod/semver"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Resolve asks the registry what a reference with a tag means now.
func Resolve(ctx context.Context, ref string) (stacks.LockedImage, error) {
	fail := func(err error) (stacks.LockedImage, error) {
		return stacks.LockedImage{}, fmt.Errorf("image %s: its registry cannot be asked: %w", ref,
			err)
	}

	locked, err := split(ref)
	if err != nil {
		return locked, err
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return fail(err)
	}
	found, err := remote.Get(r, options(ctx)...)
	if err != nil {
		return fail(err)
	}

	locked.Digest = found.Digest.String()
	if !found.MediaType.IsIndex() {
		img, err := found.Image()
		if err != nil {
			return fail(err)
		}
		p, err := platformOf(img)
		if err != nil {
			return fail(err)
		}
		locked.Platforms = []string{p.String()}
		return locked, nil
	}

	index, err := found.ImageIndex()
	if err != nil {
		return fail(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fail(err)
	}

	for _, m := range manifest.Manifests {
		// What is of an unknown platform tells of the other manifests, and cannot be run.
		if p := m.Platform; p != nil && p.OS != "unknown" {
			locked.Platforms = append(locked.Platforms, p.OS+"/"+p.Architecture)
		}
	}
	slices.Sort(locked.Platforms)
	locked.Platforms = slices.Compact(locked.Platforms)
	return locked, nil
}

// split returns the name and the tag of a reference.
func split(ref string) (stacks.LockedImage, error) {
	name, tag := stacks.SplitTag(ref)
	if tag == "" || strings.Contains(ref, "@") {
		return stacks.LockedImage{}, fmt.Errorf("image %s: has no tag", ref)
	}
	return stacks.LockedImage{Name: name, Tag: tag}, nil
}

// tagParts are what stands before a version in a tag, the version, and what stands after it.
var tagParts = regexp.MustCompile(`^(v?)(\d+(?:\.\d+){0,2})((?:-[a-z][\w.-]*)?)$`)

// Newer returns the newest tag of the reference's repository that is like its own, such as
// 8.4.0-bookworm for 8.2.1-bookworm, or "" if there is none.
func Newer(ctx context.Context, ref string) (string, error) {
	r, err := name.NewTag(ref)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", ref, err)
	}
	own := tagParts.FindStringSubmatch(r.TagStr())
	if own == nil {
		return "", nil // no version
	}

	tags, err := remote.List(r.Context(), options(ctx)...)
	if err != nil {
		return "", fmt.Errorf("image %s: its registry cannot be asked: %w", ref, err)
	}

	newest, best := "", "v"+own[2]
	for _, tag := range tags {
		m := tagParts.FindStringSubmatch(tag)
		if m == nil || m[1] != own[1] || m[3] != own[3] ||
			strings.Count(m[2], ".") != strings.Count(own[2], ".") {
			continue
		}
		if v := "v" + m[2]; semver.Compare(v, best) > 0 {
			newest, best = tag, v
		}
	}
	return newest, nil
}

// OnEngine returns what the image of a reference with a tag is on the engine, on which it has to
// be: the digest by which it was pulled, or its ID if it was loaded by hand. Of a digest it has one
// platform, and does not know the others.
func OnEngine(ctx context.Context, eng *engine.Engine, ref string) (stacks.LockedImage, error) {
	locked, err := split(ref)
	if err != nil {
		return locked, err
	}
	x, err := eng.Image(ctx, ref)
	switch {
	case err != nil:
		return locked, err
	case x == nil:
		return locked, fmt.Errorf("image %s: is not on the engine: pull it, or load it with "+
			"`docker load`", ref)
	}

	if x.Digest != "" {
		locked.Digest = x.Digest
	} else {
		locked.IDs = map[string]string{x.Platform: x.ID}
	}
	return locked, nil
}

// Check returns an error if the engine has another image under the reference of one that is pulled
// than the lock file says, or none that it could be told by.
func Check(ctx context.Context, eng *engine.Engine, x Image) error {
	tag := stacks.TagOf(x.Ref)
	if tag == x.Ref && x.ID == "" {
		return nil // nothing is known of it
	}

	there, err := eng.Image(ctx, tag)
	if err != nil {
		return err
	}

	switch {
	case x.ID != "" && there == nil:
		return fmt.Errorf("image %s: is not on the engine, and %s knows it by its ID alone, so "+
			"that it cannot be pulled: load it with `docker load`", tag, stacks.LockFile)
	case x.ID != "" && there.ID != x.ID:
		return fmt.Errorf("image %s: is %s on the engine, and %s has %s: load that one, or lock "+
			"the other with `codexctl images update --engine`", tag, there.ID, stacks.LockFile,
			x.ID)
	case tag != x.Ref && there != nil && there.Digest == "":
		return fmt.Errorf("image %s: was loaded into the engine by hand, and has no digest to "+
			"hold against %s: remove it, so that it is pulled, or lock it by its ID with "+
			"`codexctl images update --engine`", tag, stacks.LockFile)
	}
	return nil
}

// CheckAll checks every image that the engine has to have: those that are pulled, and those that
// the ones are built from that it lacks.
func CheckAll(ctx context.Context, eng *engine.Engine, list []Image) error {
	var errs []error
	for _, x := range list {
		if x.Build == nil {
			errs = append(errs, Check(ctx, eng, x))
			continue
		}

		if x.Kept {
			continue // nothing is built, so that no base matters
		}

		// What is wrong with a base does not matter if the engine has what is built from it.
		err := checkBases(ctx, eng, *x.Build)
		if err != nil {
			if has, e := eng.HasImage(ctx, x.Ref); e == nil && has {
				err = nil
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkBases checks the images that the build is made from.
func checkBases(ctx context.Context, eng *engine.Engine, b stacks.Build) error {
	var errs []error
	for _, ref := range b.Bases() {
		errs = append(errs, Check(ctx, eng, Image{Ref: ref, ID: b.BaseIDs[ref]}))
	}
	return errors.Join(errs...)
}
