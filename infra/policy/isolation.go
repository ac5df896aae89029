package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/workload"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var isolationRules = []Rule{{
	ID: "isolation",
	Reason: "in a healthcare stack, and wherever a network is internal, what people write must not " +
		"leave: only the edge is reached from outside, and only the egress proxy reaches what the " +
		"settings name; a question for a name is a way out too",
	Fix: "put the service on internal networks only, the edge on an inbound one too, and remove " +
		"what it may reach outside; on a cluster, have it ask the stack's resolver",
	check: workloads(func(in Input, w workload.Workload) []string {
		if !isolated(in) {
			return nil
		}

		ways := slices.Clone(w.WaysOut)
		for _, n := range w.Machine {
			if w.Service != stacks.Edge { // which a published port takes to such a network
				ways = append(ways, "the machine's address on network "+n)
			}
		}

		var out []string
		switch w.Service {
		case stacks.Egress:
			ways = slices.DeleteFunc(ways, ofEgress)
			fallthrough
		case stacks.Resolver:
			out = when(len(atHand(w)) > 0, "has a way out, and %s: give it none of these",
				strings.Join(atHand(w), " and "))
		default:
			out = when(w.NamesOutside, "asks the cluster's name servers, which pass on names outside")
		}
		return append(out, when(len(ways) > 0, "can reach hosts beyond the stack through %s",
			strings.Join(ways, " and "))...)
	}),
}, {
	ID: "cloud-models",
	Reason: "Ollama can hand a question to a model in somebody else's cloud; " +
		"a network rule must not be all that stops it",
	Fix: "set OLLAMA_NO_CLOUD=1 in the environment of ollama",
	check: containers(func(c container) []string {
		// Whatever else runs in the same image is no server.
		server := c.workload.Service == stacks.Ollama && c.Env["OLLAMA_HOST"] != ""
		return when(isolated(c.in) && server && c.Env["OLLAMA_NO_CLOUD"] != "1",
			"may use cloud models in an isolated stack")
	}),
}, {
	ID: "safeguards",
	Reason: "in a healthcare stack it must be known who reads, a screen that is left must not stay " +
		"open, conversations must not be kept for ever, and who did what must be known for six years",
	Fix: "set codexcontinue:signIn to {accounts: true} or {oidc: ...}, codexcontinue:conversationTTL " +
		"to a year at most, codexcontinue:session to {idle: 15m, life: 168h} at most, and " +
		"codexcontinue:audit.retention to 52608h at least",
	check: containers(func(c container) []string {
		if !c.in.Stack.Safeguarded || c.Init {
			return nil
		}

		unrecorded := when(c.Env["AUDIT"] != "true", "does not record who does what")
		switch c.workload.Service {
		case stacks.Gate:
			return slices.Concat(unrecorded,
				when(!signsIn(c.workload), "lets in people without sign-in"),
				when(!Within(c.Env["SESSION_IDLE"], LongestIdle),
					"keeps a session without use for longer than %s", LongestIdle),
				when(!Within(c.Env["SESSION_LIFE"], LongestSession),
					"keeps a session for longer than a week"))
		case stacks.Backend:
			return slices.Concat(unrecorded,
				when(!Within(c.Env["CONVERSATION_TTL"], LongestKept),
					"keeps conversations for longer than a year"))
		case stacks.Knowledge:
			return unrecorded
		case stacks.Redis:
			kept, drops := c.auditRetention()
			return when(drops && kept < LeastRecorded,
				"drops records of who did what after %s, which is less than six years", kept)
		}

		return nil
	}),
}, {
	ID: "ratings",
	Reason: "what people hand over below an answer is read by others, and in a healthcare stack, or " +
		"wherever a network is internal, it may be about a patient: whoever runs the stack decides",
	Fix: "leave ratings off, or switch them on with codexcontinue:learning {ratings: true}",
	check: containers(func(c container) []string {
		asks := c.workload.Service == stacks.Backend || c.workload.Service == stacks.Frontend
		return when(isolated(c.in) && !c.in.Stack.RatingsChosen && asks && !c.Init &&
			c.Env["RATINGS"] == "true", "has people rate answers, which the settings do not say")
	}),
}}

// How long a healthcare stack may keep a session without use, a session in any case, and a
// conversation. The law names no time.
const (
	LongestIdle    = 15 * time.Minute
	LongestSession = 7 * 24 * time.Hour
	LongestKept    = 366 * 24 * time.Hour
)

// LeastRecorded is how long a healthcare stack keeps the records of who did what: six years with two
// leap days, by 45 CFR 164.316(b)(2)(i).
const LeastRecorded = (6*365 + 2) * 24 * time.Hour

// auditRetention returns how long the container, which is Redis, keeps records of the audit, and
// reports whether it drops any. Its last argument says so, in seconds; see stacks/redis.
func (c container) auditRetention() (time.Duration, bool) {
	if len(c.Command) == 0 {
		return 0, false
	}
	seconds, err := strconv.ParseInt(c.Command[len(c.Command)-1], 10, 64)
	return time.Duration(seconds) * time.Second, err == nil
}

// Within reports whether the value is a duration of at most that.
func Within(value string, most time.Duration) bool {
	d, err := time.ParseDuration(value)
	return err == nil && d > 0 && d <= most
}

// ofEgress reports whether the way out is one that the egress proxy is there for: the network of its
// own on an engine, the ports of destinations on a cluster.
func ofEgress(way string) bool {
	return strings.Contains(way, "network "+stacks.EgressNetwork) ||
		strings.Contains(way, " port ") && !strings.HasPrefix(way, workload.Namespaces)
}

// atHand returns what the containers have that must not be where there is a way out.
func atHand(w workload.Workload) []string {
	var out []string
	for _, c := range w.Containers {
		for _, m := range c.Mounts {
			switch m.Kind {
			case workload.Secrets:
				out = append(out, "secrets in "+m.Path)
			case workload.Storage, workload.HostPath:
				out = append(out, "the "+string(m.Kind)+" "+m.Source)
			}
		}
		if c.Env["REDIS_URL"] != "" {
			out = append(out, "REDIS_URL")
		}
	}
	return out
}

// isolated reports whether the stack must keep to itself.
func isolated(in Input) bool {
	return in.Stack.Safeguarded ||
		slices.ContainsFunc(in.Networks, func(n workload.Network) bool { return n.Internal }) ||
		slices.ContainsFunc(in.Stack.Networks, func(n stacks.Network) bool { return n.Internal })
}
