package docker_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/outside"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// TestNoWayOut tries what a container must not reach, from each container of a private stack and of
// one for development, in the networks that the stacks have on a real engine. Its results are the
// table of docs/isolation.md; -update rewrites that.
func TestNoWayOut(t *testing.T) {
	peers.EndToEnd(t)
	world := outside.Start(t)
	dev, private := newLightLab(t, "dev"), newLightLab(t, "healthcare")
	dev.up()
	private.up()
	private.refresh()
	private.wantClean("after refresh")

	own, err := world.From(0, "machine", world.Attempts(dev.containerAttempts()...))
	if err != nil {
		t.Fatal(err)
	}

	columns := []outside.Column{
		{Title: "this machine", Results: own},
		{Title: "dev", Results: dev.tries(world, private, func(string) bool { return true })},
		{Title: "healthcare, its edge", Results: private.tries(world, dev, only(stacks.Edge))},
		{Title: "healthcare, its egress", Results: private.tries(world, dev, only(stacks.Egress))},
		{Title: "healthcare, the others", Results: private.tries(world, dev, func(service string) bool {
			return service != stacks.Edge && service != stacks.Egress
		})},
	}

	private.wantPublished(world)
	private.closeFirewall()
	columns = append(columns, outside.Column{
		Title:   "its edge, with the firewall's lines",
		Results: private.tries(world, dev, only(stacks.Edge)),
	})
	private.wantPublished(world)

	// What fails for lack of a network would prove nothing.
	for _, r := range own {
		if r.Outcome != outside.Answered {
			t.Errorf("this machine: %s", r)
		}
	}

	outside.CompareTable(t, "../../docs/isolation.md", "engine", *update, columns...)
}

func only(name string) func(string) bool {
	return func(service string) bool { return service == name }
}

// wantPublished reaches the edge's published port as this machine and others do.
func (l *lab) wantPublished(world *outside.World) {
	l.t.Helper()
	port := strconv.Itoa(l.service(stacks.Edge).Ports[0].Host)
	attempt := func(host string) outside.Attempt {
		return outside.Attempt{
			What: "the edge", Kind: outside.TCP, Address: net.JoinHostPort(host, port),
		}
	}

	here, err := world.From(0, "machine", []outside.Attempt{attempt("127.0.0.1")})
	if err != nil {
		l.t.Fatal(err)
	}
	there, err := world.FromOutside(attempt(outside.Machine))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range append(here, there...) {
		if r.Outcome != outside.Answered {
			l.t.Error(r)
		}
	}
}

// closeFirewall adds the lines that docs/isolation.md has for an operator, until the test ends.
func (l *lab) closeFirewall() {
	l.t.Helper()
	bridge := ""
	for name := range l.one(stacks.Edge).NetworkSettings.Networks {
		n, err := l.api.NetworkInspect(context.Background(), name, client.NetworkInspectOptions{})
		if err != nil {
			l.t.Fatal(err)
		}
		bridge = cmp.Or(bridge, n.Network.Options[docker.BridgeName])
	}

	for _, chain := range []string{"INPUT", "DOCKER-USER"} {
		rule := func(how string) error {
			return exec.Command("iptables", "-w", how, chain, "-i", bridge, "-m", "conntrack",
				"--ctstate", "NEW", "-j", "DROP").Run()
		}
		if err := rule("-I"); err != nil {
			l.t.Fatalf("%s %s: %v", chain, bridge, err)
		}
		l.t.Cleanup(func() {
			if err := rule("-D"); err != nil {
				l.t.Error(err)
			}
		})
	}
}

// newLightLab is a shipped stack, whose people sign in at an OpenID provider, with the probe in the
// place of each program, which has no files, volumes nor environment.
func newLightLab(t *testing.T, overlay string) *lab {
	t.Helper()
	l := newLab(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	settings := shippedSettings(t, root, overlay)
	settings.SignIn = &stacks.SignInSettings{OIDC: &stacks.OIDCSettings{
		Issuer: "https://id.example.com", ClientID: "x", Everybody: true,
	}}
	stack, err := stacks.Load(overlay, settings, stacks.Checkout{FS: os.DirFS(root)})
	if err != nil {
		t.Fatal(err)
	}

	plain := l.stack.Services[0]
	stack.Name, stack.Volumes, stack.Secrets = l.stack.Name, nil, nil
	for i := range stack.Services {
		svc := plain
		svc.Name, svc.Networks = stack.Services[i].Name, stack.Services[i].Networks
		svc.Mounts, svc.DependsOn, svc.Resources.CPU = nil, nil, 500
		svc.Ports = nil
		if svc.Name == stacks.Edge {
			port, err := strconv.Atoi(peers.FreePort(t, "127.0.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			svc.Ports = []stacks.Port{{
				Name: "http", Container: 8080, Host: port, Address: "0.0.0.0",
			}}
		}
		stack.Services[i] = svc
	}

	l.stack = stack
	return l
}

// tries makes the attempts from each container of the services, which must all have the same
// results, and returns these. other is another stack of the engine.
func (l *lab) tries(
	world *outside.World, other *lab, of func(service string) bool,
) []outside.Result {
	l.t.Helper()
	var from []stacks.Service
	for _, svc := range l.stack.Services {
		if of(svc.Name) {
			from = append(from, svc)
		}
	}

	all, errs := make([][]outside.Result, len(from)), make([]error, len(from))
	var done sync.WaitGroup
	for i, svc := range from {
		c := l.one(svc.Name)
		attempts := world.Attempts(l.engineAttempts(world, other, c)...)
		done.Go(func() {
			all[i], errs[i] = world.From(c.State.Pid, l.stack.Name+"-"+svc.Name, attempts)
		})
	}

	done.Wait()
	if err := errors.Join(errs...); err != nil {
		l.t.Fatal(err)
	}

	for i, results := range all {
		for j, r := range results {
			l.t.Logf("%s: %s", from[i].Name, r)
			if first := all[0][j]; first.Outcome != r.Outcome {
				l.t.Errorf("%s: %s; %s: %s", from[i].Name, r, from[0].Name, first)
			}
		}
	}

	return all[0]
}

// engineAttempts are those of a container of an engine.
func (l *lab) engineAttempts(
	world *outside.World, other *lab, c container.InspectResponse,
) []outside.Attempt {
	l.t.Helper()
	out := []outside.Attempt{{
		What: "a name, asked of the engine's resolver", Kind: outside.DNS, Address: "127.0.0.11:53",
	}}

	for name := range c.NetworkSettings.Networks {
		n, err := l.api.NetworkInspect(context.Background(), name, client.NetworkInspectOptions{})
		if err != nil {
			l.t.Fatal(err)
		}
		for _, pool := range n.Network.IPAM.Config {
			out = append(out, outside.Attempt{
				What: "a program of the machine, at the bridge's address", Kind: outside.TCP,
				Address: net.JoinHostPort(pool.Gateway.String(), world.Port),
			})
		}
	}

	return append(other.containerAttempts(), out...)
}

// containerAttempts are those at each container of the stack, and at the port that it publishes.
func (l *lab) containerAttempts() []outside.Attempt {
	l.t.Helper()
	out := []outside.Attempt{{
		What: "another stack's edge, where the machine has it", Kind: outside.TCP,
		Address: net.JoinHostPort(outside.Machine, strconv.Itoa(l.service(stacks.Edge).Ports[0].Host)),
	}}
	for _, svc := range l.stack.Services {
		for _, n := range l.one(svc.Name).NetworkSettings.Networks {
			out = append(out, outside.Attempt{
				What: "a container of another stack", Kind: outside.TCP,
				Address: net.JoinHostPort(n.IPAddress.String(), "8080"),
			})
		}
	}
	return out
}
