// Package pages renders the gate's own pages. They look like the frontend's, whose stylesheet they
// use, need no scripts, and hold nothing of another site. A page may have a script of the gate's own
// that spares people something.
package pages

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

//go:embed templates
var templates embed.FS

// csp is the content security policy of the pages.
const csp = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// scriptCSP is added to it for a page with a script.
const scriptCSP = "; script-src 'self'; connect-src 'self'"

// Pages are the templates: templates/layout.html, and a file for each page, which defines "main".
type Pages struct {
	site string
	log  *slog.Logger
	sets map[string]*template.Template
}

// New returns the pages of a site that calls itself so.
func New(site string, log *slog.Logger) (*Pages, error) {
	layout, err := template.New("").Funcs(template.FuncMap{"when": when}).
		ParseFS(templates, "templates/layout.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}

	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}

	p := &Pages{site: site, log: log, sets: map[string]*template.Template{}}
	for _, file := range files {
		set, err := layout.Clone()
		if err == nil {
			_, err = set.ParseFS(templates, file)
		}
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}

		p.sets[strings.TrimSuffix(path.Base(file), ".html")] = set
	}

	return p, nil
}

// Page is the data of the layout; Main is that of the page itself.
type Page struct {
	Title string

	// Tabs are the pages that the person may go to from this one; Path is the page's own, that of
	// the request if it is empty.
	Tabs []Tab
	Path string

	// Alert tells what went wrong, Note what went well.
	Alert, Note string

	// Script is the path of the page's script; empty is none.
	Script string

	Main any
}

// Tab is a link to another page.
type Tab struct{ Path, Name string }

// layout is what the layout needs besides the page.
type layout struct {
	Page
	Site, Theme string
}

// Render writes the page with the name of its template.
func (p *Pages) Render(
	w http.ResponseWriter, r *http.Request, status int, name string, page Page,
) {
	if page.Path == "" {
		page.Path = r.URL.Path
	}

	var b bytes.Buffer
	data := layout{Page: page, Site: p.site, Theme: theme(r)}
	if err := p.sets[name].ExecuteTemplate(&b, "layout", data); err != nil {
		p.log.ErrorContext(r.Context(), "template", "error", err)
		http.Error(w, "Something went wrong here. The logs have more under the request's id "+
			logging.RequestID(r.Context()), http.StatusInternalServerError)
		return
	}

	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", csp)
	if page.Script != "" {
		h.Set("Content-Security-Policy", csp+scriptCSP)
	}

	h.Set("X-Content-Type-Options", "nosniff")
	// With no-referrer a browser hides where a form of this site comes from, unless it uses TLS.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // an error means that the browser is gone
}

// Fail answers with an error: a page for a person, a problem for a program.
func (p *Pages) Fail(w http.ResponseWriter, r *http.Request, fault *problem.Problem) {
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		problem.Write(w, r, fault)
		return
	}

	if fault.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
	}

	p.Render(w, r, fault.Status, "error", Page{Title: fault.Title, Main: struct {
		Detail, RequestID string
		Status            int
	}{fault.Detail, logging.RequestID(r.Context()), fault.Status}})
}

// maxForm bounds a form's body.
const maxForm = 16 << 10

// Form returns a handler that bounds and reads the form of a request first.
func (p *Pages) Form(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		err := r.ParseForm()
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			p.Fail(w, r, problem.New(http.StatusRequestEntityTooLarge,
				"The form is larger than %d KB.", maxForm>>10))
		case err != nil:
			p.Fail(w, r, problem.New(http.StatusBadRequest, "The form cannot be read."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// SameSite returns a function that wraps handlers: they refuse what another site makes a browser
// send, in the words of the detail.
func (p *Pages) SameSite(detail string) func(http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Fail(w, r, problem.New(http.StatusForbidden, "%s", detail))
	}))
	return guard.Handler
}

// Sentence returns an error as a page says it.
func Sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// theme returns the colours that the person chose on the frontend's pages.
func theme(r *http.Request) string {
	if c, err := r.Cookie("theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return "auto"
}

// when formats a time for a person. Without scripts the browser's zone is not known.
func when(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }
