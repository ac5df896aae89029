// Package workload reads a plan as what would run: containers with what they may do, the networks between them,
// the volumes, and what is exposed. It is the same for every target, so that policy, graph and plan are written once.
//
// It reads what is rendered and provisioned, whatever the stack claims, and the plan of another revision reads the same.
package workload

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// View is a plan as what would run.
type View struct {
	Stack  string
	Target stacks.Target
	// Workloads are sorted by service and name. Replicas that are resources of their own are workloads of their own.
	Workloads []Workload
	Networks  []Network
	Volumes   []Volume
	// Exposed is what can be reached from outside the stack, sorted by service and port.
	Exposed []Exposure
}

// Workload is a container of an engine, or the pods of a controller of a cluster.
type Workload struct {
	// Service is the stack's service that it belongs to.
	Service string
	// Kind is Container, Deployment, StatefulSet or Job; Name the resource's.
	Kind, Name string
	Replicas   int
	// StopsFirst reports that a container is gone before its successor starts.
	StopsFirst bool
	// Networks are the names of those that the containers are on; a cluster has none.
	Networks []string
	// Calls are the services that it connects to, sorted: on a cluster those that network policies let it; on an engine,
	// which has no such rules, those that its environment names, or that it waits for.
	Calls []string
	// WaysOut are what lets it reach hosts beyond the stack: networks that are not internal, or what a network policy
	// lets through. Empty is isolated.
	WaysOut []string
	// HostNamespaces are those of the machine that it shares: network, pid, ipc, user.
	HostNamespaces []string
	// Token says that its pods get a credential for the cluster's API.
	Token bool
	// Fenced says that traffic that nobody allowed is denied, in and out. Engines do so between networks.
	Fenced     bool
	Containers []Container
}

// Container is one container of a workload.
type Container struct {
	// Name is empty where the workload has one only; Init ones end before the others start.
	Name string
	Init bool
	// Image is the reference as the plan knows it; Built says that the stack builds it.
	Image string
	Built bool
	// Command is entrypoint and arguments, as far as the plan replaces the image's.
	Command []Text
	Env     []Variable
	// User is uid:gid or a name, empty where the image decides.
	User                                    string
	ReadOnlyRoot, Privileged, NewPrivileges bool
	// DroppedCapabilities and AddedCapabilities are sorted, without CAP_.
	DroppedCapabilities, AddedCapabilities []string
	// Unconfined are the confinements that are switched off: seccomp, apparmor, selinux.
	Unconfined []string
	// CPU, Memory and PIDs are limits; 0 is none. Swap says that memory may be swapped out beyond the limit.
	CPU    stacks.MilliCPU
	Memory stacks.Bytes
	PIDs   int
	Swap   bool
	// GPU is what it asks for, empty for none.
	GPU    string
	Mounts []Mount
	// Devices are those of the machine, beside GPUs.
	Devices []string
	// Health is the check by which the target knows that it works, empty for none.
	Health []Text
	// Labels as far as they are visible to whoever may inspect the container.
	Labels []Variable
	// LogBounded says that the log cannot fill the machine's disk.
	LogBounded bool
}

// Text is a word of a plan, which may be a secret.
type Text struct {
	Value  string
	Secret bool
}

// Variable is a named word.
type Variable struct {
	Name string
	Text
}

// MountKind says what is behind a mount.
type MountKind string

// The kinds of mounts.
const (
	Storage  MountKind = "volume"  // storage of the stack
	HostPath MountKind = "bind"    // a path of the machine
	Memory   MountKind = "tmpfs"   // gone with the container
	Files    MountKind = "files"   // small files that the stack carries
	Secrets  MountKind = "secrets" // the same, of secrets
)

// Mount is a directory of the container that is not its image's.
type Mount struct {
	Kind     MountKind
	Source   string
	Target   string
	ReadOnly bool
}

// Network is a network of the stack.
type Network struct {
	Name string
	// Internal networks have no way out.
	Internal bool
}

// Volume is storage of the stack.
type Volume struct {
	// Resource is the name of the resource that makes it, Name the stack's name of it.
	Resource, Name string
	// Size is 0 where the target reserves none.
	Size stacks.Bytes
	// Retained says that it outlives the stack.
	Retained bool
}

// Exposure is a way into the stack.
type Exposure struct {
	Service string
	// How is port, load balancer, node port, host port, route or ingress.
	How string
	// Address is the machine's address or the host name; empty is every one.
	Address string
	Port    int
	// Loopback says that only this machine reaches it.
	Loopback bool
	// TLS says that the stack has it encrypted; what stands before it may do so as well.
	TLS bool
}

// String is what a person reads: 127.0.0.1:8080.
func (e Exposure) String() string {
	host := e.Address
	if host == "" {
		host = "any address"
	}
	if e.Port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, e.Port)
}

// Of reads the plan of a stack.
func Of(d plan.Document) (View, error) {
	v := View{Stack: d.Stack, Target: d.Target}
	switch {
	case d.Target == stacks.Docker && d.Docker != nil:
		return FromProject(d.Docker, plan.Root), nil
	case d.Target == stacks.Docker:
		return View{}, fmt.Errorf("workload: the plan of %s does not say what is rendered", d.Stack)
	case d.Target != stacks.Kubernetes:
		return View{}, fmt.Errorf("workload: there is no target %q", d.Target)
	}

	if err := v.readKubernetes(d.Resources); err != nil {
		return View{}, fmt.Errorf("workload: %w", err)
	}
	v.sort()
	return v, nil
}

// sort brings what the view lists into its order.
func (v *View) sort() {
	slices.SortFunc(v.Workloads, func(a, b Workload) int { return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(v.Networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(v.Volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(v.Exposed, func(a, b Exposure) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.How, b.How))
	})
}

// Services groups the workloads by service, in the order of their names.
func (v View) Services() [][]Workload {
	var out [][]Workload
	for _, w := range v.Workloads {
		if n := len(out); n > 0 && out[n-1][0].Service == w.Service {
			out[n-1] = append(out[n-1], w)
			continue
		}
		out = append(out, []Workload{w})
	}
	return out
}

// Value is the value of the variable, empty when it is not set or secret.
func (c Container) Value(name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Text.Value
		}
	}
	return ""
}
