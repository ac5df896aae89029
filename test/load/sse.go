package load

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"time"
)

// event is one server-sent event.
type event struct{ id, name, data string }

// events reads an event stream as the HTML standard says.
type events struct {
	r *bufio.Reader

	// last is the id of the last event that came whole; buffer may be of one that does not.
	last, buffer string

	// retry is the time after which the server wants to be connected to again; 0 where it said
	// nothing.
	retry time.Duration
}

// next returns the next event; what the end of the stream cuts off is no event.
func (s *events) next() (event, error) {
	var e event
	var data []string
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return event{}, err
		}

		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			s.last = s.buffer
			if data != nil {
				e.id, e.data = s.last, strings.Join(data, "\n")
				return e, nil
			}
			e = event{}
			continue
		}

		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			s.buffer = value
		case "event":
			e.name = value
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
				s.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}
