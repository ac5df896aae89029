package main

import (
	"context"
	"path/filepath"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/composefiles"
)

// compose is docker compose with the files that TestComposeParity compares with the
// stack, field by field.
type compose struct {
	// argv is the beginning of every command: the program, the files, the project's name.
	argv []string
	// name stands for the stack's name: networks and volumes are compose's own.
	name string
}

// findCompose returns the pinned program of tools/compose if it is built, else the one of `docker
// compose`, and its version.
func (b *bench) findCompose(ctx context.Context) ([]string, string, error) {
	todo := "run test/peers/build.sh docker-compose, or install the compose plugin of docker"
	argv, version, err := composefiles.Find(ctx, func(program string) (string, error) {
		return b.find(program, todo)
	})
	if err != nil {
		return nil, "", absentError{"docker compose", todo}
	}

	return argv, version, nil
}

// newCompose returns compose with the images that codexctl made, so that neither side builds.
func (c *checkout) newCompose(
	program []string, stack stacks.Stack, overlay string, images map[string]string,
) (*compose, error) {
	name := stack.Name + "-compose"
	args, err := composefiles.Project{
		Stack:   stack,
		Name:    name,
		Overlay: overlay,
		Root:    c.dir,
		Images:  images,
		Secrets: map[string]string{stacks.RedisPassword: redisPassword},
	}.Write(filepath.Join(c.dir, name))
	if err != nil {
		return nil, err
	}

	return &compose{name: name, argv: append(append([]string(nil), program...), args...)}, nil
}

func (c *compose) command(args ...string) []string {
	return append(append([]string(nil), c.argv...), args...)
}
