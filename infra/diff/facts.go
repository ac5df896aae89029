package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/workload"
)

// Section is what a fact is about.
type Section string

// The sections, in the order in which they are shown.
const (
	Exposure Section = "exposure"
	Limits   Section = "limits"
	Images   Section = "images"
	Storage  Section = "storage"
)

// Sections are in the order in which they are shown.
var Sections = []Section{Exposure, Limits, Images, Storage}

// Fact is what a change means for a service.
type Fact struct {
	Section Section `json:"section"`
	// Service is the service, or the volume, that it is about.
	Service string `json:"service"`
	// What is the property: memory, image. Of Exposure it is the way itself, and Before and After say whether it is open.
	What   string `json:"what"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Opens says that the change exposes more than before.
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

// compareFacts are the facts that differ, by section, service and property.
func compareFacts(before, after workload.View) []Fact {
	old, now := facts(before), facts(after)
	var out []Fact
	add := func(s subject) { out = append(out, Fact{s.section, s.service, s.what, old[s], now[s]}) }
	for s := range old {
		if old[s] != now[s] {
			add(s)
		}
	}
	for s := range now {
		if _, both := old[s]; !both {
			add(s)
		}
	}
	slices.SortFunc(out, func(a, b Fact) int {
		return cmp.Or(cmp.Compare(slices.Index(Sections, a.Section), slices.Index(Sections, b.Section)),
			cmp.Compare(a.Service, b.Service), cmp.Compare(a.What, b.What))
	})
	return out
}

// facts are what the view says about exposure, limits, images and storage.
func facts(v workload.View) map[subject]string {
	out := map[subject]string{}
	for _, e := range v.Exposed {
		out[subject{Exposure, e.Service, exposed(e)}] = open
	}
	for _, n := range v.Networks {
		if !n.Internal {
			out[subject{Exposure, strings.TrimSuffix(n.Name, "-"+v.Stack), "a network with a way out"}] = open
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
	limit := func(what, value string) { out[subject{Limits, service, part + what}] = value }
	limit("cpu", orNone(c.CPU != 0, c.CPU.Cores()))
	limit("memory", orNone(c.Memory != 0, c.Memory.String()))
	limit("gpu", orNone(c.GPU != "", c.GPU))
	if c.PIDs != 0 {
		limit("processes", strconv.Itoa(c.PIDs))
	}
	if c.Swap {
		limit("swap", "beyond the memory")
	}
	out[subject{Images, service, part + "image"}] = c.Image
}

func orNone(set bool, value string) string {
	if !set {
		return "none"
	}
	return value
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
