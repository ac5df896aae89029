package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// earlierImages returns the references of the release's images, for the services that the stack
// still has. Those that were built have to be there, as nothing pulls or builds them. With load they
// come from the local engine where the cluster pulls none.
func (a *App) earlierImages(
	ctx context.Context, t target, stack stacks.Stack, p platform, to deploy.Update, load bool,
) (map[string]string, error) {
	find := func(ref string) (string, error) { return findImage(ctx, stack, p, ref) }
	if _, ok := p.(*onCluster); ok && load && stack.Registry == "" {
		eng, err := a.localEngine(ctx, t)
		if err != nil {
			return nil, err
		}
		defer eng.Close()
		find = func(ref string) (string, error) { return ref, onLocal(ctx, eng, ref) }
	}

	out := map[string]string{}
	for _, service := range slices.Sorted(maps.Keys(to.Release.Images)) {
		svc := stack.Service(service)
		if svc == nil {
			continue
		}

		ref := to.Release.Images[service]
		out[service] = ref
		if svc.Image.Build == nil {
			continue
		}

		ref, err := find(ref)
		if err != nil {
			return nil, imageGone(service, to.Number, to.Release.Revision, stack, p, err)
		}
		out[service] = ref
	}

	for _, svc := range stack.Services {
		if out[svc.Name] == "" {
			a.say("%d has no image of %s: it has the one that the sources make", to.Number, svc.Name)
		}
	}

	return out, nil
}

// keptImages returns an error if an image is gone that the stack has kept from an earlier release.
// Where only the nodes of a cluster know, it warns: they report their images late.
func (a *App) keptImages(
	ctx context.Context, stack stacks.Stack, p platform, revision string,
) error {
	for _, svc := range stack.Services {
		if svc.Image.Kept == "" {
			continue
		}

		_, err := findImage(ctx, stack, p, svc.Image.Kept)
		if err == nil {
			continue
		}
		err = imageGone(svc.Name, 0, revision, stack, p, err)
		if _, ok := p.(*onCluster); !ok || stack.Registry != "" {
			return err
		}
		a.say("%v", err)
	}
	return nil
}

// goneError says that an image is not where it was. Other errors of a search say nothing of it.
type goneError string

func (e goneError) Error() string { return string(e) }

// findImage looks for an image that was built where the stack's containers are made of it. It
// returns the reference to use: in a registry the digest, as up does. It is a goneError if the image
// is not there.
func findImage(
	ctx context.Context, stack stacks.Stack, p platform, ref string,
) (string, error) {
	if stack.Registry != "" {
		return inRegistry(ctx, stack.Registry, ref)
	}

	switch p := p.(type) {
	case *onEngine:
		return ref, onLocal(ctx, p.Engine, ref)
	case *onCluster:
		nodes, err := p.Nodes(ctx)
		if err != nil {
			return "", err
		}
		if has, sure := cluster.HasImage(nodes, ref); sure && !has {
			return "", goneError(fmt.Sprintf("not every node lists %s, which they do late (--load puts "+
				"it there from this machine)", ref))
		}
	}

	return ref, nil
}

// onLocal returns a goneError if the engine has no such image.
func onLocal(ctx context.Context, eng *engine.Engine, ref string) error {
	has, err := eng.HasImage(ctx, ref)
	if err == nil && !has {
		err = goneError("the engine has no " + ref)
	}
	return err
}

// inRegistry returns the image's reference without the registry, by the digest.
func inRegistry(ctx context.Context, registry, ref string) (string, error) {
	digest, err := images.Digest(ctx, registry+"/"+ref)
	switch {
	case err != nil:
		return "", err
	case digest == "":
		return "", goneError(registry + " has no " + ref)
	}

	repository, _ := stacks.SplitTag(stacks.TagOf(ref))
	return repository + "@" + digest, nil
}

// imageGone returns the error for an image that cannot be found, with how to make it again if it is
// gone.
func imageGone(
	service string, number int, revision string, stack stacks.Stack, p platform, err error,
) error {
	of := ""
	if number > 0 {
		of = fmt.Sprintf("of %d ", number)
	}

	if _, gone := errors.AsType[goneError](err); !gone {
		return fmt.Errorf("services.%s: whether the image %sis still there cannot be known: %w", service,
			of, err)
	}

	at := fmt.Sprintf("services.%s: the image %scannot be had: %v", service, of, err)
	if clean := strings.TrimSuffix(revision, "-dirty"); clean != revision || revision == "unknown" {
		return fmt.Errorf("%s: it cannot be made again either, as its sources (%s) are in no commit: "+
			"choose another release, `codexctl history %s`", at, revision, stack.Name)
	}

	how := "build"
	if stack.Registry != "" {
		how = "push"
	} else if _, ok := p.(*onCluster); ok {
		how = "load"
	}
	return fmt.Errorf("%s: make it again from its sources, and put it where the others are:\n"+
		"    git worktree add ../earlier %s\n"+
		"    make -C ../earlier build\n"+
		"    ../earlier/bin/codexctl -C ../earlier images %s %s", at, revision, how, stack.Name)
}
