//go:build tools

// Package cluster only keeps the module whose resource types `cluster.sh up
// gateway-crds` installs in go.mod.
package cluster

import _ "sigs.k8s.io/gateway-api/apis/v1"
