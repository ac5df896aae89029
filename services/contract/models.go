package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Models say which groups may ask which model, by the models' names. One without groups is for
// everybody. Where nothing is said, everything is for everybody; else what is not named is for
// nobody. In the environment it is JSON.
type Models map[string][]string

// Allow reports whether somebody of the groups may ask the model.
func (m Models) Allow(model string, groups []string) bool {
	if len(m) == 0 {
		return true
	}

	allowed, named := m[model]
	return named && (len(allowed) == 0 || slices.ContainsFunc(groups, func(g string) bool {
		return slices.Contains(allowed, g)
	}))
}

// Groups returns the groups that matter, each once.
func (m Models) Groups() []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for groups := range maps.Values(m) {
			for _, g := range groups {
				if !yield(g) {
					return
				}
			}
		}
	}))
}

// Validate checks that there is no model and no group without a name.
func (m Models) Validate() error {
	if _, ok := m[""]; ok || slices.Contains(m.Groups(), "") {
		return fmt.Errorf("MODELS: has an empty name: %v", map[string][]string(m))
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (m Models) MarshalText() ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string][]string(m))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Models) UnmarshalText(text []byte) error {
	if err := json.Unmarshal(text, (*map[string][]string)(m)); err != nil {
		return fmt.Errorf("%q is no object of lists in JSON: %w", text, err)
	}
	return nil
}
