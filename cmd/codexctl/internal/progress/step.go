// Package progress shows what a Pulumi update does, from the events of its engine. A terminal shows
// a few lines that are redrawn, anything else one line for each event.
//
// Pulumi's own display is not used: it knows neither what a starting container logs nor when a
// cluster's pods are ready, and repeats each step of a build and each object of a cluster's stack.
package progress

import (
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/urn"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Step is one operation on one resource.
type Step struct {
	URN string

	// Kind is the resource's kind in a word: image, container, volume, network, ...
	Kind string

	// Name is the resource's name without the stack's prefix.
	Name string
	Op   apitype.OpType

	// Changed names the properties that differ.
	Changed []string
	Failed  bool

	// service is the service in the resource's labels, or "".
	service string

	// minor steps are printed only if they last or fail: a cluster's stack has
	// many that take no time.
	minor bool

	// applied is set when the engine is done with the step, but its pods are not ready yet.
	applied bool
	started time.Time
	note    string          // the resource's last message, such as a line of a build
	output  []string        // the last lines that it printed
	shown   time.Time       // when the step was printed last
	steps   map[string]bool // the printed steps of a build, as builders repeat them
	going   string          // the verb while the step lasts; done is the one after it
	done    string
}

// Service returns the service that the resource belongs to: that of its labels,
// else that of its name.
func (s Step) Service() string {
	if s.service != "" {
		return s.service
	}
	return serviceOf(s.URN)
}

// Workload reports whether the resource runs containers, so that the step lasts
// until they are ready.
func (s Step) Workload() bool {
	switch s.Kind {
	case "container", "deploy", "sts", "job":
		return true
	}
	return false
}

// pods reports whether the resource keeps a cluster's pods running.
func (s Step) pods() bool { return s.Kind == "deploy" || s.Kind == "sts" }

// Removes reports whether the step removes the resource.
func (s Step) Removes() bool {
	return s.Op == apitype.OpDelete || s.Op == apitype.OpDeleteReplaced
}

// shortNames are kubectl's short names of the kinds of objects.
var shortNames = map[string]string{
	"Deployment":              "deploy",
	"StatefulSet":             "sts",
	"Job":                     "job",
	"Service":                 "svc",
	"ConfigMap":               "cm",
	"ServiceAccount":          "sa",
	"NetworkPolicy":           "netpol",
	"PodDisruptionBudget":     "pdb",
	"HorizontalPodAutoscaler": "hpa",
	"Namespace":               "ns",
	"PersistentVolumeClaim":   "pvc",
	"ResourceQuota":           "quota",
	"LimitRange":              "limits",
	"Ingress":                 "ing",
}

// serviceOf returns the service's name from a URN. The name of a resource is that of its service,
// with the project and the stack before it, and for replicas a number behind it.
func serviceOf(u string) string {
	parsed, err := urn.Parse(u)
	if err != nil {
		return ""
	}

	name := shortName(parsed)
	if base, tail, ok := cutLast(name, "-"); ok && (isNumber(tail) || tail == "files") {
		return base
	}

	return name
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func shortName(u urn.URN) string {
	name, project := u.Name(), string(u.Project())+"-"
	return strings.TrimPrefix(strings.TrimPrefix(name, project+string(u.Stack())+"-"), project)
}

// newStep returns the step of an event. ok is false for steps that people did not ask for: those on
// the stack, components and providers, and those without an effect.
func newStep(m apitype.StepEventMetadata, now time.Time) (s Step, ok bool) {
	u, err := urn.Parse(m.URN)
	if err != nil {
		return s, false
	}

	typ := string(u.Type())
	if strings.HasPrefix(typ, "pulumi:") || !strings.Contains(typ, "/") {
		return s, false
	}

	s = Step{URN: m.URN, Name: shortName(u), Op: m.Op, Changed: m.Diffs, started: now}
	if s.Changed == nil {
		s.Changed = m.Keys
	}

	kind := typ[strings.LastIndex(typ, ":")+1:]
	s.Kind = strings.ToLower(kind)
	if strings.HasPrefix(typ, "kubernetes:") {
		s.service = labelled(m)
		if short := shortNames[kind]; short != "" {
			s.Kind = short
		}
		s.minor = !s.Workload() && kind != "Namespace"
	}

	switch kind {
	case "RemoteImage":
		s.Kind, s.going, s.done = "image", "pulling", "there"
	case "Image":
		s.going, s.done = "building", "built"
	case "Container":
		s.going, s.done = "starting", "started"
		if runs := inputs(m)["mustRun"]; runs == false {
			s.going, s.done = "creating", "created"
		}
	case "Deployment", "StatefulSet":
		s.going, s.done = "starting", "ready"
	case "Job":
		s.going, s.done = "running", "done"
	default:
		s.going, s.done = "creating", "created"
	}

	switch m.Op {
	case apitype.OpCreate:
	case apitype.OpCreateReplacement:
		if s.done == "started" {
			s.going, s.done = "starting the new one", "new one started"
		}
	case apitype.OpDeleteReplaced:
		s.going, s.done = "removing the old one", "old one removed"
	case apitype.OpUpdate:
		s.going, s.done = "changing", "changed"
		if s.pods() {
			s.going, s.done = "rolling out", "rolled out"
		}
	case apitype.OpDelete:
		s.going, s.done = "removing", "removed"
		if m.Old != nil && m.Old.RetainOnDelete {
			s.going, s.done = "keeping", "kept"
		}
	case apitype.OpReplace: // shown as creating and deleting
		return s, false
	case apitype.OpSame, apitype.OpRead, apitype.OpReadDiscard, apitype.OpRefresh,
		apitype.OpDiscardReplaced, apitype.OpRemovePendingReplace:
		return s, false
	default:
		s.going, s.done = string(m.Op), string(m.Op)
	}

	return s, true
}

// labelled returns the service in the labels of a Kubernetes object.
func labelled(m apitype.StepEventMetadata) string {
	state := m.New
	if state == nil {
		state = m.Old
	}
	if state == nil {
		return ""
	}

	metadata, _ := state.Inputs["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	service, _ := labels[stacks.LabelService].(string)
	return service
}

func inputs(m apitype.StepEventMetadata) map[string]any {
	if m.New != nil {
		return m.New.Inputs
	}
	return nil
}
