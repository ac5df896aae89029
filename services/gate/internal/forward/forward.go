// Package forward passes requests on to the frontend in the name of a person.
package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// maxBody bounds a request's body, which is kept to be sent again. The edge takes no larger one.
const maxBody = 1 << 20

// Forwarder passes requests on.
type Forwarder struct {
	proxy *httputil.ReverseProxy
	sign  func(identity.Person) string
}

// New returns a forwarder to the peer at the base URL, which gets the token that sign makes.
func New(
	peer *hop.Client, base *url.URL, sign func(identity.Person) string, log *slog.Logger,
) *Forwarder {
	return &Forwarder{sign: sign, proxy: &httputil.ReverseProxy{
		Transport:     peer.Transport(), // sends refused requests again
		FlushInterval: -1,               // events are forwarded as they come
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: base.Scheme, Host: base.Host})
			pr.Out.Host = pr.In.Host // pages compare it with where a form comes from
			for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				pr.Out.Header[h] = pr.In.Header[h] // as the edge set them
			}

			pr.Out.Header.Del(wire.OwnerHeader)
			pr.Out.Header.Set(wire.RequestIDHeader, logging.RequestID(pr.In.Context()))
			dropCookies(pr.Out)
		},
		ModifyResponse: func(resp *http.Response) error {
			// This service has set it.
			resp.Header.Del(wire.RequestIDHeader)
			// A refusal of the frontend, which was asked again in vain, is no refusal of this service.
			resp.Header.Del(wire.RefusedHeader)
			if strings.HasPrefix(resp.Header.Get("Content-Type"), sse.ContentType) {
				resp.Body = endable(resp.Request.Context(), resp.Body)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLong *http.MaxBytesError
			switch {
			case errors.As(err, &tooLong):
				problem.Write(w, r, problem.New(http.StatusRequestEntityTooLarge,
					"The request is larger than %d KB.", maxBody>>10))
				return
			case r.Context().Err() == nil:
				log.WarnContext(r.Context(), "forward", "error", err)
			}

			problem.Write(w, r, problem.New(http.StatusBadGateway,
				"The application is not reachable at the moment. Try again in a few seconds."))
		},
	}}
}

// Serve passes the request on in the person's name. An event stream ends cleanly when the context
// ended is done: its reader opens it again.
func (f *Forwarder) Serve(
	w http.ResponseWriter, r *http.Request, p identity.Person, ended context.Context,
) {
	r = r.Clone(context.WithValue(r.Context(), endedKey{}, ended))
	r.Header.Set("Authorization", identity.Authorization(f.sign(p)))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	f.proxy.ServeHTTP(w, r)
}

// dropCookies drops the gate's own cookies.
func dropCookies(r *http.Request) {
	cookies := r.Cookies()
	r.Header.Del("Cookie")
	for _, c := range cookies {
		if !cookie.Own(c.Name) {
			r.AddCookie(c)
		}
	}
}

type endedKey struct{}

// endable returns a stream that ends when the request's context of Serve is done.
func endable(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	ended, _ := ctx.Value(endedKey{}).(context.Context)
	if ended == nil {
		return body
	}

	s := &stream{ReadCloser: body, ended: ended}
	s.stop = context.AfterFunc(ended, func() { _ = body.Close() })
	return s
}

type stream struct {
	io.ReadCloser
	ended context.Context
	stop  func() bool
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	if err != nil && s.ended.Err() != nil {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.stop()
	return s.ReadCloser.Close()
}
