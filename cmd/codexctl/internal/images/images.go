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

	// Ref is the reference under which it is built or pulled.
	Ref string

	// Build is nil if the image is pulled.
	Build *stacks.Build

	// Kept reports whether the image was built of other sources, so that Build cannot make it.
	Kept bool
}

// Of returns the stack's images, in the order of its services. root is the project's folder.
func Of(s stacks.Stack, root string) ([]Image, error) {
	var out []Image
	seen := map[string]bool{}
	for _, svc := range s.Services {
		x := Image{Service: svc.Name, Ref: svc.Image.Ref, Build: svc.Image.Build}
		switch {
		case svc.Image.Kept != "":
			x.Ref, x.Kept = svc.Image.Kept, true
		case x.Build != nil:
			ref, err := image.Ref(os.DirFS(root), *x.Build)
			if err != nil {
				return nil, fmt.Errorf("services.%s.%w", svc.Name, err)
			}
			x.Ref = ref
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

// Ensure builds or pulls the images that the engine lacks.
func (b Builder) Ensure(ctx context.Context, list []Image) error {
	for _, x := range list {
		has, err := b.Engine.HasImage(ctx, x.Ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", x.Ref, err)
		}

		switch {
		case has:
		case x.Kept:
			return fmt.Errorf("image %s: it is of an earlier release and no longer here: "+
				"`codexctl rollback --help` says how it is made again", x.Ref)
		case x.Build == nil:
			b.Say("pulling %s", x.Ref)
			if err := b.Engine.PullImage(ctx, x.Ref); err != nil {
				return err
			}
		default:
			b.Say("building %s", x.Ref)
			if err := b.build(ctx, x); err != nil {
				return err
			}
		}
	}

	return nil
}

func (b Builder) build(ctx context.Context, x Image) error {
	tar, err := tarContext(os.DirFS(b.Root), *x.Build)
	if err != nil {
		return fmt.Errorf("services.%s.%w", x.Service, err)
	}

	return b.Engine.BuildImage(ctx, x.Ref, *x.Build, tar, dockerfileName, b.Output)
}
