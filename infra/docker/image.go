package docker

import (
	"path"
	"strings"

	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// madeImage is an image that a container can be made of.
type madeImage struct {
	resource pulumi.Resource

	// use is what the container's image argument takes.
	use pulumi.StringOutput
	id  pulumi.StringOutput
}

// addImage pulls or builds the image of a service, or uses the one that a bundle brought, which
// the provider does not pull: it is there.
func (d *deployment) addImage(name string, parent pulumi.Resource) (madeImage, error) {
	c := d.Project.Services[name]
	if c.Build == nil {
		img, err := docker.NewRemoteImage(d.ctx, name, &docker.RemoteImageArgs{
			Name: pulumi.String(pulledAs(c.Image)),
			// Other stacks and people may use the image too.
			KeepLocally: pulumi.Bool(true),
		}, pulumi.Parent(parent))
		if err != nil {
			return madeImage{}, err
		}

		made := madeImage{resource: img, use: img.ImageId, id: img.ImageId}
		if d.stack.Service(name).Image.Build != nil {
			// A bundle brought it, under the name that it would be built with: see below.
			made.use = img.Name
		}

		// Otherwise the container is made of the ID: a reference that moved to another image
		// shows after a refresh.
		return made, nil
	}

	// The engine starts the provider in the folder of the Pulumi program (main: infra in
	// Pulumi.yaml), one below the project's root, and the provider resolves paths there. Relative
	// ones keep the state the same for every clone.
	up := path.Join("..", c.Build.Context)
	img, err := docker.NewImage(d.ctx, name, &docker.ImageArgs{
		ImageName: pulumi.String(c.Image),
		Build: &docker.DockerBuildArgs{
			Context:        pulumi.String(up),
			Dockerfile:     pulumi.String(path.Join(up, c.Build.Dockerfile)),
			Target:         pulumi.String(c.Build.Target),
			Args:           pulumi.ToStringMap(c.Build.Args.ToMapping()),
			BuilderVersion: docker.BuilderVersionBuilderBuildKit,
			Platform:       pulumi.String(d.stack.Platform()),
		},
		SkipPush:       pulumi.Bool(true),
		BuildOnPreview: pulumi.Bool(false),
	}, pulumi.Parent(parent),
		// A new tag is a new image: the resource's ID follows. Deleting the old one deletes
		// nothing on the engine.
		pulumi.ReplaceOnChanges([]string{"imageName"}))
	if err != nil {
		return madeImage{}, err
	}

	// The container is made of the reference, not the ID: its tag is the digest of the inputs, so
	// the preview shows the replacement of the container, which an ID that is not known yet would
	// hide (pulumi-docker#293).
	return madeImage{resource: img, use: img.ImageName, id: img.RepoDigest}, nil
}

// pulledAs returns the reference as the provider finds the image again on the engine, which knows
// one by its tag or by its digest, and never by both.
func pulledAs(ref string) string {
	tag, digest, ok := strings.Cut(ref, "@")
	if !ok {
		return ref
	}
	name, _ := stacks.SplitTag(tag)
	return name + "@" + digest
}
