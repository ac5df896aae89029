package stacks

import "github.com/codexcontinue/codexcontinue/services/gate/gateenv"

// legalDomain is prod with a domain of its own, where people sign in, as documents are for groups.
// It keeps the way out, by which Ollama downloads the base model: a lawyer owes reasonable efforts
// against disclosure (ABA Model Rule 1.6(c)), and nothing that people write is sent by it. So that
// this holds of Ollama too, it asks no model elsewhere. Who wants a network without a way out takes
// healthcare's (docs/extending.md).
func legalDomain(s *Stack, c Checkout) {
	prod(s, c)
	s.domain("legal")
	s.Service(Ollama).Env["OLLAMA_NO_CLOUD"] = "1"
	edit(s, func(c *gateenv.Config) { c.SignIn = gateenv.Accounts })
}
