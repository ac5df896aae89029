package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestCurrent generates the schemas from the module cache and compares them
// with the committed ones.
func TestCurrent(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	for _, name := range []string{kubernetesModule, gatewayModule} {
		if _, err := module(name); err != nil {
			peers.Missing(t, "openapi", err)
		}
	}

	folder := t.TempDir()
	if err := run(folder); err != nil {
		t.Fatal(err)
	}

	made, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}

	kept, err := filepath.Glob(filepath.Join("..", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != len(kept) || len(made) < len(kinds)+len(definitionsOfGateway) {
		t.Errorf("%d schemas are kept, %d are made", len(kept), len(made))
	}

	for _, name := range made {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}

		got, err := os.ReadFile(filepath.Join("..", filepath.Base(name)))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not what its release says (%v): run `go generate ./test/schemas/...`",
				filepath.Base(name), err)
		}
	}
}

// TestStrict checks that objects are closed, and that properties named like words of the
// schema language are kept.
func TestStrict(t *testing.T) {
	got := strict(map[string]any{
		"type":                     "object",
		"description":              "text",
		"x-kubernetes-validations": []any{},
		"properties": map[string]any{
			"default":     map[string]any{"type": "string", "default": "a"},
			"description": map[string]any{"type": "string", "description": "text"},
			"port":        map[string]any{"type": "string", "format": "int-or-string"},
			"labels": map[string]any{
				"type":                 "object",
				"additionalProperties": map[string]any{"type": "string"},
			},
		},
	}).(map[string]any)

	properties := got["properties"].(map[string]any)
	if len(properties) != 4 || got["additionalProperties"] != false || len(got) != 3 {
		t.Errorf("got %v", got)
	}
	if _, kept := properties["default"].(map[string]any)["default"]; kept {
		t.Errorf("got %v", properties)
	}
	if labels := properties["labels"].(map[string]any); labels["additionalProperties"] == false {
		t.Errorf("labels take no keys: %v", labels)
	}
}
