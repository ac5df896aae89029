package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) outdatedCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "outdated",
		Short: "Ask registries what is newer than " + stacks.LockFile,
		Long: `Asks the registries of the upstream images, and of those that the stack's own are
built from, what their tags mean now and which newer ones like them there are. Exits
with 2 if the lock file lacks a digest, a tag has moved, or there is a newer one.

A tag is changed in stacks/base.go and where the Dockerfiles repeat it; "update"
writes its digest.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, lock, refs, err := a.upstream()
			if err != nil {
				return err
			}
			return a.outdated(c.Context(), lock, refs)
		},
	}
}

func (a *App) updateLockCommand() *cobra.Command {
	var onEngine bool
	c := &cobra.Command{
		Use:   "update",
		Short: "Write what the tags of upstream images mean to " + stacks.LockFile,
		Long: `Asks the registries what the tags of the upstream images mean, and writes digests and
platforms to the lock file. From then on an image is pulled by its digest, and that of
a base image is part of the tag of what is built from it.

With --engine it asks the local engine instead, where no registry can be reached: of an
image that was pulled it has the digest, of one that was loaded by hand there is none,
and "up" holds the image's ID against the file.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.updateLock(c.Context(), onEngine)
		},
	}

	c.Flags().BoolVar(&onEngine, "engine", false, "ask the local Docker engine, and no registry")
	return c
}

// upstream returns the project's lock and the references with tags of all upstream images: those
// that its stacks run on any target, and those that their own are built from.
func (a *App) upstream() (project.Project, stacks.Lock, []string, error) {
	p, err := project.Find(a.dir)
	if err != nil {
		return p, stacks.Lock{}, nil, err
	}
	lock, err := stacks.ReadLock(os.DirFS(p.Root))
	if err != nil {
		return p, lock, nil, err
	}
	names, err := program.Stacks(p.Root)
	if err != nil {
		return p, lock, nil, err
	}

	var refs []string
	for _, name := range names {
		list, err := upstreamOf(p.Root, name)
		if err != nil {
			return p, lock, nil, fmt.Errorf("stack %s: %w", name, err)
		}
		refs = append(refs, list...)
	}

	slices.Sort(refs)
	return p, lock, slices.Compact(refs), nil
}

// upstreamOf returns those of one stack. It is an error if it cannot be loaded for any target.
func upstreamOf(root, name string) ([]string, error) {
	var refs []string
	var errs []error
	for _, on := range plan.Targets {
		config, err := program.ReadConfig(root, name)
		if err != nil {
			return nil, err
		}
		config.Plain[stacks.Project+":target"] = string(on)
		plain, secret := config.Own()
		settings, err := stacks.DecodeSettings(plain, secret)
		if err != nil {
			errs = append(errs, err)
			continue
		}

		settings.AssumeSecrets = true
		settings.Rollback = nil // the sources name what is locked, and not an earlier release
		stack, err := stacks.Load(name, settings, stacks.Checkout{
			FS: os.DirFS(root), Unlocked: true,
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}

		for _, svc := range stack.Services {
			if svc.Image.Build == nil {
				refs = append(refs, svc.Image.Ref)
			} else {
				refs = append(refs, svc.Image.Build.Bases()...)
			}
		}
	}

	if len(errs) == len(plan.Targets) {
		return nil, errors.Join(errs...)
	}
	return refs, nil
}

// outdated prints what the lock and the registries say of the references. One that does not answer
// does not hide the others.
func (a *App) outdated(ctx context.Context, lock stacks.Lock, refs []string) error {
	rows := [][]string{{"IMAGE", "LOCKED", "NOW", "NEWER TAG"}}
	found := false
	var errs []error
	for _, ref := range refs {
		locked, _ := lock.Find(ref)
		now, err := images.Resolve(ctx, ref)
		var newer string
		if err == nil {
			newer, err = images.Newer(ctx, ref)
		}
		if err != nil {
			errs = append(errs, err)
			rows = append(rows, []string{ref, short(locked), "cannot be asked", "-"})
			continue
		}

		found = found || locked.Digest != now.Digest || newer != ""
		rows = append(rows, []string{ref, short(locked), short(now), cmp.Or(newer, "-")})
	}

	a.out.Table(rows, nil)
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if found {
		return exitError{2}
	}
	return nil
}

// short returns what is known of an image in a few characters.
func short(x stacks.LockedImage) string {
	switch {
	case x.Digest != "":
		return abbreviated(x.Digest)
	case len(x.IDs) > 0:
		var ids []string
		for _, platform := range slices.Sorted(maps.Keys(x.IDs)) {
			ids = append(ids, abbreviated(x.IDs[platform]))
		}
		return "ID " + strings.Join(ids, ", ")
	}
	return "unknown"
}

// abbreviated returns a digest as docker prints it.
func abbreviated(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(shortDigest, len(digest))]
}

func (a *App) updateLock(ctx context.Context, onEngine bool) error {
	p, old, refs, err := a.upstream()
	if err != nil {
		return err
	}

	resolve := images.Resolve
	if onEngine {
		eng, err := a.localEngine(ctx, target{project: p})
		if err != nil {
			return err
		}
		defer eng.Close()
		resolve = func(ctx context.Context, ref string) (stacks.LockedImage, error) {
			return images.OnEngine(ctx, eng, ref)
		}
	}

	return a.writeLock(ctx, p.Root, old, refs, resolve)
}

// writeLock writes what the references mean to the lock file. It is all or nothing: half of an
// update is a state that nobody has tried.
func (a *App) writeLock(
	ctx context.Context, root string, old stacks.Lock, refs []string,
	resolve func(ctx context.Context, ref string) (stacks.LockedImage, error),
) error {
	var lock stacks.Lock
	changed := 0
	for _, ref := range refs {
		now, err := resolve(ctx, ref)
		if err != nil {
			return err
		}

		before, _ := old.Find(ref)
		now = completed(before, now)
		lock.Images = append(lock.Images, now)
		if before.Digest != now.Digest || !maps.Equal(before.IDs, now.IDs) {
			a.say("%s: %s, was %s", ref, short(now), short(before))
			changed++
		}
	}

	text, err := lock.Encode()
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(root, stacks.LockFile), text); err != nil {
		return err
	}

	a.say("%s: %d of %d images changed", stacks.LockFile, changed, len(refs))
	return nil
}

// completed returns what an image is now with what was known before, and an engine cannot tell: the
// other platforms of the same digest, and the IDs of the image on these.
func completed(before, now stacks.LockedImage) stacks.LockedImage {
	switch {
	case now.Digest != "" && now.Digest == before.Digest && now.Platforms == nil:
		now.Platforms = before.Platforms
	case now.Digest == "" && before.Digest == "":
		ids := maps.Clone(before.IDs)
		if ids == nil {
			ids = map[string]string{}
		}
		maps.Copy(ids, now.IDs)
		now.IDs = ids
	}
	return now
}

// replaceFile writes a file whole or not at all, with the mode that it had.
func replaceFile(name string, text []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}

	f, err := os.CreateTemp(filepath.Dir(name), ".codexctl-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())

	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
