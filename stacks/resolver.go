package stacks

import (
	"fmt"
	"time"
)

// Resolver is the name of the service that answers names to a private stack on a cluster.
const Resolver = "resolver"

const (
	// ResolverPort is where it is asked for names, in its container.
	ResolverPort = 5353

	// ResolverConfig is where it finds what it answers.
	ResolverConfig = "/etc/coredns/Corefile"

	// resolverHealth is where a kubelet asks it.
	resolverHealth = 8080
)

// applyResolver gives a stack on a cluster a resolver of its own, if any of its services has no way
// out: the cluster's DNS passes on names that are not its own, so that a question is a way out. An
// engine answers the names of a network by itself.
func (s *Stack) applyResolver(on Target) error {
	if s.Service(Resolver) != nil {
		return fmt.Errorf("services.%s: the name is that of the service which answers names to a "+
			"private stack on a cluster: rename yours", Resolver)
	}

	var networks []string
	for _, n := range s.Networks {
		if n.Internal {
			networks = append(networks, n.Name)
		}
	}
	if on != Kubernetes || len(networks) == 0 {
		return nil
	}

	asked := false
	for i := range s.Services {
		svc := &s.Services[i]
		if _, wayOut := s.WayOut(*svc); !wayOut {
			svc.DependsOn, asked = append(svc.DependsOn, Resolver), true
		}
	}

	if asked {
		s.Services = append(s.Services, resolver(networks))
	}
	return nil
}

// resolver returns CoreDNS. What it answers is written where the names of a cluster are known
// (infra/kubernetes). It is no callee: whoever has no way out asks it, and nobody else.
func resolver(networks []string) Service {
	return Service{
		Name:    Resolver,
		Image:   Image{Ref: CoreDNSImage},
		Command: []string{"-conf", ResolverConfig},
		Ports: []Port{
			{Name: "health", Container: resolverHealth, Address: loopback},
			{Name: "dns", Container: ResolverPort, UDP: true, Address: loopback},
			{Name: "dns-tcp", Container: ResolverPort, Address: loopback},
		},
		Networks: networks,
		Env:      map[string]string{"GOMEMLIMIT": "50MiB"}, // below the limit
		// A cluster asks for the path. The image has no program that could.
		Health:    health("/health", "", "/coredns", "-version"),
		Replicas:  2,
		Resources: Resources{CPU: 250, Memory: 64 * MiB, PIDs: 64},
		Security: Security{UID: serviceUser, GID: serviceUser, KeepCapabilities: map[string]string{
			"NET_BIND_SERVICE": "the upstream binary carries it as a file capability, as that of " +
				"the edge does, and the kernel refuses to run such a file without it",
		}},
		StopGrace:    10 * time.Second,
		Log:          logs(),
		StartTimeout: time.Minute,
	}
}
