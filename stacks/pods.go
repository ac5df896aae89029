package stacks

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// PodSettings are what a cluster is told of pods, beside what runs in them. They are the same to the
// other parts of a stack, so that they are not in it.
type PodSettings struct {
	// Labels and Annotations are put beside the stack's own.
	Labels, Annotations map[string]string

	// NodeSelector are labels of the nodes that the pods go to, Tolerations taints that nodes may
	// have. Those of a service with a GPU are the GPU's.
	NodeSelector map[string]string
	Tolerations  []Toleration

	// PriorityClass is a class of the cluster, by which it chooses whom to start first, and to evict
	// last; empty is the cluster's default.
	PriorityClass string
}

// fields reads the keys of the settings.
func (p *PodSettings) fields() fields {
	return fields{
		"labels":        decodeMeta(&p.Labels, true),
		"annotations":   decodeAnnotations(&p.Annotations),
		"nodeSelector":  decodeMeta(&p.NodeSelector, true),
		"tolerations":   list(decodeToleration(&p.Tolerations)),
		"priorityClass": objectName(&p.PriorityClass),
	}
}

func (s *Settings) decodeKubernetes(v string) error {
	k := &s.Kubernetes
	known := k.Pods.fields()
	maps.Copy(known, fields{
		"context":   text(&k.Context),
		"namespace": text(&k.Namespace),
		"domain":    text(&k.Domain),
		"pullSecrets": list(func(v string) error {
			var name string
			err := objectName(&name)(v)
			k.PullSecrets = append(k.PullSecrets, name)
			return err
		}),
	})
	return object(known)(v)
}

// over returns the settings with p's values in the place of, or beside, those of all pods.
func (p PodSettings) over(all PodSettings) PodSettings {
	join := func(all, own map[string]string) map[string]string {
		out := maps.Clone(all)
		if out == nil {
			return own
		}
		maps.Copy(out, own)
		return out
	}

	out := PodSettings{
		Labels:        join(all.Labels, p.Labels),
		Annotations:   join(all.Annotations, p.Annotations),
		NodeSelector:  join(all.NodeSelector, p.NodeSelector),
		Tolerations:   slices.Concat(all.Tolerations, p.Tolerations),
		PriorityClass: p.PriorityClass,
	}
	if out.PriorityClass == "" {
		out.PriorityClass = all.PriorityClass
	}
	return out
}

// Pods returns the settings of the service's pods.
func (v Settings) Pods(service string) PodSettings {
	return v.Services[service].Pods.over(v.Kubernetes.Pods)
}

// refusePods returns an error for each service with settings of pods, which an engine has none of.
func (v Settings) refusePods() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(v.Services)) {
		p := v.Services[name].Pods
		for key, set := range map[string]bool{
			"labels": p.Labels != nil, "annotations": p.Annotations != nil,
			"nodeSelector": p.NodeSelector != nil, "tolerations": p.Tolerations != nil,
			"priorityClass": p.PriorityClass != "",
		} {
			if set {
				errs = append(errs, fmt.Errorf("%s:services.%s.%s: the docker target cannot express "+
					"it: it is a cluster's; remove the key", Project, name, key))
			}
		}
	}

	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

var (
	// metaKeyRule is the key of a label or an annotation: a name, with the domain of who gives it
	// meaning before it.
	metaKeyRule = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?` +
		`[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

	// labelValueRule is the value of a label.
	labelValueRule = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
)

// ownDomains are those of labels and annotations that the stack and its tools set.
var ownDomains = []string{"dev.codexcontinue.", "app.kubernetes.io/", "pulumi.com/"}

// decodeMeta reads labels, whose values are bounded, or annotations.
func decodeMeta(into *map[string]string, values bool) func(string) error {
	return func(v string) error {
		if err := labels(into)(v); err != nil {
			return err
		}

		var errs []error
		for _, key := range slices.Sorted(maps.Keys(*into)) {
			wrong := func(text string) {
				errs = append(errs, fmt.Errorf("%q: %s", key, text))
			}
			switch {
			case !metaKeyRule.MatchString(key):
				wrong("is no key: write it like example.com/team")
			case slices.ContainsFunc(ownDomains, func(d string) bool { return strings.HasPrefix(key, d) }):
				wrong("is the stack's own to set: remove it")
			case values && !labelValueRule.MatchString((*into)[key]):
				wrong("its value has at most 63 letters, digits, dashes, dots and underscores")
			}
		}
		return errors.Join(errs...)
	}
}

// profiles are the beginnings of the annotations by which profiles of AppArmor and seccomp were chosen
// before pods had fields for them. Clusters still obey the first.
var profiles = []string{
	"container.apparmor.security.beta.kubernetes.io/",
	"container.seccomp.security.alpha.kubernetes.io/",
	"seccomp.security.alpha.kubernetes.io/",
}

// decodeAnnotations reads annotations. None of them may confine containers less than the stack does.
func decodeAnnotations(into *map[string]string) func(string) error {
	return func(v string) error {
		errs := []error{decodeMeta(into, false)(v)}
		for _, key := range slices.Sorted(maps.Keys(*into)) {
			if slices.ContainsFunc(profiles, func(p string) bool { return strings.HasPrefix(key, p) }) {
				errs = append(errs, fmt.Errorf("%q: chooses a container's profile, which is always the "+
					"runtime's default: remove it; give nodes another default in their container runtime",
					key))
			}
		}
		return errors.Join(errs...)
	}
}

// decodeToleration reads one toleration of a list.
func decodeToleration(into *[]Toleration) func(string) error {
	return func(v string) error {
		t := Toleration{}
		err := object(fields{"key": text(&t.Key), "value": text(&t.Value),
			"effect": oneOf(&t.Effect, "NoSchedule", "PreferNoSchedule", "NoExecute")})(v)
		if err == nil && t.Key == "" {
			err = errors.New("needs the key of a taint")
		}

		*into = append(*into, t)
		return err
	}
}

// objectName reads the name of an object of a cluster.
func objectName(into *string) func(string) error {
	return func(v string) error {
		if err := text(into)(v); err != nil {
			return err
		}
		if !objectNameRule.MatchString(v) {
			return fmt.Errorf("%q is no name of an object: use lower-case letters, digits, dashes and dots",
				v)
		}
		return nil
	}
}
