package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/doctor"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// onEngine is the platform of a stack on a Docker engine.
type onEngine struct {
	*engine.Engine
	root string // the project's
	say  func(format string, args ...any)
}

var _ platform = (*onEngine)(nil)

func (e *onEngine) Name() string { return "the engine" }

// Preflight looks for host ports that something else holds, at the engine's processor, and for
// images under the references of those that are pulled which are not those of the lock file.
func (e *onEngine) Preflight(ctx context.Context, stack stacks.Stack, _ upOptions) error {
	taken, err := e.TakenPorts(ctx, stack)
	if err != nil {
		return err
	}

	list, err := images.Of(stack, e.root)
	if err != nil {
		return err
	}

	errs := []error{e.CheckPlatform(ctx, stack), images.CheckAll(ctx, e.Engine, list)}
	for _, t := range taken {
		errs = append(errs, t)
	}

	return errors.Join(errs...)
}

func (e *onEngine) Settle(
	ctx context.Context, s *deploy.Session, stack stacks.Stack,
) (bool, error) {
	list, err := e.Containers(ctx, "")
	if err != nil {
		return false, err
	}

	why := unexpected(list, stack)
	if why == "" {
		return false, nil
	}

	if len(list) > 0 {
		e.say("%s: comparing the state with what runs first", why)
		if err := e.removeHalfMade(ctx, s, list); err != nil {
			return false, err
		}
	}

	return true, nil
}

// unexpected describes how the running containers differ from the stack in a way that the state
// cannot know: some were stopped or removed by something else, or an update was killed while it
// made one. It returns "" if they do not.
func unexpected(list []engine.Container, stack stacks.Stack) string {
	healthy, all := map[string]int{}, map[string]int{}
	for _, c := range list {
		all[c.Service]++
		if c.Running && c.State != "unhealthy" {
			healthy[c.Service]++
		}
	}

	for _, svc := range stack.Services {
		if n := healthy[svc.Name]; n != svc.Replicas || all[svc.Name] != n {
			return fmt.Sprintf("%s: %d of %d containers run well", svc.Name, n,
				max(all[svc.Name], svc.Replicas))
		}
	}

	return ""
}

// removeHalfMade removes the containers of the stack that are not in its state. A killed update
// made them, and they hold names and ports. If none of the containers is in the state they belong
// to another state, and removeHalfMade returns an error instead.
func (e *onEngine) removeHalfMade(
	ctx context.Context, s *deploy.Session, list []engine.Container,
) error {
	resources, err := s.Resources(ctx)
	if err != nil {
		return err
	}

	known := map[string]bool{} // by the engine's ID
	for _, r := range resources {
		known[r.ID] = true
	}

	var orphans []engine.Container
	for _, c := range list {
		if !known[c.ID] {
			orphans = append(orphans, c)
		}
	}

	if len(orphans) == 0 {
		return nil
	}

	if len(orphans) == len(list) && !slices.ContainsFunc(list[0].Networks, func(id string) bool {
		return known[id]
	}) {
		var replicas []running.Replica
		for _, c := range list {
			replicas = append(replicas, c.Replica)
		}
		return e.Foreign(replicas)
	}

	for _, c := range orphans {
		e.say("removing %s: an update that was killed left it half-made", c.Name)
		if err := e.RemoveContainer(ctx, c.ID); err != nil {
			return err
		}
	}

	return s.ForgetPending(ctx)
}

func (e *onEngine) Foreign(list []running.Replica) error {
	return fmt.Errorf("state: containers of this stack run that are not in it (%s): name the "+
		"backend that they were made with in PULUMI_BACKEND_URL, or remove them with `docker rm -f`",
		strings.Join(namesOf(list), ", "))
}

// lookEvery is the time between two looks at the logs of starting containers.
const lookEvery = 2 * time.Second

func (e *onEngine) Watch(context.Context, stacks.Stack) watch { return watch{run: e.watch} }

// watch notes what the containers that are not healthy yet logged last: why a start takes long,
// such as a download of modules, or why it will fail.
func (e *onEngine) watch(ctx context.Context, note func(running.Note)) []failure.Problem {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		list, err := e.Containers(ctx, "")
		if err != nil {
			return // the update itself will fail if the engine is gone
		}

		for _, c := range list {
			if c.Healthy || c.State == "created" {
				continue
			}

			n := running.Note{Service: c.Service}
			if lines, err := e.LastLines(ctx, c.Replica, 1); err == nil && len(lines) > 0 {
				n.Text = message(lines[0])
			}
			if c.State == "restarting" || c.Restarts > 0 {
				n.Text = c.Condition + ": " + n.Text
			}

			note(n)
		}
	}, lookEvery)

	return nil
}

// message returns what a line of a log says to a person: of the services' JSON lines the message
// and the error, of others the line.
func message(line string) string {
	var record struct {
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}

	if json.Unmarshal([]byte(line), &record) != nil || record.Msg == "" {
		return line
	}
	if record.Error != "" {
		return record.Msg + ": " + record.Error
	}

	return record.Msg
}

// Edge returns the address that the engine publishes, by the stack's name for it if it has one.
func (e *onEngine) Edge(ctx context.Context, stack stacks.Stack) (edge, error) {
	list, err := e.Containers(ctx, stacks.Edge)
	if err != nil {
		return edge{}, err
	}

	for _, c := range list {
		if len(c.Ports) == 0 {
			continue
		}

		p := c.Ports[0]
		way := edge{url: p.URL(), client: &http.Client{}}
		if p.TLS {
			way.client = secureClient(p, e.Host.Local())
			if stack.TLS != nil && stack.TLS.Host != "" {
				way.url = stacks.HTTPSURL(stack.TLS.Host, p.Host)
			}
		}

		way.address = way.url
		return way, nil
	}

	return edge{}, nil
}

// secureClient returns a client that finds every host at the port. It does not ask whose the
// certificate is where the port is this machine's own: what is sent there does not leave it, and
// the machine need not trust the edge's authority. local reports whether the engine is here.
func secureClient(p running.Port, local bool) *http.Client {
	at := net.JoinHostPort(p.Reach(), strconv.Itoa(p.Host))
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, at)
		},
	}
	if local && ownAddress(p.Reach()) {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}

	return &http.Client{Transport: transport}
}

// ownAddress reports whether the host is an address of this machine.
func ownAddress(host string) bool {
	if host == "localhost" {
		return true
	}

	ip := net.ParseIP(host)
	list, err := net.InterfaceAddrs()
	return ip.IsLoopback() || err == nil && slices.ContainsFunc(list, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.Equal(ip)
	})
}

// Clear does nothing: the volumes of an engine belong to no namespace that could be left.
func (e *onEngine) Clear(context.Context) error { return nil }

func (e *onEngine) Patient(ctx context.Context, p *doctor.Patient) {
	p.Engine = e.Engine
	if p.StackErr == nil {
		p.Taken, p.TakenErr = e.TakenPorts(ctx, p.Stack)
	}
}
