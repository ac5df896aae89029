package hop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// How long a request is resent, from its first failure, with pauses that double.
const (
	// patience is longer than it takes to start a container that crashed.
	patience = 10 * time.Second

	// impatience is for a peer that has not answered for longer than patience.
	impatience = 1500 * time.Millisecond

	firstPause = 50 * time.Millisecond
	longPause  = time.Second
)

// maxBody bounds the body of a request in bytes, which is kept to be sent again. ml takes no larger
// one.
const maxBody = 8 << 20

// Why a request was resent: the values of the counter's label.
const (
	unreachable = "unreachable" // no connection was made
	draining    = "draining"    // problem.TypeDraining
	starting    = "starting"    // problem.TypeStarting
	broken      = "broken"      // the connection broke before a response
)

// resender sends a request again, over a new connection, as long as nothing has come of it.
type resender struct {
	transport  *http.Transport
	dialer     *dialer
	repeatable bool
	resends    *prometheus.CounterVec
	outage     *outage.Outage
}

func newResender(peer string) *resender {
	t, d := transport()
	return &resender{
		transport: t,
		dialer:    d,
		outage:    outage.New(patience, impatience),
		resends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "hop_resends_total",
			ConstLabels: prometheus.Labels{"peer": peer},
			Help: "Requests to the peer that were sent again, by what came of the try before: " +
				"unreachable, draining, starting, broken (the connection, before a response).",
		}, []string{"reason"}),
	}
}

type repeatableKey struct{}

// Repeatable returns a context whose requests may be sent again when a connection breaks before the
// response, whatever their method: doing them twice is doing them once.
func Repeatable(ctx context.Context) context.Context {
	return context.WithValue(ctx, repeatableKey{}, true)
}

// mayRepeat reports whether a request may be sent again that may have been done.
func (r *resender) mayRepeat(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.repeatable || req.Header.Get(wire.KeyHeader) != "" ||
		req.Context().Value(repeatableKey{}) != nil
}

// RoundTrip implements http.RoundTripper.
func (r *resender) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := bodyOf(req)
	if err != nil {
		return nil, err
	}

	sent, _ := req.Body.(*sentBody)
	var stream io.ReadCloser
	if sent != nil {
		stream, _ = sent.again()
	}

	var until time.Time
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		resp, address, err := r.once(req, body, stream)
		why := r.failure(req, resp, err)
		if why == "" {
			if err == nil {
				r.outage.Answered()
			}
			return resp, err
		}

		now := time.Now()
		if long := r.outage.Failed(now); until.IsZero() {
			until = now.Add(long)
		}

		if now.Add(pause).After(until) || !outage.Pause(req.Context(), pause) {
			if ended := req.Context().Err(); ended != nil && err != nil {
				err = fmt.Errorf("%w: %w", ended, err)
			}
			return resp, err
		}

		if sent != nil {
			var ok bool
			if stream, ok = sent.again(); !ok {
				return resp, err
			}
		}

		if resp != nil {
			_ = resp.Body.Close()
		}
		if address != "" {
			r.dialer.avoid(address)
		}

		// Other connections that are kept may be to the same container.
		r.transport.CloseIdleConnections()
		r.resends.WithLabelValues(why).Inc()
	}
}

// once sends the request, with a body that is kept or one that is not, and returns the address that
// answered as well.
func (r *resender) once(
	req *http.Request, body []byte, stream io.ReadCloser,
) (resp *http.Response, address string, err error) {
	ctx := httptrace.WithClientTrace(req.Context(),
		&httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			address = info.Conn.RemoteAddr().String()
		}})

	try := req.Clone(ctx)
	if stream != nil {
		try.Body = stream
	}
	if body != nil {
		try.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(body)), nil
		}
		try.Body, _ = try.GetBody()
		try.ContentLength = int64(len(body))
	}

	resp, err = r.transport.RoundTrip(try)
	return resp, address, err
}

// failure returns why the request is to be sent again, in a word, or "" if the outcome stands.
func (r *resender) failure(req *http.Request, resp *http.Response, err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return refusal(resp)
	case req.Context().Err() != nil:
		return ""
	case outage.NeverSent(err):
		return unreachable
	case errors.As(err, &timeout) && timeout.Timeout(): // it may be at work still
		return ""
	case r.mayRepeat(req):
		return broken
	}

	return ""
}

// refusal returns which refusal that has done nothing the response is, or "". The body can be read
// afterwards.
func refusal(resp *http.Response) string {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusServiceUnavailable || media != problem.ContentType {
		return ""
	}

	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	var p problem.Problem
	if err != nil || json.Unmarshal(b, &p) != nil {
		return ""
	}

	switch p.Type {
	case problem.TypeDraining:
		return draining
	case problem.TypeStarting:
		return starting
	}

	return ""
}

// bodyOf reads the request's body and closes it. It returns nil if there is none that is kept.
func bodyOf(req *http.Request) ([]byte, error) {
	if _, streamed := req.Body.(*sentBody); streamed || req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	defer req.Body.Close()

	b, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxBody {
		return nil, &http.MaxBytesError{Limit: maxBody}
	}

	return b, nil
}
