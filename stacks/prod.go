package stacks

// prod runs the production images, two of each service that can be more than one, behind a Redis that asks for its
// password. Only the edge publishes a port.
func prod(s *Stack, _ Checkout) {
	s.requirePassword()
	for i := range s.Services {
		if svc := &s.Services[i]; svc.Contract != nil {
			svc.Replicas = 2
			svc.Resources.Memory = GiB
		}
	}
	// Ollama, not ml, is what bounds the answers.
	s.Service(ML).Replicas = 1
}
