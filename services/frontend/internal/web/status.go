package web

import (
	"context"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// statusPage is the data of the page on the health of the stack.
type statusPage struct {
	// Summary is one sentence; Tone is ok, warn or bad.
	Summary, Tone string
	Services      []serviceRow
	Build         mlapi.Build

	// BuildWords describes the state of the model; empty if it is not known.
	BuildWords string
	Checked    time.Time

	// Poll is the number of milliseconds after which the page asks again.
	Poll int
}

type serviceRow struct {
	Name, What, Words, Tone, Detail string
	// LatencyMS is how long the check took; negative if there was none.
	LatencyMS float64
}

// services describes the services to someone who did not build them, in the order in which
// a message passes them.
var services = []struct{ name, title, what string }{
	{"frontend", "Web page", "shows this page"},
	{"backend", "Chat service", "keeps conversations and answers"},
	{"redis", "Storage", "holds the conversations"},
	{"ml", "Model service", "builds the model and queues questions"},
	{"ollama", "Model runner", "computes the answers"},
}

// knowledge is in the stacks that have documents.
var knowledge = serviceRow{Name: "Documents", What: "finds the sources of answers"}

func (a *App) statusData(r *http.Request, me string) statusPage {
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	begin := time.Now()
	st, err := a.backend.status(ctx, me)
	known := map[string]backendapi.ServiceStatus{"frontend": {
		Name:   "frontend",
		Status: backendapi.StatusReady,
	}}
	if err != nil {
		a.log.WarnContext(r.Context(), "status", "error", err)
		known["backend"] = backendapi.ServiceStatus{
			Name:      "backend",
			Status:    backendapi.StatusDown,
			Detail:    asProblem(err).Error(),
			LatencyMS: wire.Milliseconds(time.Since(begin)),
		}
	}

	for _, s := range st.Services {
		known[s.Name] = s
	}

	p := statusPage{Build: st.Model, Checked: time.Now().In(zoneOf(r)), Poll: 3000}
	for _, s := range services {
		row := serviceRow{
			Name:      s.title,
			What:      s.what,
			Words:     "Not known",
			Tone:      "none",
			LatencyMS: -1,
		}

		if k, ok := known[s.name]; ok {
			row.Words, row.Tone = statusWords(k.Status)
			row.Detail, row.LatencyMS = k.Detail, k.LatencyMS
			delete(known, s.name)
		}

		if s.name == "frontend" {
			row.LatencyMS = -1
		}

		p.Services = append(p.Services, row)
	}

	for _, s := range st.Services { // those that not each stack has
		if _, ok := known[s.Name]; ok {
			row := serviceRow{Name: s.Name}
			if s.Name == "knowledge" {
				row = knowledge
			}
			row.Words, row.Tone = statusWords(s.Status)
			row.Detail, row.LatencyMS = s.Detail, s.LatencyMS
			p.Services = append(p.Services, row)
		}
	}

	if err == nil {
		p.BuildWords = buildWords(st.Model)
	}

	switch {
	case err != nil:
		p.Summary, p.Tone = "The chat service cannot be reached.", "bad"
	case st.Status == backendapi.StatusReady:
		p.Summary, p.Tone, p.Poll = "Everything works.", "ok", 10000
	case st.Model.State != mlapi.BuildReady && st.Model.State != mlapi.BuildFailed &&
		allReady(st.Services):
		p.Summary, p.Tone = "Almost there: the model is being prepared.", "warn"
	default:
		p.Summary, p.Tone = "Something does not work as it should.", "bad"
	}

	return p
}

func allReady(all []backendapi.ServiceStatus) bool {
	for _, s := range all {
		if s.Status == backendapi.StatusDown {
			return false
		}
	}
	return true
}

func statusWords(s string) (words, tone string) {
	switch s {
	case backendapi.StatusReady:
		return "Works", "ok"
	case backendapi.StatusDegraded:
		return "Works in part", "warn"
	case backendapi.StatusDown:
		return "Does not answer", "bad"
	}

	return s, "warn"
}

func (a *App) status(w http.ResponseWriter, r *http.Request) {
	p := a.page(r, "Status", sidebar{Hidden: true}, a.statusData(r, caller(r)))
	p.Refresh = "5"
	a.render(w, r, http.StatusOK, "status", p)
}

func (a *App) statusFragment(w http.ResponseWriter, r *http.Request) {
	a.fragment(w, r, "health", a.statusData(r, caller(r)))
}
