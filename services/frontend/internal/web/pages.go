package web

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
)

// pages are the parsed templates: a set for each page, with the layout and the
// parts that pages share.
type pages struct{ sets map[string]*template.Template }

func loadPages(a *assets) (*pages, error) {
	shared, err := template.New("").Funcs(template.FuncMap{
		"asset":   a.url,
		"icon":    icon,
		"clock":   clock,
		"day":     func(t time.Time) string { return t.Format("2 January 2006") },
		"percent": percent,
		"bytes":   byteSize,
		"latency": latency,
	}).
		ParseFS(embedded, "templates/layout.html", "templates/parts.html", "templates/rating.html")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}

	p := &pages{sets: map[string]*template.Template{"parts": shared}}
	for _, name := range []string{
		"chat", "edit", "question", "passage", "search", "status", "error", "rate", "submissions",
		"review",
	} {
		set, err := shared.Clone()
		if err == nil {
			_, err = set.ParseFS(embedded, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("templates: %w", err)
		}

		p.sets[name] = set
	}

	return p, nil
}

// page is the data of the layout; Main is that of the page itself.
type page struct {
	Title, Site, Environment, Theme, Path string

	// Account is the name of the person who is signed in; empty where nobody signs in.
	Account string

	// Reviews reports whether the person reviews what others have handed over.
	Reviews bool

	// Modules are the scripts that app.js imports. The page names them so that they load at once.
	Modules []string

	// Refresh is the number of seconds after which a browser without JavaScript reloads, and the
	// address if that is another one, as in <meta http-equiv="refresh">; "" means never.
	Refresh string
	Sidebar sidebar
	Main    any
}

func (a *App) page(r *http.Request, title string, s sidebar, main any) page {
	if title == "" {
		title = a.domain.Title
	} else {
		title += " · " + a.domain.Title
	}

	me, _ := identity.Peek(caller(r)) // the backend checks it
	return page{
		Title:       title,
		Account:     me.Name,
		Reviews:     a.cfg.Ratings && me.Admin,
		Site:        a.domain.Title,
		Environment: a.cfg.Environment,
		Theme:       themeOf(r),
		Path:        r.URL.Path,
		Modules:     a.assets.modules,
		Sidebar:     s,
		Main:        main,
	}
}

// render writes a whole page.
func (a *App) render(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	a.write(w, r, status, name, "layout", p)
}

// fragment writes a part of a page, which the page's script puts in place.
func (a *App) fragment(w http.ResponseWriter, r *http.Request, name string, data any) {
	a.write(w, r, http.StatusOK, "parts", name, data)
}

func (a *App) write(
	w http.ResponseWriter, r *http.Request, status int, set, name string, data any,
) {
	html, err := a.execute(set, name, data)
	if err != nil {
		a.log.ErrorContext(r.Context(), "template", "error", err)
		http.Error(w,
			"Something went wrong here. The logs have more under the request's id "+logging.RequestID(r.Context()),
			http.StatusInternalServerError)
		return
	}

	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(html) // an error means that the browser is gone
}

// execute runs a template to its end before anything is written, so that half a page is never sent.
func (a *App) execute(set, name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := a.pages.sets[set].ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.Bytes(), nil
}

// failure is the data of an error page.
type failure struct {
	Title, Detail, RequestID string
	Status                   int
}

// fail answers with an error: a page for a person, JSON for a script.
func (a *App) fail(w http.ResponseWriter, r *http.Request, status int, detail string) {
	if wantsJSON(r) {
		writeError(w, r, status, detail)
		return
	}

	f := failure{
		Title:     http.StatusText(status),
		Detail:    detail,
		Status:    status,
		RequestID: logging.RequestID(r.Context()),
	}

	switch {
	case status == http.StatusNotFound:
		f.Title = "There is nothing here"
	case status >= 500:
		f.Title = "This did not work"
	}

	a.render(w, r, status, "error", a.page(r, f.Title, sidebar{Hidden: true}, f))
}

func (a *App) notFound(w http.ResponseWriter, r *http.Request) {
	a.fail(w, r, http.StatusNotFound,
		"The page does not exist, or no longer. Conversations can be seen only by those who began "+
			"them.")
}

// wantsJSON reports whether the page's script makes the request.
func wantsJSON(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Accept"), "application/json")
}

// icon returns a drawing of 20 px in the colour of the text around it.
func icon(name string) (template.HTML, error) {
	d, ok := icons[name]
	if !ok {
		return "", fmt.Errorf("there is no icon %q", name)
	}

	//nolint:gosec // constants
	return template.HTML(`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" ` +
		`fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" ` +
		`stroke-linejoin="round" aria-hidden="true" focusable="false">` + d + `</svg>`), nil
}

var icons = map[string]string{
	"menu":  `<path d="M4 7h16M4 12h16M4 17h16"/>`,
	"close": `<path d="M6 6l12 12M18 6L6 18"/>`,
	"new": `<path d="M12 20h8"/>` +
		`<path d="M16.4 3.6a2 2 0 0 1 2.9 2.9L7.5 18.3 3.5 19.5l1.2-4z"/>`,
	"more": `<path d="M5.5 12h.01M12 12h.01M18.5 12h.01" stroke-width="2.6"/>`,
	"send": `<path d="M12 19V5M6 11l6-6 6 6"/>`,
	"stop": `<rect x="7" y="7" width="10" height="10" rx="1.5" fill="currentColor"/>`,
	"down": `<path d="M12 5v14M6 13l6 6 6-6"/>`,
	"copy": `<rect x="9" y="9" width="11" height="11" rx="2"/>` +
		`<path d="M15 9V6a2 2 0 0 0-2-2H6a2 2 0 0 0-2 2v7a2 2 0 0 0 2 2h3"/>`,
	"status": `<path d="M3 12h4l3-8 4 16 3-8h4"/>`,
	"auto": `<circle cx="12" cy="12" r="8.5"/>` +
		`<path d="M12 3.5v17a8.5 8.5 0 0 0 0-17z" fill="currentColor"/>`,
	"light": `<circle cx="12" cy="12" r="4"/>` +
		`<path d="M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2` +
		`M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4"/>`,
	"dark":   `<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>`,
	"fold":   `<path d="M9 6l6 6-6 6"/>`,
	"edit":   `<path d="M4 20l1-4.5L16.5 4a2.1 2.1 0 0 1 3 3L8 18.5z"/>`,
	"search": `<circle cx="11" cy="11" r="6.5"/><path d="M16 16l4.5 4.5"/>`,
	"alert":  `<path d="M12 3.5L2.5 20h19z"/><path d="M12 10v4.5M12 17.3h.01"/>`,
	"person": `<circle cx="12" cy="8" r="4"/><path d="M4.5 20a7.5 7.5 0 0 1 15 0"/>`,
	"up": `<path d="M7 11v9H4v-9zM7 11l4-7.5c1.4 0 2.3 1 2.1 2.4L12.6 9.5H18a2 2 0 0 1 2 2.4l-1.2 ` +
		`6.4a2 2 0 0 1-2 1.7H7"/>`,
	"thumb-down": `<path d="M17 13V4h3v9zM17 13l-4 7.5c-1.4 0-2.3-1-2.1-2.4l.5-3.6H6a2 2 0 0 1-2-2.4` +
		`l1.2-6.4a2 2 0 0 1 2-1.7H17"/>`,
	"retry": `<path d="M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6"/>`,
}

func clock(t time.Time) string { return t.Format("15:04") }

// percent returns how many percent of the whole the part is, 0 to 99: completion is told in words.
func percent(part, whole int64) int64 {
	if whole <= 0 || part <= 0 {
		return 0
	}
	return min(part*100/whole, 99)
}

// latency formats a duration in milliseconds for a person.
func latency(ms float64) string {
	if ms >= 1000 {
		return fmt.Sprintf("%.1f s", ms/1000)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func byteSize(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	}
}
