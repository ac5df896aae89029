package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// looksAt is where the container that looks into a volume has it: no image has that path, so that
// nothing is copied from there into the volume.
const looksAt = "/dev.codexcontinue.volume"

// lookLimit is after how long a container that looks into a volume is one that was left.
const lookLimit = time.Minute

// VolumeHas returns those of the files, by their paths in the volume, that it has, or that the image
// has at target: an engine fills an empty volume with that. It looks by a container that it makes of
// the image or, if that is not here, of any other, and removes without starting it.
func (e *Engine) VolumeHas(
	ctx context.Context, volume, image, target string, files ...string,
) (there []string, err error) {
	folders, err := e.lookAt(ctx, volume, &image, target)
	if err != nil || len(folders) == 0 {
		return nil, err
	}

	id, err := e.createLook(ctx, volume, image, slices.Contains(folders, looksAt))
	if err != nil {
		return nil, fmt.Errorf("engine: volume %s: %w", volume, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		if e := e.RemoveContainer(ctx, id); err == nil {
			err = e
		}
	}()

	for _, file := range files {
		for _, folder := range folders {
			_, err := e.api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{
				Path: path.Join(folder, file),
			})
			if err == nil {
				there = append(there, file)
				break
			}
			if !cerrdefs.IsNotFound(err) {
				return nil, fmt.Errorf("engine: volume %s: %s: %w", volume, file, err)
			}
		}
	}

	return there, nil
}

// lookAt returns the folders to look into: looksAt if there is such a volume, and target if the
// image is here. It sets another image if there is a volume alone.
func (e *Engine) lookAt(
	ctx context.Context, volume string, image *string, target string,
) (folders []string, err error) {
	_, err = e.api.VolumeInspect(ctx, volume, client.VolumeInspectOptions{})
	if err == nil {
		folders = append(folders, looksAt)
	} else if !cerrdefs.IsNotFound(err) {
		return nil, fmt.Errorf("engine: volume %s: %w", volume, err)
	}

	has, err := e.HasImage(ctx, *image)
	switch {
	case err != nil:
		return nil, fmt.Errorf("engine: image %s: %w", *image, err)
	case has:
		folders = append(folders, target)
	case len(folders) > 0:
		if *image, err = e.anyImage(ctx); err != nil {
			return nil, fmt.Errorf("engine: volume %s: %w", volume, err)
		}
	}

	return folders, nil
}

// createLook makes a container of the image, with the volume at looksAt if mounted is set.
func (e *Engine) createLook(
	ctx context.Context, volume, image string, mounted bool,
) (id string, err error) {
	var mounts []mount.Mount
	if mounted {
		mounts = []mount.Mount{{
			Type: mount.TypeVolume, Source: volume, Target: looksAt, ReadOnly: true,
			VolumeOptions: &mount.VolumeOptions{NoCopy: true},
		}}
	}

	// The engine finishes what it was asked for.
	create, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	made, err := e.api.ContainerCreate(create, client.ContainerCreateOptions{
		Name: strings.Join([]string{stacks.Project, e.Stack, "look",
			strings.ToLower(rand.Text()[:6])}, "-"),
		Config: &container.Config{
			Image: image,
			Cmd:   []string{"/never-started"},
			Labels: map[string]string{
				stacks.LabelProject: stacks.Project,
				stacks.LabelStack:   e.Stack,
				running.LabelOnce:   "look",
				running.LabelUntil:  strconv.FormatInt(time.Now().Add(lookLimit).Unix(), 10),
			},
		},
		HostConfig: &container.HostConfig{NetworkMode: "none", Mounts: mounts},
	})
	return made.ID, err
}

// anyImage returns an image that the engine has.
func (e *Engine) anyImage(ctx context.Context) (string, error) {
	list, err := e.api.ImageList(ctx, client.ImageListOptions{})
	if err == nil && len(list.Items) == 0 {
		err = errors.New("there is no image by which to look into it")
	}
	if err != nil {
		return "", err
	}
	return list.Items[0].ID, nil
}
