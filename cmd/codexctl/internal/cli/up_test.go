package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// watching is a platform on which the wait for a model goes wrong by the problems, if there are any.
type watching struct {
	platform
	problems []failure.Problem
}

func (w watching) Watch(context.Context, stacks.Stack) watch {
	return watch{run: func(ctx context.Context, _ func(running.Note)) []failure.Problem {
		if len(w.problems) == 0 {
			<-ctx.Done()
		}
		return w.problems
	}}
}

// TestAwaitModel: the history says that an up succeeded only if its model was seen.
func TestAwaitModel(t *testing.T) {
	const (
		ready  = `{"status":"ready","model":{"name":"m","state":"ready"}}`
		failed = `{"status":"degraded","model":{"name":"m","state":"failed","error":"x"}}`
		builds = `{"status":"degraded","model":{"name":"m","state":"building"}}`
	)
	for name, tt := range map[string]struct {
		says, cameOf string
		problems     []failure.Problem
		nowhere      bool // whether there is no way to the edge
	}{
		"ready":   {says: ready, cameOf: deploy.Succeeded},
		"failed":  {says: failed, cameOf: deploy.ModelNotReady},
		"late":    {says: builds, cameOf: deploy.NotAwaited},
		"broken":  {says: builds, cameOf: deploy.Unhealthy, problems: []failure.Problem{{What: "it fails"}}},
		"no edge": {says: ready, cameOf: deploy.NotAwaited, nowhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(tt.says))
			}))
			defer server.Close()
			way := edge{url: server.URL, client: server.Client()}
			if tt.nowhere {
				way = edge{}
			}

			var said strings.Builder
			out := console.New(&said, func(string) string { return "" })
			a := &App{now: time.Now, out: out, err: out}
			model, cameOf, problems, err := a.awaitModel(t.Context(), watching{problems: tt.problems},
				stacks.Stack{}, way, 2*time.Second)
			if cameOf != tt.cameOf || len(problems) != len(tt.problems) ||
				(model != nil) != (cameOf == deploy.Succeeded) {
				t.Errorf("%q, %v, %v, %+v", cameOf, problems, err, model)
			}
			if (err == nil) != (cameOf == deploy.Succeeded || tt.nowhere) {
				t.Errorf("%q has the error %v", cameOf, err)
			}
			if strings.Contains(said.String(), "no way to the edge") != tt.nowhere {
				t.Errorf("it says\n%s", said.String())
			}
		})
	}
}
