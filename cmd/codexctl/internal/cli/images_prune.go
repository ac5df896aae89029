package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) pruneImagesCommand() *cobra.Command {
	var keep int
	var yes bool
	c := &cobra.Command{
		Use:   "prune [STACK]",
		Short: "Remove images of earlier releases from the engine",
		Long: `Removes from the stack's engine the images that were built for earlier releases of it,
by its history. Those of the last releases stay, of this stack and of all others of the
project, as "rollback" needs them; so does what a container is made of, whether it runs
or not, and what the sources make now. What a registry has is left alone. A cluster's
nodes remove by themselves what they do not use.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			if keep < 1 {
				return usageError{fmt.Errorf("--keep %d: is no number of releases: 1 is the one that "+
					"there is now", keep)}
			}
			return a.pruneImages(c.Context(), stackOf(args), keep, yes)
		},
	}

	f := c.Flags()
	f.IntVar(&keep, "keep", 5, "how many releases keep their images, of those with other images than "+
		"the one before")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before anything is removed")
	return c
}

func (a *App) pruneImages(ctx context.Context, name string, keep int, yes bool) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}
	place, err := t.place()
	if err != nil {
		return err
	}
	if place.Target == stacks.Kubernetes {
		return fmt.Errorf("stack %s is on a cluster, whose nodes remove by themselves the images that "+
			"they do not use: only the images of an engine are removed", t.file.Name)
	}

	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()
	p := &onEngine{Engine: eng, root: t.project.Root, say: a.say}
	release, err := a.lock(ctx, p, t.name, "images prune")
	if err != nil {
		return err
	}
	defer release()

	list, err := images.Of(stack, t.project.Root)
	if err != nil {
		return err
	}
	own, all, err := a.histories(ctx, t)
	if err != nil {
		return fmt.Errorf("%w: nothing was removed", err)
	}
	used, err := eng.UsedImages(ctx)
	if err != nil {
		return err
	}

	var gone []string
	for _, ref := range prunable(own, all, list, keep) {
		if stack.Registry != "" { // it was built under that name
			ref = stack.Registry + "/" + ref
		}
		x, err := eng.Image(ctx, ref)
		if err != nil {
			return err
		}
		if x != nil && !used[x.ID] {
			gone = append(gone, ref)
			a.out.Printf("%s", ref)
		}
	}
	if len(gone) == 0 {
		a.say("there is no image to remove")
		return nil
	}

	if !yes && !a.asks() {
		return usageError{fmt.Errorf("%d images are removed, and there is no terminal to ask on: add "+
			"--yes", len(gone))}
	}
	if !yes && !a.typed(fmt.Sprintf("Remove these %d images? Type yes: ", len(gone)), "yes") {
		return errors.New("nothing was removed")
	}
	removed := 0
	var errs []error
	for _, ref := range gone {
		if err := eng.RemoveImage(ctx, ref); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	a.say("images removed: %d", removed)
	return errors.Join(errs...)
}

// histories returns the updates of the stack, and those of each stack of the project that has been
// up: they may be on the same engine, and share images.
func (a *App) histories(
	ctx context.Context, t target,
) (own []deploy.Update, all [][]deploy.Update, err error) {
	names, err := t.project.Stacks()
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(names, t.file.Name) {
		names = append(names, t.file.Name)
	}

	for _, name := range names {
		of, err := a.target(name)
		if err != nil {
			return nil, nil, err
		}
		s, err := a.session(ctx, of, false)
		if errors.Is(err, deploy.ErrNoStack) {
			continue
		}
		if err != nil {
			return nil, nil, a.explainError(err, name)
		}
		list, err := s.History(ctx)
		if err != nil {
			return nil, nil, a.explainError(err, name)
		}

		all = append(all, list)
		if name == t.file.Name {
			own = list
		}
	}
	return own, all, nil
}

// prunable returns the references of images that were built for releases of own, and are needed by
// none of the last releases of all, nor among now, sorted.
func prunable(own []deploy.Update, all [][]deploy.Update, now []images.Image, keep int) []string {
	needed, built := map[string]bool{}, map[string]bool{}
	for _, x := range now {
		needed[x.Ref] = true
		if x.Build != nil || x.Kept {
			built[repository(x.Ref)] = true
		}
	}
	for _, list := range all {
		maps.Copy(needed, lastImages(list, keep))
	}

	refs := map[string]bool{}
	for _, u := range own {
		if !isRelease(u) {
			continue
		}
		for _, ref := range u.Release.Images {
			if built[repository(ref)] && !needed[ref] {
				refs[ref] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(refs))
}

// lastImages returns the references of so many releases that succeeded, the last ones, and of what
// was tried since. One with the images of the one before it does not count.
func lastImages(newestFirst []deploy.Update, keep int) map[string]bool {
	refs := map[string]bool{}
	var counted map[string]string
	for _, u := range newestFirst {
		if !isRelease(u) {
			continue
		}
		if counted == nil || !maps.Equal(u.Release.Images, counted) {
			if keep == 0 {
				break
			}
			if u.Stands() {
				keep, counted = keep-1, u.Release.Images
			}
		}
		for _, ref := range u.Release.Images {
			refs[ref] = true
		}
	}
	return refs
}

// repository returns the reference without its tag and digest.
func repository(ref string) string {
	name, _ := stacks.SplitTag(stacks.TagOf(ref))
	return name
}
