package engine

import (
	"context"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// labelHolder has who holds the lock, on an empty volume that is the lock: of those who make one of
// a name the engine lets the first alone label it. It has not the labels of the stack, whose
// volumes outlive it.
const labelHolder = "dev.codexcontinue.lock"

func (e *Engine) lockName() string { return stacks.Project + "-lock-" + e.Stack }

// Lock makes h the holder of the stack's lock, unless there is one, and returns who it is then.
func (e *Engine) Lock(ctx context.Context, h running.Holder) (running.Holder, error) {
	_, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{
		Name: e.lockName(), Driver: "local", Labels: map[string]string{labelHolder: h.Text()},
	})
	if err != nil {
		return running.Holder{}, fmt.Errorf("engine: lock: %w", err)
	}

	now, held, err := e.Holder(ctx)
	if err == nil && !held {
		err = fmt.Errorf("engine: lock: the volume %s was removed at once", e.lockName())
	}
	return now, err
}

// Holder returns who holds the stack's lock, and whether somebody does.
func (e *Engine) Holder(ctx context.Context) (h running.Holder, held bool, err error) {
	r, err := e.api.VolumeInspect(ctx, e.lockName(), client.VolumeInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err):
		return h, false, nil
	case err != nil:
		return h, false, fmt.Errorf("engine: lock: %w", err)
	}

	h, err = running.ParseHolder(r.Volume.Labels[labelHolder])
	if err != nil {
		return h, false, fmt.Errorf("engine: volume %s: %w: remove it", e.lockName(), err)
	}
	return h, true, nil
}

// Unlock removes the stack's lock if it is h's.
func (e *Engine) Unlock(ctx context.Context, h running.Holder) error {
	now, held, err := e.Holder(ctx)
	if err != nil || !held || now.ID != h.ID {
		return err
	}
	return e.RemoveVolume(ctx, e.lockName())
}
