// Package pulumicli finds the Pulumi CLI or builds it, and runs it for the Automation API.
package pulumicli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

const (
	// Version is the version that is built if no CLI is found; tools/pulumi pins its module.
	Version = "3.255.0"

	// Minimum is the oldest version that fits: the first whose backends on disk and in buckets keep
	// tags of a stack, by which the history knows what came of an update.
	Minimum = "3.211.0"

	// DockerProvider is the version of the docker provider, which go.mod pins.
	DockerProvider = "4.10.0"

	// KubernetesProvider is that of the Kubernetes provider.
	KubernetesProvider = "4.30.0"

	// Go is the oldest version of Go that builds the project, the go directive of go.mod.
	Go = "1.26"
)

// modulePackage is the package that tools/pulumi builds.
const modulePackage = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"

// versionVariable is set at link time: the Automation API refuses a CLI without a version.
const versionVariable = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"

// Finder finds or builds the CLI.
type Finder struct {
	// Root is the project's folder, which holds tools/pulumi.
	Root string

	// CacheDir is the user's cache folder.
	CacheDir string
	Environ  environ.Vars

	// Say is called with each line about progress.
	Say func(format string, args ...any)
}

// Found is the CLI that is installed or was built before.
type Found struct {
	// Path is empty if there is none of a suitable version.
	Path    string
	Version semver.Version

	// Why tells why the one on PATH is not used, if there is one.
	Why string

	// Built is the path of the pinned one, whether or not it has been built.
	Built string
}

// Built returns the path of the pinned one, whether or not it has been built.
func (f Finder) Built() string {
	return filepath.Join(f.CacheDir, "codexcontinue", "pulumi-v"+Version, "bin", "pulumi")
}

// Look finds a CLI without building one: that on PATH, else the pinned one if it was built before.
func (f Finder) Look(ctx context.Context) Found {
	found := Found{
		Built: f.Built(),
		Why:   "there is none on PATH",
	}

	if path, err := f.Environ.LookPath("pulumi"); err == nil {
		v, err := askVersion(ctx, path, f.Environ)
		if err == nil {
			err = fits(v)
		}

		if err == nil {
			found.Path, found.Version = path, v
			return found
		}

		found.Why = "the one on PATH does not fit: " + err.Error()
	}

	if _, err := os.Stat(found.Built); err == nil {
		if v, err := askVersion(ctx, found.Built, f.Environ); err == nil {
			found.Path, found.Version = found.Built, v
		}
	}

	return found
}

// Get finds the CLI, or builds the pinned one.
func (f Finder) Get(ctx context.Context) (*Command, error) {
	found := f.Look(ctx)
	if found.Path == "" {
		f.Say("pulumi: %s: building v%s once (some minutes)", found.Why, Version)
		if err := f.build(ctx, found.Built); err != nil {
			return nil, err
		}

		v, err := askVersion(ctx, found.Built, f.Environ)
		if err != nil {
			return nil, fmt.Errorf("pulumi: %w", err)
		}

		found.Path, found.Version = found.Built, v
	}

	return &Command{Path: found.Path, version: found.Version, environ: f.Environ, say: f.Say}, nil
}

// fits returns an error if a CLI of that version cannot run the program.
func fits(v semver.Version) error {
	minimum := semver.MustParse(Minimum)
	if v.Major != minimum.Major {
		return fmt.Errorf("version %s is of another major than v%d", v, minimum.Major)
	}
	if v.LT(minimum) {
		return fmt.Errorf("version %s is older than %s", v, Minimum)
	}

	return nil
}

// build compiles the pinned CLI. It writes it beside its final place and renames it, so that an
// interrupted build leaves nothing that looks complete.
func (f Finder) build(ctx context.Context, target string) error {
	goTool, err := f.Environ.LookPath("go")
	if err != nil {
		return errors.New("pulumi: it is not installed and cannot be built without Go: install " +
			"Go " + Go + " or newer (https://go.dev/dl), or Pulumi (https://www.pulumi.com/docs/install)")
	}

	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("pulumi: %w", err)
	}

	part := target + ".part"
	defer os.Remove(part)
	cmd := exec.CommandContext(ctx, goTool, "build", "-v", "-mod=readonly", "-trimpath",
		"-buildvcs=false", "-o", part,
		"-ldflags", "-s -w -X "+versionVariable+"=v"+Version, modulePackage)
	cmd.Dir = filepath.Join(f.Root, "tools", "pulumi")
	cmd.Env = append(slices.Clone(f.Environ), "CGO_ENABLED=0", "GOWORK=off")
	out, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("pulumi: %w", err)
	}

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pulumi: go build: %w", err)
	}

	last := f.watch(out, start)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("pulumi: go build in %s: %w\n%s", cmd.Dir, err, strings.Join(last, "\n"))
	}

	if err := os.Rename(part, target); err != nil {
		return fmt.Errorf("pulumi: %w", err)
	}

	f.Say("pulumi: built v%s in %s: %s", Version, time.Since(start).Round(time.Second), target)
	return nil
}

// watch prints the progress of the build every 15 seconds, and returns its last lines.
func (f Finder) watch(out io.Reader, start time.Time) []string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()

	var last []string
	packages := 0
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return last
			}
			packages++
			if last = append(last, "  "+l); len(last) > 15 {
				last = last[1:]
			}
		case <-tick.C:
			f.Say("pulumi: building, %d packages compiled, %s", packages,
				time.Since(start).Round(time.Second))
		}
	}
}
