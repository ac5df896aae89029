package diff

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// secret is a secret in a plan that is compared: its fingerprint, which is
// empty where there is none.
type secret string

// withSecrets returns the value with the fingerprint in the place of each secret. path is that of
// the value in the plan.
func withSecrets(v any, path string, fingerprints map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = withSecrets(e, plan.Path(path, k), fingerprints)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = withSecrets(e, plan.Path(path, i), fingerprints)
		}
		return out
	case string:
		if v == plan.Secret {
			return secret(fingerprints[path])
		}
	}

	return v
}

// numbers gives each fingerprint a number in the order in which it is first shown. A report shows
// numbers alone: they tell which secrets are the same and nothing else, and they are the same in
// every run, which keyed fingerprints are not.
type numbers map[secret]int

func (n numbers) label(s secret) string {
	if s == "" {
		return plan.Secret
	}
	if n[s] == 0 {
		n[s] = len(n) + 1
	}
	return fmt.Sprintf("[secret %d]", n[s])
}

// shown returns the value with its secrets numbered.
func (n numbers) shown(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range keysOf(v, nil) {
			out[k] = n.shown(v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = n.shown(e)
		}
		return out
	case secret:
		return n.label(v)
	}

	return v
}

// compareInputs returns the changed inputs of a resource, sorted by path.
func compareInputs(before, after plan.Resource, secrets numbers) []Property {
	c := properties{names: elementNames(cmp.Or(after.Type, before.Type)), secrets: secrets}
	c.value("", withSecrets(before.Inputs, "", before.Fingerprints),
		withSecrets(after.Inputs, "", after.Fingerprints))

	if before.Provider != after.Provider && before.Inputs != nil && after.Inputs != nil {
		c.add("provider", before.Provider, after.Provider)
	}

	return c.out
}

// elementNames returns the keys that name an element of a list in the inputs of the type.
func elementNames(typ string) []string {
	pkg, _, _ := strings.Cut(typ, ":")
	return names[pkg]
}

// properties collects the changed properties of one resource.
type properties struct {
	// names are the keys that name an element of a list.
	names   []string
	secrets numbers
	out     []Property
}

func (c *properties) add(path string, before, after any) {
	c.out = append(c.out,
		Property{Path: path, Before: c.secrets.shown(before), After: c.secrets.shown(after)})
}

// value compares two values. nil is one that is absent, as plans leave out what is null.
func (c *properties) value(path string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}

	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			for _, key := range keysOf(b, a) {
				c.value(plan.Path(path, key), b[key], a[key])
			}
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			c.list(path, b, a)
			return
		}
	}

	c.add(path, before, after)
}

// list compares two lists that differ: by the names of their elements where they have some, else
// element by element where there are as many, else as a whole.
func (c *properties) list(path string, before, after []any) {
	b, named := elements(c.names, before)
	a, alsoNamed := elements(c.names, after)
	switch {
	case named && alsoNamed:
		at := func(list []any, index map[string]int, name string) any {
			if i, ok := index[name]; ok {
				return assigned(list[i])
			}
			return nil
		}

		for _, name := range keysOf(b, a) {
			c.value(path+"["+name+"]", at(before, b, name), at(after, a, name))
		}
	case len(before) == len(after) && !slices.ContainsFunc(slices.Concat(before, after), scalar):
		for i := range before {
			c.value(plan.Path(path, i), before[i], after[i])
		}
	default:
		c.add(path, before, after)
	}
}

// assigned returns the value of NAME=VALUE; anything else is itself.
func assigned(v any) any {
	if s, ok := v.(string); ok {
		if _, value, ok := strings.Cut(s, "="); ok {
			return value
		}
	}
	return v
}

// elements maps the name of each element to its index, where all have one and all differ: objects
// with one of the keys that name elements, or texts of the form NAME=VALUE.
func elements(names []string, list []any) (map[string]int, bool) {
	out := map[string]int{}
	for i, e := range list {
		name := ""
		switch e := e.(type) {
		case string:
			key, _, ok := strings.Cut(e, "=")
			if !ok || strings.ContainsAny(key, " /:") {
				return nil, false
			}
			name = key
		case map[string]any:
			for _, key := range names {
				if v, ok := e[key]; ok && isName(v) {
					name = fmt.Sprint(v)
					break
				}
			}
		}

		if _, taken := out[name]; name == "" || taken {
			return nil, false
		}

		out[name] = i
	}

	return out, true
}

// isName reports whether the value can name an element: a scalar that is known.
func isName(v any) bool {
	_, hidden := v.(secret)
	return scalar(v) && !hidden && v != plan.Computed && v != plan.Secret
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// keysOf returns the keys of both maps, sorted.
func keysOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
