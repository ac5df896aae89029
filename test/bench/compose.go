package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// compose is docker compose with the files that TestComposeParity holds against the stack, field by field.
type compose struct {
	// argv begins every command: the program, the files, the project's name.
	argv []string
	// name stands in the place of the stack's name: networks and volumes are compose's own.
	name string
}

// findCompose prefers the pinned program of tools/compose, then what `docker compose` runs.
func (b *bench) findCompose(ctx context.Context) ([]string, string, error) {
	todo := "run test/peers/build.sh docker-compose, or install the compose plugin of docker"
	argv := []string{""}
	var err error
	if argv[0], err = b.find("docker-compose", todo); err != nil {
		docker, none := b.find("docker", todo)
		if none != nil {
			return nil, "", err
		}
		argv = []string{docker, "compose"}
	}
	version, err := b.output(ctx, b.root, argv[0], append(argv[1:], "version", "--short")...)
	if err != nil {
		return nil, "", absentError{"docker compose", todo}
	}
	return argv, version, nil
}

// newCompose writes what the files leave open: the stack's name, ports, users, the model, the files of containers, and
// the very images that codexctl made, so that neither side builds.
func (c *checkout) newCompose(program []string, stack stacks.Stack, overlay string, images map[string]string) (*compose, error) {
	name := stack.Name + "-compose"
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	files := map[string]string{
		"env":           fmt.Sprintf("STACK=%s\nMODELFILE_DIGEST=%s\nREDIS_PASSWORD=\nREDIS_AUTH=\n", name, stack.Model.Digest),
		"override.yaml": override(stack, images, dir),
	}
	for _, svc := range stack.Services {
		for _, f := range svc.Files {
			files[filepath.Base(f.Path)] = f.Text(redisPassword)
		}
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	argv := append(append([]string(nil), program...), "--project-name", name, "--project-directory", c.dir, "--env-file", filepath.Join(dir, "env"),
		"--ansi", "never")
	for _, f := range []string{"base", overlay} {
		argv = append(argv, "-f", filepath.Join(c.dir, "infra", "docker", "testdata", "compose", f+".yaml"))
	}
	return &compose{name: name, argv: append(argv, "-f", filepath.Join(dir, "override.yaml"))}, nil
}

// override is the last compose file: it says per service what depends on this machine and this run.
func override(stack stacks.Stack, images map[string]string, dir string) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, svc := range stack.Services {
		fmt.Fprintf(&b, "  %s:\n    image: %q\n    user: \"%d:%d\"\n", svc.Name, images[svc.Name], svc.Security.UID, svc.Security.GID)
		if svc.Image.Build != nil {
			b.WriteString("    build: !reset null\n")
		}
		var ports []string
		for _, p := range svc.Ports {
			if p.Host != 0 {
				ports = append(ports, fmt.Sprintf("\"%s:%d:%d\"", p.Address, p.Host, p.Container))
			}
		}
		if len(ports) > 0 {
			fmt.Fprintf(&b, "    ports: !override [%s]\n", strings.Join(ports, ", "))
		}
		if svc.Name == stacks.ML && stack.Model.Base != "" {
			fmt.Fprintf(&b, "    environment: {BASE_MODEL: %q}\n", stack.Model.Base)
		}
	}
	// Docker refuses to copy into a read-only root, which is what compose does with inline configs and with secrets from
	// the environment; files are mounted.
	var configs, secrets []string
	for _, svc := range stack.Services {
		for _, f := range svc.Files {
			file := filepath.Join(dir, filepath.Base(f.Path))
			switch {
			case f.Path == "/etc/redis/redis.conf" && len(stack.Secrets) > 0:
				configs = append(configs, fmt.Sprintf("redis-with-password: !override {file: %q}", file))
			case f.Path == "/etc/redis/redis.conf":
				configs = append(configs, fmt.Sprintf("redis: !override {file: %q}", file))
			case f.Secret != "":
				secrets = append(secrets, fmt.Sprintf("%s: !override {file: %q}", strings.TrimSuffix(filepath.Base(f.Path), ".conf"), file))
			}
		}
	}
	for what, entries := range map[string][]string{"configs": configs, "secrets": secrets} {
		if len(entries) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", what, strings.Join(entries, "\n  "))
		}
	}
	return b.String()
}

func (c *compose) command(args ...string) []string {
	return append(append([]string(nil), c.argv...), args...)
}
