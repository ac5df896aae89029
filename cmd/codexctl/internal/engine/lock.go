package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// labelHolder has who holds the lock, on an empty volume that is the lock: of those who make one of
// a name the engine lets the first alone label it. It has not the labels of the stack, whose
// volumes outlive it.
const labelHolder = "dev.codexcontinue.lock"

// labelRemover has who may remove the lock of a holder, on an empty volume that is named after that
// holder's ID: a volume is removed by its name, and by then the lock may be another's.
const labelRemover = "dev.codexcontinue.unlock"

// How often Unlock looks whether another one has removed the lock, and for how long.
const (
	removerEvery = 100 * time.Millisecond
	removerWait  = 5 * time.Second
)

func (e *Engine) lockName() string { return stacks.Project + "-lock-" + e.Stack }

// removerName returns the name of the volume that says who may remove the lock of the holder with
// the ID.
func (e *Engine) removerName(id string) string {
	return stacks.Project + "-unlock-" + e.Stack + "-" + id
}

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
		err = fmt.Errorf("engine: lock: the volume %s was removed at once: run it again",
			e.lockName())
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

// Unlock removes the stack's lock if it is h's. Of those who want to remove it at the same time one
// does, and the others wait for that: none of them can remove the lock of who has it next.
func (e *Engine) Unlock(ctx context.Context, h running.Holder) error {
	me, until := rand.Text(), time.Now().Add(removerWait)
	for {
		now, held, err := e.Holder(ctx)
		if err != nil || !held || now.ID != h.ID {
			return err
		}

		mine, err := e.becomeRemover(ctx, h.ID, me)
		switch {
		case err != nil:
			return err
		case mine:
			return e.unlockAs(ctx, h)
		case time.Now().After(until):
			return fmt.Errorf("engine: lock: another codexctl is removing it: if none runs any more, "+
				"remove the volume %s", e.removerName(h.ID))
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(removerEvery):
		}
	}
}

// becomeRemover makes me the one who may remove the lock of the holder with the ID, unless there is
// one, and reports whether it is me.
func (e *Engine) becomeRemover(ctx context.Context, id, me string) (bool, error) {
	name := e.removerName(id)
	_, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{
		Name: name, Driver: "local", Labels: map[string]string{labelRemover: me},
	})
	if err != nil {
		return false, fmt.Errorf("engine: lock: %w", err)
	}

	r, err := e.api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	switch {
	case cerrdefs.IsNotFound(err): // another one was, and is done
		return false, nil
	case err != nil:
		return false, fmt.Errorf("engine: lock: %w", err)
	}
	return r.Volume.Labels[labelRemover] == me, nil
}

// unlockAs removes the lock if it is still h's, as the one who may, and then lets others be that.
// Nobody else removes h's lock meanwhile, so that it is h's until it is removed here.
func (e *Engine) unlockAs(ctx context.Context, h running.Holder) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	now, held, err := e.Holder(ctx)
	if err == nil && held && now.ID == h.ID {
		err = e.RemoveVolume(ctx, e.lockName())
	}
	if err != nil {
		_ = e.RemoveVolume(ctx, e.removerName(h.ID)) // the first error says more
		return err
	}

	return e.RemoveVolume(ctx, e.removerName(h.ID))
}
