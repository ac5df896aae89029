package revision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codexcontinue/codexcontinue/infra/plan"
)

// planner is the package of the program that prints a checkout's plans.
const planner = "infra/plan/planner"

// keptPlans bounds how many revisions' plans are kept.
const keptPlans = 32

// Plans makes the plans of base and of head, which is the working tree, for every stack and target.
//
// The sources of head are read from the disk, so files that git ignores count as they do for `up`.
// Those of base are the files of its commit, and its plans are kept by its tree.
func (c *Checkout) Plans(
	ctx context.Context, base, head Revision,
) (before, after []plan.Document, err error) {
	kept, ok := c.kept(base)
	if !ok && !c.has(ctx, base, planner+"/main.go") {
		return nil, nil, fmt.Errorf("%s is older than this command: it has no %s, by which its "+
			"stacks are planned; compare with a later one",
			base.Name, planner)
	}

	program, err := c.headProgram(ctx, head)
	if err != nil {
		return nil, nil, err
	}

	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		var err error
		after, _, err = c.run(ctx, program, c.root, head)
		return err
	})

	both.Go(func() error {
		if before = kept; ok {
			return nil
		}
		var err error
		before, err = c.basePlans(ctx, base, head, program)
		return err
	})

	if err := both.Wait(); err != nil {
		return nil, nil, err
	}

	return before, after, nil
}

// basePlans makes the plans of base. Its program is built after head's: what both have in common is
// compiled once, and if the programs are the same, as in most changes, nothing is linked again.
func (c *Checkout) basePlans(
	ctx context.Context, base, head Revision, headProgram string,
) ([]plan.Document, error) {
	dir := filepath.Join(c.scratch, "base")
	if err := c.export(ctx, base, dir); err != nil {
		return nil, fmt.Errorf("read %s: %w", base.Name, err)
	}

	program, err := c.baseProgram(ctx, base, head, dir, headProgram)
	if err != nil {
		return nil, err
	}

	documents, text, err := c.run(ctx, program, dir, base)
	if other := (plan.VersionError{}); errors.As(err, &other) {
		return nil, fmt.Errorf("%s writes plans of version %d, and this command reads version %d: "+
			"compare with a later one (--base), where there is one", base.Name, other.Version,
			plan.Version)
	}

	if err != nil {
		return nil, err
	}

	c.keep(base, text)
	return documents, nil
}

// slot returns the folder that keeps the working tree's planner, and beside it the
// tree it was built from.
func (c *Checkout) slot() string {
	if c.cache == "" {
		return filepath.Join(c.scratch, "slot")
	}
	hash := sha256.Sum256([]byte(c.root))
	return filepath.Join(c.cache, "planner-"+hex.EncodeToString(hash[:6]))
}

// headProgram returns the planner of the working tree. It is built in the folder of the sources, so
// that what a developer's builds have compiled is not compiled again.
func (c *Checkout) headProgram(ctx context.Context, head Revision) (string, error) {
	slot := c.slot()
	program, tree := filepath.Join(slot, "planner"), filepath.Join(slot, "tree")
	if text, err := os.ReadFile(tree); err == nil && string(text) == head.Tree {
		return program, nil
	}
	if err := os.MkdirAll(slot, 0o700); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}

	work := filepath.Join(c.scratch, "head-planner")
	if err := c.buildOn(ctx, program, work, head, ""); err != nil {
		return "", err
	}

	// The tree is removed first: a program without one is built again.
	if err := os.Remove(tree); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cache: %w", err)
	}
	if err := errors.Join(replace(work, program), writeFile(tree, []byte(head.Tree))); err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}

	return work, nil
}

// baseProgram returns the planner of base. It is built in the working tree with base's files in
// place of those that differ, so that only what depends on these is compiled.
func (c *Checkout) baseProgram(
	ctx context.Context, base, head Revision, dir, headProgram string,
) (string, error) {
	changed, err := c.changes(ctx, base, head)
	if err != nil {
		return "", err
	}

	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, has := range changed {
		from := ""
		if has {
			from = filepath.Join(dir, filepath.FromSlash(name))
		}
		overlay.Replace[filepath.Join(c.root, filepath.FromSlash(name))] = from
	}

	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}

	file := filepath.Join(c.scratch, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}

	program := filepath.Join(c.scratch, "base-planner")
	return program, c.buildOn(ctx, headProgram, program, base, file)
}

// buildOn builds the planner over a copy of another one, if that exists: Go leaves a program as it
// is if it would be the same. The other one itself may be running.
func (c *Checkout) buildOn(
	ctx context.Context, other, to string, r Revision, overlay string,
) error {
	if err := copyFile(other, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache: %w", err)
	}
	return c.build(ctx, r, to, overlay)
}

// build builds the planner.
func (c *Checkout) build(ctx context.Context, r Revision, to, overlay string) error {
	c.say("compiling the plans of %s", r.Name)
	// Without debug information, as linking is most of the time.
	args := []string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", to}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}

	env := slices.DeleteFunc(slices.Clone(c.environ), func(e string) bool {
		// The program runs here, whatever the caller builds for.
		return strings.HasPrefix(e, "GOOS=") || strings.HasPrefix(e, "GOARCH=")
	})

	env = append(env, "GOWORK=off")
	if env.Get("HOME") == "" { // Go's caches are in it by default
		if u, err := user.Current(); err == nil && u.HomeDir != "" {
			env = append(env, "HOME="+u.HomeDir)
		}
	}

	cmd, err := env.Command(ctx, c.root, "go", append(args, "./"+planner)...)
	if err != nil {
		return err
	}

	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}

	return fmt.Errorf("%s does not build: %w\n%s", r.Name, err, indent(string(out), 40))
}

// run runs a planner on the files at root.
func (c *Checkout) run(
	ctx context.Context, program, root string, r Revision,
) ([]plan.Document, []byte, error) {
	cmd := exec.CommandContext(ctx, program, root)
	// The environment has nothing of the caller's: neither its secrets nor its
	// settings can be in a plan.
	cmd.Dir, cmd.Stdin = root, bytes.NewReader(c.key)
	cmd.Env = []string{"HOME=" + c.scratch, "TMPDIR=" + c.scratch}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}

	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be planned: %w\n%s", r.Name, err,
			indent(stderr.String(), 40))
	}

	documents, err := plan.Decode(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.Name, err)
	}

	return documents, text, nil
}

// loadKey returns the key of the secrets' fingerprints: the one of the kept plans, which are
// compared with new ones, or a new one if nothing is kept.
func (c *Checkout) loadKey() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if c.cache == "" {
		return key, nil
	}

	if err := os.MkdirAll(filepath.Join(c.cache, "plans"), 0o700); err != nil {
		c.cache = "" // the home is not writable
		return key, nil
	}

	path := filepath.Join(c.cache, "key")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = f.Write(key)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
		return key, nil
	}

	kept, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if len(kept) != len(key) { // written in part; plans that were kept with it are of no use
		return nil, fmt.Errorf("cache: %s is broken: remove %s", path, c.cache)
	}

	return kept, nil
}

func (c *Checkout) planFile(r Revision) string {
	return filepath.Join(c.cache, "plans", r.Tree+".json")
}

// kept returns the plans of the revision that were kept.
func (c *Checkout) kept(r Revision) ([]plan.Document, bool) {
	if c.cache == "" {
		return nil, false
	}

	text, err := os.ReadFile(c.planFile(r))
	if err != nil {
		return nil, false
	}

	documents, err := plan.Decode(text)
	if err != nil || len(documents) == 0 {
		return nil, false
	}

	now := time.Now()
	_ = os.Chtimes(c.planFile(r), now, now) // it only decides which plans are removed first
	return documents, true
}

// keep keeps the plans for the next time. It is no error if it cannot: they are made again.
func (c *Checkout) keep(r Revision, text []byte) {
	if c.cache == "" || writeFile(c.planFile(r), text) != nil {
		return
	}

	files, err := os.ReadDir(filepath.Dir(c.planFile(r)))
	if err != nil || len(files) <= keptPlans {
		return
	}

	age := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}

	slices.SortFunc(files, func(a, b os.DirEntry) int { return age(b).Compare(age(a)) })
	for _, old := range files[keptPlans:] {
		_ = os.Remove(filepath.Join(c.cache, "plans", old.Name()))
	}
}

// writeFile writes the file as a whole or not at all.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}

	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}

	return err
}

// replace puts a copy of a program in the place of another, which may be running.
func replace(from, to string) error {
	next := fmt.Sprintf("%s.%d", to, os.Getpid())
	if err := copyFile(from, next); err != nil {
		return err
	}
	return os.Rename(next, to)
}

// indent returns the text's last n lines, indented.
func indent(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-n):], "\n  ")
}
