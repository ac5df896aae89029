package composefiles_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/composefiles"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// TestWrite reads what was written with compose's own loader.
func TestWrite(t *testing.T) {
	for _, overlay := range []string{"dev", "prod", "healthcare"} {
		t.Run(overlay, func(t *testing.T) {
			const password, offset = "a secret", 1000
			settings := stacks.Settings{
				Overlay:    overlay,
				PortOffset: offset,
				Secrets:    map[string]bool{stacks.RedisPasswordKey: overlay != "dev"},
				// The compose files are from a time without.
				InternalTLS: new(false),
			}

			settings.Model.Base, settings.Model.Parallel, settings.LogLevel = "tiny", 7, "error"
			settings.Services = map[string]stacks.ServiceSettings{
				stacks.Redis: {Memory: 640 << 20, CPU: 1500},
			}
			project, dir := write(t, settings, map[string]string{stacks.RedisPassword: password})
			for name, s := range project.Services {
				if s.Build != nil || s.Image != "image-of-"+name {
					t.Errorf("services.%s: image %q, build %v", name, s.Image, s.Build)
				}

				if s.Labels[stacks.LabelStack] != "throwaway" ||
					s.Labels[stacks.LabelService] != name {
					t.Errorf("services.%s: labels %v", name, s.Labels)
				}

				for k, v := range s.Environment {
					if v != nil && strings.Contains(*v, password) {
						t.Errorf("services.%s.environment.%s holds the password", name, k)
					}
				}
			}

			if p := project.Services[stacks.Edge].Ports; len(p) != 1 ||
				p[0].Published != fmt.Sprint(8080+offset) || p[0].HostIP != "127.0.0.1" {
				t.Errorf("services.edge.ports: %+v", p)
			}

			if v := project.Services[stacks.ML].Environment["BASE_MODEL"]; v == nil ||
				*v != "tiny" {
				t.Errorf("services.ml.environment.BASE_MODEL: %v", v)
			}

			for service, want := range map[string]string{
				stacks.Backend: "LOG_LEVEL=error",
				stacks.ML:      "MAX_PARALLEL=7",
				stacks.Ollama:  "OLLAMA_NUM_PARALLEL=7",
			} {
				k, value, _ := strings.Cut(want, "=")
				if v := project.Services[service].Environment[k]; v == nil || *v != value {
					t.Errorf("services.%s.environment.%s: %v, want %s", service, k, v, value)
				}
			}

			r := project.Services[stacks.Redis]
			if r.MemLimit != 640<<20 || r.MemSwapLimit != 640<<20 || r.CPUQuota != 150_000 {
				t.Errorf("services.redis: memory %d, with swap %d, quota %d",
					r.MemLimit, r.MemSwapLimit, r.CPUQuota)
			}

			for name, v := range project.Volumes {
				if v.Labels[stacks.LabelStack] != "throwaway" ||
					!strings.HasSuffix(v.Name, "-throwaway") {
					t.Errorf("volumes.%s: %+v", name, v)
				}
			}

			if overlay == "dev" {
				return
			}

			hex := regexp.MustCompile("^[0-9a-f]{64}$").MatchString
			for name, want := range map[string]func(string) bool{
				"gate-redis-password":    hex,
				"backend-redis-password": hex,
				"ml-redis-password":      hex,
				"redis-auth": func(text string) bool {
					return strings.Contains(text, " #") && !strings.Contains(text, password)
				},
			} {
				secret := project.Secrets[name]
				if secret.Environment != "" || filepath.Dir(secret.File) != dir {
					t.Errorf("secrets.%s: %+v", name, secret)
				}
				if text, err := os.ReadFile(secret.File); err != nil || !want(string(text)) {
					t.Errorf("secrets.%s: the file holds %q (%v)", name, text, err)
				}
			}
		})
	}
}

func write(
	t *testing.T, settings stacks.Settings, secrets map[string]string,
) (*types.Project, string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	stack, err := stacks.Load("throwaway", settings, stacks.Checkout{
		FS:  os.DirFS(root),
		UID: 1000,
		GID: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}

	images := map[string]string{}
	for _, svc := range stack.Services {
		images[svc.Name] = "image-of-" + svc.Name
	}

	dir := filepath.Join(t.TempDir(), "compose")
	args, err := composefiles.Project{
		Stack:   stack,
		Name:    stack.Name,
		Overlay: settings.Overlay,
		Root:    root,
		Images:  images,
		Secrets: secrets,
	}.Write(dir)
	if err != nil {
		t.Fatal(err)
	}

	var files []string
	for i, arg := range args {
		if arg == "-f" {
			files = append(files, args[i+1])
		}
	}

	options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(root),
		cli.WithName(stack.Name),
		cli.WithEnvFiles(filepath.Join(dir, "env")), cli.WithDotEnv)
	if err != nil {
		t.Fatal(err)
	}

	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return project, dir
}

func TestWriteRefuses(t *testing.T) {
	stack, err := stacks.Load("prod",
		stacks.Settings{Secrets: map[string]bool{stacks.RedisPasswordKey: true}},
		stacks.Checkout{FS: os.DirFS("../..")})
	if err != nil {
		t.Fatal(err)
	}

	for want, p := range map[string]composefiles.Project{
		"redis-password":    {Stack: stack, Overlay: "prod"},
		`overlay "unknown"`: {Stack: stack, Overlay: "unknown"},
	} {
		if _, err := p.Write(filepath.Join(t.TempDir(),
			"compose")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %s, got %v", want, err)
		}
	}
}

// TestFind runs programs that say what releases of docker compose say.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := func(name, version string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	find := func(name string) (string, error) {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err != nil {
			return "", errors.New(name + " is absent")
		}
		return file, nil
	}

	if _, _, err := composefiles.Find(t.Context(),
		find); err == nil || !strings.Contains(err.Error(), "docker-compose is absent") {
		t.Errorf("nothing there: %v", err)
	}

	program("docker-compose", "1.29.2")
	if _, _, err := composefiles.Find(t.Context(), find); err == nil ||
		!strings.Contains(err.Error(), "older") {
		t.Errorf("an old release: %v", err)
	}

	program("docker", "v2.35.1-desktop.1")
	argv, version, err := composefiles.Find(t.Context(), find)
	if err != nil || len(argv) != 2 || argv[1] != "compose" || version != "2.35.1-desktop.1" {
		t.Errorf("the plugin: %v %q %v", argv, version, err)
	}

	program("docker-compose", "2.40.3")
	if argv, version, err = composefiles.Find(t.Context(), find); err != nil || len(argv) != 1 ||
		version != "2.40.3" {
		t.Errorf("the program: %v %q %v", argv, version, err)
	}
}
