package stacks

// AddKnowledge adds the service knowledge, as far as the edge is concerned.
func AddKnowledge(s *Stack) error {
	s.Services = append(s.Services, Service{Name: "knowledge"})
	return s.renderEdge()
}
