// Package sse reads and writes server-sent events, the text/event-stream format of the HTML
// standard (https://html.spec.whatwg.org/multipage/server-sent-events.html).
//
// The libraries for it bring a broker that keeps events and replays them, which Redis does here.
package sse

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// ContentType is the media type of a stream of events.
const ContentType = "text/event-stream"

// MaxLine bounds one line that a Reader reads, in bytes.
const MaxLine = 1 << 20

// Event is one event. Data may hold line breaks.
type Event struct {
	ID, Name, Data string
}

// Writer sends events as one response.
type Writer struct {
	w            http.ResponseWriter
	rc           *http.ResponseController
	writeTimeout time.Duration
}

// NewWriter starts an event stream as the response and sends its headers. writeTimeout bounds each
// write, so that a client that stops reading cannot hold the stream open.
func NewWriter(w http.ResponseWriter, writeTimeout time.Duration) (*Writer, error) {
	sw := Begin(w, writeTimeout)
	return sw, sw.flush()
}

// Begin is NewWriter for a stream whose first event is there: the headers go with it.
func Begin(w http.ResponseWriter, writeTimeout time.Duration) *Writer {
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	return &Writer{w: w, rc: http.NewResponseController(w), writeTimeout: writeTimeout}
}

// Send writes the events and flushes them, together.
func (w *Writer) Send(events ...Event) error {
	var b strings.Builder
	for _, e := range events {
		e.write(&b)
	}
	return w.write(b.String())
}

// write writes the event as the stream has it.
func (e *Event) write(b *strings.Builder) {
	if e.ID != "" {
		fmt.Fprintf(b, "id: %s\n", oneLine(e.ID))
	}
	if e.Name != "" {
		fmt.Fprintf(b, "event: %s\n", oneLine(e.Name))
	}

	for line := range strings.SplitSeq(strings.ReplaceAll(e.Data, "\r", ""), "\n") {
		b.WriteString("data: ")
		b.WriteString(line)
		b.WriteByte('\n')
	}

	b.WriteByte('\n')
}

// Comment writes a line that readers ignore, which keeps the connection open through proxies.
func (w *Writer) Comment(text string) error { return w.write(": " + oneLine(text) + "\n\n") }

func (w *Writer) write(s string) error {
	if err := w.rc.SetWriteDeadline(time.Now().Add(w.writeTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(w.w, s); err != nil {
		return err
	}
	return w.flush()
}

func (w *Writer) flush() error { return w.rc.Flush() }

func oneLine(s string) string {
	return strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(s)
}

// Reader reads events from a stream.
type Reader struct {
	s       *bufio.Scanner
	started bool
	lastID  string
}

// NewReader returns a reader of the events in r. Lines above MaxLine bytes are an error.
func NewReader(r io.Reader) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), MaxLine)
	return &Reader{s: s}
}

// Next returns the next event, or io.EOF at the end of the stream. As in the standard, an event
// without data is skipped, an event that the end cuts off is dropped, and an event without an id
// has the id of the one before.
func (r *Reader) Next() (Event, error) {
	var e Event
	var data []string
	for r.s.Scan() {
		line := r.s.Text()
		if !r.started {
			// The standard allows one byte order mark.
			line, r.started = strings.TrimPrefix(line, "\ufeff"), true
		}

		if line == "" {
			if data == nil {
				e = Event{}
				continue
			}
			e.Data, e.ID = strings.Join(data, "\n"), r.lastID
			return e, nil
		}

		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			if !strings.Contains(value, "\x00") {
				r.lastID = value
			}
		case "event":
			e.Name = value
		case "data":
			data = append(data, value)
		}
	}

	if err := r.s.Err(); err != nil {
		return Event{}, fmt.Errorf("event stream: %w", err)
	}

	return Event{}, io.EOF
}
