package markdown

import (
	"container/list"
	"sync"
)

// codeCache keeps the code that was coloured last. Colouring takes 2 ms per KiB, a thousand times what the rest of the
// rendering does, and the same code is needed again at the end of its answer and whenever its conversation is opened.
type codeCache struct {
	max int // bytes

	mu    sync.Mutex
	size  int
	order list.List // of *cachedCode, last used first
	byKey map[codeKey]*list.Element
}

type codeKey struct{ lang, code string }

type cachedCode struct {
	key   codeKey
	inner string
}

func (c cachedCode) size() int { return len(c.key.lang) + len(c.key.code) + len(c.inner) }

func newCodeCache(max int) *codeCache {
	return &codeCache{max: max, byKey: map[codeKey]*list.Element{}}
}

// highlight is the function highlight, remembered.
func (c *codeCache) highlight(lang, code string) string {
	key := codeKey{lang, code}
	c.mu.Lock()
	if e, ok := c.byKey[key]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(cachedCode).inner
	}
	c.mu.Unlock()
	v := cachedCode{key, highlight(lang, code)}
	if v.size() > c.max/4 {
		return v.inner // would push out everything else
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; !ok {
		c.byKey[key] = c.order.PushFront(v)
		c.size += v.size()
	}
	for c.size > c.max {
		last := c.order.Back()
		old := c.order.Remove(last).(cachedCode)
		delete(c.byKey, old.key)
		c.size -= old.size()
	}
	return v.inner
}
