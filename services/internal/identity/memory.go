package identity

import (
	"sync"
	"time"
)

// memory keeps values for a while. When it has maxKept it forgets them all.
// The zero value is empty.
type memory[V any] struct {
	mu     sync.Mutex
	values map[string]kept[V]
}

type kept[V any] struct {
	value V
	until time.Time
}

// maxKept bounds what a memory keeps: a value of each of so many people.
const maxKept = 1000

// get returns what is kept with the key, if its time is not over.
func (m *memory[V]) get(key string) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.values[key]
	if !ok || !time.Now().Before(k.until) {
		return v, false
	}
	return k.value, true
}

func (m *memory[V]) put(key string, v V, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil || len(m.values) >= maxKept {
		m.values = map[string]kept[V]{}
	}
	m.values[key] = kept[V]{v, until}
}
