package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// diffCheckout is a git repository of the working tree, in which `codexctl diff` is timed.
type diffCheckout struct {
	tools
	dir, cache string

	// codexctl, git and golang are paths of programs.
	codexctl, git, golang string

	// edits counts the edits, so that each is a new one.
	edits int
}

// Files, and a text in each after which edits insert theirs.
const (
	settingsFile, settingsText = "Pulumi.prod.yaml", "config:\n"
	overlayFile, overlayText   = "stacks/prod.go", "\t\tsvc.Replicas = 2\n"
)

// diff times `codexctl diff` of every stack on both targets, from runs in which everything was
// planned before to one in which not even Go's standard library is compiled. That one is also timed
// for the program of `pulumi up`.
func (b *bench) diff(ctx context.Context) error {
	c, err := b.newDiffCheckout(ctx)
	if err != nil {
		return err
	}

	t := b.report.table("codexctl diff, all stacks on both targets",
		"Kept are, in the user's cache, the plans of revisions and the program that planned the "+
			"working tree last. The last two rows are one run each: "+
			"Go compiles its standard library, Pulumi's SDKs and this project.", "time")

	type scenario struct {
		name    string
		rounds  int
		prepare func() error
		run     func(context.Context) error
	}

	fresh := func() error { return os.RemoveAll(c.cache) }
	// emptied gives Go a new cache.
	emptied := func(name string) error {
		c.environ = with(c.environ, "GOCACHE="+filepath.Join(c.dir, ".git", name))
		return fresh()
	}
	scenarios := []scenario{
		{"warm: nothing edited since", b.rounds, func() error { return nil }, c.run},
		{"warm: a setting edited", b.rounds, func() error {
			return c.edit(ctx, settingsFile, settingsText, "  codexcontinue:conversationTTL: %dh\n")
		}, c.run},
		{"warm: an overlay edited", b.rounds, func() error {
			return c.edit(ctx, overlayFile, overlayText, "\t\tsvc.Resources.PIDs += %d\n")
		}, c.run},
		{"cold: nothing kept, sources as base's", b.rounds, func() error {
			return errors.Join(fresh(), c.restore(ctx, overlayFile))
		}, c.run},
		{"cold: nothing kept, an overlay edited", b.rounds, func() error {
			return errors.Join(fresh(),
				c.edit(ctx, overlayFile, overlayText, "\t\tsvc.Resources.PIDs += %d\n"))
		}, c.run},
		{"cold: Go's cache empty as well", 1, func() error { return emptied("gocache") }, c.run},
		{"the program of `up`: Go's cache empty", 1, func() error {
			return emptied("gocache-program")
		}, c.buildProgram},
	}

	// The first run warms the caches.
	err = c.edit(ctx, settingsFile, settingsText, "  codexcontinue:conversationTTL: %dh\n")
	if err := errors.Join(err, c.run(ctx)); err != nil {
		return err
	}

	for _, s := range scenarios {
		b.say("  %s", s.name)
		for range s.rounds {
			if err := s.prepare(); err != nil {
				return err
			}

			start := time.Now()
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}

			t.row(s.name).addTime("time", seconds, time.Since(start))
		}
	}

	return nil
}

func (b *bench) newDiffCheckout(ctx context.Context) (*diffCheckout, error) {
	c := &diffCheckout{
		tools: b.tools,
		dir:   filepath.Join(b.dir, "diff"),
		cache: filepath.Join(b.dir, "diff-cache"),
	}

	git, golang, err := b.copyTree(ctx, c.dir)
	if err != nil {
		return nil, err
	}

	c.git, c.golang = git, golang
	// The bench has a cache of its own, but uses Go's as it is.
	goCache, err := b.output(ctx, b.root, golang, "env", "GOCACHE")
	if err != nil {
		return nil, err
	}

	c.environ = with(b.environ, "XDG_CACHE_HOME="+c.cache, "GOCACHE="+goCache, "NO_COLOR=1")
	for _, args := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c",
			"commit.gpgsign=false", "commit", "--quiet", "--message=base"}} {
		if _, err := c.output(ctx, c.dir, git, args...); err != nil {
			return nil, err
		}
	}

	c.codexctl = filepath.Join(c.dir, "bin", "codexctl")
	_, err = c.output(ctx, c.dir, golang, "build",
		"-buildvcs=false", "-o", c.codexctl, "./cmd/codexctl")
	return c, err
}

// run compares the working tree, which differs, with the commit.
func (c *diffCheckout) run(ctx context.Context) error {
	var exit *exec.ExitError
	cmd := c.command(ctx, c.dir, c.codexctl, "diff", "--base", "main")
	out, err := cmd.CombinedOutput()
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return nil
	}
	if err == nil {
		err = errors.New("no changes, where something was edited")
	}

	return fmt.Errorf("codexctl diff: %w\n%s", err, tail(string(out), 25))
}

// buildProgram compiles the program as `pulumi up` does.
func (c *diffCheckout) buildProgram(ctx context.Context) error {
	_, err := c.output(ctx, c.dir, c.golang, "build",
		"-buildvcs=false", "-o", filepath.Join(c.dir, "bin", "program"), "./infra")
	return err
}

// edit inserts a text, with the number of the edit, after another one in the committed file.
func (c *diffCheckout) edit(ctx context.Context, file, after, text string) error {
	c.edits++
	if err := c.restore(ctx, file); err != nil {
		return err
	}

	path := filepath.Join(c.dir, file)
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Contains(old, []byte(after)) {
		return fmt.Errorf("%s has no longer %q", file, after)
	}

	return os.WriteFile(path,
		bytes.Replace(old, []byte(after), fmt.Appendf([]byte(after), text, c.edits), 1), 0o644)
}

// restore undoes the edits of the file.
func (c *diffCheckout) restore(ctx context.Context, file string) error {
	_, err := c.output(ctx, c.dir, c.git, "checkout", "--quiet", "--", file)
	return err
}
