package docker

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
	ref   string
	build *stacks.Build
	// platform the build is for.
	platform string
}

func planImage(img stacks.Image, root string) (imagePlan, error) {
	if img.Build == nil {
		return imagePlan{ref: img.Ref}, nil
	}
	ref, err := image.Ref(os.DirFS(root), *img.Build)
	if err != nil {
		return imagePlan{}, err
	}
	return imagePlan{ref: ref, build: img.Build, platform: image.Platform()}, nil
}

// madeImage is an image that a container can be made of.
type madeImage struct {
	resource pulumi.Resource
	// use is what the container's image argument takes.
	use pulumi.StringOutput
	id  pulumi.StringOutput
}

// addImage pulls or builds the image of a service.
func (d *deployment) addImage(name string, p imagePlan, parent pulumi.Resource) (madeImage, error) {
	if p.build == nil {
		img, err := docker.NewRemoteImage(d.ctx, name, &docker.RemoteImageArgs{
			Name: pulumi.String(p.ref),
			// Other stacks and people may use the image too.
			KeepLocally: pulumi.Bool(true),
		}, pulumi.Parent(parent))
		if err != nil {
			return madeImage{}, err
		}
		// The container is made of the ID: a reference that moved to another image shows after a refresh.
		return madeImage{resource: img, use: img.ImageId, id: img.ImageId}, nil
	}
	b := p.build
	// The engine starts the provider in the folder of the Pulumi program (main: infra in Pulumi.yaml), one below the
	// project's root, and the provider resolves paths there. Relative ones keep the state the same for every clone.
	up := path.Join("..", path.Clean(b.Context))
	img, err := docker.NewImage(d.ctx, name, &docker.ImageArgs{
		ImageName: pulumi.String(p.ref),
		Build: &docker.DockerBuildArgs{
			Context:        pulumi.String(up),
			Dockerfile:     pulumi.String(path.Join("..", path.Clean(b.Dockerfile))),
			Target:         pulumi.String(b.Target),
			Args:           pulumi.ToStringMap(b.Args),
			BuilderVersion: docker.BuilderVersionBuilderBuildKit,
			Platform:       pulumi.String(p.platform),
		},
		SkipPush:       pulumi.Bool(true),
		BuildOnPreview: pulumi.Bool(false),
	}, pulumi.Parent(parent),
		// A new tag is a new image: the resource's ID follows. Deleting the old one deletes nothing on the engine.
		pulumi.ReplaceOnChanges([]string{"imageName"}))
	if err != nil {
		return madeImage{}, err
	}
	// The container is made of the reference, not the ID: its tag is the digest of the inputs, so the preview shows the
	// replacement of the container, which an ID that is not known yet would hide (pulumi-docker#293).
	return madeImage{resource: img, use: img.ImageName, id: img.RepoDigest}, nil
}
