package generation

import (
	"sync"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
)

// inbox is between the one that reads the model's answer and the one that writes it to Redis. While a write is under
// way the text that arrives is collected, and is one write then: a fast model costs few writes, a slow one has each
// token written at once, and nothing ever waits for a timer.
type inbox struct {
	wake chan struct{}

	mu     sync.Mutex
	text   []byte
	queue  int
	ending *store.Ending
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default: // it is awake already and will see what came
	}
}

func (i *inbox) addText(s string) {
	i.mu.Lock()
	i.text = append(i.text, s...)
	i.mu.Unlock()
	i.signal()
}

func (i *inbox) setQueue(position int) {
	i.mu.Lock()
	i.queue = position
	i.mu.Unlock()
	i.signal()
}

func (i *inbox) end(e store.Ending) {
	i.mu.Lock()
	i.ending = &e
	i.mu.Unlock()
	i.signal()
}

// take empties the inbox. The ending comes with the last text.
func (i *inbox) take() (text string, queue int, ending *store.Ending) {
	i.mu.Lock()
	defer i.mu.Unlock()
	text, queue, ending = string(i.text), i.queue, i.ending
	i.text, i.queue = i.text[:0], 0
	return text, queue, ending
}
