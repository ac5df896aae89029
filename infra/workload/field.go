package workload

import (
	"maps"
	"slices"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// fields are the properties of a resource. A property that is absent, secret or of another type reads as its type's
// zero, as nothing is known about it.
type fields map[string]any

func (f fields) text(key string) string {
	s, _ := f[key].(string)
	if s == plan.Secret {
		return ""
	}
	return s
}

func (f fields) flag(key string) bool {
	b, _ := f[key].(bool)
	return b
}

func (f fields) number(key string) float64 {
	n, _ := f[key].(float64)
	return n
}

func (f fields) object(key string) fields {
	m, _ := f[key].(map[string]any)
	return m
}

// list holds the objects of a list.
func (f fields) list(key string) []fields {
	all, _ := f[key].([]any)
	var out []fields
	for _, e := range all {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func (f fields) keys() []string { return slices.Sorted(maps.Keys(f)) }

// texts are the words of a list. A list that is a secret as a whole is one secret word.
func texts(v any) []Text {
	if isSecret(v) {
		return []Text{{Secret: true}}
	}
	all, _ := v.([]any)
	var out []Text
	for _, e := range all {
		s, _ := e.(string)
		if isSecret(e) {
			out = append(out, Text{Secret: true})
			continue
		}
		out = append(out, Text{Value: s})
	}
	return out
}

// isSecret says that the value is a secret of the plan.
func isSecret(v any) bool { return v == plan.Secret }
