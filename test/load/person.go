package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

// endTimeout is how long after its own time an answer may end at the latest.
const endTimeout = 2 * time.Minute

// kindQuestion is the kind of requests that send a message, kindResent that of its tries that
// failed and were followed by another.
const (
	kindQuestion = "question"
	kindResent   = "question, sent again"
)

// resends are the pauses before the page's script sends a message again.
var resends = []time.Duration{
	300 * time.Millisecond,
	700 * time.Millisecond,
	1500 * time.Millisecond,
	2500 * time.Millisecond,
	4 * time.Second,
	6 * time.Second,
}

// conversation is one that a person has.
type conversation struct {
	id        string
	questions []*question
}

// question is a message that was sent.
type question struct {
	// text is unlike that of every other question; want is the answer.
	text, want string

	// acknowledged is set once the stack took it; until then the message may be there or not.
	acknowledged bool
	generation   string
	seen         []watched
}

// live is what a person does: looks around, asks, reads the answer, until the load ends.
func (b *browser) live() {
	var c *conversation
	for n := 0; b.run.soft.Err() == nil; n++ {
		// Three or four looks, then a question.
		for range 3 + b.rng.IntN(2) {
			b.look(c)
			if !sleep(b.run.soft, time.Duration(50+b.rng.IntN(200))*time.Millisecond) {
				return
			}
		}

		if c == nil || len(c.questions) >= b.run.opts.Turns {
			c = b.begin()
		}

		words, pause := 5+b.rng.IntN(40), time.Duration(10+b.rng.IntN(40))*time.Millisecond
		q := b.question(n, words, pause)
		if !b.ask(c, q) {
			c = nil // whether it is being answered is not known: a new conversation
			continue
		}

		b.read1(q, time.Duration(words)*pause)
	}
}

// watch has one long answer written after the other, and reads each over several streams, as in
// several tabs.
func (b *browser) watch(streams int) {
	var c *conversation
	for n := 0; b.run.soft.Err() == nil; n++ {
		if c == nil || len(c.questions) >= b.run.opts.Turns {
			c = b.begin()
		}

		pause := b.run.opts.Pause
		words := max(1, int(b.run.opts.Long/pause)) + b.rng.IntN(1+int(2*time.Second/pause))
		q := b.question(n, words, pause)
		if !b.ask(c, q) {
			c = nil
			if !sleep(b.run.soft, time.Second) {
				return
			}
			continue
		}

		b.run.count(func(r *Report) { r.LongAsked++ })
		ctx, cancel := context.WithTimeout(b.run.hard, time.Duration(words)*pause+endTimeout)
		var all sync.WaitGroup
		q.seen = make([]watched, streams)
		for i := range streams {
			all.Go(func() {
				if i%2 == 0 {
					q.seen[i] = b.followPage(ctx, q.generation)
				} else {
					q.seen[i] = b.followAPI(ctx, q.generation)
				}
			})
		}

		all.Wait()
		cancel()
		b.run.followed(b, q)
	}
}

// begin is a new conversation, which exists with its first message.
func (b *browser) begin() *conversation {
	c := &conversation{}
	b.conversations = append(b.conversations, c)
	return c
}

// question is a question unlike every other, and its answer.
func (b *browser) question(n, words int, pause time.Duration) *question {
	if s := b.run.opts.Sentence; s != "" {
		return &question{text: fmt.Sprintf("What is a bounded queue? (%s-%d)", b.name, n), want: s}
	}
	return &question{
		text: fmt.Sprintf("%s (%s-%d)", slowmodel.Question(words, pause), b.name, n),
		want: slowmodel.Text(words),
	}
}

// look loads one thing.
func (b *browser) look(c *conversation) {
	id := ""
	if c != nil {
		id = c.id
	}

	ctx := b.run.hard
	switch n := b.rng.IntN(10); {
	case n < 2 || n < 4 && id == "":
		_, _ = b.page(ctx, "page", "/")
	case n < 4:
		b.reread(ctx, c)
	case n < 6:
		_, _ = b.page(ctx, "fragment", "/fragments/sidebar?current="+url.QueryEscape(id))
	case n < 7:
		_, _ = b.page(ctx, "fragment", "/fragments/model")
	case n < 8:
		_, _ = b.send(ctx, "status", http.MethodGet, "/status", acceptPage, nil)
	default:
		_, _ = b.send(ctx, "list", http.MethodGet, "/api/conversations?limit=20", acceptJSON, nil)
	}
}

// reread loads a conversation's page, which has to show the last message that was taken.
func (b *browser) reread(ctx context.Context, c *conversation) {
	p, err := b.page(ctx, "page", "/c/"+url.PathEscape(c.id))
	if err != nil {
		return
	}

	last := ""
	for _, q := range c.questions {
		if q.acknowledged {
			last = q.text
		}
	}

	for _, s := range p.sources {
		if s == last {
			return
		}
	}

	b.run.fail("page", failContent, fmt.Sprintf("%s /c/%s does not show %q", b.name, c.id, last))
}

// ask sends a question as the page's script does, and reports whether it was taken.
func (b *browser) ask(c *conversation, q *question) bool {
	ctx := b.run.hard
	path := "/"
	if c.id != "" {
		path = "/c/" + url.PathEscape(c.id)
	}

	p, err := b.page(ctx, "page", path)
	if err != nil {
		return false
	}

	form := url.Values{"conversation_id": {c.id}, "message": {q.text}, "model": {p.model}}
	if p.key != "" {
		form.Set("key", p.key)
	}

	c.questions = append(c.questions, q)
	var reply struct {
		Conversation string `json:"conversation_id"`
		Generation   string `json:"generation_id"`
	}

	text, err := b.post(ctx, form)
	if err == nil {
		err = json.Unmarshal(text, &reply)
		other := c.id != "" && c.id != reply.Conversation
		if err == nil && (reply.Generation == "" || reply.Conversation == "" || other) {
			err = errors.New("the reply names no answer of this conversation")
		}

		if err != nil {
			b.run.fail(
				kindQuestion,
				failContent,
				fmt.Sprintf("%s: %v: %s", b.name, err, brief(string(text))),
			)
		}
	}

	b.run.count(func(r *Report) {
		r.Asked++
		if err == nil {
			r.Acknowledged++
		}
	})

	if err != nil {
		return false
	}

	q.acknowledged, q.generation, c.id = true, reply.Generation, reply.Conversation
	return true
}

// post sends a message. If that is asked for it is sent again, under its key, where the page's
// script would: when nobody may have got it. Each try that failed is counted.
func (b *browser) post(ctx context.Context, form url.Values) ([]byte, error) {
	for tries := 0; ; tries++ {
		text, err := b.send(ctx, kindQuestion, http.MethodPost, "/chat", acceptJSON, form)
		if err == nil || b.run.hard.Err() != nil || b.run.refused(err) {
			return text, err
		}

		var status *statusError
		again := b.run.opts.Resend && form.Get("key") != "" && tries < len(resends) &&
			(!errors.As(err, &status) || status.resend)
		kind := kindQuestion
		if again {
			kind = kindResent
		}

		b.run.fail(kind, kindOf(err), fmt.Sprintf("%s POST /chat: %v", b.name, err))
		if !again || !sleep(ctx, resends[tries]) {
			return nil, err
		}

		b.run.count(func(r *Report) { r.Resends++ })
	}
}

// read1 reads an answer over one stream.
func (b *browser) read1(q *question, takes time.Duration) {
	ctx, cancel := context.WithTimeout(b.run.hard, takes+endTimeout)
	defer cancel()
	if b.rng.IntN(3) == 0 {
		q.seen = append(q.seen, b.followAPI(ctx, q.generation))
	} else {
		q.seen = append(q.seen, b.followPage(ctx, q.generation))
	}

	b.run.followed(b, q)
}
