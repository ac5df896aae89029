// Package running describes what runs of a stack, in terms that the commands
// and the platforms share.
package running

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Replica is one of a service's identical copies: a container on an engine, a pod in a cluster. Its
// JSON form is part of what `codexctl status --json` prints.
type Replica struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Service string `json:"-"`

	// Image is the reference by which people know the image.
	Image string `json:"-"`

	// State is one word: healthy, starting, unhealthy, restarting, exited, created, pending, ...
	State string `json:"-"`

	// Condition describes the state to a person, with the reason if something is wrong.
	Condition string `json:"condition"`

	// Healthy reports whether it runs and passes its checks.
	Healthy bool `json:"-"`

	// Created reports whether it was made but not started yet, for no reason known to be wrong.
	// Starting reports whether it runs but has not had its time to become healthy.
	Created  bool `json:"-"`
	Starting bool `json:"-"`

	// Todo tells what to do about its condition; empty if that is not known.
	Todo      string    `json:"-"`
	StartedAt time.Time `json:"startedAt"`

	// CPU and Memory are the limits, in thousandths of a core and in bytes; 0 means none.
	CPU    stacks.MilliCPU `json:"cpuMilli"`
	Memory stacks.Bytes    `json:"memoryBytes"`

	// Ports are the ports published on a machine, the service's own first.
	Ports []Port `json:"-"`

	// Restarts counts the restarts of its containers.
	Restarts int `json:"restarts"`

	// Node is the cluster's machine that it runs on; empty on an engine.
	Node string `json:"node,omitempty"`
}

// Port is a published port.
type Port struct {
	Address   string
	Host      int
	Container int

	// TLS reports whether the edge ends TLS there.
	TLS bool
}

// Reach returns the host that reaches the port from this machine.
func (p Port) Reach() string {
	if p.Address == "" || p.Address == "0.0.0.0" || p.Address == "::" {
		return "localhost"
	}
	return p.Address
}

// URL returns the address of the port for a person on this machine.
func (p Port) URL() string {
	if p.TLS {
		return stacks.HTTPSURL(p.Reach(), p.Host)
	}
	return "http://" + net.JoinHostPort(p.Reach(), strconv.Itoa(p.Host))
}

// Note reports what a replica of a service that is starting waits for or logged last, or that the
// service is ready.
type Note struct {
	Service, Text string
	Ready         bool
}

// UnhealthyError is returned when a replica did not become healthy.
type UnhealthyError struct {
	Replica Replica

	// Left is how many other replicas were left as they are.
	Left int

	// After is how long was waited; 0 if it failed at once.
	After time.Duration
}

func (e *UnhealthyError) Error() string {
	text := e.Replica.Name + " is " + e.Replica.State
	if e.After > 0 {
		text += fmt.Sprintf(" after %s", e.After)
	}
	return text + ": did not become healthy"
}

// MoreMemory tells how to give a service more memory.
func MoreMemory(service string) string {
	return fmt.Sprintf("give it more: codexcontinue:services: {%s: {memory: ...}} in the "+
		"stack's settings", service)
}
