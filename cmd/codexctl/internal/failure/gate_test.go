package failure

import (
	"context"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// unwell is a source of which every replica is unhealthy.
type unwell []string

func (u unwell) Replicas(context.Context, string) ([]running.Replica, error) {
	var out []running.Replica
	for _, s := range u {
		out = append(out, running.Replica{
			Name:      s + "-1",
			Service:   s,
			State:     "unhealthy",
			Condition: "it is unhealthy",
		})
	}

	return out, nil
}

func (u unwell) LastLines(_ context.Context, r running.Replica, _ int) ([]string, error) {
	return []string{"last words of " + r.Service}, nil
}

// TestGate checks that the error of the program's wait for health becomes a problem for
// each service that it names, with the log of its container, and that services that
// only suffer are left out.
func TestGate(t *testing.T) {
	e := progress.Diagnostic{Message: "an unhandled error occurred: waiting for RPCs: " +
		"services.redis: container x-redis-1 is exited with code 1 after 3s: read `docker logs " +
		"x-redis-1`; redis is down until an `up` succeeds: no other container of it runs " +
		"meanwhile\n" +
		"services.ml: container x-ml-1 is unhealthy after 2m0s: read `docker logs x-ml-1`"}

	services := []string{"redis", "ml", "backend", "edge"}
	got := Explain(context.Background(), []progress.Diagnostic{e}, unwell(services), "lab",
		services)
	if len(got) != 2 || got[0].Service != "redis" || got[1].Service != "ml" {
		t.Fatalf("got %+v, want a problem of redis and one of ml", got)
	}

	if !strings.Contains(got[0].What, "redis is down") || strings.Contains(got[1].What, "is down") {
		t.Errorf("redis: %q, ml: %q, want that redis is down", got[0].What, got[1].What)
	}

	for _, p := range got {
		if len(p.Log) != 1 || p.Log[0] != "last words of "+p.Service {
			t.Errorf("%s: the log is %q", p.Service, p.Log)
		}
	}
}
