package server

import (
	"io"
	"net/http"
	"time"
)

// lingering bounds how long the rest of a body is read that nobody wants.
const lingering = 500 * time.Millisecond

// expectedBody is the body of a request with the header Expect, whose client waits for a word before
// it sends the body.
type expectedBody struct {
	io.ReadCloser
	begun, ended bool
}

// expected has the request's body be one that can linger. It returns nil for a request without the
// header: with those net/http lingers by itself.
func expected(r *http.Request) *expectedBody {
	if r.Header.Get("Expect") == "" || r.Body == nil {
		return nil
	}

	b := &expectedBody{ReadCloser: r.Body}
	r.Body = b
	return b
}

// Read implements io.Reader.
func (b *expectedBody) Read(p []byte) (int, error) {
	b.begun = true
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil
	return n, err
}

// linger reads on for a moment after the response, if the handler left off in the middle. A client
// that still writes when the connection closes may never see the response.
func (b *expectedBody) linger(w *recorder) {
	if b == nil || !b.begun || b.ended {
		return
	}

	c := w.controller()
	if c.Flush() == nil && c.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.Copy(io.Discard, b.ReadCloser)
	}
}
