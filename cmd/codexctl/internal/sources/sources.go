// Package sources packs the files of a checkout, and the Go modules that its packages import, for a
// container that can neither mount the one nor download the others.
package sources

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Modules is the folder of an archive that has the modules, as a GOPROXY serves them.
const Modules = ".modules"

// Checkout is a checkout of the project.
type Checkout struct {
	// Root is the project's folder.
	Root string

	// Cache is the folder for modules, which can be made again.
	Cache string

	// Processor is that of the machine that the modules are for, such as amd64.
	Processor string

	// Environ is the environment of git and go.
	Environ environ.Vars
}

// Pack writes an archive of tar with the files that git tracks or does not ignore, and the modules
// that the packages and their tests import. Nothing is written if one of these cannot be had.
func (c Checkout) Pack(ctx context.Context, packages string, to io.Writer) error {
	files, err := c.files(ctx)
	if err != nil {
		return err
	}

	modules, err := c.modules(ctx, packages)
	if err != nil {
		return err
	}

	w := tar.NewWriter(to)
	for _, name := range files {
		err := add(w, filepath.Join(c.Root, filepath.FromSlash(name)), name)
		if err != nil && !missing(err) { // removed since
			return fmt.Errorf("sources: %w", err)
		}
	}

	err = filepath.WalkDir(modules, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		switch path.Ext(name) {
		case ".info", ".mod", ".zip":
		default:
			return nil // locks, and what go keeps for itself
		}

		inside, err := filepath.Rel(modules, name)
		if err != nil {
			return err
		}
		return add(w, name, path.Join(Modules, filepath.ToSlash(inside)))
	})
	if err != nil {
		return fmt.Errorf("sources: %w", err)
	}

	return w.Close()
}

// most bounds the size of the files, which share a pod's volume with the modules.
const most = 256 << 20

// Tracked returns the names of the files that git tracks and that are there.
func (c Checkout) Tracked(ctx context.Context) ([]string, error) {
	return c.list(ctx, func(string, os.FileInfo) {}, "--cached")
}

// Revision returns the commit that is checked out.
func (c Checkout) Revision(ctx context.Context) (string, error) {
	out, err := c.run(ctx, nil, "git", "rev-parse", "HEAD")
	return strings.TrimSpace(out), err
}

// Go runs go in the project's folder and returns its output.
func (c Checkout) Go(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, nil, "go", args...)
}

// files returns the names of the files that git tracks or does not ignore, and that are there.
func (c Checkout) files(ctx context.Context) ([]string, error) {
	var total, largest int64
	var name string // of the largest
	out, err := c.list(ctx, func(file string, info os.FileInfo) {
		if info.Mode().IsRegular() {
			total += info.Size()
			if info.Size() > largest {
				largest, name = info.Size(), file
			}
		}
	}, "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}

	if total > most {
		return nil, fmt.Errorf("sources: the files that git does not ignore are %s, and a cluster "+
			"is sent %s at most: the largest is %s with %s: name it in .gitignore, or keep it "+
			"outside the checkout", console.Size(total), console.Size(most), name,
			console.Size(largest))
	}

	return out, nil
}

// list returns the names of the files that git lists with the options, and that are there. It calls
// see with each.
func (c Checkout) list(
	ctx context.Context, see func(name string, info os.FileInfo), options ...string,
) ([]string, error) {
	listed, err := c.run(ctx, nil, "git", append([]string{"ls-files", "-z"}, options...)...)
	if err != nil {
		return nil, err
	}

	root, err := filepath.EvalSymlinks(c.Root)
	if err != nil {
		return nil, fmt.Errorf("sources: %w", err)
	}

	var out []string
	for file := range strings.SplitSeq(strings.TrimRight(listed, "\x00"), "\x00") {
		from := filepath.Join(root, filepath.FromSlash(file))
		info, err := os.Lstat(from)
		if missing(err) {
			continue // removed from the working tree
		}
		if err != nil {
			return nil, fmt.Errorf("sources: %w", err)
		}

		// A folder that git tracks and that is a link now may lead out of the checkout.
		dir := filepath.Dir(from)
		if real, err := filepath.EvalSymlinks(dir); err != nil || real != dir {
			continue
		}

		see(file, info)
		out = append(out, file)
	}

	return out, nil
}

// missing reports whether the error is that of a file that is not there, or whose folder is a file
// now.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// add adds a file with the time of its last change, by which go knows whether a file that a test
// has read is still the same.
func add(w *tar.Writer, from, name string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}

	h := &tar.Header{Name: name, ModTime: info.ModTime(), Mode: int64(info.Mode().Perm())}
	if info.Mode()&fs.ModeSymlink != 0 {
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(from); err != nil {
			return err
		}
		return w.WriteHeader(h)
	}
	if !info.Mode().IsRegular() {
		return nil // a submodule's folder
	}

	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()

	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(w, f, info.Size())
	return err
}

// modules returns a folder with the modules that the packages and their tests import, and no
// others, in the layout of a GOPROXY. It lets go choose them, which takes them from its own cache
// into an empty one.
func (c Checkout) modules(ctx context.Context, packages string) (string, error) {
	settings, err := c.run(ctx, nil, "go", "env", "GOMODCACHE", "GOPROXY", "GOFLAGS")
	if err != nil {
		return "", err
	}

	own := strings.Split(settings, "\n")
	sums, err := os.ReadFile(filepath.Join(c.Root, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("sources: %w", err)
	}

	hash := sha256.Sum256(sums)
	prefix := filepath.Join(c.Cache, strings.Trim(strings.ReplaceAll(packages, "/", "-"), "-."))
	cache := prefix + "@" + hex.EncodeToString(hash[:6])
	old, err := filepath.Glob(prefix + "@*")
	if err != nil {
		return "", fmt.Errorf("sources: %w", err)
	}
	for _, dir := range old {
		if dir != cache {
			os.RemoveAll(dir) // what is left is removed the next time
		}
	}

	_, err = c.run(ctx, []string{
		"GOMODCACHE=" + cache,
		"GOPROXY=file://" + path.Join(filepath.ToSlash(own[0]), "cache/download") + "," + own[1],
		"GOFLAGS=" + strings.TrimSpace(own[2]+" -mod=readonly -modcacherw"),
		"GOOS=linux", "GOARCH=" + c.Processor, "CGO_ENABLED=0",
	}, "go", "list", "-deps", "-test", packages)
	return filepath.Join(cache, "cache", "download"), err
}

// run runs a program in the project's folder and returns its output.
func (c Checkout) run(
	ctx context.Context, env []string, program string, args ...string,
) (string, error) {
	var stderr bytes.Buffer
	var out []byte
	cmd, err := append(slices.Clone(c.Environ), env...).Command(ctx, c.Root, program, args...)
	if err == nil {
		cmd.Stderr = &stderr
		out, err = cmd.Output()
	}

	switch {
	case err == nil:
		return string(out), nil
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("sources: %s is not on PATH: it says which files and modules are "+
			"needed", program)
	case stderr.Len() > 0:
		return "", fmt.Errorf("sources: %s %s: %s", program, args[0],
			strings.TrimSpace(stderr.String()))
	}
	return "", fmt.Errorf("sources: %s %s: %w", program, args[0], err)
}
