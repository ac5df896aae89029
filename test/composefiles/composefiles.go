// Package composefiles runs a stack with docker compose instead of Pulumi: from the files of
// infra/docker/testdata/compose, which TestComposeParity holds against the stack field by field,
// and what those leave open. The benchmark compares with it; the end-to-end tests use it where
// Pulumi's docker provider cannot be had.
package composefiles

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// overlays are the files of each shipped stack, in the order in which they override each other.
var overlays = map[string][]string{
	"dev":        {"base", "dev"},
	"prod":       {"base", "prod"},
	"healthcare": {"base", "prod", "healthcare"},
}

// cpuPeriod is the kernel's period of CPU accounting in microseconds; a quota of one period is one
// core.
const cpuPeriod = 100_000

// Find returns how docker compose is called, and its version: the program docker-compose
// (tools/compose pins one), else the plugin of the docker command. Releases before 2.24.4 do not
// know the tags !override and !reset and do not count. find returns the path of a program, such
// as exec.LookPath does.
func Find(
	ctx context.Context, find func(program string) (string, error),
) (argv []string, version string, err error) {
	var errs []error
	for _, argv := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		program, err := find(argv[0])
		if err != nil {
			errs = append(errs, err)
			continue
		}

		argv[0] = program
		out, err := exec.CommandContext(ctx, argv[0],
			append(argv[1:], "version", "--short")...).Output()
		version := strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
		if err == nil && !recent(version) {
			err = fmt.Errorf("release %q is older than 2.24.4", version)
		}
		if err == nil {
			return argv, version, nil
		}

		errs = append(errs, fmt.Errorf("%s: %w", strings.Join(argv, " "), err))
	}

	return nil, "", errors.Join(errs...)
}

func recent(version string) bool {
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return false
	}
	return slices.Compare([]int{major, minor, patch}, []int{2, 24, 4}) >= 0
}

// Project is one stack as docker compose runs it.
type Project struct {
	Stack stacks.Stack

	// Name stands in the place of the stack's name: in networks, volumes, labels, and as the name
	// of compose's project.
	Name string

	// Overlay is the shipped stack that Stack is made of.
	Overlay string

	// Root is the project's root, an absolute path.
	Root string

	// Images are the references of all services by name: compose builds none.
	Images map[string]string

	// Secrets are the values of the stack's secrets by name.
	Secrets map[string]string
}

// Write writes into dir, which it makes where it is missing, what the compose files leave open and
// what the stack's settings change: the stack's name, labels, ports, users, environment, limits,
// files of containers, and images. It returns the arguments that stand between the program and its
// command.
func (p Project) Write(dir string) ([]string, error) {
	names, ok := overlays[p.Overlay]
	if !ok {
		return nil, fmt.Errorf("compose: no files for overlay %q: there are those of %s", p.Overlay,
			strings.Join(slices.Sorted(maps.Keys(overlays)), ", "))
	}

	files := map[string]string{
		// Secrets reach containers as files, so that they stand in no environment: compose's
		// variables for them stay empty.
		"env": fmt.Sprintf(
			"STACK=%s\nMODELFILE_DIGEST=%s\nEVALS_DIGEST=%s\nDOMAIN_TEXTS=\n"+
				"GATE_REDIS_PASSWORD=\nBACKEND_REDIS_PASSWORD=\nML_REDIS_PASSWORD=\nREDIS_AUTH=\n",
			p.Name, p.Stack.Model.Digest, p.Stack.Model.Evals),
	}

	for _, svc := range p.Stack.Services {
		for _, f := range svc.Files {
			value, ok := p.Secrets[f.Secret]
			if f.Secret != "" && !ok {
				return nil, fmt.Errorf("compose: services.%s: secret %s has no value",
					svc.Name, f.Secret)
			}
			files[fileName(svc.Name, f)] = f.Text(value)
		}
	}

	var err error
	if files["override.yaml"], err = p.override(dir); err != nil {
		return nil, err
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	for file, text := range files {
		// Containers read these as other users. On this side of the mount, the folder's
		// mode keeps others out.
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}

	args := []string{
		"--project-name", p.Name, "--project-directory", p.Root, "--env-file",
		filepath.Join(dir, "env"), "--ansi", "never",
	}

	for _, name := range names {
		args = append(args, "-f",
			filepath.Join(p.Root, "infra", "docker", "testdata", "compose", name+".yaml"))
	}

	return append(args, "-f", filepath.Join(dir, "override.yaml")), nil
}

// fileName returns the name of the service's file in the folder. A secret's begins with the name of
// the service, as several have one of the same name with values of their own.
func fileName(service string, f stacks.File) string {
	name := path.Base(f.Path)
	if f.Secret != "" && !strings.HasPrefix(name, service+"-") {
		name = service + "-" + name
	}
	return name
}

// override is the last compose file: it says what depends on this machine, the settings and this
// run.
func (p Project) override(dir string) (string, error) {
	var b strings.Builder
	labels := func(service string) string {
		s := fmt.Sprintf("labels: {%s: %q, %s: %q", stacks.LabelProject, stacks.Project,
			stacks.LabelStack, p.Name)
		if service != "" {
			s += fmt.Sprintf(", %s: %q", stacks.LabelService, service)
		}
		return s + "}"
	}

	var configs, secrets []string
	b.WriteString("services:\n")
	for _, svc := range p.Stack.Services {
		fmt.Fprintf(&b, "  %s:\n    image: %q\n    user: \"%d:%d\"\n    %s\n", svc.Name,
			p.Images[svc.Name], svc.Security.UID, svc.Security.GID, labels(svc.Name))
		if svc.Image.Build != nil {
			b.WriteString("    build: !reset null\n")
		}

		var ports []string
		for _, port := range svc.Ports {
			if port.Host != 0 {
				ports = append(ports,
					fmt.Sprintf("\"%s:%d:%d\"", port.Address, port.Host, port.Container))
			}
		}

		if len(ports) > 0 {
			fmt.Fprintf(&b, "    ports: !override [%s]\n", strings.Join(ports, ", "))
		}

		fmt.Fprintf(&b, "    mem_limit: %d\n    memswap_limit: %[1]d\n", svc.Resources.Memory)
		quota := svc.Resources.CPU * cpuPeriod / 1000
		fmt.Fprintf(&b, "    cpu_period: %d\n    cpu_quota: %d\n", cpuPeriod, quota)
		vars, err := svc.Environment(nil)
		if err != nil {
			return "", fmt.Errorf("compose: services.%s: %w", svc.Name, err)
		}

		var env []string
		for _, k := range slices.Sorted(maps.Keys(vars)) {
			env = append(env, fmt.Sprintf("%s: %q", k, strings.ReplaceAll(vars[k], "$", "$$")))
		}

		fmt.Fprintf(&b, "    environment: {%s}\n", strings.Join(env, ", "))
		for _, m := range svc.Mounts {
			if m.Kind != stacks.MountModel {
				continue
			}

			list, err := p.Stack.Model.Files(os.DirFS(p.Root))
			if err != nil {
				return "", fmt.Errorf("compose: %w", err)
			}
			b.WriteString("    configs: !override\n")
			for i, f := range list {
				fmt.Fprintf(&b, "      - {source: model-%d, target: %q}\n", i,
					path.Join(m.Target, f.Path))
				configs = append(configs, fmt.Sprintf("model-%d: {file: %q}", i,
					filepath.Join(p.Root, f.Source)))
			}
		}
	}

	fmt.Fprintf(&b, "networks:\n  main: {%s}\nvolumes:\n", labels(""))
	for _, v := range p.Stack.Volumes {
		fmt.Fprintf(&b, "  %s: {%s}\n", v.Name, labels(""))
	}

	// Docker refuses to copy into a read-only root, which is what compose does with inline configs
	// and with secrets from the environment; files are mounted.
	for _, svc := range p.Stack.Services {
		for _, f := range svc.Files {
			name := fileName(svc.Name, f)
			file := filepath.Join(dir, name)
			switch {
			case f.Path == "/etc/frontend/domain.json":
				configs = append(configs, fmt.Sprintf("domain: !override {file: %q}", file))
			case f.Path == "/etc/redis/start.sh":
				configs = append(configs, fmt.Sprintf("redis-start: !override {file: %q}", file))
			case f.Path == "/etc/redis/users.conf":
				configs = append(configs, fmt.Sprintf("redis-users: !override {file: %q}", file))
			case f.Path == "/etc/redis/redis.conf":
				configs = append(configs, fmt.Sprintf("redis: !override {file: %q}", file))
			case f.Secret != "":
				secrets = append(secrets, fmt.Sprintf("%s: !override {file: %q}",
					strings.TrimSuffix(name, ".conf"), file))
			}
		}
	}

	for _, section := range []struct {
		name    string
		entries []string
	}{{"configs", configs}, {"secrets", secrets}} {
		if len(section.entries) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", section.name, strings.Join(section.entries, "\n  "))
		}
	}

	return b.String(), nil
}
