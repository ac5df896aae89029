package server

import "time"

// SetTimeouts sets the times in which a request's header comes, all of the request, and in which a
// client reads a piece of its response.
func (s *Server) SetTimeouts(header, request, piece time.Duration) {
	s.timeouts = timeouts{header, request, piece}
}
