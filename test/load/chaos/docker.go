//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// Docker kills containers of this machine's engine by their process, as a crash does: what `docker
// kill` ends counts as stopped by hand and is not started again. It takes the right to signal their
// processes.
type Docker struct {
	// labels are the filters by which a service's containers are found.
	labels func(service string) []string

	// docker runs the docker command.
	docker func(ctx context.Context, args ...string) ([]byte, error)
	signal func(pid int) error

	mu sync.Mutex

	// killed is the process that was killed last, and wanted how many healthy containers the
	// service had.
	killed, wanted map[string]int
}

// NewDocker finds the containers of one of this project's stacks.
func NewDocker(stack string) *Docker {
	return newDocker(func(service string) []string {
		return []string{stacks.LabelStack + "=" + stack, stacks.LabelService + "=" + service}
	})
}

// NewCompose finds the containers of a compose project.
func NewCompose(project string) *Docker {
	return newDocker(func(service string) []string {
		return []string{
			"com.docker.compose.project=" + project,
			"com.docker.compose.service=" + service,
		}
	})
}

func newDocker(labels func(string) []string) *Docker {
	return &Docker{
		labels: labels, killed: map[string]int{}, wanted: map[string]int{},
		docker: func(ctx context.Context, args ...string) ([]byte, error) {
			out, err := exec.CommandContext(ctx, "docker", args...).Output()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				said := strings.TrimSpace(string(exit.Stderr))
				err = fmt.Errorf("docker %s: %w: %s", args[0], err, said)
			}
			return out, err
		},
		signal: func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
	}
}

// instance is what `docker inspect` says of a container, as far as it matters.
type instance struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Running bool
		Pid     int
		Health  *struct{ Status string }
	}
}

func (i instance) healthy() bool {
	return i.State.Running && (i.State.Health == nil || i.State.Health.Status == "healthy")
}

// instances are a service's containers that are not on their way in or out.
func (d *Docker) instances(ctx context.Context, service string) ([]instance, error) {
	args := []string{"ps", "-aq"}
	for _, status := range []string{"running", "restarting", "exited"} {
		args = append(args, "--filter", "status="+status)
	}

	for _, l := range d.labels(service) {
		args = append(args, "--filter", "label="+l)
	}

	ids, err := d.docker(ctx, args...)
	if err != nil || len(strings.Fields(string(ids))) == 0 {
		return nil, err
	}

	text, err := d.docker(ctx, append([]string{"inspect"}, strings.Fields(string(ids))...)...)
	if err != nil {
		return nil, err
	}

	var list []instance
	return list, json.Unmarshal(text, &list)
}

// Kill is a Kill: of the first healthy container of the service.
func (d *Docker) Kill(ctx context.Context, service string) (string, error) {
	list, err := d.instances(ctx, service)
	if err != nil {
		return "", err
	}

	well := slices.DeleteFunc(
		list,
		func(c instance) bool { return !c.healthy() || c.State.Pid <= 1 },
	)
	if len(well) == 0 {
		return "", errors.New("none of its containers is healthy")
	}

	pid := well[0].State.Pid
	d.mu.Lock()
	d.killed[service], d.wanted[service] = pid, len(well)
	d.mu.Unlock()
	return strings.TrimPrefix(well[0].Name, "/"), d.signal(pid)
}

// Healthy is a Healthy: as many containers as before are healthy, none of them with the process
// that was killed.
func (d *Docker) Healthy(ctx context.Context, service string) error {
	d.mu.Lock()
	killed, wanted := d.killed[service], d.wanted[service]
	d.mu.Unlock()
	return await(ctx, func() (bool, error) {
		list, err := d.instances(ctx, service)
		healthy := 0
		for _, c := range list {
			if c.healthy() && c.State.Pid != killed {
				healthy++
			}
		}

		return healthy >= wanted, err
	})
}
