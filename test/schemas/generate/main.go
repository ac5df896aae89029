// Command generate writes the JSON schemas that kubeconform reads. Their sources are the OpenAPI
// document of Kubernetes and the CustomResourceDefinitions of the Gateway API, in the releases of
// the test cluster (test/cluster/go.mod). Descriptions are left out, and objects with properties
// accept no others, although the sources do.
package main

//go:generate go run . ..

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	kubernetesModule = "k8s.io/kubernetes"
	gatewayModule    = "sigs.k8s.io/gateway-api"
	definitionsFile  = "_definitions.json"
	objectMeta       = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	intOrString      = "int-or-string"
)

// kinds are the kinds of the stack's objects: group/version Kind of the OpenAPI document.
var kinds = []string{
	"v1 Namespace", "v1 ResourceQuota", "v1 LimitRange", "v1 ServiceAccount", "v1 ConfigMap",
	"v1 Secret",
	"v1 PersistentVolumeClaim", "v1 Service", "v1 Pod", "apps/v1 StatefulSet", "apps/v1 Deployment",
	"batch/v1 Job",
	"autoscaling/v2 HorizontalPodAutoscaler", "policy/v1 PodDisruptionBudget",
	"networking.k8s.io/v1 NetworkPolicy",
	"networking.k8s.io/v1 Ingress",
}

// definitionsOfGateway are the files that define the kinds of the Gateway API.
var definitionsOfGateway = []string{
	"gateway.networking.k8s.io_gateways.yaml", "gateway.networking.k8s.io_httproutes.yaml",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FOLDER")
		os.Exit(2)
	}

	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

// run writes the schemas into the folder, after removing those that are there.
func run(folder string) error {
	old, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return err
	}

	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return err
		}
	}

	dir, err := module(kubernetesModule)
	if err != nil {
		return err
	}
	if err := kubernetes(filepath.Join(dir, "api/openapi-spec/swagger.json"), folder); err != nil {
		return fmt.Errorf("%s: %w", kubernetesModule, err)
	}
	if dir, err = module(gatewayModule); err != nil {
		return err
	}

	for _, name := range definitionsOfGateway {
		if err := gateway(filepath.Join(dir, "config/crd/standard", name), folder); err != nil {
			return fmt.Errorf("%s: %s: %w", gatewayModule, name, err)
		}
	}

	return nil
}

// module returns the folder of a module of the test cluster.
func module(path string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", path)
	cmd.Dir = filepath.Join("..", "..", "cluster")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	text, err := cmd.Output()
	var m struct{ Dir, Error string }
	if json.Unmarshal(text, &m) == nil && m.Error != "" {
		err = errors.New(m.Error)
	}

	if err != nil {
		return "", fmt.Errorf("%s: %w: run `go generate ./test/schemas/...` where the module "+
			"proxy can be reached",
			path, err)
	}

	return m.Dir, nil
}

// kubernetes writes the definitions that the kinds need into one file, and for each kind a
// file that refers to it.
func kubernetes(source, folder string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}

	var document struct {
		Definitions map[string]map[string]any
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return err
	}

	needed := map[string]any{}
	var need func(v any)
	need = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if name := strings.TrimPrefix(ref, "#/definitions/"); needed[name] == nil {
					needed[name] = strict(document.Definitions[name])
					need(document.Definitions[name])
				}
			}

			for _, x := range v {
				need(x)
			}
		case []any:
			for _, x := range v {
				need(x)
			}
		}
	}

	for _, kind := range kinds {
		name := definitionOf(document.Definitions, kind)
		if name == "" {
			return fmt.Errorf("the document does not define %s", kind)
		}

		ref := "#/definitions/" + name
		need(map[string]any{"$ref": ref})
		if err := write(folder, fileOf(kind), map[string]any{"$ref": definitionsFile + ref}); err != nil {
			return err
		}
	}

	need(map[string]any{"$ref": "#/definitions/" + objectMeta})
	return write(folder, definitionsFile, map[string]any{"definitions": needed})
}

// definitionOf returns the name of the kind's definition, or "".
func definitionOf(definitions map[string]map[string]any, kind string) string {
	for name, d := range definitions {
		list, _ := d["x-kubernetes-group-version-kind"].([]any)
		if len(list) != 1 { // many groups share it
			continue
		}

		gvk := list[0].(map[string]any)
		version := gvk["version"].(string)
		if group := gvk["group"].(string); group != "" {
			version = group + "/" + version
		}
		if version+" "+gvk["kind"].(string) == kind {
			return name
		}
	}

	return ""
}

// fileOf returns the file name that kubeconform looks for: the kind, the group's first
// label and the version.
func fileOf(kind string) string {
	version, kind, _ := strings.Cut(kind, " ")
	group, version, grouped := strings.Cut(version, "/")
	group, _, _ = strings.Cut(group, ".")
	name := strings.ToLower(kind) + "-" + group
	if grouped {
		name += "-" + version
	}

	return name + ".json"
}

// gateway writes the schema of version v1 of a CustomResourceDefinition. Its rules in CEL
// (x-kubernetes-validations) are left to the API server.
func gateway(source, folder string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}

	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}

	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}

	for _, v := range crd.Spec.Versions {
		if v.Name != "v1" {
			continue
		}

		schema := strict(v.Schema.OpenAPIV3Schema).(map[string]any)
		properties := schema["properties"].(map[string]any)
		properties["metadata"] = map[string]any{
			"$ref": definitionsFile + "#/definitions/" + objectMeta,
		}
		return write(folder, fileOf(crd.Spec.Group+"/v1 "+crd.Spec.Names.Kind), schema)
	}

	return errors.New("there is no version v1")
}

// strict returns the schema without descriptions and extensions, closed to properties
// that it does not name.
func strict(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v["format"] == intOrString || v["x-kubernetes-int-or-string"] == true {
			return map[string]any{"type": []any{"integer", "string"}}
		}

		out := map[string]any{}
		for key, x := range v {
			properties, named := x.(map[string]any)
			switch {
			case strings.HasPrefix(key, "x-kubernetes-"), key == "default", key == "description":
			// The keys are names of properties.
			case key == "properties" && named:
				closed := map[string]any{}
				for name, p := range properties {
					closed[name] = strict(p)
				}
				out[key] = closed
			default:
				out[key] = strict(x)
			}
		}

		_, properties := out["properties"].(map[string]any)
		_, more := out["additionalProperties"]
		if properties && !more && v["x-kubernetes-preserve-unknown-fields"] != true &&
			v["type"] == "object" {
			out["additionalProperties"] = false
		}

		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = strict(out[i])
		}
		return out
	}

	return v
}

func write(folder, name string, schema any) error {
	text, err := json.MarshalIndent(schema, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), append(text, '\n'), 0o644)
}
