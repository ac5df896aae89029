package stacks

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// nameRule is what every target accepts as a name: a DNS label (RFC 1123) of at most 40 characters,
// which leaves room for what the targets put around it.
var nameRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

var (
	// registryRule is the domain, port and path of an image reference (distribution/reference).
	registryRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?` +
		`(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

	// hostRule is a DNS name of two or more labels (RFC 1123).
	hostRule = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)+` +
		`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

// problems collects what is wrong, each with its path.
type problems struct{ errs []error }

func (p *problems) add(path, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// sorted returns the problems joined, in the order of their paths.
func (p *problems) sorted() error {
	slices.SortFunc(p.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(slices.CompactFunc(p.errs, func(a, b error) bool {
		return a.Error() == b.Error()
	})...)
}

// Validate reports every problem of the stack at once, each as "<path>: what is wrong". A stack
// that passes can be provisioned as far as the description tells; a target may still refuse
// what it cannot express.
func (s Stack) Validate() error {
	p := &problems{}
	if !nameRule.MatchString(s.Name) {
		p.add("name",
			"%q is no DNS label of at most 40 characters: "+
				"use lower-case letters, digits and dashes",
			s.Name)
	}

	names(p, "networks", s.Networks, func(n Network) string { return n.Name })
	for _, n := range s.Networks {
		if n.Internal && n.Inbound {
			p.add("networks."+n.Name, "is internal and inbound: set one of the two")
		}
	}

	names(p, "volumes", s.Volumes, func(v Volume) string { return v.Name })
	names(p, "secrets", s.Secrets, func(x Secret) string { return x.Name })
	names(p, "services", s.Services, func(x Service) string { return x.Name })
	for _, x := range s.Secrets {
		if x.Existing != nil && x.External != nil {
			p.add("secrets."+x.Name, "has two sources: set one of existing and external")
		}
		if _, _, ok := CutServiceSecret(x.ConfigKey); !ok && !slices.Contains(secretKeys, x.ConfigKey) {
			p.add("secrets."+x.Name+".configKey", "%q is no secret key of the config (valid: %s)",
				x.ConfigKey, strings.Join(secretKeys, ", "))
		}
	}

	for _, v := range s.Volumes {
		if v.Size <= 0 {
			p.add("volumes."+v.Name+".size", "must be positive, got %d", v.Size)
		}
	}

	s.validateRoute(p)
	s.validateTLS(p)
	s.validateSignIn(p)
	s.validateWaivers(p)
	if s.Registry != "" && !registryRule.MatchString(s.Registry) {
		p.add("registry",
			"%q is no registry: write it like registry.example.com/team, without a scheme or a tag",
			s.Registry)
	}

	if len(s.Services) == 0 {
		p.add("services", "the stack has none")
	}

	for _, svc := range s.Services {
		s.validateService(p, svc)
	}

	s.validateHostPorts(p)
	if _, err := s.StartOrder(); err != nil {
		p.errs = append(p.errs, leaves(err)...)
	}

	if s.Model.Name == "" || !nameRule.MatchString(s.Model.Name) {
		p.add("model.name",
			"%q is no name of at most 40 characters: lower-case letters, digits and dashes; "+
				"the tag is given by its digest",
			s.Model.Name)
	}

	if s.Model.Digest == "" {
		p.add("model.digest", "is empty: the stack was not made by Load")
	}

	return p.sorted()
}

// validateRoute checks that the route leads somewhere and, where people sign in, that what ends TLS
// before the edge is believed. DecodeSettings checks which of its parts belong together.
func (s Stack) validateRoute(p *problems) {
	r := s.Route
	if r == nil {
		return
	}

	if !hostRule.MatchString(r.Host) {
		p.add("route.host",
			"%q is no DNS name: write it like chat.example.com, without a scheme or a port", r.Host)
	}

	if (r.Gateway == nil) == (r.Ingress == nil) {
		p.add("route", "needs a gateway or an ingress")
	}
	if s.Service(Edge) == nil {
		p.add("route", "leads to the edge, which the stack has not")
	}

	how := s.SignIn()
	if len(s.TrustedProxies) == 0 && (how == gateenv.Accounts || how == gateenv.OIDC) {
		p.add("edge.trustedProxies", "is not set, and edge.host has a gateway or an ingress before the "+
			"edge: without it cookies are not Secure, one person's wrong passwords slow down "+
			"everybody's sign-in, and the audit has the gateway's address for all: set it to the "+
			"network of the gateway's pods, like [10.244.0.0/16], from "+
			"`kubectl get pods -A -o wide`, or of its nodes where they have their network")
	}
}

func (s Stack) validateWaivers(p *problems) {
	for _, w := range s.Waivers {
		if w.Rule == "" || w.Subject == "" || w.Reason == "" || w.Expires.IsZero() {
			p.add("waivers."+w.Rule, "needs a rule, a subject, a reason and the day it expires on")
		}
	}
}

// names checks that the names are valid and different.
func names[T any](p *problems, kind string, list []T, name func(T) string) {
	seen := map[string]bool{}
	for _, x := range list {
		n := name(x)
		if !nameRule.MatchString(n) {
			p.add(kind, "%q is no DNS label: use lower-case letters, digits and dashes", n)
		}
		if seen[n] {
			p.add(kind+"."+n, "is there twice")
		}

		seen[n] = true
	}
}

// validateHostPorts refuses two services on one port of the machine.
func (s Stack) validateHostPorts(p *problems) {
	type number struct {
		port int
		udp  bool
	}
	owner := map[number]string{}
	for _, svc := range s.Services {
		for _, port := range svc.Ports {
			if port.Host == 0 {
				continue
			}

			n := number{port.Host, port.UDP}
			if first, taken := owner[n]; taken {
				p.add("services."+svc.Name+".ports."+port.Name+".host", "%d is %s's already",
					port.Host, first)
			}

			owner[n] = svc.Name
		}
	}
}
