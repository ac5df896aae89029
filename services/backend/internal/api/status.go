package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// checkTimeout bounds each check of the status.
const checkTimeout = 2 * time.Second

// modelsTimeout bounds the list of models.
const modelsTimeout = 10 * time.Second

func (a *API) statusRoutes() {
	op := operation("listModels", "GET /api/models", "stack", "List the models that can answer")
	op.Errors = []int{http.StatusBadGateway}
	register(a, op, a.models)

	register(a, operation("status", "GET /api/status", "stack",
		"Say how the stack's services and its model are"), a.status)
}

func (a *API) models(ctx context.Context, in *Owned) (*body[mlapi.Models], error) {
	ctx, cancel := context.WithTimeout(ctx, modelsTimeout)
	defer cancel()
	out := mlapi.Models{}
	owner := http.Header{wire.OwnerHeader: {in.owner()}} // who sees what is for the person
	if err := a.ML.JSON(ctx, http.MethodGet, "/models", nil, &out, owner); err != nil {
		return nil, a.fromML(ctx, err)
	}
	if out.Models == nil {
		out.Models = []mlapi.ModelInfo{}
	}

	return &body[mlapi.Models]{out}, nil
}

// fromML keeps the problems that ml states; that it cannot be reached is logged.
func (a *API) fromML(ctx context.Context, err error) error {
	if p, ok := err.(*problem.Problem); ok &&
		(p.Status < 500 || p.Status == http.StatusServiceUnavailable) {
		return p
	}
	a.Log.WarnContext(ctx, "ml", "error", err)
	return problem.New(http.StatusBadGateway,
		"The model service cannot be reached. Try again; the status page shows whether it is up.")
}

// status never fails: what does not answer is down.
func (a *API) status(ctx context.Context, _ *struct{}) (*body[backendapi.Status], error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out := backendapi.Status{Status: backendapi.StatusReady}
	own := backendapi.ServiceStatus{Name: "backend", Status: backendapi.StatusReady}
	if a.Draining() {
		own.Status, own.Detail = backendapi.StatusDegraded, "This backend is being stopped."
	}

	var redis, ml, ollama, knowledge backendapi.ServiceStatus
	var checks sync.WaitGroup
	checks.Go(func() { redis = a.checkRedis(ctx) })
	checks.Go(func() { ml, ollama = a.checkML(ctx) })
	checks.Go(func() { out.Model = a.checkModel(ctx) })
	if a.Knowledge != nil {
		checks.Go(func() { knowledge = a.checkKnowledge(ctx) })
	}

	checks.Wait()
	out.Services = []backendapi.ServiceStatus{own, redis, ml, ollama}
	if a.Knowledge != nil {
		out.Services = append(out.Services, knowledge)
	}
	for _, s := range out.Services {
		if s.Status != backendapi.StatusReady {
			out.Status = backendapi.StatusDegraded
		}
	}

	if out.Model.State != mlapi.BuildReady {
		out.Status = backendapi.StatusDegraded
	}

	return &body[backendapi.Status]{out}, nil
}

// nearlyFull is how much of its memory Redis uses when it is time to give it more.
const nearlyFull = 0.8

func (a *API) checkRedis(ctx context.Context) backendapi.ServiceStatus {
	s, start := backendapi.ServiceStatus{Name: "redis", Status: backendapi.StatusReady}, time.Now()
	if err := a.Store.Check(ctx); err != nil {
		s.Status, s.Detail = backendapi.StatusDown, err.Error()
	} else if err := a.Store.Full(ctx); errors.Is(err, store.ErrDiskFull) {
		s.Status, s.Detail = backendapi.StatusDegraded, diskFull
	} else if err != nil {
		s.Status = backendapi.StatusDegraded
		s.Detail = "Redis has reached its maxmemory: nothing new is stored. Delete conversations, " +
			"or give it more memory; what is there can be read."
	} else if used := a.Store.Used(ctx); used >= nearlyFull {
		s.Detail = fmt.Sprintf("Redis uses %.0f %% of its memory, and takes nothing new when it is "+
			"full: give it more, or keep conversations or the audit for a shorter time.", 100*used)
	}

	s.LatencyMS = wire.Milliseconds(time.Since(start))
	return s
}

// checkML asks ml, and through it Ollama, which only ml can reach. Both have the
// latency of the one question.
func (a *API) checkML(ctx context.Context) (ml, ollama backendapi.ServiceStatus) {
	start := time.Now()
	r, err := a.ML.Readiness(ctx)
	ml = backendapi.ServiceStatus{
		Name: "ml", Status: backendapi.StatusReady, LatencyMS: wire.Milliseconds(time.Since(start)),
	}
	ollama = backendapi.ServiceStatus{
		Name: "ollama", Status: backendapi.StatusReady, LatencyMS: ml.LatencyMS,
	}
	if err != nil {
		ml.Status, ml.Detail = backendapi.StatusDown, err.Error()
		ollama.Status, ollama.Detail = backendapi.StatusDown, "ml, which asks it, does not answer."
		return ml, ollama
	}

	degrade(&ml, r)

	switch state, checked := r.Checks["ollama"]; {
	case !checked:
		ollama.Status, ollama.Detail = backendapi.StatusDegraded, "ml did not say how it is."
	case state != wire.CheckOK:
		ollama.Status, ollama.Detail = backendapi.StatusDown, state
	}

	return ml, ollama
}

// degrade notes what a service says that is wrong with it.
func degrade(s *backendapi.ServiceStatus, r wire.Readiness) {
	if r.Status == wire.StatusReady {
		return
	}

	said := []string{r.Status}
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		if r.Checks[name] != wire.CheckOK {
			said = append(said, name+": "+r.Checks[name])
		}
	}

	s.Status, s.Detail = backendapi.StatusDegraded, strings.Join(said, "; ")
}

func (a *API) checkKnowledge(ctx context.Context) backendapi.ServiceStatus {
	start := time.Now()
	r, err := a.Knowledge.Readiness(ctx)
	s := backendapi.ServiceStatus{
		Name: "knowledge", Status: backendapi.StatusReady,
		LatencyMS: wire.Milliseconds(time.Since(start)),
	}
	if err != nil {
		s.Status, s.Detail = backendapi.StatusDown, err.Error()
		return s
	}

	degrade(&s, r)
	return s
}

func (a *API) checkModel(ctx context.Context) mlapi.Build {
	var m mlapi.Models
	if err := a.ML.JSON(ctx, http.MethodGet, "/models", nil, &m, nil); err != nil {
		return mlapi.Build{
			Name:   a.DefaultModel,
			State:  mlapi.BuildPending,
			Detail: "ml does not say how far the model is: " + err.Error(),
		}
	}

	return m.Build
}
