package library

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/vectors"
)

const (
	// embedBatch is how many passages ml is asked for at once: few, so that questions of people,
	// which wait for the same turns, do not wait long.
	embedBatch = 8

	// The pauses after an error, which grow from the first to the last.
	firstPause = time.Second
	lastPause  = time.Minute

	// leastText is how much of a passage is tried at least with a model that finds it too long.
	leastText = 64
)

// pending reports whether the vectors of a document are still to be made. The caller holds c.mu.
func (l *Library) pending(c *collection, d *document) bool {
	return l.Model != "" &&
		(d.vectors == nil || d.vectors.Model != l.Model || d.vectors.Round != c.round)
}

// unableTo returns why the model makes no vectors, "" while it does.
func (l *Library) unableTo() string {
	l.unableMu.Lock()
	defer l.unableMu.Unlock()
	return l.unable
}

func (l *Library) setUnable(why string) {
	l.unableMu.Lock()
	defer l.unableMu.Unlock()
	l.unable = why
}

// wakeUp has the embedder look for work.
func (l *Library) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// embedAll makes the vectors that are missing, one document after the other, until the library is
// closed.
func (l *Library) embedAll() {
	if l.Model == "" {
		return
	}
	for {
		c, d, round := l.nextPending()
		if d == nil {
			select {
			case <-l.wake:
				continue
			case <-l.ctx.Done():
				return
			}
		}

		set, err := l.embed(c, d, round)
		switch {
		case l.ctx.Err() != nil:
			return
		case err == nil && set != nil:
			err = l.keep(c, d, set)
		}
		if err != nil {
			l.Log.Warn("a document gets no vectors", "document", d.ID, "error", err)
			c.mu.Lock()
			d.problem = "Vectors cannot be made of it. The logs of the service have more."
			c.mu.Unlock()
		}
	}
}

// nextPending returns the oldest document that has a need of vectors, nil if none has.
func (l *Library) nextPending() (in *collection, oldest *document, round int) {
	for _, name := range l.names {
		c := l.collections[name]
		c.mu.RLock()
		for _, d := range c.docs {
			if d.problem == "" && l.pending(c, d) &&
				(oldest == nil || d.Added.Before(oldest.Added)) {
				in, oldest, round = c, d, c.round
			}
		}
		c.mu.RUnlock()
	}
	return in, oldest, round
}

// embed returns the vectors of a document. It asks again as long as ml is away; an error is about
// the document. It returns nil if the document is gone.
func (l *Library) embed(c *collection, d *document, round int) (*vectors.Set, error) {
	var all [][]float32
	for len(all) < d.Passages {
		c.mu.RLock()
		gone := c.byID[d.ID] != d
		var passages []split.Passage
		var err error
		if !gone {
			passages, err = d.passages(len(all), min(len(all)+embedBatch, d.Passages))
		}
		c.mu.RUnlock()
		if gone || err != nil {
			return nil, err
		}

		made, err := l.embedPatiently(textsOf(d, passages))
		if err != nil {
			return nil, err
		}
		all = append(all, made...)
	}
	return vectors.NewSet(l.Model, d.ID, round, all)
}

// textsOf returns what vectors are made of: a passage below its title and headings.
func textsOf(d *document, passages []split.Passage) []string {
	var out []string
	for _, p := range passages {
		text := d.Title + "\n"
		if p.Heading != "" {
			text += p.Heading + "\n"
		}
		out = append(out, text+"\n"+p.Text)
	}
	return out
}

// embedPatiently asks for vectors until ml answers. An error is about the texts, or that the library
// is closed.
func (l *Library) embedPatiently(texts []string) ([][]float32, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		made, err := l.embedShort(l.ctx, texts)
		if err == nil && len(made) != len(texts) {
			err = errors.New("a model makes another number of vectors")
		}
		if err == nil {
			l.setUnable("")
			return made, nil
		}
		if l.ctx.Err() != nil || tooLong(err) {
			return nil, err
		}

		// What is refused stays refused until somebody does something about it.
		var p *problem.Problem
		if errors.As(err, &p) && p.Status < http.StatusInternalServerError &&
			p.Status != http.StatusTooManyRequests {
			l.setUnable("The model for vectors does not answer: " + p.Error())
		}
		l.Log.Warn("vectors are made later", "error", err, "after", pause.String())
		if !outage.Pause(l.ctx, pause) {
			return nil, l.ctx.Err()
		}
	}
}

// embedShort asks for vectors. Of a text that is longer than the model's context it is that of the
// beginning.
func (l *Library) embedShort(ctx context.Context, texts []string) ([][]float32, error) {
	made, err := l.Embed(ctx, l.Model, texts)
	if !tooLong(err) {
		return made, err
	}

	if len(texts) > 1 {
		var all [][]float32
		for _, t := range texts {
			made, err := l.embedShort(ctx, []string{t})
			if err != nil {
				return nil, err
			}
			all = append(all, made...)
		}
		return all, nil
	}

	r := []rune(texts[0])
	if len(r) <= leastText {
		return nil, err
	}
	return l.embedShort(ctx, []string{string(r[:max(len(r)/2, leastText)])})
}

func tooLong(err error) bool {
	var p *problem.Problem
	return errors.As(err, &p) && p.Status == http.StatusRequestEntityTooLarge
}

// keep has a document found by its vectors, unless it is gone.
func (l *Library) keep(c *collection, d *document, set *vectors.Set) error {
	// A file that a crash cuts has a wrong checksum, and is made anew.
	path := c.path("vectors", d.ID)
	if err := os.WriteFile(path+unfinished, set.Encode(), 0o600); err != nil {
		_ = os.Remove(path + unfinished)
		return Full(err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[d.ID] != d {
		return os.Remove(path + unfinished)
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return err
	}
	d.vectors = set
	return nil
}
