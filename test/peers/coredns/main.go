// Coredns is CoreDNS with the plugins that a stack's resolver needs, and no others: upstream's has
// fifty, most of which are clients of clouds.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() { coremain.Run() }
