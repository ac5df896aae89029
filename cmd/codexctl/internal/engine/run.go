package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// Command is a command that runs once, in a container of its own.
type Command struct {
	// Args are the program and its arguments.
	Args []string

	// Name is the beginning of the container's name.
	Name string

	// Service is what the container is like: its image, user, limits and mounts. The container has
	// nothing else of it, such as its environment, files, networks and ports.
	Service types.ServiceConfig

	// Env are the container's variables.
	Env []string

	// Network is the one that the container is in; empty is the engine's default.
	Network string

	// Volumes are those that the mounts name. They are made if they are not there.
	Volumes types.Volumes

	// Root is the folder that the sources of bind mounts are relative to.
	Root string

	// Labels are the container's.
	Labels         map[string]string
	Stdout, Stderr io.Writer
}

// How long making a container may take, and removing one.
const (
	createTimeout = time.Minute
	removeTimeout = 10 * time.Second
)

// Run runs the command and returns its exit code. The container is removed when the command ends,
// or when the context does.
func (e *Engine) Run(ctx context.Context, c Command) (code int, err error) {
	id, remove, err := e.create(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()

	code, err = e.start(ctx, id, running.Streams{Out: c.Stdout, Err: c.Stderr})
	if err != nil {
		return 0, c.failed(ctx, err)
	}
	return code, nil
}

// Serve runs the command, calls use with its container, and removes that when use returns. If this
// process is killed the command goes on, and c.Labels have to make it one of OneOffs.
func (e *Engine) Serve(
	ctx context.Context, c Command, use func(in running.Replica) error,
) (err error) {
	id, remove, err := e.create(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	if _, err := e.api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return c.failed(ctx, err)
	}

	return use(running.Replica{ID: id, Name: c.Name})
}

// failed returns why the command could not be run.
func (c Command) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("engine: run %s: %w", c.Args[0], err)
}

// create makes the command's container, which the caller removes.
func (e *Engine) create(
	ctx context.Context, c Command,
) (id string, remove func() error, err error) {
	mounts, err := e.mounts(ctx, c)
	if err != nil {
		return "", nil, err
	}

	// The engine finishes what it was asked for: an interrupt waits for what it has to remove.
	create, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	made, err := e.api.ContainerCreate(create, client.ContainerCreateOptions{
		Name:       c.Name + "-" + strings.ToLower(rand.Text()[:6]),
		Config:     c.config(),
		HostConfig: c.hostConfig(mounts),
	})
	if err != nil {
		return "", nil, c.failed(ctx, err)
	}

	return made.ID, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		gone := e.RemoveContainer(ctx, made.ID)
		if cerrdefs.IsConflict(gone) { // in conflict with a removal that goes on
			return nil
		}
		return gone
	}, nil
}

// mounts returns the mounts of the command's container. It makes the volumes that are not there, as
// the stack would.
func (e *Engine) mounts(ctx context.Context, c Command) ([]mount.Mount, error) {
	var out []mount.Mount
	for _, m := range c.Service.Volumes {
		to := mount.Mount{
			Type:     mount.Type(m.Type),
			Source:   filepath.Join(c.Root, m.Source),
			Target:   m.Target,
			ReadOnly: m.ReadOnly,
		}
		if m.Type == types.VolumeTypeVolume {
			v := c.Volumes[m.Source]
			to.Source = v.Name
			_, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{
				Name:   v.Name,
				Driver: v.Driver,
				Labels: v.Labels,
			})
			if err != nil {
				return nil, fmt.Errorf("engine: volume %s: %w", v.Name, err)
			}
		}

		out = append(out, to)
	}

	return out, nil
}

func (c Command) config() *container.Config {
	return &container.Config{
		Image:      c.Service.Image,
		User:       c.Service.User,
		Entrypoint: c.Args[:1],
		Cmd:        c.Args[1:],
		Env:        c.Env,
		Labels:     c.Labels,
	}
}

func (c Command) hostConfig(mounts []mount.Mount) *container.HostConfig {
	s := c.Service
	tmpfs := map[string]string{}
	for _, t := range s.Tmpfs {
		target, options, _ := strings.Cut(t, ":")
		tmpfs[target] = options
	}

	return &container.HostConfig{
		AutoRemove:     true, // when the command ends, also if this process was killed
		CapAdd:         s.CapAdd,
		CapDrop:        s.CapDrop,
		Init:           s.Init,
		LogConfig:      container.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options},
		Mounts:         mounts,
		NetworkMode:    container.NetworkMode(c.Network),
		ReadonlyRootfs: s.ReadOnly,
		SecurityOpt:    s.SecurityOpt,
		Tmpfs:          tmpfs,
		Resources: container.Resources{
			CPUPeriod:  s.CPUPeriod,
			CPUQuota:   s.CPUQuota,
			Memory:     int64(s.MemLimit),
			MemorySwap: int64(s.MemSwapLimit),
			PidsLimit:  &s.PidsLimit,
		},
	}
}
