// Package images tests what goes into the services' images. The script in its folder makes local
// equivalents of the upstream images.
package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const root = "../.."

// services returns the names of the Go services: each has a link to their one Dockerfile.
func services(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(root, "services", "*.Dockerfile"))
	if err != nil || len(links) < 3 {
		t.Fatalf("links to services/Dockerfile: %q, %v", links, err)
	}

	var names []string
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "Dockerfile" {
			t.Errorf("%s leads to %q, want Dockerfile (%v)", link, to, err)
		}
		names = append(names, strings.TrimSuffix(filepath.Base(link), ".Dockerfile"))
	}

	return names
}

// TestContextHoldsWhatTheBinaryIsBuiltFrom compares the context with the sources. A file that
// NAME.Dockerfile.dockerignore leaves out breaks the build in Docker only; one too many makes a new
// image for a change that is not in it.
func TestContextHoldsWhatTheBinaryIsBuiltFrom(t *testing.T) {
	for _, service := range services(t) {
		t.Run(service, func(t *testing.T) {
			sources := sourcesOf(t, service)
			context := contextOf(t, service)
			for _, path := range append(sources, "go.mod", "go.sum") {
				if !slices.Contains(context, path) {
					t.Errorf("%s: the binary is built from it, "+
						"services/%s.Dockerfile.dockerignore leaves it out",
						path, service)
				}
			}

			for _, path := range context {
				// The link needs what it leads to.
				if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/testdata/") ||
					strings.HasSuffix(path, "Dockerfile") && path != "services/Dockerfile" {
					t.Errorf("%s: no part of the binary, but of the context", path)
				}

				for _, other := range services(t) {
					if other != service && strings.HasPrefix(path, "services/"+other+"/") {
						t.Errorf("%s: an edit of %s makes a new image of %s", path, other, service)
					}
				}
			}
		})
	}
}

// TestLiveReloadWatchesWhatTheBinaryIsBuiltFrom checks that air watches every embedded file: others
// would need a restart by hand.
func TestLiveReloadWatchesWhatTheBinaryIsBuiltFrom(t *testing.T) {
	for _, service := range services(t) {
		config, err := os.ReadFile(filepath.Join(root, "services", service, ".air.toml"))
		if err != nil {
			t.Fatal(err)
		}

		extensions, folders := listOf(t, config, "include_ext"), listOf(t, config, "include_dir")
		for _, path := range sourcesOf(t, service) {
			if extension := strings.TrimPrefix(filepath.Ext(path), "."); !slices.Contains(extensions, extension) {
				t.Errorf("%s: include_ext of services/%s/.air.toml lacks %q",
					path, service, extension)
			}

			if !slices.ContainsFunc(folders, func(folder string) bool {
				return strings.HasPrefix(path, folder+"/")
			}) {
				t.Errorf("%s: in none of include_dir of services/%s/.air.toml", path, service)
			}
		}
	}
}

// listOf returns the strings of a one-line TOML array.
func listOf(t *testing.T, config []byte, key string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + key + ` = (\[.*\])$`).FindSubmatch(config)
	if m == nil {
		t.Fatalf("no %s in the configuration", key)
	}

	var list []string
	if err := json.Unmarshal(m[1], &list); err != nil {
		t.Fatalf("%s: %v", key, err)
	}

	return list
}

// sourcesOf returns the files of this module that the service's binary is built from,
// relative to the root.
func sourcesOf(t *testing.T, service string) []string {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}

	command := exec.Command("go",
		"list", "-deps", "-json=Dir,GoFiles,EmbedFiles,Module", "./services/"+service)
	command.Dir = top
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}

	var files []string
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                 string
			GoFiles, EmbedFiles []string
			Module              *struct{ Main bool }
		}

		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}

		if p.Module == nil || !p.Module.Main {
			continue
		}

		folder, err := filepath.Rel(top, p.Dir)
		if err != nil {
			t.Fatal(err)
		}

		for _, file := range append(p.GoFiles, p.EmbedFiles...) {
			files = append(files, filepath.ToSlash(filepath.Join(folder, file)))
		}
	}

	if len(files) == 0 {
		t.Fatal("go list names no file of this module")
	}

	return files
}

// contextOf returns the files that the service's ignore file lets into the build,
// relative to the root.
func contextOf(t *testing.T, service string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "services", service+".Dockerfile.dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}

	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}

	var files []string
	err = fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		if entry.IsDir() {
			if path == ".git" || path == ".state" {
				return fs.SkipDir
			}
			return nil
		}

		ignored, err := matcher.MatchesOrParentMatches(path)
		if err == nil && !ignored {
			files = append(files, path)
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return files
}
