package generation

import (
	"sync"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// news is what the model has sent since the inbox was last emptied. Its outcome is nil until there
// is nothing more to come.
type news struct {
	thinking, text string
	queue, leftOut int
	sources        *backendapi.Sources
	outcome        *outcome
}

// outcome is what becomes of an answer when its job is over. The zero outcome leaves it as it is:
// its end is stored already, or cannot be.
type outcome struct {
	// ending ends the answer.
	ending *store.Ending

	// release leaves the answer to another instance.
	release bool

	// superseded is set if another instance writes the answer now.
	superseded bool
}

// inbox is between the one that reads the model's answer and the one that writes it to Redis. While
// a write is under way the text that arrives is collected, and is one write then: a fast model
// costs few writes, a slow one has each token written at once, and nothing ever waits for a timer.
type inbox struct {
	wake chan struct{}

	mu             sync.Mutex
	text, thinking []byte
	queue, leftOut int
	sources        *backendapi.Sources
	outcome        *outcome
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// change changes the inbox and wakes its reader.
func (i *inbox) change(f func()) {
	i.mu.Lock()
	f()
	i.mu.Unlock()
	select {
	case i.wake <- struct{}{}:
	default: // it is awake already and will see what came
	}
}

func (i *inbox) addText(s string) { i.change(func() { i.text = append(i.text, s...) }) }
func (i *inbox) addThought(s string) {
	i.change(func() { i.thinking = append(i.thinking, s...) })
}
func (i *inbox) setQueue(position int) { i.change(func() { i.queue = position }) }
func (i *inbox) setLeftOut(n int)      { i.change(func() { i.leftOut = n }) }
func (i *inbox) setSources(s backendapi.Sources) {
	i.change(func() { i.sources = &s })
}
func (i *inbox) end(o outcome) { i.change(func() { i.outcome = &o }) }

// take empties the inbox. The outcome comes with the last text.
func (i *inbox) take() news {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := news{thinking: string(i.thinking), text: string(i.text), queue: i.queue,
		leftOut: i.leftOut, sources: i.sources, outcome: i.outcome}
	i.text, i.thinking, i.queue, i.leftOut = i.text[:0], i.thinking[:0], 0, 0
	i.sources = nil
	return n
}
