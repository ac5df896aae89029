package project

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Values returns the stack's config in the project's namespace as the Pulumi program gets it, by
// key without the namespace. Text is as it is, structures are JSON, and the project's defaults
// stand where the stack sets nothing. Secrets are only named: checking a stack before anything
// runs needs no passphrase.
func (p Project) Values(s StackFile) (plain map[string]string, secret []string, err error) {
	plain = map[string]string{}
	for key, v := range p.file.Config {
		name, ok := ownKey(key)
		if !ok && !strings.Contains(key, ":") {
			name, ok = key, true // a bare key of Pulumi.yaml is the project's
		}
		if !ok {
			continue
		}

		if schema, isSchema := v.(map[string]any); isSchema {
			if v = schema["value"]; v == nil {
				v = schema["default"]
			}
		}

		if v == nil {
			continue
		}
		if plain[name], err = text(v); err != nil {
			return nil, nil, fmt.Errorf("project: Pulumi.yaml: config.%s: %w", key, err)
		}
	}

	for key, v := range s.Config {
		name, ok := ownKey(key)
		if !ok {
			continue
		}

		if m, isMap := v.(map[string]any); isMap && m["secure"] != nil {
			delete(plain, name)
			secret = append(secret, name)
			continue
		}

		if plain[name], err = text(v); err != nil {
			return nil, nil, fmt.Errorf("%s: config.%s: %w", s.Path, key, err)
		}
	}

	return plain, secret, nil
}

func ownKey(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, stacks.Project+":")
	return strings.TrimPrefix(name, "config:"), ok
}

// text returns a value in the form in which Pulumi passes it to the program.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case map[string]any, []any:
		b, err := json.Marshal(v)
		return string(b), err
	}

	return fmt.Sprint(v), nil
}
