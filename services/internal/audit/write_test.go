package audit

import "testing"

// TestGivenUp holds that what nobody waits for any more takes no room, however much cannot be
// written.
func TestGivenUp(t *testing.T) {
	r := &Recorder{waiting: make(chan *entry, maxWaiting)}
	var entries []*entry
	for range maxBatch {
		entries = append(entries, &entry{must: true})
	}

	for range maxWaiting - 1 {
		e := &entry{}
		r.waiting <- e
		e.settle()
	}

	r.waiting <- &entry{}
	if entries = r.more(entries); len(r.waiting) != 0 || len(entries) != maxBatch+1 {
		t.Errorf("%d wait, and %d are to be written", len(r.waiting), len(entries))
	}

	entries[maxBatch].settle()
	if entries = r.more(entries); len(entries) != maxBatch {
		t.Errorf("%d are to be written", len(entries))
	}
}
