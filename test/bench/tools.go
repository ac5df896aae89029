package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tools finds and runs other programs.
type tools struct {
	// environ is the environment of the programs. Its PATH ends in the folder that
	// test/peers/build.sh fills.
	environ []string
	path    []string
}

func newTools(environ []string) tools {
	vars := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		vars[k] = v
	}

	cache := vars["CODEXCONTINUE_TEST_CACHE"]
	if cache == "" {
		base := vars["XDG_CACHE_HOME"]
		if base == "" {
			base = filepath.Join(vars["HOME"], ".cache")
		}
		cache = filepath.Join(base, "codexcontinue-test")
	}

	path := append(filepath.SplitList(vars["PATH"]), filepath.Join(cache, "bin"))
	return tools{
		path:    path,
		environ: with(environ, "PATH="+strings.Join(path, string(os.PathListSeparator))),
	}
}

// with returns the environment with variables added; the last of two with the same name counts.
func with(environ []string, vars ...string) []string {
	return append(append([]string(nil), environ...), vars...)
}

// find returns the path of a program, or an absentError.
func (t tools) find(program, todo string) (string, error) {
	for _, dir := range t.path {
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() &&
			info.Mode()&0o111 != 0 {
			return file, nil
		}
	}

	return "", absentError{program, todo}
}

// stopGrace is how long an interrupted program may take to end by itself.
const stopGrace = time.Minute

// command returns a program that is interrupted, not killed, when ctx ends, and not
// interrupted by the terminal.
func (t tools) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, t.environ
	cmd.Cancel = func() error { return interrupt(cmd) }
	cmd.WaitDelay = stopGrace
	ownProcessGroup(cmd)
	return cmd
}

// output runs a program and returns its stdout. The error of a program that fails holds
// the end of its output.
func (t tools) output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := t.command(ctx, dir, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err,
			tail(out.String()+errs.String(), 25))
	}

	return strings.TrimSpace(out.String()), nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
