package diff

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
)

// numbers gives each fingerprint a number in the order in which it is first shown. A report shows numbers alone: they say
// which secrets are the same and nothing else, and they are the same in every run, which keyed fingerprints are not.
type numbers struct {
	of map[string]int
}

func (n *numbers) label(fingerprint string) string {
	if fingerprint == "" {
		return plan.Secret
	}
	if n.of == nil {
		n.of = map[string]int{}
	}
	if n.of[fingerprint] == 0 {
		n.of[fingerprint] = len(n.of) + 1
	}
	return fmt.Sprintf("[secret %d]", n.of[fingerprint])
}

// compareInputs are the changed inputs of a resource, sorted by path.
func compareInputs(before, after plan.Resource, secrets *numbers) []Property {
	c := comparison{names: elementNames(cmp.Or(after.Type, before.Type)), before: before.Fingerprints, after: after.Fingerprints, secrets: secrets}
	c.object("", "", "", before.Inputs, after.Inputs)
	if before.Provider != after.Provider && before.Inputs != nil && after.Inputs != nil {
		c.out = append(c.out, Property{Path: "provider", Before: before.Provider, After: after.Provider})
	}
	return c.out
}

// elementNames are the keys that name an element of a list in the inputs of the type.
func elementNames(typ string) []string {
	pkg, _, _ := strings.Cut(typ, ":")
	return names[pkg]
}

// comparison collects the changed properties of one resource.
type comparison struct {
	// names are the keys that name an element of a list.
	names []string
	// before and after hold the fingerprints of secrets by their path in the plan.
	before, after map[string]string
	secrets       *numbers
	out           []Property
}

// object compares two objects. path is the one that is shown; was and now are those in the two plans, which differ where
// lists are told apart by names.
func (c *comparison) object(path, was, now string, before, after map[string]any) {
	for _, key := range keysOf(before, after) {
		b, hadB := before[key]
		a, hasA := after[key]
		p := recorder.Path(path, key)
		c.value(p, recorder.Path(was, key), recorder.Path(now, key), b, a, hadB, hasA)
	}
}

func (c *comparison) value(path, was, now string, before, after any, had, has bool) {
	if before == plan.Secret && after == plan.Secret && had && has {
		if c.before[was] != c.after[now] {
			c.add(path, was, now, before, after)
		}
		return
	}
	if !had || !has {
		c.add(path, was, now, before, after)
		return
	}
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			c.object(path, was, now, b, a)
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			c.list(path, was, now, b, a)
			return
		}
	}
	if !reflect.DeepEqual(before, after) {
		c.add(path, was, now, before, after)
	}
}

// list compares two lists: by the names of their elements where they have some, else element by element when there are as
// many, else as a whole.
func (c *comparison) list(path, was, now string, before, after []any) {
	b, named := elements(c.names, before)
	a, alsoNamed := elements(c.names, after)
	switch {
	case named && alsoNamed && len(before)+len(after) > 0:
		for _, name := range keysOf(b, a) {
			i, had := b[name]
			j, has := a[name]
			p := path + "[" + name + "]"
			var x, y any
			if had {
				x = before[i]
			}
			if has {
				y = after[j]
			}
			c.value(p, recorder.Path(was, i), recorder.Path(now, j), assigned(x), assigned(y), had, has)
		}
	case len(before) == len(after) && !slices.ContainsFunc(slices.Concat(before, after), scalar):
		for i := range before {
			c.value(recorder.Path(path, i), recorder.Path(was, i), recorder.Path(now, i), before[i], after[i], true, true)
		}
	case !reflect.DeepEqual(before, after) || !c.sameSecrets(was, now):
		c.add(path, was, now, before, after)
	}
}

// sameSecrets says whether the secrets below the two paths are the same.
func (c *comparison) sameSecrets(was, now string) bool {
	below := func(m map[string]string, path string) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			if rest, ok := strings.CutPrefix(k, path); ok {
				out[rest] = v
			}
		}
		return out
	}
	return maps.Equal(below(c.before, was), below(c.after, now))
}

// assigned is the value of NAME=VALUE; anything else is itself.
func assigned(v any) any {
	if s, ok := v.(string); ok {
		if _, value, ok := strings.Cut(s, "="); ok {
			return value
		}
	}
	return v
}

// elements maps the name of each element to its index, when all have one and all differ: objects with one of the keys that
// name elements, or texts of the form NAME=VALUE.
func elements(names []string, list []any) (map[string]int, bool) {
	out := map[string]int{}
	for i, e := range list {
		name := ""
		switch e := e.(type) {
		case string:
			key, _, ok := strings.Cut(e, "=")
			if !ok || key == "" || strings.ContainsAny(key, " /:") {
				return nil, false
			}
			name = key
		case map[string]any:
			for _, key := range names {
				if v, ok := e[key]; ok && scalar(v) && v != plan.Computed && v != plan.Secret {
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

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func (c *comparison) add(path, was, now string, before, after any) {
	c.out = append(c.out, Property{Path: path, Before: c.shown(before, c.before, was), After: c.shown(after, c.after, now)})
}

// shown is the value with its secrets numbered.
func (c *comparison) shown(v any, fingerprints map[string]string, path string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range keysOf(v, nil) {
			out[k] = c.shown(v[k], fingerprints, recorder.Path(path, k))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = c.shown(v[i], fingerprints, recorder.Path(path, i))
		}
		return out
	case string:
		if v == plan.Secret && c.secrets != nil {
			return c.secrets.label(fingerprints[path])
		}
	}
	return v
}

// keysOf are the keys of both maps, sorted.
func keysOf[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}
