package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// verifyTimeout bounds the look at one browser's conversations; what cannot be read until then
	// is lost.
	verifyTimeout = 5 * time.Minute
	verifyPause   = 500 * time.Millisecond

	// longGap is the longest pause in an answer whose writer died, noticed one that people see.
	longGap = 5 * time.Second
	noticed = time.Second
	maxGaps = 1000
)

// stored is a message as the stack has it.
type stored struct {
	Role, Content, State string
	Error                *struct{ Title, Detail string }
}

// place is where a message was found: its conversation, and the answers behind it.
type place struct {
	conversation string
	answers      []stored
}

// verify looks for everything that the browser sent and was sent.
func (b *browser) verify() {
	ctx, cancel := context.WithTimeout(b.run.hard, verifyTimeout)
	defer cancel()
	ids, err := b.list(ctx)
	if err != nil {
		b.run.wrong(
			func(r *Report) { r.Unreadable++ },
			fmt.Sprintf("%s: the list: %v", b.name, err),
		)
	}

	for _, c := range b.conversations {
		if c.id != "" && !slices.Contains(ids, c.id) {
			if err == nil {
				b.run.wrong(
					func(r *Report) { r.Unlisted++ },
					fmt.Sprintf("%s: conversation %s is not in the list", b.name, c.id),
				)
			}
			ids = append(ids, c.id)
		}
	}

	found := map[string][]place{}
	for _, id := range ids {
		messages, err := b.messages(ctx, id)
		if err != nil {
			b.run.wrong(
				func(r *Report) { r.Unreadable++ },
				fmt.Sprintf("%s: conversation %s: %v", b.name, id, err),
			)
			continue
		}

		asked := ""
		for _, m := range messages {
			if m.Role == "user" {
				asked = m.Content
				found[asked] = append(found[asked], place{conversation: id})
			} else if places := found[asked]; len(places) > 0 {
				last := &places[len(places)-1]
				last.answers = append(last.answers, m)
			}
		}

		b.verifyPage(ctx, id, messages)
	}

	b.run.count(func(r *Report) { r.Conversations += len(ids) })
	for _, c := range b.conversations {
		for _, q := range c.questions {
			b.judge(c, q, found[q.text])
			delete(found, q.text)
		}
	}

	for text := range found {
		b.run.wrong(
			func(r *Report) { r.Unknown++ },
			fmt.Sprintf("%s: a message that was never sent: %s", b.name, brief(text)),
		)
	}
}

// judge counts what became of a question.
func (b *browser) judge(c *conversation, q *question, places []place) {
	where := fmt.Sprintf("%s %s %q", b.name, c.id, q.text)
	if len(places) > 1 {
		b.run.wrong(
			func(r *Report) { r.DoubledMessages++ },
			fmt.Sprintf("%s is there %d times", where, len(places)),
		)
	}

	if !q.acknowledged {
		if len(places) > 0 {
			b.run.count(func(r *Report) { r.StoredUnacknowledged++ })
		}
		return
	}

	if len(places) == 0 || places[0].conversation != c.id {
		b.run.wrong(func(r *Report) { r.LostMessages++ }, where+" is lost")
		return
	}

	answers := places[0].answers
	switch {
	case len(answers) == 0:
		b.run.wrong(func(r *Report) { r.LostAnswers++ }, where+": the answer is lost")
		return
	case len(answers) > 1:
		b.run.wrong(
			func(r *Report) { r.DoubledAnswers++ },
			fmt.Sprintf("%s has %d answers", where, len(answers)),
		)
	}

	a := answers[0]
	verdict := judge(a.Content, q.want)
	switch {
	case a.State != endComplete:
		why := a.State
		if a.Error != nil {
			why += ": " + a.Error.Title + ": " + a.Error.Detail
		}

		b.run.wrong(
			func(r *Report) { r.FailedAnswers++ },
			fmt.Sprintf("%s: the answer is %s", where, brief(why)),
		)
	case verdict == textExact:
		b.run.count(func(r *Report) { r.ExactAnswers++ })
	case verdict == textRestarted:
		b.run.count(func(r *Report) { r.RestartedAnswers++ })
	default:
		b.run.wrong(
			func(r *Report) { r.WrongAnswers[verdict]++ },
			fmt.Sprintf("%s: the answer is %s: ...%s", where, verdict, brief(tailOf(a.Content))),
		)
	}

	for i, w := range q.seen {
		switch {
		case w.end == endLost:
			b.run.wrong(
				func(r *Report) { r.LostReaders++ },
				fmt.Sprintf("%s: reader %d of the answer gave up: %s", where, i+1, w.why),
			)
		case w.end != a.State:
			b.run.wrong(
				func(r *Report) { r.ShownOther++ },
				fmt.Sprintf(
					"%s: reader %d saw the end %s (%s), stored is %s",
					where,
					i+1,
					w.end,
					w.why,
					a.State,
				),
			)
		case !sameText(w, a.Content, q.want):
			b.run.wrong(
				func(r *Report) { r.ShownOther++ },
				fmt.Sprintf(
					"%s: reader %d saw ...%s, stored is ...%s",
					where,
					i+1,
					brief(tailOf(w.text)),
					brief(tailOf(a.Content)),
				),
			)
		}
	}
}

func tailOf(s string) string { return s[max(0, len(s)-60):] }

// verifyPage wants the conversation's page to hold each message once.
func (b *browser) verifyPage(ctx context.Context, id string, messages []stored) {
	var p page
	err := b.patient(ctx, func() (err error) {
		p, err = b.page(ctx, "check", "/c/"+url.PathEscape(id))
		return err
	})
	if err != nil {
		b.run.wrong(
			func(r *Report) { r.Unreadable++ },
			fmt.Sprintf("%s: page /c/%s: %v", b.name, id, err),
		)
		return
	}

	var want []string
	for _, m := range messages {
		if m.Content != "" {
			want = append(want, m.Content)
		}
	}

	if !slices.Equal(p.sources, want) {
		b.run.wrong(
			func(r *Report) { r.ShownOther++ },
			fmt.Sprintf(
				"%s: page /c/%s shows %d messages that are not the %d stored",
				b.name,
				id,
				len(p.sources),
				len(want),
			),
		)
	}
}

// list is every conversation of the browser.
func (b *browser) list(ctx context.Context) ([]string, error) {
	var ids []string
	for cursor := ""; ; {
		var page struct {
			Conversations []struct{ ID string }
			Next          string
		}

		query := "?limit=50&cursor=" + url.QueryEscape(cursor)
		if err := b.get(ctx, "/api/conversations"+query, &page); err != nil {
			return ids, err
		}

		for _, c := range page.Conversations {
			if !slices.Contains(ids, c.ID) {
				ids = append(ids, c.ID)
			}
		}

		if page.Next == "" {
			return ids, nil
		}

		cursor = page.Next
	}
}

// messages are all of a conversation, once none is being written any more.
func (b *browser) messages(ctx context.Context, id string) ([]stored, error) {
	for {
		all, err := b.detail(ctx, id)
		if err != nil ||
			!slices.ContainsFunc(all, func(m stored) bool { return m.State == "streaming" }) ||
			!sleep(ctx, verifyPause) {
			return all, err
		}
	}
}

func (b *browser) detail(ctx context.Context, id string) ([]stored, error) {
	var all []stored
	for query := ""; ; {
		var d struct {
			Messages []stored
			Earlier  string
		}

		if err := b.get(ctx, "/api/conversations/"+url.PathEscape(id)+query, &d); err != nil {
			return nil, err
		}

		all = append(d.Messages, all...)
		if d.Earlier == "" {
			return all, nil
		}

		query = "?before=" + url.QueryEscape(d.Earlier)
	}
}

// get reads JSON, for as long as it takes.
func (b *browser) get(ctx context.Context, path string, into any) error {
	return b.patient(ctx, func() error {
		text, err := b.send(ctx, "check", http.MethodGet, path, acceptJSON, nil)
		if err != nil {
			return err
		}
		return json.Unmarshal(text, into)
	})
}

// patient tries until it works, each failure counted; what is not there is not waited for.
func (b *browser) patient(ctx context.Context, try func() error) error {
	for {
		err := try()
		var s *statusError
		if err == nil || errors.As(err, &s) && s.status == http.StatusNotFound ||
			!sleep(ctx, verifyPause) {
			return err
		}
	}
}

// wrong counts what must not be, with an example.
func (r *Run) wrong(change func(*Report), example string) {
	r.count(func(rep *Report) {
		change(rep)
		if len(rep.Examples) < maxExamples {
			rep.Examples = append(rep.Examples, strings.ToValidUTF8(example, "?"))
		}
	})
}

// followed counts what the readers of an answer saw of its pace.
func (r *Run) followed(b *browser, q *question) {
	r.count(func(rep *Report) {
		rep.Followed++
		for _, w := range q.seen {
			rep.Watched++
			if w.first > 0 {
				r.times["first text"] = append(r.times["first text"], w.first)
			}

			r.times["longest gap"] = append(r.times["longest gap"], w.gap)
			if w.gap > longGap {
				rep.LongGaps++
			}
			if len(rep.GapsAt) < maxGaps {
				rep.GapsAt = append(rep.GapsAt, w.gaps...)
			}
		}
	})
}
