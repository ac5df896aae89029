package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// RunOnce runs the command in a container that is like the replica, with the streams, and returns
// its exit code. The container is removed when the command ends, when the context does, or when the
// command has taken its time. If this process is killed it is removed when the command ends; see
// OneOffs.
func (e *Engine) RunOnce(
	ctx context.Context, like running.Replica, o running.Once, s running.Streams,
) (code int, err error) {
	until := time.Now().Add(o.Limit)
	whole := ctx
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	fail := func(err error) (int, error) {
		switch {
		case whole.Err() != nil:
			return 0, whole.Err()
		case ctx.Err() != nil:
			return 0, fmt.Errorf("engine: run %s: it took longer than %s and was stopped",
				o.Args[0], o.Limit)
		}
		return 0, fmt.Errorf("engine: run %s like %s: %w", o.Args[0], like.Name, err)
	}

	id, remove, err := e.createOnce(ctx, like, o, s, until)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, remove()) }()

	if code, err = e.start(ctx, id, s); err != nil {
		return fail(err)
	}
	return code, nil
}

// start starts the container with the streams, and returns its exit code when it is removed.
func (e *Engine) start(ctx context.Context, id string, s running.Streams) (int, error) {
	// Before the start, so that nothing of the output and no quick end is missed.
	conn, err := e.api.ContainerAttach(ctx, id, client.ContainerAttachOptions{
		Stream: true,
		Stdin:  s.In != nil,
		Stdout: true,
		Stderr: true,
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	// The hijacked connection does not follow the context.
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	ended := e.api.ContainerWait(ctx, id, client.ContainerWaitOptions{
		Condition: container.WaitConditionRemoved,
	})
	if _, err := e.api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		return 0, err
	}

	if s.In != nil {
		go func() { // it ends with the connection, or never where In does not end, as a terminal
			_, _ = io.Copy(conn.Conn, s.In) // the command may end before it has read everything
			_ = conn.CloseWrite()
		}()
	}

	if s.Sizes != nil {
		go func() {
			for size := range s.Sizes {
				_, _ = e.api.ContainerResize(ctx, id, client.ContainerResizeOptions{
					Height: uint(size.Height), Width: uint(size.Width),
				})
			}
		}()
		_, err = io.Copy(s.Out, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(s.Out, s.Err, conn.Reader)
	}
	if err != nil {
		return 0, err
	}

	select {
	case r := <-ended.Result:
		if r.Error != nil {
			return 0, errors.New(r.Error.Message)
		}
		return int(r.StatusCode), nil
	case err := <-ended.Error:
		return 0, err
	}
}

// createOnce makes the command's container, which the caller removes.
func (e *Engine) createOnce(
	ctx context.Context, like running.Replica, o running.Once, s running.Streams, until time.Time,
) (id string, remove func() error, err error) {
	r, err := e.api.ContainerInspect(ctx, like.ID, client.ContainerInspectOptions{})
	if err != nil {
		return "", nil, err
	}

	of := r.Container
	if of.Config == nil || of.HostConfig == nil {
		return "", nil, errors.New("the engine does not say what it is made of")
	}

	var networks []string
	if of.NetworkSettings != nil {
		networks = slices.Sorted(maps.Keys(of.NetworkSettings.Networks))
	}

	host := likeHost(of, o)
	first := &network.NetworkingConfig{}
	if len(networks) > 0 {
		// Without an alias: the service's name leads to its replicas alone.
		host.NetworkMode = container.NetworkMode(networks[0])
		first.EndpointsConfig = map[string]*network.EndpointSettings{networks[0]: {}}
	}

	// The engine finishes what it was asked for: an interrupt waits for what it has to remove.
	create, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	made, err := e.api.ContainerCreate(create, client.ContainerCreateOptions{
		Name: strings.Join([]string{stacks.Project, e.Stack, "run", like.Service,
			strings.ToLower(rand.Text()[:6])}, "-"),
		Config:           e.likeConfig(of, like.Service, o, s, until),
		HostConfig:       host,
		NetworkingConfig: first,
	})
	if err != nil {
		return "", nil, err
	}

	remove = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		return e.RemoveOneOff(ctx, running.OneOff{ID: made.ID})
	}

	for _, name := range networks[min(1, len(networks)):] {
		_, err := e.api.NetworkConnect(create, name, client.NetworkConnectOptions{
			Container: made.ID, EndpointConfig: &network.EndpointSettings{},
		})
		if err != nil {
			return "", nil, errors.Join(err, remove())
		}
	}

	return made.ID, remove, nil
}

func (e *Engine) likeConfig(
	of container.InspectResponse, service string, o running.Once, s running.Streams, until time.Time,
) *container.Config {
	return &container.Config{
		Image:        of.Image, // its ID: a tag may have moved
		User:         of.Config.User,
		WorkingDir:   of.Config.WorkingDir,
		Env:          of.Config.Env,
		Entrypoint:   o.Args[:1],
		Cmd:          o.Args[1:],
		Healthcheck:  &container.HealthConfig{Test: []string{"NONE"}},
		Tty:          s.Sizes != nil,
		OpenStdin:    s.In != nil,
		StdinOnce:    s.In != nil, // it ends when this process does
		AttachStdin:  s.In != nil,
		AttachStdout: true,
		AttachStderr: true,
		Labels: map[string]string{
			stacks.LabelProject: stacks.Project,
			stacks.LabelStack:   e.Stack,
			running.LabelOnce:   service,
			running.LabelUntil:  strconv.FormatInt(until.Unix(), 10),
		},
	}
}

// likeHost returns what bounds the container: all that bounds the one that it is like, so that
// nothing is forgotten, without what makes that one a service.
func likeHost(of container.InspectResponse, o running.Once) *container.HostConfig {
	h := *of.HostConfig
	h.AutoRemove = true // also when this process is killed

	// What the command writes is for who runs it, and no log of the host's. An attached client
	// gets it all the same.
	h.LogConfig = container.LogConfig{Type: "none"}
	h.RestartPolicy = container.RestartPolicy{}
	h.PortBindings, h.PublishAllPorts = nil, false
	h.Links, h.ContainerIDFile = nil, ""
	h.Binds, h.VolumesFrom, h.Mounts = nil, nil, nil // of.Mounts has them all

	for _, m := range of.HostConfig.Mounts {
		if m.Type == mount.TypeTmpfs {
			h.Mounts = append(h.Mounts, m)
		}
	}

	for _, m := range of.Mounts {
		if !o.Secrets && slices.Contains(o.SecretDirs, m.Destination) {
			continue
		}

		to := mount.Mount{
			Type: m.Type, Source: m.Source, Target: m.Destination,
			ReadOnly: !m.RW || !slices.Contains(o.Writable, m.Destination),
		}
		switch m.Type {
		case mount.TypeVolume:
			to.Source = m.Name
		case mount.TypeBind:
		default:
			continue
		}
		h.Mounts = append(h.Mounts, to)
	}

	return &h
}

// OneOffs lists the containers that run a command once, the oldest first. One whose time is over is
// left of a codexctl that was killed: the engine removes it only when its command ends.
func (e *Engine) OneOffs(ctx context.Context) ([]running.OneOff, error) {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: e.ofStack(running.LabelOnce),
	})
	if err != nil {
		return nil, fmt.Errorf("engine: list containers: %w", err)
	}

	var out []running.OneOff
	for _, c := range list.Items {
		x := running.OneOff{
			ID: c.ID, Service: c.Labels[running.LabelOnce], StartedAt: time.Unix(c.Created, 0),
		}
		if len(c.Names) > 0 {
			x.Name = strings.TrimPrefix(c.Names[0], "/")
		}
		// One without a time is nobody's that this package made.
		until, err := strconv.ParseInt(c.Labels[running.LabelUntil], 10, 64)
		if err != nil {
			continue
		}
		x.Until = time.Unix(until, 0)
		_, x.Locked = c.Labels[running.LabelLocked]
		out = append(out, x)
	}

	slices.SortFunc(out, func(a, b running.OneOff) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// RemoveOneOff ends the command and removes its container.
func (e *Engine) RemoveOneOff(ctx context.Context, x running.OneOff) error {
	err := e.RemoveContainer(ctx, x.ID)
	if cerrdefs.IsConflict(err) { // in conflict with a removal that goes on
		return nil
	}
	return err
}
