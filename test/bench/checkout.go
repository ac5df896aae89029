package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/worktree"
)

// portOffset keeps the stacks of a run away from a developer's own.
const portOffset = 30000

// checkout is a copy of the working tree with its own Pulumi state. What is provisioned is what
// `up` would provision now, and nothing is written into the tree.
type checkout struct {
	tools
	dir string

	// codexctl and pulumi are paths of programs. languageHost reports whether pulumi can run
	// the Go program itself.
	codexctl, pulumi string
	languageHost     bool
}

func (b *bench) newCheckout(ctx context.Context) (*checkout, error) {
	c := &checkout{tools: b.tools, dir: filepath.Join(b.dir, "checkout")}
	_, golang, err := b.copyTree(ctx, c.dir)
	if err != nil {
		return nil, err
	}
	if c.pulumi, err = b.find("pulumi", "run test/peers/build.sh pulumi, or install the Pulumi CLI"); err != nil {
		return nil, err
	}

	_, noHost := b.find("pulumi-language-go", "")
	c.languageHost = noHost == nil
	state := filepath.Join(c.dir, ".state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}

	c.environ = with(b.environ, "PULUMI_CONFIG_PASSPHRASE=bench",
		"PULUMI_BACKEND_URL=file://"+filepath.ToSlash(state),
		"PULUMI_SKIP_UPDATE_CHECK=true", "NO_COLOR=1")
	c.codexctl = filepath.Join(c.dir, "bin", "codexctl")
	_, err = c.output(ctx, c.dir, golang, "build", "-o", c.codexctl, "./cmd/codexctl")
	return c, err
}

// copyTree copies the files of the working tree that git does not ignore, and returns
// the paths of git and go.
func (b *bench) copyTree(ctx context.Context, to string) (git, golang string, err error) {
	if git, err = b.find("git", "install git"); err != nil {
		return "", "", err
	}
	if golang, err = b.find("go", "install Go"); err != nil {
		return "", "", err
	}

	return git, golang, worktree.Copy(ctx, b.root, to)
}

// stack makes a throwaway stack of an overlay and returns its description.
func (c *checkout) stack(ctx context.Context, name, overlay string) (stacks.Stack, error) {
	debug := overlay == "dev"
	settings := fmt.Sprintf("config:\n  codexcontinue:overlay: %s\n"+
		"  codexcontinue:portOffset: %d\n  codexcontinue:debug: %v\n"+
		"  codexcontinue:model: {base: tiny, evals: false}\n",
		overlay, portOffset, debug)

	if err := os.WriteFile(filepath.Join(c.dir, "Pulumi."+name+".yaml"), []byte(settings), 0o644); err != nil {
		return stacks.Stack{}, err
	}
	if _, err := c.output(ctx, c.dir, c.pulumi, "stack", "init", name, "--non-interactive"); err != nil {
		return stacks.Stack{}, err
	}

	s := stacks.Settings{
		Overlay:    overlay,
		Debug:      &debug,
		PortOffset: portOffset,
		Secrets:    map[string]bool{},
	}

	s.Model.Base, s.Model.Evals = "tiny", new(false) // written for a model that can pass them
	if overlay == "prod" {
		cmd := c.command(ctx, c.dir, c.pulumi, "config", "set", "--secret", "-s", name,
			stacks.Project+":"+stacks.RedisPasswordKey, "--non-interactive")
		cmd.Stdin = strings.NewReader(redisPassword)
		if out, err := cmd.CombinedOutput(); err != nil {
			return stacks.Stack{}, fmt.Errorf("pulumi config set: %w\n%s", err, out)
		}
		s.Secrets[stacks.RedisPasswordKey] = true
	}

	info, err := os.Stat(c.dir)
	if err != nil {
		return stacks.Stack{}, err
	}

	uid, gid := owner(info)
	return stacks.Load(name, s, stacks.Checkout{FS: os.DirFS(c.dir), UID: uid, GID: gid})
}

// redisPassword is the password of the throwaway prod stacks, which only their own
// containers can reach.
const redisPassword = "bench-password"
