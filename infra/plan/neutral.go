package plan

import (
	"path/filepath"
	"slices"
	"strings"
)

// What a document says in the place of what only the machine that plans has.
const (
	// Root stands for the project's folder.
	Root = "[root]"
	// Platform is the one that documents are made for, whatever the machine: it is part of the tag of built images.
	Platform = "linux/amd64"
)

// pathInputs are the inputs that hold paths of the machine that plans, by resource type: the last key of their paths.
var pathInputs = map[string][]string{
	"docker:index/container:Container": {"source", "hostPath"},
	"docker:index/image:Image":         {"context", "dockerfile"},
}

// neutral makes the resource the one that every machine gets.
func neutral(r Resource, root string) {
	for _, list := range []map[string]any{r.Inputs, r.Outputs} {
		rewrite("", list, func(key, value string) string {
			if slices.Contains(pathInputs[r.Type], key) {
				return rootless(value, root)
			}
			return value
		})
	}
}

// rewrite replaces the texts in v; key is the last one of their paths.
func rewrite(key string, v any, replace func(key, value string) string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = rewrite(k, v[k], replace)
		}
	case []any:
		for i := range v {
			v[i] = rewrite(key, v[i], replace)
		}
	case string:
		return replace(key, v)
	}
	return v
}

// rootless is the path with the project's folder named.
func rootless(value, root string) string {
	if value == root {
		return Root
	}
	separator := string(filepath.Separator)
	if rest, ok := strings.CutPrefix(value, strings.TrimSuffix(root, separator)+separator); ok {
		return Root + "/" + filepath.ToSlash(rest)
	}
	return value
}
