package images

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Push pushes an image of the engine at host to its registry. It runs the docker command, which
// knows the credentials of `docker login`.
func Push(ctx context.Context, ref, host string, env environ.Vars) error {
	env = append(env[:len(env):len(env)], "DOCKER_HOST="+host)
	_, err := output(ctx, env, "docker", "push", "--quiet", ref)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("image %s: the docker command is not on PATH, which pushes it: install "+
			"it, or push the image yourself", ref)
	case ctx.Err() != nil:
		return ctx.Err()
	}

	return fmt.Errorf("image %s: cannot be pushed: %w", ref, err)
}
