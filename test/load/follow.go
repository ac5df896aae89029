package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"
)

// reconnect is the time after which browsers connect again to a stream that broke, unless the
// server names another.
const reconnect = 3 * time.Second

// patience are the pauses of the page's script of the first version, when the stack refuses a
// stream or asks to connect again; text resets them. A stream that breaks it leaves to the browser.
var patience = []time.Duration{
	300 * time.Millisecond,
	time.Second,
	2 * time.Second,
	4 * time.Second,
	8 * time.Second,
}

// pauses are those of the script of pages whose messages have keys: it connects again by itself,
// whatever happened, and gives up after goneFor without any connection. Clients of the API are
// taken to do the same.
var pauses = []time.Duration{
	200 * time.Millisecond,
	500 * time.Millisecond,
	time.Second,
	2 * time.Second,
	4 * time.Second,
	5 * time.Second,
}

const goneFor = 5 * time.Minute

// The names of the ends of an answer, as a reader sees them.
const (
	endComplete = "complete"
	endFailed   = "failed"
	endStopped  = "stopped"
	endLost     = "lost" // the reader gave up
)

// watched is what a reader saw of an answer.
type watched struct {
	end  string
	why  string
	text string

	// shown is set where text is what a page shows of the answer, without Markdown's marks.
	shown bool

	// first is the time to the first text, gap the longest time between two texts behind it.
	first, gap time.Duration

	// gaps are all of a second or more.
	gaps []Gap
}

// reader follows one answer over one event stream, over as many connections as it takes.
type reader struct {
	b          *browser
	generation string
	seen       watched
	began      time.Time
	lastText   time.Time
	failures   int

	// itself is set where the script connects again when a stream breaks, not the browser.
	itself bool

	// take takes an event in, and reports whether it was the last.
	take func(event) (bool, error)
}

// errAgain is the server's wish that the script connects again.
var errAgain = errors.New("connect again")

// texted notes that text came.
func (r *reader) texted() {
	now := time.Now()
	if r.lastText.IsZero() {
		r.seen.first = now.Sub(r.began)
	} else {
		r.pause(now)
	}
	r.lastText, r.failures = now, 0
}

// pause notes a pause that began with the last text and ends now.
func (r *reader) pause(now time.Time) {
	d := now.Sub(r.lastText)
	r.seen.gap = max(r.seen.gap, d)
	if d >= noticed {
		r.seen.gaps = append(r.seen.gaps, Gap{r.lastText, d, r.b.name})
	}
}

// followPage follows an answer as the page's script does.
func (b *browser) followPage(ctx context.Context, generation string) watched {
	r := &reader{b: b, generation: generation, began: time.Now()}
	r.seen.shown, r.itself = true, b.keyed
	var blocks []string
	r.take = func(e event) (bool, error) {
		switch e.name {
		case "blocks":
			var u update
			if err := json.Unmarshal([]byte(e.data), &u); err != nil {
				return false, err
			}

			var err error
			if blocks, err = u.apply(blocks); err != nil {
				return false, err
			}

			if text := plain(blocks); text != r.seen.text {
				r.seen.text = text
				r.texted()
			}
		case "again":
			return false, errAgain
		case "end":
			var d struct{ State, Footer string }
			if err := json.Unmarshal([]byte(e.data), &d); err != nil {
				return false, err
			}
			r.seen.end, r.seen.why = d.State, brief(plain([]string{beforeSource(d.Footer)}))
			return true, nil
		}

		return false, nil
	}

	return r.run(ctx, "/generations/"+url.PathEscape(generation)+"/events")
}

// followAPI follows an answer as a client of the API does.
func (b *browser) followAPI(ctx context.Context, generation string) watched {
	r := &reader{b: b, generation: generation, began: time.Now(), itself: true}
	r.take = func(e event) (bool, error) {
		switch e.name {
		case "delta":
			var d struct{ Text string }
			if err := json.Unmarshal([]byte(e.data), &d); err != nil {
				return false, err
			}

			r.seen.text += d.Text
			if d.Text != "" {
				r.texted()
			}
		case "done":
			r.seen.end = endComplete
			return true, nil
		case "stopped":
			r.seen.end = endStopped
			return true, nil
		case "error":
			var p struct{ Title, Detail string }
			_ = json.Unmarshal([]byte(e.data), &p) // it failed, whatever it says
			r.seen.end, r.seen.why = endFailed, brief(p.Title+": "+p.Detail)
			return true, nil
		}

		return false, nil
	}

	return r.run(ctx, "/api/generations/"+url.PathEscape(generation)+"/events")
}

// ended is what was seen, after the answer's end: what came after the last text was a gap as well.
func (r *reader) ended() watched {
	if !r.lastText.IsZero() {
		r.pause(time.Now())
	}
	return r.seen
}

// run connects until the answer has ended or the script would give up. A stream that breaks is
// taken up again by the browser, with the header; one that was refused, or asks for it, by the
// script of a page, with a new address. A client of the API has the header alone.
func (r *reader) run(ctx context.Context, path string) watched {
	last := ""
	address, header := path, ""
	connected := time.Now()
	for connections := 0; ; connections++ {
		if connections > 0 {
			r.b.run.count(func(rep *Report) { rep.Reconnects++ })
		}

		seen, pause, err := r.connection(ctx, address, header)
		if seen != "" {
			last = seen
		}

		var status *statusError
		answered := errors.As(err, &status)
		if err == nil {
			return r.ended()
		}
		if !answered && !r.b.run.refused(err) {
			connected = time.Now()
		}

		gone := answered &&
			(status.status == http.StatusNotFound || status.status == http.StatusGone)
		switch {
		case ctx.Err() != nil:
			return r.gaveUp("it did not end in time")
		case r.itself && (gone || time.Since(connected) > goneFor):
			return r.gaveUp(err.Error())
		case r.itself:
			pause = pauses[min(r.failures, len(pauses)-1)]
			pause = time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
			r.failures++
		case errors.Is(err, errAgain), answered:
			if r.failures >= len(patience) {
				return r.gaveUp(err.Error())
			}
			pause = patience[r.failures]
			r.failures++
		}

		switch {
		case last == "":
		case r.seen.shown && (r.itself || errors.Is(err, errAgain) || answered):
			address, header = path+"?after="+url.QueryEscape(last), ""
		default:
			header = last
		}

		if !sleep(ctx, pause) {
			return r.gaveUp("it did not end in time")
		}
	}
}

// gaveUp is what was seen by a reader that got no end.
func (r *reader) gaveUp(why string) watched {
	r.seen.end, r.seen.why = endLost, brief(why)
	return r.ended()
}

// connection reads one connection's events to the answer's end, and returns the id of its last
// event and after what time the browser connects again.
func (r *reader) connection(
	ctx context.Context,
	path, last string,
) (id string, retry time.Duration, err error) {
	b := r.b
	req, err := b.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return "", reconnect, err
	}

	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}

	began := time.Now()
	resp, err := b.client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // only to say more
		resp.Body.Close()
		err = &statusError{status: resp.StatusCode, text: brief(string(text))}
	}

	if ctx.Err() == nil {
		b.run.answered("event stream", began, err)
	}

	if err != nil {
		if ctx.Err() == nil && !r.b.run.refused(err) {
			b.run.fail("event stream", kindOf(err), fmt.Sprintf("%s GET %s: %v", b.name, path, err))
		}
		return "", reconnect, err
	}
	defer resp.Body.Close()

	s := &events{r: bufio.NewReaderSize(resp.Body, 32<<10)}
	for {
		e, err := s.next()
		if err != nil {
			if s.retry > 0 {
				return s.last, s.retry, err
			}
			return s.last, reconnect, err
		}

		end, err := r.take(e)
		if err != nil && !errors.Is(err, errAgain) {
			b.run.fail(
				"event stream",
				failContent,
				fmt.Sprintf("%s %s: event %s: %v", b.name, path, e.name, err),
			)
		}

		if end {
			return s.last, 0, nil
		}
		if err != nil {
			return s.last, reconnect, err
		}
	}
}

// update says how to change the blocks that a page has: keep the first From, of block From the
// first Keep UTF-16 code units, and put HTML behind them.
type update struct {
	From, Keep int
	HTML       []string
}

func (u update) apply(blocks []string) ([]string, error) {
	fresh := append([]string(nil), u.HTML...)
	if u.From < 0 || u.From > len(blocks) ||
		u.Keep > 0 && (u.From == len(blocks) || len(fresh) == 0) {
		return blocks, fmt.Errorf(
			"an update from block %d, of which %d units stay, where there are %d",
			u.From,
			u.Keep,
			len(blocks),
		)
	}

	if u.Keep > 0 {
		old := utf16.Encode([]rune(blocks[u.From]))
		if u.Keep > len(old) {
			return blocks, fmt.Errorf("an update keeps %d units of a block of %d", u.Keep, len(old))
		}
		fresh[0] = string(utf16.Decode(old[:u.Keep])) + fresh[0]
	}

	return append(append([]string(nil), blocks[:u.From]...), fresh...), nil
}

var tag = regexp.MustCompile(`<[^>]*>`)

// plain is the text of blocks of HTML, its words with one space between them.
func plain(blocks []string) string {
	text := tag.ReplaceAllString(strings.Join(blocks, " "), "")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " ")
}

// beforeSource is the part of an answer's footer that a person reads.
func beforeSource(footer string) string {
	text, _, _ := strings.Cut(footer, "<template")
	return text
}
