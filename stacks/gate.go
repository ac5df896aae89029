package stacks

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// Gate is the name of the service that lets people in.
const Gate = "gate"

// gatePort is the port of the gate in its container.
const gatePort = 8003

// gate stands between the edge and the frontend.
func gate(environment string) Service {
	s := own(Gate, gatePort, "/health")
	s.Contract = &gateenv.Config{
		Common:            common(environment, gatePort),
		FrontendURL:       url("http", Frontend, frontendPort),
		MLServiceURL:      url("http", ML, mlPort),
		SignIn:            gateenv.None,
		SessionIdle:       12 * time.Hour,
		SessionLife:       7 * 24 * time.Hour,
		GenerationTimeout: generationTimeout,
	}

	s.DataFormat = gateenv.DataFormat
	s.DependsOn, s.Calls = []string{Redis, Frontend, ML}, []string{Redis, Frontend, ML}
	return s
}

// nameEdge tells the gate where the edge is, on an engine whose containers all reach the gate, without
// a certificate that says who they are.
func (s *Stack) nameEdge(on Target) {
	if on != Kubernetes && !s.InternalTLS() {
		edit(s, func(c *gateenv.Config) { c.EdgeHost = Edge })
	}
}
