package export_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/export"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

// The password of the recorded stacks: it must not appear anywhere.
const recordedPassword = "hunter2-hunter2"

func projectRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// shipped loads a shipped stack, with the secret that a person adds.
func shipped(t *testing.T, name string, change func(*stacks.Settings)) stacks.Stack {
	t.Helper()
	settings := stacks.Settings{Secrets: map[string]bool{stacks.RedisPasswordKey: name != "dev"}}
	if name == "healthcare" { // as in Pulumi.healthcare.yaml, but for what no export can have
		settings.Edge.Port, settings.InternalTLS = 8090, new(false)
	}
	if change != nil {
		change(&settings)
	}

	stack, err := stacks.Load(name, settings,
		stacks.Checkout{FS: os.DirFS(projectRoot(t)), UID: 1000, GID: 1000, Unlocked: true})
	if err != nil {
		t.Fatal(err)
	}

	return stack
}

// compose exports the stack to the folder and writes it there.
func compose(t *testing.T, stack stacks.Stack, dir string) []export.File {
	t.Helper()
	rendered, err := docker.Render(os.DirFS(projectRoot(t)), stack)
	if err != nil {
		t.Fatal(err)
	}

	files, err := export.Compose(export.Source{Rendered: program.Rendered{Docker: rendered},
		Stack: stack, Root: projectRoot(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range files {
		path := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.Text), f.Mode); err != nil {
			t.Fatal(err)
		}
	}

	return files
}

func load(t *testing.T, workingDir string, env []string, files ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(workingDir),
		cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}

	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}

	return project
}

// composed are the services that the hand-written files must hold.
var composed = []string{"edge", "gate", "frontend", "backend", "ml", "redis", "ollama"}

// TestComposeParity loads the export with compose's own loader: it is what the hand-written files
// of infra/docker say, field by field.
func TestComposeParity(t *testing.T) {
	for name, overrides := range map[string][]string{"dev": {"dev"}, "prod": {"prod"},
		"healthcare": {"prod", "healthcare"}} {
		t.Run(name, func(t *testing.T) {
			stack, dir, root := shipped(t, name, nil), t.TempDir(), projectRoot(t)
			compose(t, stack, dir)
			got := load(t, dir, nil, filepath.Join(dir, export.ComposeFile))
			written := []string{}
			for _, file := range slices.Concat([]string{"base"}, overrides) {
				written = append(written,
					filepath.Join(root, "infra/docker/testdata/compose", file+".yaml"))
			}

			want := load(t, root,
				[]string{"STACK=" + name, "MODELFILE_DIGEST=" + stack.Model.Digest,
					"EVALS_DIGEST=" + stack.Model.Evals,
					"DOMAIN_TEXTS=" + stack.Service(stacks.Frontend).Files[0].Content,
					"REDIS_PASSWORD=x", "REDIS_AUTH=x"}, written...)
			for name := range got.Services {
				// One that came later is compared if the files hold it.
				if _, ok := want.Services[name]; !ok && !slices.Contains(composed, name) {
					delete(got.Services, name)
				}
			}

			if d := cmp.Diff(meaning(t, want), meaning(t, got)); d != "" {
				t.Errorf("-compose files +export:\n%s", d)
			}
		})
	}
}

// TestInternalTLS holds that nobody is given an export whose secrets no script can make.
func TestInternalTLS(t *testing.T) {
	stack := shipped(t, "healthcare", func(s *stacks.Settings) {
		s.InternalTLS, s.AssumeSecrets = nil, true
	})
	for _, exported := range []func(export.Source) ([]export.File, error){
		export.Compose, export.Kubernetes,
	} {
		files, err := exported(export.Source{Stack: stack})
		if files != nil || err == nil || !strings.Contains(err.Error(), "codexcontinue:internalTLS") {
			t.Errorf("%d files, %v", len(files), err)
		}
	}
}

// meaning returns a project without what only its author sees: the names inside the file, labels,
// and what says the same in two ways.
func meaning(t *testing.T, p *types.Project) map[string]any {
	t.Helper()
	services := types.Services{}
	for name, s := range p.Services {
		networks := map[string]*types.ServiceNetworkConfig{}
		for n, c := range s.Networks {
			networks[p.Networks[n].Name] = c
		}

		s.Networks, s.Labels = networks, nil
		if s.Build != nil {
			s.Image = "" // its name is compose's to choose in one, the plan's in the other
		}

		for i := range s.Volumes {
			v := &s.Volumes[i]
			v.Bind, v.Volume = nil, nil
			if v.Type == "volume" {
				v.Source = p.Volumes[v.Source].Name
			}
		}

		slices.SortFunc(s.Volumes, func(a, b types.ServiceVolumeConfig) int {
			return strings.Compare(a.Target, b.Target)
		})
		slices.SortFunc(s.Ports, func(a, b types.ServicePortConfig) int {
			return int(a.Target) - int(b.Target)
		})
		for i := range s.Configs {
			s.Configs[i].Source = content(t, p.Configs[s.Configs[i].Source])
		}

		var secrets []types.ServiceSecretConfig
		for _, x := range s.Secrets {
			if x.Target == "" {
				x.Target = x.Source
			}
			if !strings.HasPrefix(x.Target, "/") {
				x.Target = "/run/secrets/" + x.Target
			}
			secrets = append(secrets, types.ServiceSecretConfig{Target: x.Target})
		}

		s.Secrets = secrets
		services[name] = s
	}

	networks, volumes := map[string]bool{}, []string{}
	for _, n := range p.Networks {
		networks[n.Name] = n.Internal
	}

	for _, v := range p.Volumes {
		volumes = append(volumes, v.Name)
	}

	slices.Sort(volumes)
	text, err := json.Marshal(map[string]any{
		"services": services,
		"networks": networks,
		"volumes":  volumes,
	})
	if err != nil {
		t.Fatal(err)
	}

	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}

	return out
}

func content(t *testing.T, c types.ConfigObjConfig) string {
	t.Helper()
	if c.File == "" {
		return c.Content
	}

	text, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}

// TestComposeSecrets checks that no file of an export has a secret, and that its script makes the
// files that the stack would get.
func TestComposeSecrets(t *testing.T) {
	certificate := func(s *stacks.Settings) { // a text that begins with a dash
		s.Secrets[stacks.TLSKeyKey] = true
		s.Edge.OwnTLS = &stacks.EdgeTLS{Certificate: "-----BEGIN CERTIFICATE-----\nAA==\n"}
	}
	for _, value := range []string{"sesame", "it's \"$HOME\" `id` %s \\n ü"} {
		stack, dir := shipped(t, "prod", certificate), t.TempDir()
		for _, f := range compose(t, stack, dir) {
			if strings.Contains(f.Text, stacks.SecretToken) ||
				strings.Contains(f.Text, stacks.SecretHashToken) {
				t.Errorf("%s holds what stands for a secret", f.Path)
			}
		}

		for _, how := range []struct {
			env   []string
			stdin string
		}{
			{env: []string{"REDIS_PASSWORD=" + value, "TLS_KEY=" + value}},
			{stdin: value + "\n" + value + "\n"},
		} {
			cmd := exec.Command("sh", filepath.Join(dir, "secrets.sh"))
			cmd.Env = append(how.env, "PATH="+os.Getenv("PATH"))
			cmd.Stdin = strings.NewReader(how.stdin)
			if out, err := cmd.CombinedOutput(); err != nil ||
				strings.Contains(string(out), value) {
				t.Fatalf("%v: %s", err, out)
			}

			for _, svc := range stack.Services {
				for _, f := range svc.Files {
					if f.Secret == "" {
						continue
					}

					path := filepath.Join(dir, "secrets", svc.Name, filepath.Base(f.Path))
					text, err := os.ReadFile(path)
					if err != nil || string(text) != f.Text(value) {
						t.Errorf("%s holds %q (%v), want %q", path, text, err, f.Text(value))
					}
					if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o444 {
						t.Errorf("%s: %v, %v", path, info.Mode(), err)
					}
				}
			}
		}

		if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil ||
			info.Mode().Perm() != 0o700 {
			t.Errorf("secrets: %v, %v", info.Mode(), err)
		}
	}

	dir := t.TempDir()
	compose(t, shipped(t, "prod", nil), dir)
	cmd := exec.Command("sh", filepath.Join(dir, "secrets.sh"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "redisPassword is empty: set REDIS_PASSWORD") {
		t.Errorf("no value: %v: %s", err, out)
	}
}

// TestComposeWithoutSecrets checks that nothing asks for secrets where there are none.
func TestComposeWithoutSecrets(t *testing.T) {
	for _, f := range compose(t, shipped(t, "dev", nil), t.TempDir()) {
		if f.Path == "secrets.sh" || strings.Contains(f.Text, "secrets.sh") {
			t.Errorf("%s asks for secrets", f.Path)
		}
	}
}

// TestComposeGPU checks what compose's own loader makes of each request for GPUs.
func TestComposeGPU(t *testing.T) {
	for name, tc := range map[string]struct {
		gpu   stacks.GPU
		count types.DeviceCount
		ids   []string
	}{
		"all":     {stacks.GPU{Count: stacks.AllGPUs}, -1, nil},
		"two":     {stacks.GPU{Count: 2}, 0, []string{"0", "1"}},
		"devices": {stacks.GPU{Devices: []string{"GPU-5a", "MIG-1"}}, 0, []string{"GPU-5a", "MIG-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			compose(t, shipped(t, "prod", func(s *stacks.Settings) { s.GPU = &tc.gpu }), dir)
			ollama := load(t, dir, nil,
				filepath.Join(dir, export.ComposeFile)).Services[stacks.Ollama]
			devices := ollama.Deploy.Resources.Reservations.Devices
			if len(devices) != 1 || devices[0].Driver != "nvidia" || devices[0].Count != tc.count ||
				!slices.Equal(devices[0].IDs, tc.ids) ||
				!slices.Contains(devices[0].Capabilities, "gpu") {
				t.Errorf("%+v", devices)
			}

			for k := range ollama.Environment {
				if strings.HasPrefix(k, "NVIDIA") {
					t.Errorf("%s is set as well", k)
				}
			}
		})
	}
}

// TestComposeDollar checks that compose replaces no variable of ours.
func TestComposeDollar(t *testing.T) {
	stack, dir := shipped(t, "prod", nil), t.TempDir()
	const text = "$HOME ${REDIS_PASSWORD:?} $$ 100%"
	stack.Service(stacks.Ollama).Env["TEXT"] = text
	stack.Service(stacks.Ollama).Health.Command = []string{"sh", "-c", "echo $X"}
	compose(t, stack, dir)
	ollama := load(t, dir, []string{"HOME=x"},
		filepath.Join(dir, export.ComposeFile)).Services[stacks.Ollama]
	if got := ollama.Environment["TEXT"]; got == nil || *got != text {
		t.Errorf("TEXT is %v", *got)
	}
	if got := ollama.HealthCheck.Test; got[len(got)-1] != "echo $X" {
		t.Errorf("the health check is %v", got)
	}
}

// TestComposeIsStable checks that two exports are the same bytes.
func TestComposeIsStable(t *testing.T) {
	dir := t.TempDir()
	first, second := compose(t, shipped(t, "healthcare", nil), dir), compose(t,
		shipped(t, "healthcare", nil), dir)
	if d := cmp.Diff(first, second); d != "" {
		t.Error(d)
	}
}
