package kubernetes

import (
	"os"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// imageOf returns the reference of a service's image. With a registry an image that is built is
// pushed there. Without one, its name is used as it is: `codexctl images load` puts it onto the
// cluster's nodes. What a bundle brought is all in the registry, if there is one; brought reports
// whether the image is such a one.
func imageOf(
	stack stacks.Stack, svc stacks.Service, opts Options,
) (ref string, brought bool, err error) {
	root := os.DirFS(opts.Root)
	if svc.Image.Build != nil {
		if ref, err = image.Ref(root, *svc.Image.Build, stack.Platform()); err != nil {
			return "", false, err
		}
		brought, err = image.IsBrought(root, ref)
	} else {
		ref, brought, err = image.Upstream(root, svc.Image.Ref)
	}

	if stack.Registry != "" && (svc.Image.Build != nil || brought) {
		ref = stack.Registry + "/" + ref
	}
	return ref, brought, err
}
