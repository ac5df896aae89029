// Package workload reads a plan as what would run: containers with what they may do, the networks
// between them, the volumes, and what is exposed. It is the same for every target, so that policy,
// graph and plan are written once.
//
// It reads what is rendered and provisioned, whatever the stack claims, and the plan of another
// revision reads the same.
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

	// Workloads are sorted by service and name. Replicas that are resources of their own are
	// workloads of their own.
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

	// Least is how many replicas an autoscaler leaves; 0 where there is none.
	Least int

	// StopsFirst reports whether a container is gone before its successor starts.
	StopsFirst bool

	// Networks are the names of those that the containers are on; a cluster has none.
	Networks []string

	// Calls are the services that it connects to, sorted: on a cluster those that network policies
	// let it; on an engine, which has no such rules, those that its environment names, or that it
	// waits for.
	Calls []string

	// WaysOut are what lets it reach hosts beyond the stack: networks that are not internal, or
	// what a network policy lets through. Empty is isolated.
	WaysOut []string

	// Machine are the networks on which it reaches programs of the machine, by the address that the
	// machine has there. A cluster has none.
	Machine []string

	// NamesOutside reports whether it asks for names of a server that passes on those which are not
	// the stack's: on a cluster the cluster's own. An engine's is among the ways out.
	NamesOutside bool

	// HostNamespaces are those of the machine that it shares: network, pid, ipc, user.
	HostNamespaces []string

	// Token reports whether its pods get a credential for the cluster's API.
	Token bool

	// Fenced reports whether traffic that nobody allowed is denied, in and out. Engines
	// do so between networks.
	Fenced bool

	// Strangers reports whether a network policy of a cluster lets in others than the stack's pods.
	Strangers bool

	Containers []Container
}

// Container is one container of a workload. In its texts, plan.Secret stands in
// the place of a secret.
type Container struct {
	// Name is empty where the workload has one only; Init ones end before the others start.
	Name string
	Init bool

	// Image is the reference as the plan knows it; Built reports whether the stack builds it.
	Image string
	Built bool

	// Command is entrypoint and arguments, as far as the plan replaces the image's.
	Command []string
	Env     map[string]string

	// User is uid:gid or a name, empty where the image decides.
	User                                    string
	ReadOnlyRoot, Privileged, NewPrivileges bool

	// DroppedCapabilities and AddedCapabilities are sorted, without CAP_.
	DroppedCapabilities, AddedCapabilities []string

	// Unconfined are the confinements that are switched off: seccomp, apparmor, selinux.
	Unconfined []string

	// CPU, Memory and PIDs are limits; 0 is none.
	CPU    stacks.MilliCPU
	Memory stacks.Bytes
	PIDs   int

	// RequestedCPU and RequestedMemory are what a node keeps for it; an engine keeps nothing.
	RequestedCPU    stacks.MilliCPU
	RequestedMemory stacks.Bytes

	// Swap reports whether memory may be swapped out beyond the limit.
	Swap bool

	// GPU is what it asks for, empty for none.
	GPU    string
	Mounts []Mount

	// Devices are those of the machine, beside GPUs.
	Devices []string

	// Health is the check by which the target knows that it works, empty for none.
	Health []string

	// Labels as far as they are visible to whoever may inspect the container.
	Labels map[string]string

	// LogBounded reports whether the log cannot fill the machine's disk.
	LogBounded bool
}

// MountKind is what is behind a mount.
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
	Path     string // in the container
	ReadOnly bool
}

// Network is a network of the stack.
type Network struct {
	Name string
	// Internal networks have no way out.
	Internal bool
	// Inbound networks let callers of published ports in, and nothing out.
	Inbound bool
}

// Volume is storage of the stack.
type Volume struct {
	Name string

	// Size is 0 where the target reserves none.
	Size stacks.Bytes

	// Retained reports whether it outlives the stack.
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

	// Loopback reports whether only this machine reaches it.
	Loopback bool

	// TLS reports whether the stack encrypts it; what stands before it may do so as well.
	TLS bool
}

// String returns what a person reads: 127.0.0.1:8080.
func (e Exposure) String() string {
	host := cmp.Or(e.Address, "any address")
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
	slices.SortFunc(v.Workloads, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(v.Networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(v.Volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(v.Exposed, func(a, b Exposure) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.How, b.How))
	})
}

// Services returns the workloads of each service, in the order of the services' names.
func (v View) Services() [][]Workload {
	var out [][]Workload
	for i, w := range v.Workloads {
		if i == 0 || v.Workloads[i-1].Service != w.Service {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], w)
	}

	return out
}
