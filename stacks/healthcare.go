package stacks

import (
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// healthcareDomain is the domain whose stacks are safeguarded, whatever their overlay.
const healthcareDomain = "healthcare"

// privateNetwork has no way out.
const privateNetwork = "codexcontinue-private"

// healthcare is prod with a domain and a shorter memory of its own, where people sign in, on a
// network that nothing leaves, and on which all speak TLS: only the edge is also on the main
// network, which lets it publish its port, and lets nothing out. Somebody has to bring the base
// model, as Ollama cannot download it from there: `codexctl model import`.
func healthcare(s *Stack, c Checkout) {
	prod(s, c)
	s.domain(healthcareDomain)
	s.Safeguarded = true
	s.requireAuthority()
	s.Networks = []Network{
		{Name: MainNetwork, Inbound: true}, {Name: privateNetwork, Internal: true},
	}
	for i := range s.Services {
		s.Services[i].Networks = []string{privateNetwork}
	}

	// Six years, two leap days included, as 45 CFR 164.316(b)(2)(i) has it of records of what was
	// done.
	s.AuditRetention = (6*365 + 2) * day

	edge := s.Service(Edge)
	edge.Networks = []string{MainNetwork, privateNetwork}
	ollama := s.Service(Ollama)
	ollama.Env["OLLAMA_NO_CLOUD"] = "1"
	ollama.Outside = nil
	edit(s, func(c *gateenv.Config) {
		c.SignIn, c.SessionIdle = gateenv.Accounts, 15*time.Minute
		c.SharedBrowsers = true // a ward has one for all
	})
	edit(s, func(c *backendenv.Config) { c.ConversationTTL = 30 * 24 * time.Hour })
}
