package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// lockable is an engine with volumes, which keep the labels that they were first made with.
type lockable struct {
	mu      sync.Mutex
	volumes map[string]map[string]string // labels by name

	// before is called before each request is answered. It may be nil.
	before func(r *http.Request)
}

func (f *lockable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.before != nil {
		f.before(r)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	_, name, ok := strings.Cut(r.URL.Path, "/volumes/")
	if !ok {
		return
	}
	if name == "create" {
		var made struct {
			Name   string
			Labels map[string]string
		}
		_ = json.NewDecoder(r.Body).Decode(&made)
		name = made.Name
		if f.volumes == nil {
			f.volumes = map[string]map[string]string{}
		}
		if f.volumes[name] == nil {
			f.volumes[name] = made.Labels
		}
	}

	labels, ok := f.volumes[name]
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such volume"}`)
	case r.Method == http.MethodDelete:
		delete(f.volumes, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"Name": name, "Labels": labels})
	}
}

// left returns the names of the volumes that there are.
func (f *lockable) left() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.volumes))
}

// TestLock: of many who want the lock one has it, until that one gives it back.
func TestLock(t *testing.T) {
	e := connect(t, &lockable{})
	var group sync.WaitGroup
	got := make([]running.Holder, 8)
	for i := range got {
		group.Go(func() {
			h, err := e.Lock(t.Context(), running.Holder{ID: fmt.Sprint("run", i), PID: i})
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

	if err := e.Unlock(t.Context(), running.Holder{ID: "another"}); err != nil {
		t.Error(err)
	}
	if h, held, err := e.Holder(t.Context()); err != nil || !held || h != first {
		t.Errorf("after another gave it back: %+v, %v, %v", h, held, err)
	}

	if err := e.Unlock(t.Context(), first); err != nil {
		t.Error(err)
	}
	if h, held, err := e.Holder(t.Context()); err != nil || held {
		t.Errorf("after the holder gave it back: %+v, %v, %v", h, held, err)
	}

	// A volume of the name that is no lock.
	e = connect(t, &lockable{volumes: map[string]map[string]string{
		"codexcontinue-lock-dev": {"of": "somebody"},
	}})
	if _, err := e.Lock(t.Context(), first); err == nil ||
		!strings.Contains(err.Error(), "codexcontinue-lock-dev") {
		t.Errorf("a volume that is no lock: %v", err)
	}
}

// TestUnlockTwice: of two who take over the lock of a dead process, one that was slow does not remove
// the lock that the other one has by then.
func TestUnlockTwice(t *testing.T) {
	dead := running.Holder{ID: "DEAD"}
	f := &lockable{volumes: map[string]map[string]string{
		"codexcontinue-lock-dev": {labelHolder: dead.Text()},
	}}
	e := connect(t, f)

	// The slow one has found the dead holder, and is stopped before it changes anything.
	stopped, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	f.before = func(r *http.Request) {
		if r.Method != http.MethodPost && r.Method != http.MethodDelete {
			return
		}
		slow := false
		first.Do(func() { slow = true })
		if slow {
			close(stopped)
			<-goOn
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Unlock(t.Context(), dead) }()
	<-stopped

	if err := e.Unlock(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	fast := running.Holder{ID: "FAST"}
	if h, err := e.Lock(t.Context(), fast); err != nil || h != fast {
		t.Fatalf("the fast one: %+v, %v", h, err)
	}

	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if h, err := e.Lock(t.Context(), running.Holder{ID: "SLOW"}); err != nil || h != fast {
		t.Errorf("the slow one is told that %+v holds the lock, %v", h, err)
	}
	if left := f.left(); !slices.Equal(left, []string{"codexcontinue-lock-dev"}) {
		t.Errorf("there are %q", left)
	}
}

// TestTakeOver: of many who find a dead process one at a time has the lock.
func TestTakeOver(t *testing.T) {
	dead := running.Holder{ID: "DEAD"}
	f := &lockable{volumes: map[string]map[string]string{
		"codexcontinue-lock-dev": {labelHolder: dead.Text()},
	}}
	e := connect(t, f)
	got := make([]running.Holder, 8)
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			if err := e.Unlock(t.Context(), dead); err != nil {
				t.Error(err)
			}
			h, err := e.Lock(t.Context(), running.Holder{ID: fmt.Sprint("RUN", i)})
			if err != nil {
				t.Error(err)
			}
			got[i] = h
		})
	}
	group.Wait()

	for i, h := range got {
		if h != got[0] || h == dead {
			t.Errorf("%d is told that %+v holds the lock, 0 that %+v does", i, h, got[0])
		}
	}
	if left := f.left(); !slices.Equal(left, []string{"codexcontinue-lock-dev"}) {
		t.Errorf("there are %q", left)
	}
}

// TestUnlockWaits: while another one is to remove the lock, it is not removed, and who is to see to
// it that the other one has ended is told how.
func TestUnlockWaits(t *testing.T) {
	dead := running.Holder{ID: "DEAD"}
	f := &lockable{volumes: map[string]map[string]string{
		"codexcontinue-lock-dev":        {labelHolder: dead.Text()},
		"codexcontinue-unlock-dev-DEAD": {labelRemover: "another"},
	}}
	e := connect(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 3*removerEvery)
	defer cancel()
	if err := e.Unlock(ctx, dead); err == nil {
		t.Error("it ended before the other one")
	}

	began := time.Now()
	err := e.Unlock(t.Context(), dead)
	if err == nil || !strings.Contains(err.Error(), "codexcontinue-unlock-dev-DEAD") ||
		time.Since(began) < removerWait {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if left := f.left(); len(left) != 2 {
		t.Errorf("there are %q", left)
	}
}
