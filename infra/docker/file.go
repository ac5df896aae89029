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

// addFiles makes the containers that carry a service's files, or none for a service without:
// carrier has the folders of all as volumes, which the service mounts, and live puts those files
// into them that are replaced in place.
//
// Docker refuses to copy files into a container with a read-only root, even to a volume of it. So a
// second container of the same image, which is never started, takes the files into an anonymous
// volume at each file's directory, and the service mounts these volumes read-only (VolumesFrom).
// New files make a new carrier, whose ID replaces the service's containers; the volumes go with
// their carrier. Live files have a carrier of their own, which mounts the first one's volumes: new
// ones make it anew, and nothing else. See docs/adr/0002-docker-target.md.
func (d *deployment) addFiles(
	name string, img madeImage, parent pulumi.Resource,
) (carrier, live *docker.Container, err error) {
	svc := d.stack.Service(name)
	var still, changing uploads
	var dirs []string
	for _, f := range modelFiles(*svc, d.model) {
		// The provider reads the file and hands it to the engine, which need not be on this
		// machine. As build contexts are, it is named from the folder of the program (see
		// image.go): the state is the same for every clone.
		still.list = append(still.list, docker.ContainerUploadArgs{
			File:        pulumi.String(f.target),
			Source:      pulumi.String(path.Join("..", f.Source)),
			SourceHash:  pulumi.String(f.Digest),
			Executable:  pulumi.Bool(false),
			Permissions: pulumi.String("0444"),
		})
		dirs = append(dirs, f.dir)
	}

	files := map[string]stacks.File{} // by path
	for _, f := range svc.Files {
		files[f.Path] = f
	}

	for _, at := range slices.Sorted(maps.Keys(files)) {
		to := &still
		if files[at].Live {
			to = &changing
		}
		if err := d.upload(to, files[at]); err != nil {
			return nil, nil, err
		}
		dirs = append(dirs, path.Dir(at))
	}

	if len(dirs) == 0 {
		return nil, nil, nil
	}

	slices.Sort(dirs)
	var volumes docker.ContainerVolumeArray
	for _, dir := range slices.Compact(dirs) {
		volumes = append(volumes, docker.ContainerVolumeArgs{ContainerPath: pulumi.String(dir)})
	}

	if carrier, err = d.addCarrier(name, "-files", img, parent, volumes, still); err != nil {
		return nil, nil, err
	}
	if len(changing.list) == 0 {
		return carrier, nil, nil
	}

	from := docker.ContainerVolumeArray{docker.ContainerVolumeArgs{
		FromContainer: carrier.ID().ToStringOutput().ToStringPtrOutput(),
	}}
	live, err = d.addCarrier(name, "-live", img, parent, from, changing)
	return carrier, live, err
}

// uploads are files that a container takes. secret is set if one of them holds a secret.
type uploads struct {
	list   docker.ContainerUploadArray
	secret bool
}

// upload adds the file.
func (d *deployment) upload(to *uploads, f stacks.File) error {
	var content pulumi.StringInput = pulumi.String(f.Content)
	if f.Secret != "" {
		value, ok := d.secrets[f.Secret]
		if !ok {
			return fmt.Errorf("files.%s: there is no secret %q", f.Path, f.Secret)
		}
		content, to.secret = value.ApplyT(f.Text).(pulumi.StringOutput), true
	}

	to.list = append(to.list, docker.ContainerUploadArgs{
		File:       pulumi.String(f.Path),
		Content:    content.ToStringOutput().ToStringPtrOutput(),
		Executable: pulumi.Bool(false),
		// Anyone inside may read: only this service mounts the volume.
		Permissions: pulumi.String("0444"),
	})
	return nil
}

// addCarrier makes a container of the service's image that is never started, with the files.
func (d *deployment) addCarrier(
	name, suffix string, img madeImage, parent pulumi.Resource,
	volumes docker.ContainerVolumeArray, files uploads,
) (*docker.Container, error) {
	labels := d.labels()
	labels[LabelFilesOf] = name
	var input docker.ContainerUploadArrayInput = files.list
	opts := []pulumi.ResourceOption{pulumi.Parent(parent), pulumi.DeleteBeforeReplace(false)}
	if files.secret {
		// The whole list is secret: the provider keeps it as a set, whose order
		// need not be the inputs'.
		input = pulumi.ToSecret(files.list).(docker.ContainerUploadArrayOutput)
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"uploads"}))
	}

	return docker.NewContainer(d.ctx, d.ContainerName(name, 0)+suffix, &docker.ContainerArgs{
		Image:   img.use,
		Start:   pulumi.Bool(false),
		MustRun: pulumi.Bool(false),
		// An image without a command is fine too: nothing is ever run.
		Command:     pulumi.ToStringArray([]string{"files"}),
		User:        pulumi.String(d.Project.Services[name].User),
		Volumes:     volumes,
		Uploads:     input,
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
