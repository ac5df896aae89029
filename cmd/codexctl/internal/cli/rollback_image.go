package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// earlierImages returns the references of the release's images, for the services that the stack
// still has. Those that were built have to be there, as nothing pulls or builds them.
func (a *App) earlierImages(
	ctx context.Context, stack stacks.Stack, p platform, to deploy.Update,
) (map[string]string, error) {
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

		ref, err := findImage(ctx, stack, p, ref)
		if err != nil {
			return nil, imageGone(service, to.Number, to.Release.Revision, stack.Name, err)
		}
		out[service] = ref
	}

	for _, svc := range stack.Services {
		if out[svc.Name] == "" {
			a.say("%d has no image of %s, which stays as it is", to.Number, svc.Name)
		}
	}

	return out, nil
}

// keptImages returns an error if an image is gone that the stack has kept from an earlier release.
func (a *App) keptImages(
	ctx context.Context, stack stacks.Stack, p platform, revision string,
) error {
	for _, svc := range stack.Services {
		if svc.Image.Kept == "" {
			continue
		}
		if _, err := findImage(ctx, stack, p, svc.Image.Kept); err != nil {
			return imageGone(svc.Name, 0, revision, stack.Name, err)
		}
	}
	return nil
}

// findImage looks for an image that was built where the stack's containers are made of it. It
// returns the reference to use: in a registry the digest, as up does.
func findImage(
	ctx context.Context, stack stacks.Stack, p platform, ref string,
) (string, error) {
	if stack.Registry != "" {
		return inRegistry(ctx, stack.Registry, ref)
	}

	switch p := p.(type) {
	case *onEngine:
		has, err := p.HasImage(ctx, ref)
		if err == nil && !has {
			err = fmt.Errorf("the engine has no %s", ref)
		}
		return ref, err
	case *onCluster:
		nodes, err := p.Nodes(ctx)
		if err != nil {
			return "", err
		}
		if has, sure := cluster.HasImage(nodes, ref); sure && !has {
			return "", fmt.Errorf("not every node has %s", ref)
		}
	}

	return ref, nil
}

// inRegistry returns the image's reference without the registry, by the digest.
func inRegistry(ctx context.Context, registry, ref string) (string, error) {
	at, err := name.ParseReference(registry + "/" + ref)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", ref, err)
	}

	found, err := remote.Head(at, remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("%s does not give %s: %w", registry, ref, err)
	}

	repository, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndex(repository, ":"); i > strings.LastIndex(repository, "/") {
		repository = repository[:i]
	}
	return repository + "@" + found.Digest.String(), nil
}

// imageGone returns the error for an image that cannot be had, with how to make it again.
func imageGone(service string, number int, revision, stack string, err error) error {
	of := ""
	if number > 0 {
		of = fmt.Sprintf("of %d ", number)
	}

	at := fmt.Sprintf("services.%s: the image %scannot be had: %v", service, of, err)
	if clean := strings.TrimSuffix(revision, "-dirty"); clean != revision || revision == "unknown" {
		return fmt.Errorf("%s: it cannot be made again either, as its sources (%s) are in no commit: "+
			"choose another release, `codexctl history %s`", at, revision, stack)
	}

	return fmt.Errorf("%s: make it again from its sources, and put it where the others are:\n"+
		"    git worktree add ../earlier %s\n"+
		"    make -C ../earlier build\n"+
		"    ../earlier/bin/codexctl -C ../earlier images build %s", at, revision, stack)
}
