package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// lockable is an engine with one volume, which keeps the labels that it was first made with.
type lockable struct {
	mu     sync.Mutex
	labels map[string]string
}

func (f *lockable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/volumes/create"):
		var made struct{ Labels map[string]string }
		_ = json.NewDecoder(r.Body).Decode(&made)
		if f.labels == nil {
			f.labels = made.Labels
		}
	case strings.Contains(r.URL.Path, "/volumes/codexcontinue-lock-dev") && f.labels == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such volume"}`)
		return
	case r.Method == http.MethodDelete:
		f.labels = nil
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Labels": f.labels})
}

// TestLock: of many who want the lock one has it, until that one gives it back.
func TestLock(t *testing.T) {
	e := connect(t, &lockable{})
	var group sync.WaitGroup
	got := make([]running.Holder, 8)
	for i := range got {
		group.Go(func() {
			h, err := e.Lock(t.Context(), running.Holder{ID: fmt.Sprint("run ", i), PID: i})
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
	e = connect(t, &lockable{labels: map[string]string{"of": "somebody"}})
	if _, err := e.Lock(t.Context(), first); err == nil ||
		!strings.Contains(err.Error(), "codexcontinue-lock-dev") {
		t.Errorf("a volume that is no lock: %v", err)
	}
}
