package doctor

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func containers(ctx context.Context, p *Patient) []Finding {
	return replicas(ctx, p, p.Engine, "%s is %s", "healthy")
}

func pods(ctx context.Context, p *Patient) []Finding {
	return replicas(ctx, p, p.Cluster, "%s: %s", "ready")
}

// replicas reports the replicas that are not well. sick is the format for the name and condition of
// one, well describes them all.
func replicas(ctx context.Context, p *Patient, from failure.Source, sick, well string) []Finding {
	list, err := from.Replicas(ctx, "")
	if err != nil {
		return cannot(err)
	}
	if len(list) == 0 {
		return found(Skip, "", "the stack is not up")
	}

	var out []Finding
	for _, r := range list {
		if !r.Healthy {
			out = append(out, found(Fail, "codexctl logs --stack "+p.Name+" "+r.Service, sick,
				r.Name, r.Condition)...)
		}
	}

	if len(out) == 0 {
		return found(OK, "", "all %d %s", len(list), well)
	}

	return out
}

// lookupFailed matches the error of a Go program that did not find a name.
var lookupFailed = regexp.MustCompile(`lookup \S+.*(no such host|server misbehaving|i/o timeout|Temporary failure)`)

// dns makes every service that has a health check command of its own reach the services it depends
// on, by name, from inside its container. There is no shell in the images. An answer of any kind
// shows that the name was found.
func dns(ctx context.Context, p *Patient) []Finding {
	var out []Finding
	asked := 0
	for _, svc := range p.Stack.Services {
		list, err := p.Engine.Containers(ctx, svc.Name)
		if err != nil {
			return cannot(err)
		}

		for _, c := range list {
			if !c.Running || len(c.HealthCommand) != 2 ||
				c.HealthCommand[1] != "healthcheck" || path.Base(c.HealthCommand[0]) != svc.Name {
				continue
			}

			for _, dep := range svc.DependsOn {
				output, err := reach(ctx, p.Engine, c, dep, p.Stack)
				if err != nil {
					return append(out, cannot(err)...)
				}

				asked++
				if lookupFailed.MatchString(output) {
					out = append(out,
						found(Fail,
							"restart the engine's network: `codexctl down "+p.Name+
								"` and `codexctl up "+p.Name+
								"`; a firewall that blocks the docker bridge does this too",
							"%s does not find %s by name: %s", c.Name, dep, output)...)
				}
			}
		}
	}

	switch {
	case len(out) > 0:
		return out
	case asked == 0:
		return found(Skip, "", "the stack is not up")
	}

	return found(OK, "", "%d services found by name from inside the containers", asked)
}

func reach(
	ctx context.Context, eng *engine.Engine, c engine.Container, name string, s stacks.Stack,
) (string, error) {
	scheme := "http"
	if s.InternalTLS() && name != stacks.Egress {
		scheme = "https"
	}

	url := ""
	for _, svc := range s.Services {
		if svc.Name == name && len(svc.Ports) > 0 {
			url = scheme + "://" + name + ":" + strconv.Itoa(svc.Ports[0].Container) + "/"
		}
	}

	if url == "" {
		return "", fmt.Errorf("%s has no port", name)
	}

	command := []string{c.HealthCommand[0], c.HealthCommand[1], url}
	_, output, err := eng.Exec(ctx, c.Replica, command)
	return output, err
}

// denied matches the message of a program that may not write.
var denied = regexp.MustCompile(`(?i)permission denied|read-only file system|` +
	`operation not permitted|MISCONF|can't open the append-only file|failed opening .* for saving`)

// volumes looks for services that may not write to their volumes, as happens with a volume that
// another version made or that was restored as another user.
func volumes(ctx context.Context, p *Patient) []Finding {
	var out []Finding
	looked := 0
	for _, svc := range p.Stack.Services {
		volume := ""
		for _, m := range svc.Mounts {
			if m.Kind == stacks.MountVolume && !m.ReadOnly {
				volume = m.Source
			}
		}

		if volume == "" {
			continue
		}

		list, err := p.Engine.Containers(ctx, svc.Name)
		if err != nil {
			return cannot(err)
		}

		for _, c := range list {
			lines, err := p.Engine.LastLines(ctx, c.Replica, 200)
			if err != nil {
				return cannot(err)
			}

			looked++
			for _, l := range lines {
				if denied.MatchString(l) && !c.Healthy {
					out = append(out,
						found(Fail,
							fmt.Sprintf("give the volume to the service's user: docker run --rm "+
								"-v codexcontinue-%s-%s:/v IMAGE chown -R %d:%d /v",
								volume, p.Name, svc.Security.UID, svc.Security.GID),
							"%s (user %d) cannot write to %s: %s", c.Name, svc.Security.UID, volume,
							strings.TrimSpace(l))...)

					break
				}
			}
		}
	}

	switch {
	case len(out) > 0:
		return out
	case looked == 0:
		return found(Skip, "", "the stack is not up")
	}

	return found(OK, "", "%d containers write to theirs", looked)
}
