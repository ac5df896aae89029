package e2e

import (
	"encoding/json"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/outside"
)

// Attempts of a container of an engine, beside those of every container.
const (
	itsResolver = "a name, asked of the engine's resolver"
	itsBridge   = "a program of the machine, at the bridge's address"
)

// noWayOut tries what the containers of a running private stack must not reach.
func noWayOut(t *testing.T, c *checkout, stack string) {
	world := outside.Start(t)
	var all sync.WaitGroup
	for service, running := range c.containers(t, stack) {
		for _, one := range running {
			if one.State.Status != "running" { // those that carry files never do
				continue
			}

			var seen []struct {
				State           struct{ Pid int }
				NetworkSettings struct {
					Networks map[string]struct{ NetworkID string }
				}
			}
			inspect(t, c, &seen, "container", one.ID)

			attempts := world.Attempts(outside.Attempt{
				What: itsResolver, Kind: outside.DNS, Address: "127.0.0.11:53",
			})
			for _, n := range seen[0].NetworkSettings.Networks {
				var networks []struct {
					IPAM struct{ Config []struct{ Gateway string } }
				}
				inspect(t, c, &networks, "network", n.NetworkID)
				attempts = append(attempts, outside.Attempt{
					What: itsBridge, Kind: outside.TCP,
					Address: net.JoinHostPort(networks[0].IPAM.Config[0].Gateway, world.Port),
				})
			}

			all.Go(func() {
				results, err := world.From(seen[0].State.Pid, service, attempts)
				if err != nil {
					t.Error(err)
				}
				for _, r := range results {
					// What is left of the edge, and what to do about it, says docs/isolation.md.
					known := service == stacks.Edge && (r.Outcome == outside.Leaves ||
						r.What == outside.Program || r.What == itsBridge)
					if r.Outcome != outside.Nothing && !known {
						t.Errorf("%s: %s", service, r)
					}
				}
			})
		}
	}

	all.Wait()
}

// inspect reads what the engine says of something.
func inspect(t *testing.T, c *checkout, into any, kind, id string) {
	t.Helper()
	said := c.must(t, time.Minute, "docker", kind, "inspect", id)
	if err := json.Unmarshal([]byte(said), into); err != nil {
		t.Fatal(err)
	}
}
