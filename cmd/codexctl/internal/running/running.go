// Package running is what runs of a stack, whatever it runs on: the words that the commands
// and the targets share.
package running

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Replica is one of a service's identical copies: a container of an engine, a pod of a cluster.
type Replica struct {
	ID, Name string
	Service  string

	// Image is the reference by which people know the image.
	Image string

	// State is one word: healthy, starting, unhealthy, restarting, exited, created, pending, ...
	State string

	// Condition is the state for a person, with the reason where something is wrong.
	Condition string

	// Healthy says that it runs and passes its checks.
	Healthy bool

	// Created says that it was made and not started yet, for no reason that is known to be wrong;
	// Starting that it runs and has not had its time to become healthy.
	Created, Starting bool

	// Todo says what to do about its condition; empty when that is not known.
	Todo      string
	Restarts  int
	StartedAt time.Time

	// Node is the machine of the cluster that it is on; empty on an engine.
	Node string

	// CPU and Memory are the limits; 0 is none.
	CPU    stacks.MilliCPU
	Memory stacks.Bytes

	// Ports are those published on a machine, the service's own first.
	Ports []Port
}

// Port is a published port.
type Port struct {
	Address   string
	Host      int
	Container int
}

// URL is how a person on this machine reaches the port.
func (p Port) URL() string {
	host := p.Address
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}

	return "http://" + host + ":" + strconv.Itoa(p.Host)
}

// LogOptions say what part of the logs is wanted.
type LogOptions struct {
	// Tail is how many of the last lines of each replica are shown first; negative is all.
	Tail int

	// Since leaves out what is older; the zero time leaves out nothing.
	Since time.Time

	// Follow goes on with what comes, also from replicas that take the place of those there now,
	// until the context ends.
	Follow bool
}

// UnhealthyError is that a replica did not become healthy.
type UnhealthyError struct {
	Replica Replica

	// Left is how many others were left as they are.
	Left int

	// After is how long was waited; 0 when it failed at once.
	After time.Duration
}

func (e *UnhealthyError) Error() string {
	text := e.Replica.Name + " is " + e.Replica.State
	if e.After > 0 {
		text += fmt.Sprintf(" after %s", e.After)
	}
	return text + ": did not become healthy"
}
