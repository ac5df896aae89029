package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
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

// VolumeHas returns those of the files, by their paths in the volume, that it has: none if there is
// no such volume. An engine looks into a volume only by a container: one is made of the image or, if
// that is not here, of any other, and removed without being started.
func (e *Engine) VolumeHas(
	ctx context.Context, volume, image string, files ...string,
) (there []string, err error) {
	_, err = e.api.VolumeInspect(ctx, volume, client.VolumeInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err == nil {
		image, err = e.anyImage(ctx, image)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: volume %s: %w", volume, err)
	}

	id, err := e.createLook(ctx, volume, image)
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
		_, err := e.api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{
			Path: path.Join(looksAt, file),
		})
		switch {
		case err == nil:
			there = append(there, file)
		case !cerrdefs.IsNotFound(err):
			return nil, fmt.Errorf("engine: volume %s: %s: %w", volume, file, err)
		}
	}

	return there, nil
}

// createLook makes a container of the image that has the volume.
func (e *Engine) createLook(ctx context.Context, volume, image string) (id string, err error) {
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
		HostConfig: &container.HostConfig{
			NetworkMode: "none",
			Mounts: []mount.Mount{{
				Type: mount.TypeVolume, Source: volume, Target: looksAt, ReadOnly: true,
				VolumeOptions: &mount.VolumeOptions{NoCopy: true},
			}},
		},
	})
	return made.ID, err
}

// anyImage returns the image if the engine has it, or another one.
func (e *Engine) anyImage(ctx context.Context, ref string) (string, error) {
	if has, err := e.HasImage(ctx, ref); err != nil || has {
		return ref, err
	}

	list, err := e.api.ImageList(ctx, client.ImageListOptions{})
	if err == nil && len(list.Items) == 0 {
		err = errors.New("there is no image by which to look into it")
	}
	if err != nil {
		return "", err
	}
	return list.Items[0].ID, nil
}
