package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/codexcontinue/codexcontinue/services/frontend/internal/markdown"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
)

// Limits of the event streams to browsers.
const (
	// renderEvery is the shortest time between two renderings: 25 a second look continuous.
	renderEvery = 40 * time.Millisecond

	// renderRate bounds how many bytes of HTML of an open block are rendered again in a second.
	// A block that grows large is rendered less often, so the work per second is bounded
	// whatever the model writes.
	renderRate = 512 << 10

	// keepAlive is the time without an event after which a comment is sent, so that proxies
	// keep the stream open.
	keepAlive = 15 * time.Second

	// writeTimeout bounds one write to a browser that has stopped reading.
	writeTimeout = 15 * time.Second

	// backendAway is how long a backend may be away before the stream ends; the
	// browser then reconnects.
	backendAway = 40 * time.Second

	// firstPause is the time before a stream that the backend cut is opened again. It
	// doubles up to longPause.
	firstPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
)

// The events for the page's script. "blocks" carries a markdown.Update, "again" makes it connect
// again, and "end" comes last.
const (
	pageStart    = "start"
	pageQueue    = "queue"
	pageHistory  = "history"
	pageThinking = "thinking"
	pageBlocks   = "blocks"
	pageAgain    = "again"
	pageEnd      = "end"
)

type pageStartData struct {
	Title string `json:"title"`
	Model string `json:"model"`
}

// pageNote is the data of pageQueue and pageHistory.
type pageNote struct {
	Text string `json:"text"`
}

// pageThinkingData is text of the model's reasoning from an offset on, which counts
// UTF-16 units as scripts do.
type pageThinkingData struct {
	From int    `json:"from"`
	Text string `json:"text"`
}

type pageEndData struct {
	State string `json:"state"`
	// Footer is the HTML below the answer: the actions on it, or what went wrong.
	Footer string `json:"footer"`
}

// events follows an answer and sends its rendered blocks. The events have the backend's ids,
// so the browser can resume: whatever it has seen, it gets the text so far in one piece and
// then what follows. With ?whole=1 it does so from the start, for a page that shows a part
// of the answer already.
func (a *App) events(w http.ResponseWriter, r *http.Request) {
	me, id := caller(r), r.PathValue("id")
	resp, err := a.backend.follow(r.Context(), me, id, "")
	if err != nil {
		p := asProblem(err)
		a.log.WarnContext(r.Context(), "events", "error", err)
		problem.Write(w, r, p)
		return
	}

	out, err := sse.NewWriter(w, writeTimeout)
	if err != nil {
		_ = resp.Body.Close()
		return
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("after")
	}

	s := &answerStream{
		app:    a,
		out:    out,
		md:     a.md.NewStream(),
		answer: id,
		seen:   last,
		hold:   r.URL.Query().Get("whole") != "",
	}

	in := make(chan sse.Event, 64)
	failed := make(chan error, 1)
	go func() { failed <- a.read(ctx, me, id, resp, in) }()
	if err := s.run(ctx, in, failed); err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "events", "error", err)
	}
}

// errCut is returned when the backend's stream ended before the answer did.
var errCut = errors.New("the backend's stream ended before the answer")

// read sends the backend's events to in, until the last one. It opens a cut stream again
// after the last event.
func (a *App) read(
	ctx context.Context, me, id string, resp *http.Response, in chan<- sse.Event,
) error {
	defer close(in)
	last, pause := "", firstPause
	var lost time.Time // when the backend's stream ended, until the next event
	for {
		reader := sse.NewReader(resp.Body)
		for {
			e, err := reader.Next()
			if err != nil {
				break // the end or a broken connection, which are handled alike
			}

			select {
			case in <- e:
			case <-ctx.Done():
				_ = resp.Body.Close()
				return ctx.Err()
			}

			last, pause, lost = e.ID, firstPause, time.Time{}
			if backendapi.Final(e.Name) {
				_ = resp.Body.Close()
				return nil
			}
		}

		_ = resp.Body.Close()
		if lost.IsZero() {
			lost = time.Now()
		}

		for {
			if time.Since(lost) > backendAway {
				return errCut
			}

			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
			}

			pause = min(2*pause, longPause)
			var err error
			if resp, err = a.backend.follow(ctx, me, id, last); err == nil {
				break
			}
			if isGone(err) {
				return fmt.Errorf("the answer is gone: %w", err)
			}
			if asProblem(err).Status == http.StatusUnauthorized {
				return errCut // the gate has to say anew who the browser's person is
			}
		}
	}
}

// answerStream renders one answer for one browser.
type answerStream struct {
	app *App
	out *sse.Writer
	md  *markdown.Stream

	answer  string // its id
	id      string // of the last event that was handled
	seen    string // the browser's last event; nothing up to it is sent again
	hold    bool   // the first rendering waits for what comes at once
	pending bool   // there is text that is not rendered yet

	// thoughts is the model's reasoning that was not sent yet, sentThoughts the length of what
	// was, in UTF-16 units.
	thoughts       strings.Builder
	sources        *backendapi.Sources
	sentThoughts   int
	conversationID string
}

// run sends events until the answer ends, the browser goes or the service drains.
func (s *answerStream) run(ctx context.Context, in <-chan sse.Event, failed <-chan error) error {
	timer := time.NewTimer(renderEvery)
	timer.Stop()
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	waiting := s.hold || s.seen != "" // a rendering is due when the timer fires
	if waiting {
		timer.Reset(renderEvery)
	}

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.app.draining:
			return s.send(pageAgain, struct{}{})
		case <-alive.C:
			if err := s.out.Comment("alive"); err != nil {
				return err
			}
		case <-timer.C:
			waiting = false
			if s.pending && s.caughtUp() {
				if err := s.render(); err != nil {
					return err
				}
				waiting = true
				timer.Reset(s.pause())
			}
		case e, ok := <-in:
			if !ok {
				err := <-failed
				_ = s.send(pageAgain, struct{}{}) // the browser tries on its own
				return err
			}

			s.id = e.ID
			end, err := s.handle(e)
			if err != nil || end {
				return err
			}

			if s.pending && !waiting && s.caughtUp() {
				if err := s.render(); err != nil {
					return err
				}
				waiting = true
				timer.Reset(s.pause())
			}
		}
	}
}

// pause returns the time until the next rendering.
func (s *answerStream) pause() time.Duration {
	return max(renderEvery, time.Duration(s.md.OpenSize())*time.Second/renderRate)
}

// handle handles one event, and reports whether it was the last.
func (s *answerStream) handle(e sse.Event) (end bool, err error) {
	switch e.Name {
	case backendapi.EventStart:
		var d backendapi.Start
		if err := decode(e, &d); err != nil {
			return false, err
		}
		s.conversationID = d.ConversationID
		return false, s.send(pageStart, pageStartData{Title: d.Title, Model: d.Model})
	case backendapi.EventQueue:
		var d backendapi.Queue
		if err := decode(e, &d); err != nil {
			return false, err
		}
		if !s.caughtUp() {
			return false, nil
		}

		return false, s.send(pageQueue, pageNote{queueWords(d.Position)})
	case backendapi.EventHistory:
		var d backendapi.History
		if err := decode(e, &d); err != nil {
			return false, err
		}
		return false, s.send(pageHistory, pageNote{leftOutWords(d.LeftOut)})
	case backendapi.EventSources:
		s.sources = &backendapi.Sources{}
		if err := decode(e, s.sources); err != nil {
			return false, err
		}
		s.md.Cite(citations(s.sources, s.conversationID))
		return false, nil
	case backendapi.EventThinking:
		var d backendapi.Delta
		if err := decode(e, &d); err != nil {
			return false, err
		}
		s.thoughts.WriteString(d.Text)
		s.pending = true
		return false, nil
	case backendapi.EventDelta:
		var d backendapi.Delta
		if err := decode(e, &d); err != nil {
			return false, err
		}
		s.md.Write(d.Text)
		s.pending = true
		return false, nil
	case backendapi.EventDone, backendapi.EventStopped:
		state := backendapi.MessageComplete
		if e.Name == backendapi.EventStopped {
			state = backendapi.MessageStopped
		}
		return true, s.end(state, nil)
	case backendapi.EventError:
		p := &problem.Problem{}
		if err := decode(e, p); err != nil {
			return false, err
		}
		return true, s.end(backendapi.MessageFailed, p)
	}

	return false, nil // an event of a newer backend, which cannot be shown
}

// queueWords returns the answer's place among those that wait for the model; position 1 is next.
func queueWords(position int) string {
	if position <= 1 {
		return "You are next"
	}
	return strconv.Itoa(position-1) + " before you"
}

// think sends the reasoning that was not sent yet.
func (s *answerStream) think() error {
	if s.thoughts.Len() == 0 {
		return nil
	}

	text := s.thoughts.String()
	s.thoughts.Reset()
	from := s.sentThoughts
	for _, r := range text {
		s.sentThoughts += utf16.RuneLen(r)
	}

	return s.send(pageThinking, pageThinkingData{from, text})
}

func (s *answerStream) render() error {
	s.pending = false
	if err := s.think(); err != nil {
		return err
	}

	u, ok := s.md.Update()
	if !ok {
		return nil
	}

	return s.send(pageBlocks, u)
}

func (s *answerStream) end(state string, p *problem.Problem) error {
	if err := s.think(); err != nil {
		return err
	}

	if u, ok := s.md.Finish(); ok {
		if err := s.send(pageBlocks, u); err != nil {
			return err
		}
	}

	m := message{
		Message: backendapi.Message{
			Role:         "assistant",
			State:        state,
			Content:      s.md.Text(),
			GenerationID: s.answer,
			Error:        p,
			Sources:      s.sources,
		},
		ConversationID: s.conversationID,
		Rates:          s.app.cfg.Ratings && state == backendapi.MessageComplete,
		Refs:           sourceRefs(s.sources, s.conversationID, s.md.Cited()),
	}

	footer, err := s.app.execute("parts", "footer", m)
	if err != nil {
		return err
	}

	return s.send(pageEnd, pageEndData{State: state, Footer: string(footer)})
}

// caughtUp reports whether all events that the browser had before have been read again.
func (s *answerStream) caughtUp() bool {
	if s.seen != "" && !before(s.id, s.seen) {
		s.seen = ""
	}
	return s.seen == ""
}

// before reports whether the id a of a Redis stream, milliseconds-sequence, is before b. Ids of
// another form are not: then text is shown early, never withheld.
func before(a, b string) bool {
	am, as, ok1 := streamID(a)
	bm, bs, ok2 := streamID(b)
	return ok1 && ok2 && (am < bm || am == bm && as < bs)
}

func streamID(id string) (ms, seq uint64, ok bool) {
	m, n, _ := strings.Cut(id, "-")
	ms, err1 := strconv.ParseUint(m, 10, 64)
	seq, err2 := strconv.ParseUint(n, 10, 64)
	return ms, seq, err1 == nil && err2 == nil
}

func decode(e sse.Event, into any) error {
	if err := json.Unmarshal([]byte(e.Data), into); err != nil {
		return fmt.Errorf("event %s %s: %w", e.ID, e.Name, err)
	}
	return nil
}

// send sends one event, with the id of the last one that was handled.
func (s *answerStream) send(name string, data any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // the stream is no HTML, and escapes make it a third longer
	if err := enc.Encode(data); err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}

	err := s.out.Send(sse.Event{ID: s.id, Name: name, Data: strings.TrimSuffix(b.String(), "\n")})
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("browser: %w", err)
	}

	return err
}
