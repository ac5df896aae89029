package images

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Push pushes an image of the engine at host to its registry. It runs the docker command, which
// knows the credentials of `docker login`.
func Push(ctx context.Context, ref, host string, env environ.Vars) error {
	docker, err := env.LookPath("docker")
	if err != nil {
		return fmt.Errorf("image %s: the docker command is not on PATH, which pushes it: install "+
			"it, or push the image yourself", ref)
	}

	cmd := exec.CommandContext(ctx, docker, "push", "--quiet", ref)
	cmd.Env = append(env[:len(env):len(env)], "DOCKER_HOST="+host)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return fmt.Errorf("image %s: cannot be pushed: %s", ref, lastLine(text))
		}
		return fmt.Errorf("image %s: cannot be pushed: %w", ref, err)
	}

	return nil
}
