package program_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
)

// project is a copy of what a plan reads of the repository, with the stack's config file.
func project(t *testing.T, config string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"modelfiles", "services", "tools/lint"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("../..", dir))); err != nil {
			t.Fatal(err)
		}
	}

	files := fstest.MapFS{
		"Pulumi.yaml": {Data: []byte("name: codexcontinue\nruntime: go\nmain: infra\n" +
			"config:\n  domain: {default: general}\n")},
		"Pulumi.dev.yaml": {Data: []byte("encryptionsalt: none\nconfig:\n" + config)},
		"go.mod":          {Data: []byte("module example\n")},
		"infra/main.go":   {Data: []byte("package main\n")},
	}

	if err := os.CopyFS(root, files); err != nil {
		t.Fatal(err)
	}

	return root
}

// record runs the program of the dev stack as the engine would: with the config's
// values, secrets among them.
func record(root string, config map[string]string, secrets ...string) ([]plan.Resource, error) {
	full := map[string]string{}
	for k, v := range config {
		full["codexcontinue:"+k] = v
	}

	for i := range secrets {
		secrets[i] = "codexcontinue:" + secrets[i]
	}

	return recorder.Record(context.Background(),
		recorder.Stack{Project: "codexcontinue", Name: "dev", Config: full, Secrets: secrets},
		program.Deploy(root))
}

func TestErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		file   string
		config map[string]string
		want   []string
	}{
		"unknown key": {"  codexcontinue:debugg: true\n", map[string]string{"debugg": "true"},
			[]string{"codexcontinue:debugg: unknown key: did you mean debug?"}},
		"wrong unit": {"  codexcontinue:services: {}\n",
			map[string]string{"services": `{"backend":{"memory":"1 gig"}}`},
			[]string{"codexcontinue:services.backend.memory: "}},
		"negative replicas": {"  codexcontinue:services: {}\n",
			map[string]string{"services": `{"backend":{"replicas":-1}}`},
			[]string{"codexcontinue:services.backend.replicas: "}},
		"all at once": {"  codexcontinue:debugg: true\n  codexcontinue:services: {}\n",
			map[string]string{"debugg": "true", "services": `{"backend":{"replicas":-1}}`},
			[]string{"codexcontinue:debugg: ", "codexcontinue:services.backend.replicas: "}},
		"missing Modelfile": {"  codexcontinue:model: {}\n",
			map[string]string{"model": `{"modelfile":"modelfiles/gone/Modelfile"}`},
			[]string{"modelfiles/gone/Modelfile"}},
		"foreign namespace": {"  codexcontinue:target: kubernetes\n  codexcontinue:kubernetes: {}\n",
			map[string]string{"target": "kubernetes", "kubernetes": `{"namespace":"kube-system"}`},
			[]string{`kubernetes.namespace: "kube-system" is the cluster's own`}},
		"broken file": {"\tcodexcontinue: x\n", nil, []string{"Pulumi.dev.yaml: "}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := record(project(t, tc.file), tc.config)
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to hold %q", err, want)
				}
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	resources, err := record(project(t, "  codexcontinue:redisPassword: {secure: x}\n"),
		map[string]string{"redisPassword": "hunter2-hunter2"}, "redisPassword")
	if err != nil {
		t.Fatal(err)
	}

	outputs := resources[0].Outputs
	if outputs["url"] != "http://127.0.0.1:8080" {
		t.Errorf("url is %v", outputs["url"])
	}

	for _, key := range []string{"urls", "images", "imageIds", "containers", "model"} {
		m, _ := outputs[key].(map[string]any)
		if len(m) == 0 {
			t.Errorf("output %s is %v", key, outputs[key])
		}
	}
}

func TestOutputsOfACluster(t *testing.T) {
	for name, tc := range map[string]struct {
		edge         string
		url, forward any
	}{
		"forwarded": {`{}`, nil, "kubectl --namespace team port-forward service/edge 8080:8080"},
		"routed": {`{"host":"chat.example.com","ingress":{"class":"nginx"},"tls":{"issuer":"ca"},` +
			`"trustedProxies":["10.244.0.0/16"]}`,
			"https://chat.example.com", nil},
		"balanced": {`{"address":"0.0.0.0","port":80}`, plan.Computed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			resources, err := record(project(t,
				"  codexcontinue:target: kubernetes\n  codexcontinue:kubernetes: {}\n"+
					"  codexcontinue:edge: {}\n  codexcontinue:signIn: {}\n"),
				map[string]string{
					"signIn":     `{"accounts":true}`,
					"target":     "kubernetes",
					"kubernetes": `{"context":"lab","namespace":"team"}`,
					"edge":       tc.edge,
				})
			if err != nil {
				t.Fatal(err)
			}

			out := resources[0].Outputs
			if out["url"] != tc.url || out["forward"] != tc.forward || out["namespace"] != "team" ||
				out["context"] != "lab" {
				t.Errorf("got %v", out)
			}

			for _, key := range []string{"images", "model"} {
				if m, _ := out[key].(map[string]any); len(m) == 0 {
					t.Errorf("output %s is %v", key, out[key])
				}
			}
		})
	}
}

func TestRoot(t *testing.T) {
	root := project(t, "")
	want, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}

	for _, start := range []string{
		root, filepath.Join(root, "infra"), filepath.Join(root, "services", "backend"),
	} {
		got, err := program.Root(start)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ = filepath.EvalSymlinks(got); got != want {
			t.Errorf("the root of %s is %s, want %s", start, got, want)
		}
	}

	if _, err := program.Root(t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "there is no Pulumi.yaml at or above") {
		t.Errorf("got %v", err)
	}
}

// TestStackConfigDir checks that the keys are read where Pulumi keeps the stack's file.
func TestStackConfigDir(t *testing.T) {
	root := project(t, "")
	for name, text := range map[string]string{
		"Pulumi.yaml":            "name: codexcontinue\nruntime: go\nstackConfigDir: config\n",
		"config/Pulumi.dev.yaml": "config:\n  codexcontinue:nonsense: 1\n  docker:host: x\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	_, err := record(root, map[string]string{"nonsense": "1"})
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:nonsense: unknown key") {
		t.Errorf("got %v", err)
	}
}

// TestProviderSecret checks that the secret of an OpenID provider's client reaches the gate alone, as a
// file, and that no plan has its value.
func TestProviderSecret(t *testing.T) {
	const secret, file = "hunter2-hunter2", "/run/secrets/oidc-client-secret"
	for _, target := range plan.Targets {
		t.Run(string(target), func(t *testing.T) {
			resources, err := record(project(t, "  codexcontinue:target: docker\n"+
				"  codexcontinue:signIn: {}\n  codexcontinue:oidcClientSecret: {secure: x}\n"),
				map[string]string{
					"target":           string(target),
					"oidcClientSecret": secret,
					"signIn": `{"oidc": {"issuer": "https://id.example.com/realms/team",
						"clientID": "chat", "allowedGroups": ["team"], "adminGroups": ["a, b"]}}`,
				}, "oidcClientSecret")
			if err != nil {
				t.Fatal(err)
			}

			text, err := json.Marshal(resources)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(string(text), s) {
					t.Error("the plan shows the secret")
				}
			}

			gates := 0
			for _, r := range resources {
				text, err := json.Marshal(r.Inputs)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(text), file) {
					continue
				}

				gates++
				if !strings.HasSuffix(r.Parent, ":Service gate") {
					t.Errorf("%s of %s has the file", r.Name, r.Parent)
				}
				for _, want := range []string{"https://id.example.com/realms/team",
					"OIDC_ADMIN_GROUPS", "http://127.0.0.1:8080"} {
					if !strings.Contains(string(text), want) {
						t.Errorf("%s lacks %s: %s", r.Name, want, text)
					}
				}
			}
			if gates == 0 {
				t.Error("nothing has the file")
			}
		})
	}
}

// TestReadConfigFrom reads settings of another file in the place of the stack's own, and without any
// the project's defaults.
func TestReadConfigFrom(t *testing.T) {
	root := project(t, "  codexcontinue:debug: true\n")
	other := filepath.Join(t.TempDir(), "settings.yaml")
	text := []byte("config:\n  codexcontinue:logLevel: warn\n  codexcontinue:tlsKey: {secure: x}\n")
	if err := os.WriteFile(other, text, 0o600); err != nil {
		t.Fatal(err)
	}

	for file, want := range map[string]map[string]string{
		"":         {"codexcontinue:domain": "general", "codexcontinue:debug": "true"},
		other:      {"codexcontinue:domain": "general", "codexcontinue:logLevel": "warn"},
		os.DevNull: {"codexcontinue:domain": "general"},
	} {
		c, err := program.ReadConfigFrom(root, "dev", file)
		if err != nil || !maps.Equal(c.Plain, want) || (len(c.Secret) == 1) != (file == other) {
			t.Errorf("%q: %v, %v", file, c, err)
		}
	}
}
