package stacks

// prod runs the production images, two of each service that can be more than one, behind a Redis that asks for its
// password. Only the edge publishes a port.
func prod(s *Stack, _ Checkout) {
	s.requirePassword()
	for _, name := range []string{Frontend, Backend} {
		svc := s.Service(name)
		svc.Replicas = 2
		svc.Resources.Memory = GiB // as the compose stack's production override had it
	}
	s.Service(ML).Resources.Memory = GiB
}
