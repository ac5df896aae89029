package cluster

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestLock: of many who want the lock one has it, until that one gives it back.
func TestLock(t *testing.T) {
	c, api := lab()
	var group sync.WaitGroup
	got := make([]running.Holder, 8)
	for i := range got {
		group.Go(func() {
			h, err := c.Lock(t.Context(), running.Holder{ID: fmt.Sprint("run ", i), PID: i})
			if err != nil {
				t.Error(err)
			}
			got[i] = h
		})
	}
	group.Wait()

	first := got[0]
	for i, h := range got {
		if h != first {
			t.Errorf("%d is told that %+v holds the lock, 0 that %+v does", i, h, first)
		}
	}

	if err := c.Unlock(t.Context(), running.Holder{ID: "another"}); err != nil {
		t.Error(err)
	}
	if h, held, err := c.Holder(t.Context()); err != nil || !held || h != first {
		t.Errorf("after another gave it back: %+v, %v, %v", h, held, err)
	}

	if err := c.Unlock(t.Context(), first); err != nil {
		t.Error(err)
	}
	if h, held, err := c.Holder(t.Context()); err != nil || held {
		t.Errorf("after the holder gave it back: %+v, %v, %v", h, held, err)
	}

	// A stack whose namespace is not there yet.
	api.PrependReactor("create", "configmaps",
		func(ktesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewNotFound(corev1.Resource("namespaces"), c.Namespace)
		})
	if h, err := c.Lock(t.Context(), first); err != nil || h != first {
		t.Errorf("without a namespace: %+v, %v", h, err)
	}
}
