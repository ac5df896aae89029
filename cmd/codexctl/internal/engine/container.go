package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// Container is one replica of a service.
type Container struct {
	// Replica has the reference that the container was made from as its Image.
	running.Replica

	// ImageID is the engine's ID of the image.
	ImageID   string
	CreatedAt time.Time

	// FinishedAt is when its last run ended; zero if none did.
	FinishedAt time.Time

	// Running reports whether its program runs, in health or not.
	Running bool

	// HealthCommand is the command of the health check, without its CMD.
	HealthCommand []string

	// Networks are the engine's IDs of the container's networks.
	Networks []string
}

// Containers lists the containers of a service, or of all services if service is empty, sorted by
// service, then age. It leaves out containers that never start and only carry files.
func (e *Engine) Containers(ctx context.Context, service string) ([]Container, error) {
	want := stacks.LabelService
	if service != "" {
		want += "=" + service
	}

	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: e.ofStack(want),
	})
	if err != nil {
		return nil, fmt.Errorf("engine: list containers: %w", err)
	}

	var out []Container
	for _, s := range list.Items {
		c, err := e.Inspect(ctx, s.ID)
		if cerrdefs.IsNotFound(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}

		out = append(out, c)
	}

	slices.SortFunc(out, func(a, b Container) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), a.CreatedAt.Compare(b.CreatedAt),
			cmp.Compare(a.Name, b.Name))
	})

	return out, nil
}

// Inspect returns one container.
func (e *Engine) Inspect(ctx context.Context, id string) (Container, error) {
	r, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return Container{}, fmt.Errorf("engine: inspect %.12s: %w", id, err)
	}

	x := r.Container
	c := Container{
		Replica: running.Replica{
			ID:       x.ID,
			Name:     strings.TrimPrefix(x.Name, "/"),
			Restarts: x.RestartCount,
		},
		ImageID: x.Image,
	}

	// The engine writes RFC 3339 times, a zero time for a container that never started.
	c.CreatedAt, _ = time.Parse(time.RFC3339Nano, x.Created)
	if x.Config != nil {
		c.Service, c.Image = x.Config.Labels[stacks.LabelService], x.Config.Image
		if h := x.Config.Healthcheck; h != nil && len(h.Test) > 1 && h.Test[0] == "CMD" {
			c.HealthCommand = h.Test[1:]
		}
	}

	if n := x.NetworkSettings; n != nil {
		for _, endpoint := range n.Networks {
			if endpoint != nil && endpoint.NetworkID != "" {
				c.Networks = append(c.Networks, endpoint.NetworkID)
			}
		}
	}

	if h := x.HostConfig; h != nil {
		c.Memory = stacks.Bytes(h.Memory)
		c.CPU = stacks.MilliCPU(h.NanoCPUs / 1e6)
		if h.CPUQuota > 0 {
			period := h.CPUPeriod
			if period == 0 {
				period = 100_000 // the kernel's default, in microseconds
			}
			c.CPU = stacks.MilliCPU(h.CPUQuota * 1000 / period)
		}

		for port, binds := range h.PortBindings {
			if port.Proto() != network.TCP {
				continue // people begin with TCP
			}

			for _, b := range binds {
				n, err := strconv.Atoi(b.HostPort)
				if err != nil {
					continue // a port of the engine's choice
				}

				p := running.Port{Host: n, Container: int(port.Num())}
				p.TLS = c.Service == stacks.Edge && p.Container == stacks.EdgeTLSPort
				if b.HostIP.IsValid() {
					p.Address = b.HostIP.String()
				}

				c.Ports = append(c.Ports, p)
			}
		}

		slices.SortFunc(c.Ports, func(a, b running.Port) int {
			switch {
			case a.TLS && !b.TLS:
				return -1
			case b.TLS && !a.TLS:
				return 1
			}
			return cmp.Compare(a.Host, b.Host)
		})
	}

	if x.State != nil {
		c.setState(*x.State)
	}

	return c, nil
}

// Volumes returns the names of the stack's volumes, sorted.
func (e *Engine) Volumes(ctx context.Context) ([]string, error) {
	r, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: e.ofStack()})
	if err != nil {
		return nil, fmt.Errorf("engine: list volumes: %w", err)
	}

	var names []string
	for _, v := range r.Items {
		names = append(names, v.Name)
	}

	slices.Sort(names)
	return names, nil
}

// RemoveVolume deletes a volume and what is in it.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	_, err := e.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("engine: remove volume %s: %w", name, err)
	}
	return nil
}

// HasImage reports whether the engine has the image.
func (e *Engine) HasImage(ctx context.Context, ref string) (bool, error) {
	_, err := e.api.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// RemoveContainer stops and removes a container, with its anonymous volumes.
func (e *Engine) RemoveContainer(ctx context.Context, id string) error {
	_, err := e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{
		Force:         true,
		RemoveVolumes: true,
	})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("engine: remove %.12s: %w", id, err)
	}

	return nil
}

// Restart restarts the service's containers one after the other, each with its own time to drain
// and healthy before the next one goes. It calls restarted for each. It returns a
// *running.UnhealthyError if one does not become healthy in time.
func (e *Engine) Restart(
	ctx context.Context, service string, timeout time.Duration,
	restarted func(name string, took time.Duration),
) error {
	list, err := e.Containers(ctx, service)
	if err != nil {
		return err
	}

	for i, c := range list {
		start := time.Now()
		err := e.restart(ctx, c, timeout)
		var sick *running.UnhealthyError
		if errors.As(err, &sick) {
			sick.Left = len(list) - i - 1
		}
		if err != nil {
			return err
		}

		restarted(c.Name, time.Since(start))
	}

	return nil
}

func (e *Engine) restart(ctx context.Context, c Container, timeout time.Duration) error {
	if _, err := e.api.ContainerRestart(ctx, c.ID, client.ContainerRestartOptions{}); err != nil {
		return fmt.Errorf("engine: restart %s: %w", c.Name, err)
	}

	now := c
	// The engine has no call that waits for health.
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, timeout, true,
		func(ctx context.Context) (healthy bool, err error) {
			x, err := e.Inspect(ctx, c.ID)
			if err != nil {
				return false, err
			}

			now = x
			switch now.State {
			case "healthy", "running":
				return true, nil
			case "unhealthy", "exited", "dead":
				return false, &running.UnhealthyError{Replica: now.Replica}
			}

			return false, nil
		})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return &running.UnhealthyError{Replica: now.Replica, After: timeout}
	}

	return err
}

// ImageName returns the reference by which people know the container's image. A container made from
// an image's ID has no reference, so that of the image is taken.
func (e *Engine) ImageName(ctx context.Context, c Container) (string, error) {
	if !strings.HasPrefix(c.Image, "sha256:") {
		return c.Image, nil
	}

	img, err := e.api.ImageInspect(ctx, c.ImageID)
	if cerrdefs.IsNotFound(err) {
		return c.Image, nil // untagged and removed since
	}
	if err != nil {
		return "", fmt.Errorf("engine: image of %s: %w", c.Name, err)
	}
	if len(img.RepoTags) > 0 {
		return img.RepoTags[0], nil
	}

	return c.Image, nil
}
