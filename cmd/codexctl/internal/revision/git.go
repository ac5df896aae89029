// Package revision makes the plans of a revision of the checkout and of its working tree. Each is
// made by the program that is built from its own sources, as only they define its stacks.
package revision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Checkout is a git checkout of the project.
type Checkout struct {
	root    string // of the project
	prefix  string // of the project in the repository, empty or with a / at its end
	environ environ.Vars

	// say is called with what takes long.
	say func(format string, args ...any)

	// scratch holds files until Close, cache those that are kept for the next time. cache is empty
	// if there is no place for it.
	scratch, cache string
	key            []byte
}

// Options are the options of Open.
type Options struct {
	// Root is the project's folder.
	Root string

	// Environ is the environment of git and go.
	Environ environ.Vars

	// Cache is a folder for what can be made again; empty for none.
	Cache string

	// Say is called with what takes long.
	Say func(format string, args ...any)
}

// Open opens the git repository around the project. The caller closes the checkout.
func Open(ctx context.Context, o Options) (*Checkout, error) {
	for _, program := range []string{"git", "go"} {
		if _, err := o.Environ.LookPath(program); err != nil {
			return nil, fmt.Errorf("%s is not on PATH: plans of a revision are made by building "+
				"its program",
				program)
		}
	}

	c := &Checkout{root: o.Root, environ: o.Environ, say: o.Say, cache: o.Cache}
	var err error
	if c.prefix, err = c.git(ctx, nil, "rev-parse", "--show-prefix"); err != nil {
		return nil, fmt.Errorf("%s is in no git repository that can be read: %w", o.Root, err)
	}
	if c.scratch, err = os.MkdirTemp("", "codexctl-diff-"); err != nil {
		return nil, err
	}

	if c.key, err = c.loadKey(); err != nil {
		c.Close()
		return nil, err
	}

	return c, nil
}

// Close removes the files that are not kept.
func (c *Checkout) Close() error { return os.RemoveAll(c.scratch) }

// Revision is a state of the project's files.
type Revision struct {
	// Name is the revision's name for people.
	Name string

	// Tree is git's hash of the project's folder.
	Tree string

	// objects are the variables by which git finds the objects of a tree without a commit.
	objects []string
}

// Commit returns the revision that ref names. Without ref it is the commit at which the checkout's
// branch left the default branch, or HEAD if there is no default branch.
func (c *Checkout) Commit(ctx context.Context, ref string) (Revision, error) {
	name := ref
	if ref == "" {
		var err error
		if name, ref, err = c.base(ctx); err != nil {
			return Revision{}, err
		}
	}

	if strings.HasPrefix(ref, "-") {
		return Revision{}, fmt.Errorf("%q is no revision", ref)
	}

	hash, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if err != nil {
		return Revision{}, fmt.Errorf("%q is no commit of this repository: fetch it, or name "+
			"another with --base",
			ref)
	}

	tree, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet",
		hash+":"+strings.TrimSuffix(c.prefix, "/"))
	if err != nil {
		return Revision{}, fmt.Errorf("%s has no folder %s", name, c.prefix)
	}

	if short := hash[:12]; !strings.HasPrefix(hash, name) {
		name += " (" + short + ")"
	} else {
		name = short
	}

	return Revision{Name: name, Tree: tree}, nil
}

// base returns the commit at which the branch left the default branch.
func (c *Checkout) base(ctx context.Context) (name, commit string, err error) {
	if _, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return "", "", errors.New("the repository has no commit to compare with")
	}

	var candidates []string
	if head, err := c.git(ctx, nil, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"); err == nil {
		candidates = append(candidates, head)
	}

	for _, branch := range append(candidates, "origin/main", "origin/master", "main", "master") {
		if _, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet", branch+"^{commit}"); err != nil {
			continue
		}

		commit, err := c.git(ctx, nil, "merge-base", "HEAD", branch)
		if err != nil {
			return "", "", fmt.Errorf("HEAD and %s have no common ancestor here: fetch more of "+
				"the history (git fetch --unshallow), or name a revision with --base",
				branch)
		}

		return branch, commit, nil
	}

	return "HEAD", "HEAD", nil
}

// WorkingTree returns the revision of the checkout's files as they are, all
// that git does not ignore.
func (c *Checkout) WorkingTree(ctx context.Context) (Revision, error) {
	paths, err := c.git(ctx, nil, "rev-parse", "--git-path", "objects", "--git-path", "index")
	if err != nil {
		return Revision{}, err
	}

	objects, index, _ := strings.Cut(paths, "\n")
	// Git writes to an index and an object folder of their own, so that nothing in the repository
	// changes. The index is a copy, which knows the files that have not changed.
	own := filepath.Join(c.scratch, "index")
	if err := copyIndex(c.fromRoot(index), own); err != nil {
		return Revision{}, err
	}

	written := filepath.Join(c.scratch, "objects")
	if err := os.MkdirAll(written, 0o700); err != nil {
		return Revision{}, err
	}

	env := []string{
		"GIT_OBJECT_DIRECTORY=" + written,
		"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + c.fromRoot(objects),
	}

	withIndex := append(slices.Clone(env), "GIT_INDEX_FILE="+own)
	if _, err := c.git(ctx, withIndex, "add", "--all", "--", "."); err != nil {
		return Revision{}, fmt.Errorf("read the working tree: %w", err)
	}

	args := []string{"write-tree"}
	if c.prefix != "" {
		args = append(args, "--prefix="+c.prefix)
	}

	tree, err := c.git(ctx, withIndex, args...)
	if err != nil {
		return Revision{}, fmt.Errorf("read the working tree: %w", err)
	}

	return Revision{Name: "the working tree", Tree: tree, objects: env}, nil
}

// copyIndex copies an index with its modification time, from which git knows which files may have
// changed right after it was written.
func copyIndex(from, to string) error {
	text, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}

	info, err := os.Stat(from)
	if err != nil {
		return err
	}

	return errors.Join(os.WriteFile(to, text, 0o600),
		os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// has reports whether the revision has the file.
func (c *Checkout) has(ctx context.Context, r Revision, name string) bool {
	_, err := c.git(ctx, r.objects, "cat-file", "-e", r.Tree+":"+name)
	return err == nil
}

// export writes the revision's files to dir.
func (c *Checkout) export(ctx context.Context, r Revision, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	env := append(slices.Clone(r.objects), "GIT_INDEX_FILE="+dir+".index")
	if _, err := c.git(ctx, env, "read-tree", r.Tree); err != nil {
		return err
	}

	gitDir, err := c.git(ctx, nil, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return err
	}

	// Files are written as a checkout writes them, line ends and all, to a work tree of its own:
	// names in the index are relative to the project, not to the repository.
	_, err = c.gitIn(ctx, dir, append(env, "GIT_WORK_TREE="+dir, "GIT_DIR="+gitDir),
		"checkout-index", "--all", "--force", "--quiet")
	return err
}

// changes returns the files in which b differs from a, and whether a has each.
func (c *Checkout) changes(ctx context.Context, a, b Revision) (map[string]bool, error) {
	out, err := c.git(ctx, append(slices.Clone(a.objects), b.objects...), "diff-tree", "-r", "-z",
		"--name-status", "--no-renames", a.Tree, b.Tree)
	if err != nil {
		return nil, err
	}

	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	changed := map[string]bool{}
	for i := 0; i+1 < len(fields); i += 2 {
		changed[fields[i+1]] = fields[i] != "A"
	}

	return changed, nil
}

func (c *Checkout) fromRoot(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.root, path)
}

// git runs git in the project's folder and returns its output, without the end of the last line.
func (c *Checkout) git(ctx context.Context, env []string, args ...string) (string, error) {
	return c.gitIn(ctx, c.root, env, args...)
}

func (c *Checkout) gitIn(
	ctx context.Context, dir string, env []string, args ...string,
) (string, error) {
	vars := append(slices.Clone(c.environ), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0")
	cmd, err := append(vars, env...).Command(ctx, dir, "git",
		append([]string{"-c", "core.safecrlf=false"}, args...)...)
	if err != nil {
		return "", err
	}

	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(bytes.TrimSpace(exit.Stderr)) > 0 {
			first, _, _ := strings.Cut(string(bytes.TrimSpace(exit.Stderr)), "\n")
			return "", fmt.Errorf("git %s: %s", args[0], strings.TrimPrefix(first, "fatal: "))
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}

	return strings.TrimSuffix(string(out), "\n"), nil
}

// copyFile copies a program.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
