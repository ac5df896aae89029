package stacks

// prod runs the production images, two of each service of this repository but ml, with a Redis that
// asks for its password. Only the edge publishes a port.
func prod(s *Stack, _ Checkout) {
	s.requirePassword()
	for i := range s.Services {
		if svc := &s.Services[i]; svc.Contract != nil {
			svc.Replicas = 2
			svc.Resources.Memory = GiB
		}
	}

	// A second ml would answer no faster: Ollama is the bound.
	s.Service(ML).Replicas = 1
}
