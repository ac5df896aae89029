package kubernetes

import (
	"os"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Image is what a service's containers run.
type Image struct {
	// Service is whose image it is.
	Service string

	// Ref is the reference to pull, or the repository and the digest of the
	// build's inputs as its tag.
	Ref string

	// Build is set when the image is built here and pushed.
	Build *stacks.Build
}

// imageOf names a service's image. With a registry an image that is built is pushed there. Without
// one, its name is used as it is: `codexctl images load` puts it onto the cluster's nodes.
func imageOf(stack stacks.Stack, svc stacks.Service, opts Options) (Image, error) {
	b := svc.Image.Build
	if b == nil {
		return Image{Service: svc.Name, Ref: svc.Image.Ref}, nil
	}

	ref, err := image.RefFor(os.DirFS(opts.Root), *b, opts.Platform)
	if err != nil {
		return Image{}, err
	}
	if stack.Registry == "" {
		return Image{Service: svc.Name, Ref: ref}, nil
	}

	return Image{Service: svc.Name, Ref: stack.Registry + "/" + ref, Build: b}, nil
}
