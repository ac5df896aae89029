package doctor

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func firewall(ctx context.Context, p *Patient) []Finding {
	return Firewall(ctx, p.Engine, p.Path, p.Stack)
}

// Firewall looks for what a private stack leaves to the machine's firewall: the edge is on a network
// on which the machine has an address, so it reaches programs of the machine, and what it sends may
// leave (docs/isolation.md). Programs are looked for in the folders of path.
func Firewall(
	ctx context.Context, e *engine.Engine, path []string, stack stacks.Stack,
) []Finding {
	inbound := func(n stacks.Network) bool { return n.Inbound }
	if !slices.ContainsFunc(stack.Networks, inbound) {
		return found(Skip, "", "is for stacks without a way out")
	}

	bridge, err := e.InboundBridge(ctx)
	if err != nil {
		return cannot(err)
	}
	if bridge == "" {
		return found(Skip, "", "the stack is not up, and its bridge has no name yet")
	}

	// A bridge that is not on this machine is one of the engine's, elsewhere or in a machine of its
	// own: the rules of this machine say nothing of it.
	rules := ruleSet{}
	_, err = net.InterfaceByName(bridge)
	if strings.HasPrefix(e.Host.URL, "unix://") && err == nil {
		rules.program = findProgram(path, "iptables")
	}
	return closed(ctx, bridge, rules)
}

// closed returns a finding about the lines that keep what is behind the bridge from the machine's
// programs and from what is beyond the machine.
func closed(ctx context.Context, bridge string, rules ruleSet) []Finding {
	var missing []string
	unknown := false
	for _, chain := range []string{"INPUT", "DOCKER-USER"} {
		rule := []string{chain, "-i", bridge, "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"}
		there, known := rules.has(ctx, rule)
		unknown = unknown || !known
		if !there {
			missing = append(missing, "iptables -I "+strings.Join(rule, " "))
		}
	}

	fix := "as root on the engine's machine: " + strings.Join(missing, " && ")
	switch {
	case len(missing) == 0:
		return found(OK, "", "the machine's firewall has both lines for %s", bridge)
	case unknown:
		return found(Skip, fix, "cannot be seen from here, and not without root: unless it has these "+
			"lines the edge reaches programs of the machine")
	default:
		return found(Warn, fix, "the edge reaches programs of the machine, and what it sends may leave: "+
			"the machine's firewall has no such line for %s", bridge)
	}
}

// ruleSet is the rules of this machine's firewall, which the program reads; "" reads none.
type ruleSet struct{ program string }

// has reports whether the rule is there, and whether that is known: only root reads the rules.
func (s ruleSet) has(ctx context.Context, rule []string) (there, known bool) {
	if s.program == "" {
		return false, false
	}

	// It ends with 1 where the rule, or its chain, is not there.
	err := exec.CommandContext(ctx, s.program, append([]string{"-w", "-C"}, rule...)...).Run()
	failed, ok := errors.AsType[*exec.ExitError](err)
	return err == nil, err == nil || ok && failed.ExitCode() == 1
}

// findProgram returns the path of a program in the folders, or in those of a system's own, or "".
func findProgram(folders []string, name string) string {
	for _, dir := range append(slices.Clone(folders), "/usr/sbin", "/sbin") {
		if dir == "" {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}
