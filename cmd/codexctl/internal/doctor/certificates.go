package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// renewal is how long before its end a certificate should be replaced.
const renewal = 60 * 24 * time.Hour

// commands runs commands in replicas.
type commands interface {
	Replicas(ctx context.Context, service string) ([]running.Replica, error)
	Exec(ctx context.Context, in running.Replica, command []string) (int, string, error)
}

func certificates(ctx context.Context, p *Patient) []Finding {
	if p.OnCluster {
		return Certificates(ctx, p.Cluster, p.Stack, time.Now())
	}
	return Certificates(ctx, p.Engine, p.Stack, time.Now())
}

// Certificates returns until when those are good by which the stack's services speak TLS with each
// other. All come of one secret, so one service of this repository tells for all.
func Certificates(
	ctx context.Context, in commands, stack stacks.Stack, now time.Time,
) []Finding {
	for _, svc := range stack.Services {
		if !svc.EndsTLS() {
			continue
		}

		list, err := in.Replicas(ctx, svc.Name)
		if err != nil {
			return cannot(err)
		}

		for _, r := range list {
			if r.Healthy {
				return expiry(ctx, in, r, svc.Health.Command[0], stack.Name, now)
			}
		}
	}

	if stack.InternalTLS() {
		return found(Skip, "", "no service runs well that could tell")
	}
	return found(Skip, "", "the services speak plain HTTP with each other")
}

func expiry(
	ctx context.Context, in commands, r running.Replica, program, name string, now time.Time,
) []Finding {
	code, output, err := in.Exec(ctx, r, []string{program, "certificate"})
	if err != nil {
		return cannot(err)
	}

	until, err := time.Parse(time.RFC3339, strings.TrimSpace(output))
	if code != 0 || err != nil {
		return found(Warn, "", "%s does not tell: %s", r.Name, strings.TrimSpace(output))
	}

	day := until.UTC().Format(time.DateOnly)
	fix := "codexctl certificates rotate " + name + ", then codexctl up " + name
	switch left := until.Sub(now); {
	case left <= 0:
		return found(Fail, fix, "those inside the stack expired on %s", day)
	case left < renewal:
		return found(Warn, fix, "those inside the stack expire on %s", day)
	}

	return found(OK, "", "those inside the stack are good until %s", day)
}
