package kubernetes

import (
	"os"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// imageOf returns the reference of a service's image. With a registry an image that is built is
// pushed there. Without one, its name is used as it is: `codexctl images load` puts it onto the
// cluster's nodes. What a bundle brought is all in the registry, if there is one, and what was kept
// is where it was; brought reports whether the image is one of these, which are not built.
func imageOf(
	stack stacks.Stack, svc stacks.Service, opts Options,
) (ref string, brought bool, err error) {
	root := os.DirFS(opts.Root)
	switch {
	case svc.Image.Kept != "":
		ref, brought = svc.Image.Kept, true
	case svc.Image.Build == nil:
		ref, brought, err = image.Upstream(root, svc.Image.Ref)
	default:
		if ref, err = image.Ref(root, *svc.Image.Build, stack.Platform()); err != nil {
			return "", false, err
		}
		brought, err = image.IsBrought(root, ref)
	}

	if stack.Registry != "" && (svc.Image.Build != nil || brought) {
		ref = stack.Registry + "/" + ref
	}
	return ref, brought, err
}
