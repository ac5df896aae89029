package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// The lock is a ConfigMap of this name, whose key has who holds it.
const (
	lockName  = stacks.Project + "-lock"
	holderKey = "holder"
)

// Lock makes h the holder of the stack's lock, unless there is one, and returns who it is then. A
// stack without a namespace has no place for a lock, and nothing to be guarded.
func (c *Cluster) Lock(ctx context.Context, h running.Holder) (running.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.api.CoreV1().ConfigMaps(c.Namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: lockName, Labels: map[string]string{
			stacks.LabelProject: stacks.Project, stacks.LabelStack: c.Stack,
		}},
		Immutable: new(true),
		Data:      map[string]string{holderKey: h.Text()},
	}, metav1.CreateOptions{FieldManager: fieldManager})
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return h, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return h, nil // what comes next says so
	case !apierrors.IsAlreadyExists(err):
		return running.Holder{}, c.failed("lock", err)
	}

	now, held, err := c.Holder(ctx)
	if err == nil && !held {
		return c.Lock(ctx, h) // it was given back meanwhile
	}
	return now, err
}

// Holder returns who holds the stack's lock, and whether somebody does.
func (c *Cluster) Holder(ctx context.Context) (h running.Holder, held bool, err error) {
	h, _, held, err = c.holder(ctx)
	return h, held, err
}

// holder is Holder, with the lock's UID.
func (c *Cluster) holder(ctx context.Context) (h running.Holder, uid string, held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := c.api.CoreV1().ConfigMaps(c.Namespace).Get(ctx, lockName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return h, "", false, nil
	case err != nil:
		return h, "", false, c.failed("lock", err)
	}

	h, err = running.ParseHolder(m.Data[holderKey])
	if err != nil {
		return h, "", false, fmt.Errorf("cluster: config map %s: %w: remove it", lockName, err)
	}
	return h, string(m.UID), true, nil
}

// Unlock removes the stack's lock if it is h's.
func (c *Cluster) Unlock(ctx context.Context, h running.Holder) error {
	now, uid, held, err := c.holder(ctx)
	if err != nil || !held || now.ID != h.ID {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.api.CoreV1().ConfigMaps(c.Namespace).Delete(ctx, lockName,
		metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(uid)})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return c.failed("unlock", err)
	}
	return nil
}
