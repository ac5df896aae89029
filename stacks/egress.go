package stacks

import (
	"fmt"
	"net"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/egress/egressenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// Egress is the name of the service through which a private stack reaches what its settings name.
const Egress = "egress"

const (
	// egressPort is the port of the egress proxy in its container.
	egressPort = 3128

	// egressDrain is how long it waits for tunnels when it stops: for a question to a provider or
	// an authority, not for a connection that somebody keeps.
	egressDrain = 10 * time.Second

	// EgressNetwork has a way out, for the egress proxy alone.
	EgressNetwork = "codexcontinue-egress"

	// askingNetwork is where the egress proxy is asked, by nobody but those that are to ask it.
	askingNetwork = "codexcontinue-asking"
)

// EgressSettings are what a private stack may reach beside what its other settings name.
type EgressSettings struct {
	// Hosts are host or host:port, of 443 unless named.
	Hosts []string

	// Private lets the names of destinations have addresses of private networks.
	Private bool
}

func (s *Settings) decodeEgress(v string) error {
	s.Egress = &EgressSettings{}
	private := new(bool)
	err := object(fields{
		"hosts":   list(appendText(&s.Egress.Hosts)),
		"private": boolean(&private),
	})(v)
	s.Egress.Private = *private
	if len(s.Egress.Hosts) == 0 && !s.Egress.Private {
		s.Egress = nil // as the project's default has it
	}
	return err
}

// outside returns the destinations that the settings name.
func (e *EgressSettings) outside() ([]Outside, error) {
	var out []Outside
	for _, h := range e.Hosts {
		u, err := neturl.Parse("//" + h)
		if err != nil || u.Host != h || u.Hostname() == "" || strings.Contains(h, "*") {
			return nil, fmt.Errorf("%s:egress.hosts: %q is no destination: write it like "+
				"www.example.com, or www.example.com:8443", Project, h)
		}

		o := Outside{Host: u.Hostname(), Port: httpsPort, Reason: "named by egress.hosts"}
		if u.Port() != "" {
			o.Port, _ = strconv.Atoi(u.Port()) // Validate refuses one that is too great
		}
		out = append(out, o)
	}
	return out, nil
}

// applyEgress puts the egress proxy between the edge, the gate and backup of a private stack and what
// the settings have them reach. It comes after all that names a destination.
func (s *Stack) applyEgress(v *EgressSettings) error {
	asking := s.asking()
	if len(asking) == 0 {
		if v == nil {
			return nil
		}
		return fmt.Errorf("%s:egress: is set, and nothing of this stack goes out by an egress proxy, "+
			"as it does where a private stack has signIn.oidc, edge.tls.acme or backup.s3: remove the key",
			Project)
	}
	if v == nil {
		v = &EgressSettings{}
	}

	outside, err := v.outside()
	if err != nil {
		return err
	}

	proxy := own(Egress, egressPort, "/health")
	proxy.Resources.Memory, proxy.StopGrace = 64*MiB, 2*egressDrain
	proxy.Networks = []string{EgressNetwork, askingNetwork}
	for _, svc := range asking {
		outside = slices.Concat(svc.Outside, outside)
		svc.Networks = append(slices.Clone(svc.Networks), askingNetwork)
		svc.ask(url("http", Egress, egressPort))
		svc.Outside = nil
		svc.DependsOn, svc.Calls = append(svc.DependsOn, Egress), append(svc.Calls, Egress)
	}

	proxy.Outside = outside
	c := &egressenv.Config{Common: common(s.Name, egressPort), Private: v.Private}
	c.DrainTimeout = egressDrain
	for _, o := range outside {
		to := net.JoinHostPort(strings.ToLower(o.Host), strconv.Itoa(o.Port))
		if !slices.Contains(c.Destinations, to) {
			c.Destinations = append(c.Destinations, to)
		}
	}

	if g := s.Service(Gate); g != nil && g.Contract != nil { // as the settings have it
		shared := g.Contract.Shared()
		c.LogLevel, c.Debug = shared.LogLevel, shared.Debug
	}
	proxy.Contract = c
	s.Networks = append(s.Networks,
		Network{Name: EgressNetwork}, Network{Name: askingNetwork, Internal: true})
	s.Services = append(s.Services, proxy)
	return nil
}

// asking returns the services that have a destination, no way out and can ask a proxy.
func (s *Stack) asking() []*Service {
	var out []*Service
	for i := range s.Services {
		svc := &s.Services[i]
		_, wayOut := s.WayOut(*svc)
		if !wayOut && len(svc.Outside) > 0 && slices.Contains([]string{Edge, Gate, Backup}, svc.Name) {
			out = append(out, svc)
		}
	}
	return out
}

// ask has the service reach what is outside by the proxy.
func (s *Service) ask(proxy string) {
	switch c := s.Contract.(type) {
	case *gateenv.Config:
		c.EgressURL = proxy
		return
	case *backupenv.Config:
		c.EgressURL = proxy
		return
	}
	s.Env["HTTPS_PROXY"], s.Env["NO_PROXY"] = proxy, strings.Join(s.Calls, ",")
}
