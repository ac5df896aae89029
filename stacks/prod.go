package stacks

// prod runs the production images, two of each service of this repository but ml and the one writer
// of a volume, with a Redis that asks for its password. Only the edge publishes a port.
func prod(s *Stack, _ Checkout) {
	s.requirePassword()
	for i := range s.Services {
		svc := &s.Services[i]
		if svc.Contract == nil {
			continue
		}

		svc.Resources.Memory = max(svc.Resources.Memory, GiB)
		if !s.writesAlone(*svc) {
			svc.Replicas = 2
		}
	}

	// A second ml would answer no faster: Ollama is the bound.
	s.Service(ML).Replicas = 1
}
