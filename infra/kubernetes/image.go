package kubernetes

import (
	"os"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// imageOf returns the reference of a service's image. With a registry an image that is built is
// pushed there. Without one, its name is used as it is: `codexctl images load` puts it onto the
// cluster's nodes.
func imageOf(stack stacks.Stack, svc stacks.Service, opts Options) (string, error) {
	if svc.Image.Build == nil {
		return svc.Image.Ref, nil
	}

	ref, err := image.RefFor(os.DirFS(opts.Root), *svc.Image.Build, opts.Platform)
	if err == nil && stack.Registry != "" {
		ref = stack.Registry + "/" + ref
	}
	return ref, err
}
