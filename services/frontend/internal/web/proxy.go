package web

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// proxy forwards /api/ to the backend, in the name of the caller. It drops cookies, which concern this
// service only.
func (a *App) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Transport:     a.backend.hop.Transport(), // sends refused requests again
		FlushInterval: -1,                        // events are forwarded as they come
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: a.backbase.Scheme, Host: a.backbase.Host})
			pr.SetXForwarded()
			pr.Out.Header.Del("Cookie")
			pr.Out.Header.Set(wire.RequestIDHeader, logging.RequestID(pr.In.Context()))
		},
		ModifyResponse: func(resp *http.Response) error {
			// This service has set them: two of each would be two policies.
			resp.Header.Del(wire.RequestIDHeader)
			// A refusal of the backend, which was asked again in vain, is no
			// refusal of this service.
			resp.Header.Del(wire.RefusedHeader)
			for _, h := range []string{
				"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy",
				"Set-Cookie",
			} {
				resp.Header.Del(h)
			}

			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var tooLong *http.MaxBytesError
			if errors.As(err, &tooLong) {
				problem.Write(w, r,
					problem.New(http.StatusRequestEntityTooLarge,
						"The request is larger than %d KB.", maxBody>>10))
				return
			}

			a.log.WarnContext(r.Context(), "proxy", "error", err)
			problem.Write(w, r,
				problem.New(http.StatusBadGateway,
					"The backend cannot be reached. Try again in a moment."))
		},
	}
}
