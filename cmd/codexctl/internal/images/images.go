package images

import (
	"context"
	"fmt"
	"os"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Image is an image that a stack runs.
type Image struct {
	// Service is the first one that runs it.
	Service string

	// Ref is the reference under which it is built or pulled: of one that is pulled with its
	// digest, if the lock file has it.
	Ref string

	// ID is what the engine calls an image that was loaded by hand and has no digest; empty if that
	// is not known.
	ID string

	// Build is nil if the image is pulled.
	Build *stacks.Build

	// Platform is the one that the image is for. If it is several, separated by commas, the image
	// is an index in a registry.
	Platform string

	// Kept reports whether the image was built of other sources, so that Build cannot make it.
	Kept bool
}

// Of returns the stack's images, in the order of its services. root is the project's folder.
func Of(s stacks.Stack, root string) ([]Image, error) {
	var out []Image
	seen := map[string]bool{}
	for _, svc := range s.Services {
		x := Image{
			Service:  svc.Name,
			ID:       svc.Image.ID,
			Build:    svc.Image.Build,
			Platform: s.Platform(),
		}
		var err error
		switch {
		case svc.Image.Kept != "":
			x.Ref, x.Kept = svc.Image.Kept, true
		case x.Build != nil:
			x.Ref, err = image.Ref(os.DirFS(root), *x.Build, x.Platform)
		default:
			x.Ref, _, err = image.Upstream(os.DirFS(root), svc.Image.Ref)
		}
		if err != nil {
			return nil, fmt.Errorf("services.%s.%w", svc.Name, err)
		}

		if !seen[x.Ref] {
			seen[x.Ref] = true
			out = append(out, x)
		}
	}

	return out, nil
}

// Builder makes images on a Docker engine.
type Builder struct {
	Engine *engine.Engine

	// Root is the project's folder.
	Root string

	// Say is called with each image that is pulled or built, Output with each line that the
	// steps of a build print.
	Say    func(format string, args ...any)
	Output func(line string)
}

// Tag returns the reference without its digest, under which the image is on an engine and goes from
// there to others.
func (x Image) Tag() string { return stacks.TagOf(x.Ref) }

// Ensure builds or pulls the images that the engine lacks.
func (b Builder) Ensure(ctx context.Context, list []Image) error {
	for _, x := range list {
		if x.Build == nil {
			if err := b.pull(ctx, x); err != nil {
				return err
			}
			continue
		}

		for _, v := range x.Variants() {
			if err := b.ensure(ctx, v); err != nil {
				return err
			}
		}
	}

	return nil
}

// ensure builds an image for one platform if the engine lacks it.
func (b Builder) ensure(ctx context.Context, x Image) error {
	has, err := b.Engine.HasImage(ctx, x.Ref)
	switch {
	case err != nil:
		return fmt.Errorf("image %s: %w", x.Ref, err)
	case has:
		return nil
	case x.Kept:
		return fmt.Errorf("image %s: it is of an earlier release and no longer here: "+
			"`codexctl rollback --help` says how it is made again", x.Ref)
	}

	if err := checkBases(ctx, b.Engine, *x.Build); err != nil {
		return err
	}
	b.Say("building %s", x.Ref)
	return b.build(ctx, x)
}

// pull pulls an image that the engine lacks, and makes sure that its tag is what the lock file
// says.
func (b Builder) pull(ctx context.Context, x Image) error {
	if err := Check(ctx, b.Engine, x); err != nil {
		return err
	}

	there, err := b.Engine.Image(ctx, x.Tag())
	if err != nil {
		return err
	}
	if there != nil && (x.Tag() == x.Ref || x.Tag()+"@"+there.Digest == x.Ref) {
		return nil
	}

	b.Say("pulling %s", x.Ref)
	if err := b.Engine.PullImage(ctx, x.Ref); err != nil {
		return err
	}
	if x.Tag() == x.Ref {
		return nil
	}
	return b.Engine.TagImage(ctx, x.Ref, x.Tag()) // what is pulled by its digest has no tag
}

func (b Builder) build(ctx context.Context, x Image) error {
	tar, err := tarContext(os.DirFS(b.Root), *x.Build)
	if err != nil {
		return fmt.Errorf("services.%s.%w", x.Service, err)
	}

	return b.Engine.BuildImage(ctx, engine.Build{
		Ref:        x.Ref,
		Platform:   x.Platform,
		Context:    tar,
		Dockerfile: dockerfileName,
		Target:     x.Build.Target,
		Args:       x.Build.Args,
		Output:     b.Output,
	})
}
