package kubernetes

import (
	"os"
	"path"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// imagePlan is an image before it is made.
type imagePlan struct {
	// ref is the reference to pull, or the repository and the digest of the build's inputs as its tag.
	ref string
	// build is set when the image is built here and pushed.
	build *stacks.Build
}

// planImage names a service's image. With a registry an image that is built is pushed there. Without one, its name is
// used as it is: `codexctl images load` puts it onto the cluster's nodes.
func planImage(stack stacks.Stack, img stacks.Image, root string) (imagePlan, error) {
	if img.Build == nil {
		return imagePlan{ref: img.Ref}, nil
	}
	ref, err := image.Ref(os.DirFS(root), *img.Build)
	if err != nil {
		return imagePlan{}, err
	}
	if stack.Registry == "" {
		return imagePlan{ref: ref}, nil
	}
	return imagePlan{ref: stack.Registry + "/" + ref, build: img.Build}, nil
}

// addImage gives the reference that pods use: of what is pushed the digest, which cannot come to mean another image.
func (d *deployment) addImage(name string, p imagePlan, parent pulumi.Resource) (pulumi.StringOutput, error) {
	if p.build == nil {
		return pulumi.String(p.ref).ToStringOutput(), nil
	}
	b := p.build
	// The engine starts the provider in the folder of the Pulumi program (main: infra in Pulumi.yaml), one below the
	// project's root. The credentials are those of `docker login`.
	img, err := docker.NewImage(d.ctx, name, &docker.ImageArgs{
		ImageName: pulumi.String(p.ref),
		Build: &docker.DockerBuildArgs{
			Context:        pulumi.String(path.Join("..", path.Clean(b.Context))),
			Dockerfile:     pulumi.String(path.Join("..", path.Clean(b.Dockerfile))),
			Target:         pulumi.String(b.Target),
			Args:           pulumi.ToStringMap(b.Args),
			BuilderVersion: docker.BuilderVersionBuilderBuildKit,
			Platform:       pulumi.String(image.Platform()),
		},
		SkipPush:       pulumi.Bool(false),
		BuildOnPreview: pulumi.Bool(false),
	}, pulumi.Parent(parent), pulumi.ReplaceOnChanges([]string{"imageName"}))
	if err != nil {
		return pulumi.StringOutput{}, err
	}
	return img.RepoDigest, nil
}
