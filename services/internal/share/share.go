// Package share keeps one person from taking what all have in common.
package share

import "sync"

// Shares gives each owner a part of something that is counted.
type Shares struct {
	most int64

	mu   sync.Mutex
	held map[string]int64 // by owner, of those who hold something
}

// New returns shares of which each is as large as most.
func New(most int64) *Shares { return &Shares{most: most, held: make(map[string]int64)} }

// Take takes n of the owner's share, and reports whether there was as much left. The caller calls
// release once, when it is over.
func (s *Shares) Take(owner string, n int64) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.most-s.held[owner] {
		return nil, false
	}

	s.held[owner] += n
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[owner] -= n; s.held[owner] == 0 {
			delete(s.held, owner)
		}
	}, true
}
