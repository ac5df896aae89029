package report

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// Path is where the page is.
const Path = "/account/usage"

// shownDays is of how many days the page tells.
const shownDays = 30

// view is the data of the template.
type view struct {
	Me     Person
	Limits contract.Limits
	Days   int

	// Browser reports whether nobody signs in, and the person is a browser.
	Browser bool

	// Everybody are all people, for an admin.
	Everybody []row
}

// row is a person among all.
type row struct {
	Person
	Mine bool
}

// Page returns the handler of Path. person returns who asks, or has answered already if it reports
// false; tabs returns the pages that a person may go to.
func (r *Reporter) Page(
	p *pages.Pages, person func(http.ResponseWriter, *http.Request) (identity.Person, bool),
	tabs func(identity.Person) []pages.Tab, log *slog.Logger,
) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, req *http.Request) {
		me, ok := person(w, req)
		if !ok {
			return
		}

		v, err := r.view(req, me)
		if err != nil {
			log.WarnContext(req.Context(), "usage", "error", err)
			fault := problem.New(http.StatusServiceUnavailable,
				"What was used cannot be read at the moment. Try again in a few seconds.")
			fault.RetryAfter = 5
			p.Fail(w, req, fault)
			return
		}

		p.Render(w, req, http.StatusOK, "usage", pages.Page{
			Title: "Usage", Tabs: tabs(me), Path: Path, Main: v,
		})
	})

	return mux
}

func (r *Reporter) view(req *http.Request, me identity.Person) (v view, err error) {
	v = view{Limits: r.limits, Days: shownDays, Browser: r.names == nil}
	if v.Me, err = r.Of(req.Context(), me.ID, shownDays); err != nil || !me.Admin {
		return v, err
	}

	all, err := r.All(req.Context(), shownDays)
	for _, p := range all {
		v.Everybody = append(v.Everybody, row{p, p.ID == me.ID})
	}

	return v, err
}

// Who returns what the page calls a person: the name, or the beginning of the id.
func (p Person) Who() string {
	if p.Name != "" {
		return p.Name
	}
	return p.ID[:min(len(p.ID), 8)]
}

// Has reports whether a day has limits, which the template asks.
func (v view) Has() bool {
	return v.Limits.RequestsPerDay > 0 || v.Limits.TokensPerDay > 0 || v.Limits.RequestsAtOnce > 0
}

// Count formats a number as people read it.
func (view) Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Date formats a day as people read it.
func (view) Date(day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return day
	}
	return t.Format("2 Jan")
}
