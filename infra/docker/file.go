package docker

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// addFiles makes the container that carries a service's files, or nothing for a service without.
//
// Docker refuses to copy files into a container with a read-only root, even to a volume of it. So a
// second container of the same image, which is never started, takes the files into an anonymous
// volume at each file's directory, and the service mounts these volumes read-only (VolumesFrom).
// New files make a new carrier, whose ID replaces the service's containers; the volumes go with
// their carrier. See docs/adr/0002-docker-target.md.
func (d *deployment) addFiles(
	name string, img madeImage, parent pulumi.Resource,
) (*docker.Container, error) {
	files := map[string]stacks.File{} // by path
	svc := d.stack.Service(name)
	for _, f := range svc.Files {
		files[f.Path] = f
	}

	var uploads docker.ContainerUploadArray
	var dirs []string
	for _, f := range modelFiles(*svc, d.model) {
		// The provider reads the file and hands it to the engine, which need not be on this
		// machine. As build contexts are, it is named from the folder of the program (see
		// image.go): the state is the same for every clone.
		uploads = append(uploads, docker.ContainerUploadArgs{
			File:        pulumi.String(f.target),
			Source:      pulumi.String(path.Join("..", f.Source)),
			SourceHash:  pulumi.String(f.Digest),
			Executable:  pulumi.Bool(false),
			Permissions: pulumi.String("0444"),
		})
		dirs = append(dirs, f.dir)
	}

	if len(files)+len(uploads) == 0 {
		return nil, nil
	}

	secret := false
	for _, at := range slices.Sorted(maps.Keys(files)) {
		f := files[at]
		var content pulumi.StringInput = pulumi.String(f.Content)
		if f.Secret != "" {
			value, ok := d.secrets[f.Secret]
			if !ok {
				return nil, fmt.Errorf("files.%s: there is no secret %q", f.Path, f.Secret)
			}
			content, secret = value.ApplyT(f.Text).(pulumi.StringOutput), true
		}

		uploads = append(uploads, docker.ContainerUploadArgs{
			File:       pulumi.String(f.Path),
			Content:    content.ToStringOutput().ToStringPtrOutput(),
			Executable: pulumi.Bool(false),
			// Anyone inside may read: only this service mounts the volume.
			Permissions: pulumi.String("0444"),
		})

		dirs = append(dirs, path.Dir(f.Path))
	}

	slices.Sort(dirs)
	var volumes docker.ContainerVolumeArray
	for _, dir := range slices.Compact(dirs) {
		volumes = append(volumes, docker.ContainerVolumeArgs{ContainerPath: pulumi.String(dir)})
	}

	labels := d.labels()
	labels[LabelFilesOf] = name
	var uploadsInput docker.ContainerUploadArrayInput = uploads
	opts := []pulumi.ResourceOption{pulumi.Parent(parent), pulumi.DeleteBeforeReplace(false)}
	if secret {
		// The whole list is secret: the provider keeps it as a set, whose order
		// need not be the inputs'.
		uploadsInput = pulumi.ToSecret(uploads).(docker.ContainerUploadArrayOutput)
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"uploads"}))
	}

	return docker.NewContainer(d.ctx, d.ContainerName(name, 0)+"-files", &docker.ContainerArgs{
		Image:   img.use,
		Start:   pulumi.Bool(false),
		MustRun: pulumi.Bool(false),
		// An image without a command is fine too: nothing is ever run.
		Command:     pulumi.ToStringArray([]string{"files"}),
		User:        pulumi.String(d.Project.Services[name].User),
		Volumes:     volumes,
		Uploads:     uploadsInput,
		Labels:      docker.ContainerLabelArray(pairs(labels, containerLabel)),
		NetworkMode: pulumi.String("none"),
		Restart:     pulumi.String("no"),
		LogDriver:   pulumi.String("none"),
		Capabilities: &docker.ContainerCapabilitiesArgs{
			Drops: pulumi.ToStringArray([]string{"ALL"}),
		},
		SecurityOpts: pulumi.ToStringArray([]string{noNewPrivileges}),
	}, opts...)
}
