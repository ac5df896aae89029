package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
)

// searchPage is what a search has found.
type searchPage struct {
	Query, Alert string
	Results      []result

	// More is the address of what comes after these, or empty. Partial is set if the search ended
	// before it had looked at everything, and goes on there.
	More    string
	Partial bool

	// Later is set on the pages after the first one.
	Later bool
}

// result is a conversation that was found. Day is that of its last message.
type result struct {
	backendapi.Conversation
	Day string
}

func (a *App) search(w http.ResponseWriter, r *http.Request) {
	cursor := r.URL.Query().Get("cursor")
	p := searchPage{Query: strings.TrimSpace(r.URL.Query().Get("q")), Later: cursor != ""}
	status := http.StatusOK
	switch {
	case p.Query == "":
	case utf8.RuneCountInString(p.Query) > backendapi.MaxQuery:
		status = http.StatusUnprocessableEntity
		p.Alert = fmt.Sprintf("A search takes at most %d characters.", backendapi.MaxQuery)
	default:
		status = a.find(w, r, &p, cursor)
	}

	title := "Search"
	if p.Query != "" {
		title = p.Query + " · Search"
	}
	a.render(w, r, status, "search", a.page(r, title, sidebar{Hidden: true, Query: p.Query}, p))
}

// find fills in what the backend finds, and returns the status of the page.
func (a *App) find(w http.ResponseWriter, r *http.Request, p *searchPage, cursor string) int {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	page, err := a.backend.search(ctx, caller(r), p.Query, cursor)
	if err != nil {
		a.log.WarnContext(r.Context(), "search", "error", err)
		why := asProblem(err)
		if p.Alert = why.Error(); isUnknown(why, "query.q") {
			p.Alert = "The chat service is being updated, and cannot search yet. Try again in a moment."
			return http.StatusServiceUnavailable
		}
		return max(why.Status, http.StatusBadRequest)
	}

	now := time.Now().In(zoneOf(r))
	for _, c := range page.Conversations {
		p.Results = append(p.Results, result{c, dayLabel(c.UpdatedAt.In(now.Location()), now)})
	}

	if p.Partial = page.Partial; page.Next != "" {
		p.More = "/search?" + url.Values{"q": {p.Query}, "cursor": {page.Next}}.Encode()
	}

	return http.StatusOK
}
