package docker

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/types"
)

// Options of the bridge driver, and what fences a container in. See docs/adr/0023-no-way-out.md.
const (
	// NoAddress leaves the bridge without an address of the machine. Containers reach programs of the
	// machine by such an address, from internal networks too.
	NoAddress = "com.docker.network.bridge.inhibit_ipv4"

	// SourceAddress is the address that what leaves the network seems to come from. With Nowhere it is
	// one that every router drops, and nobody can answer; callers of published ports get their
	// answers.
	SourceAddress = "com.docker.network.host_ipv4"
	Nowhere       = "127.0.0.1"

	// BridgeName names the bridge, for rules of the machine's firewall.
	BridgeName = "com.docker.network.bridge.name"

	// NoResolver is a name server that is not there: the container's own loopback address. The engine
	// resolves the stack's names by itself, and asks this one for all others.
	NoResolver = "127.0.0.1"
)

// fence returns the driver's options for what a network lets through.
func fence(n stacks.Network, stack string) types.Options {
	switch {
	case n.Internal:
		return types.Options{NoAddress: "true"}
	case n.Inbound:
		return types.Options{SourceAddress: Nowhere, BridgeName: bridge(stack)}
	}
	return nil
}

// bridge returns the name of the bridge of a stack's inbound network: cc- and the stack's name, or
// the beginning of its digest where the name is longer than that of an interface may be.
func bridge(stack string) string {
	const prefix, most = "cc-", 15
	if len(prefix+stack) > most {
		sum := sha256.Sum256([]byte(stack))
		stack = hex.EncodeToString(sum[:])[:most-len(prefix)]
	}
	return prefix + stack
}
