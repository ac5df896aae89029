package learn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/learning"
)

// Checkout is where a change is proposed.
type Checkout struct {
	// Root is the project's folder, and Modelfile the path of the stack's in it.
	Root, Modelfile string

	// Environ is the environment of git.
	Environ environ.Vars
}

// Proposal is what Propose has changed.
type Proposal struct {
	Examples, Cases int

	// Diff is the change as git shows it.
	Diff string
}

// Propose adds what was accepted to the Modelfile and the evals beside it, but for what they have
// already. It refuses files that have changes which are not committed. It changes both or neither.
func (c Checkout) Propose(
	ctx context.Context, all []learning.Submission,
) (p Proposal, err error) {
	accepted := slices.DeleteFunc(slices.Clone(all), func(v learning.Submission) bool {
		return v.State != learning.Accepted || v.Review == nil
	})
	slices.SortFunc(accepted, func(a, b learning.Submission) int {
		return strings.Compare(a.ID, b.ID)
	})

	evals := filepath.Join(filepath.Dir(c.Modelfile), modelfiles.EvalsFile)
	files := []*file{{name: c.Modelfile}, {name: evals}}
	for _, f := range files {
		f.path = filepath.Join(c.Root, f.name)
		if f.before, err = os.ReadFile(f.path); err != nil {
			return p, err
		}
	}

	dirty, err := c.git(ctx, "status", "--porcelain", "--", files[0].name, files[1].name)
	if err != nil {
		return p, fmt.Errorf("%s is in no git repository that can be read: %w", c.Root, err)
	}
	if dirty != "" {
		return p, fmt.Errorf("%s and %s have changes that are not committed, which the proposal would "+
			"be mixed with: commit or stash them", files[0].name, files[1].name)
	}

	if files[0].after, p.Examples, err = addExamples(files[0].before, accepted); err != nil {
		return p, fmt.Errorf("%s: %w", files[0].name, err)
	}
	if files[1].after, p.Cases, err = addCases(files[1].before, accepted); err != nil {
		return p, fmt.Errorf("%s: %w", files[1].name, err)
	}

	if err := write(files); err != nil {
		return p, err
	}

	p.Diff, err = c.git(ctx, "diff", "--", files[0].name, files[1].name)
	return p, err
}

// file is a file of the checkout that is changed.
type file struct {
	name, path    string
	before, after []byte
}

// write writes all files, or leaves all as they are.
func write(files []*file) error {
	for i, f := range files {
		if slices.Equal(f.before, f.after) {
			continue
		}

		// Its mode stays: the file is there.
		if err := os.WriteFile(f.path, f.after, 0o644); err != nil {
			for _, done := range files[:i+1] {
				err = errors.Join(err, os.WriteFile(done.path, done.before, 0o644))
			}
			return err
		}
	}

	return nil
}

func (c Checkout) git(ctx context.Context, args ...string) (string, error) {
	cmd, err := c.Environ.Command(ctx, c.Root, "git", append([]string{"--no-pager"}, args...)...)
	if err != nil {
		return "", err
	}

	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(failed.Stderr)))
	}
	return string(out), err
}
