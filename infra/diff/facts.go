package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
)

// Section is what a fact is about.
type Section string

// The sections.
const (
	Exposure Section = "exposure"
	Limits   Section = "limits"
	Images   Section = "images"
	Storage  Section = "storage"
)

// sections are in the order in which they are shown.
var sections = []Section{Exposure, Limits, Images, Storage}

// Fact is what a change means for a service.
type Fact struct {
	Section Section `json:"section"`

	// Service is the service, or the volume, that it is about.
	Service string `json:"service"`

	// What is the property: memory, image. Of Exposure it is the way itself, which is open
	// before, or after, or absent.
	What   string `json:"what"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Opens reports whether the change exposes more than before.
func (f Fact) Opens() bool { return f.Section == Exposure && f.After != "" }

// open marks a way that is there.
const open = "open"

// What facts about networks begin with.
const (
	onNetwork = "on network "
	wayOut    = "a way out: "
)

// subject is what a value is about.
type subject struct {
	section       Section
	service, what string
}

// compareFacts returns the facts that differ, by section, service and property.
func compareFacts(before, after workload.View) []Fact {
	old, now := facts(before), facts(after)
	either := maps.Clone(old)
	maps.Copy(either, now)
	var out []Fact
	for s := range either {
		if old[s] != now[s] {
			out = append(out, Fact{s.section, s.service, s.what, old[s], now[s]})
		}
	}

	slices.SortFunc(out, func(a, b Fact) int {
		return cmp.Or(
			cmp.Compare(slices.Index(sections, a.Section), slices.Index(sections, b.Section)),
			cmp.Compare(a.Service, b.Service), cmp.Compare(a.What, b.What))
	})

	return out
}

// facts returns what the view has of exposure, limits, images and storage.
func facts(v workload.View) map[subject]string {
	out := map[subject]string{}
	for _, e := range v.Exposed {
		out[subject{Exposure, e.Service, exposed(e)}] = open
	}

	for _, n := range v.Networks {
		if !n.Internal && !n.Inbound {
			name := strings.TrimSuffix(n.Name, "-"+v.Stack)
			out[subject{Exposure, name, "a network with a way out"}] = open
		}
	}

	for _, group := range v.Services() {
		service := group[0].Service
		replicas := 0
		for _, w := range group {
			replicas += w.Replicas
			workloadFacts(out, v.Stack, w)
		}
		out[subject{Limits, service, "replicas"}] = strconv.Itoa(replicas)
	}

	for _, volume := range v.Volumes {
		size, kept := "as large as the disk", "goes with the stack"
		if volume.Size > 0 {
			size = volume.Size.String()
		}
		if volume.Retained {
			kept = "outlives the stack"
		}

		out[subject{Storage, volume.Name, "volume"}] = size + ", " + kept
	}

	return out
}

func workloadFacts(out map[subject]string, stack string, w workload.Workload) {
	opened := func(what string) { out[subject{Exposure, w.Service, what}] = open }
	for _, n := range w.Networks {
		opened(onNetwork + strings.TrimSuffix(n, "-"+stack)) // the same network in every stack
	}

	for _, way := range w.WaysOut {
		opened(wayOut + strings.TrimSuffix(way, "-"+stack))
	}

	if w.NamesOutside {
		opened(wayOut + "names, by the cluster's name servers")
	}

	if len(w.Networks) == 0 { // on networks, whoever is on the same one may connect
		for _, call := range w.Calls {
			opened("may connect to " + call)
		}
	}

	for _, n := range w.HostNamespaces {
		opened("the machine's " + n + " namespace")
	}

	if w.Token {
		opened("a credential for the cluster's API")
	}
	if !w.Fenced {
		opened("traffic that no rule allows")
	}

	for _, c := range w.Containers {
		containerFacts(out, w.Service, c)
	}
}

func containerFacts(out map[subject]string, service string, c workload.Container) {
	part := ""
	if c.Name != "" && c.Name != service {
		part = c.Name + ": "
	}

	opened := func(what string) { out[subject{Exposure, service, part + what}] = open }
	if c.Privileged {
		opened("privileged")
	}
	if c.NewPrivileges {
		opened("may gain privileges")
	}
	if !c.ReadOnlyRoot {
		opened("a writable root file system")
	}
	if user, _, _ := strings.Cut(c.User, ":"); user == "" || user == "0" || user == "root" {
		opened("runs as root, or as whom the image says")
	}
	if !slices.Contains(c.DroppedCapabilities, "ALL") {
		opened("the default capabilities")
	}

	for _, capability := range c.AddedCapabilities {
		opened("capability " + capability)
	}

	for _, confinement := range c.Unconfined {
		opened("no " + confinement + " confinement")
	}

	for _, device := range c.Devices {
		opened("device " + device)
	}

	for _, m := range c.Mounts {
		if m.Kind == workload.HostPath {
			access := "reads"
			if !m.ReadOnly {
				access = "writes"
			}
			opened(access + " " + m.Source + " of the machine")
		}
	}

	limits := map[string]string{"cpu": "none", "memory": "none", "gpu": cmp.Or(c.GPU, "none")}
	if c.CPU != 0 {
		limits["cpu"] = c.CPU.Cores()
	}
	if c.Memory != 0 {
		limits["memory"] = c.Memory.String()
	}
	if c.PIDs != 0 {
		limits["processes"] = strconv.Itoa(c.PIDs)
	}
	if c.Swap {
		limits["swap"] = "beyond the memory"
	}

	for what, value := range limits {
		out[subject{Limits, service, part + what}] = value
	}

	out[subject{Images, service, part + "image"}] = c.Image
}

func exposed(e workload.Exposure) string {
	text := fmt.Sprintf("%s %s", e.How, e)
	switch {
	case e.Loopback:
		text += ", for this machine alone"
	case e.TLS:
		text += ", from other machines, encrypted"
	default:
		text += ", from other machines"
	}

	return text
}
