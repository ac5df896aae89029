package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"google.golang.org/protobuf/encoding/protowire"
)

// engine is the Docker engine that the docker command uses.
func engine(t *testing.T) *client.Client {
	t.Helper()
	host, err := exec.Command("docker", "context", "inspect", "-f", "{{.Endpoints.docker.Host}}").Output()
	if err != nil {
		t.Fatalf("docker context inspect: %v", err)
	}
	api, err := client.New(client.FromEnv, client.WithHost(strings.TrimSpace(string(host))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	return api
}

// buildImage builds an image in the engine with its BuildKit, as the docker provider does. It asks the engine itself:
// the docker command would need its buildx plugin.
func (c *checkout) buildImage(t *testing.T, api *client.Client, b stacks.Build, ref string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	buildContext, err := tarContext(c.dir, b)
	if err != nil {
		t.Fatalf("context of %s: %v", ref, err)
	}
	args := map[string]*string{}
	for k, v := range b.Args {
		args[k] = &v
	}
	start := time.Now()
	result, err := api.ImageBuild(ctx, buildContext, client.ImageBuildOptions{
		Version: build.BuilderBuildKit, Tags: []string{ref}, Dockerfile: dockerfileName, Target: b.Target, BuildArgs: args, Remove: true,
	})
	if err != nil {
		t.Fatalf("build of %s: %v", ref, err)
	}
	defer result.Body.Close()
	if log, err := buildLog(result.Body); err != nil {
		t.Fatalf("build of %s: %v\n%s", ref, err, tail(log, 60))
	}
	t.Logf("build of %s: %.1f s", ref, time.Since(start).Seconds())
}

// dockerfileName is where the Dockerfile lies in the tar: beside what is built from, so that it is part of no layer.
const dockerfileName = "Dockerfile"

// tarContext is the build's context: the files that <Dockerfile>.dockerignore lets in, and the Dockerfile.
func tarContext(root string, b stacks.Build) (io.Reader, error) {
	ignore, err := os.Open(filepath.Join(root, b.Dockerfile+".dockerignore"))
	if err != nil {
		return nil, err
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	// Owners and times are left out: they depend on the machine.
	add := func(name, file string, mode fs.FileMode) error {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode.Perm()), Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	if err := add(dockerfileName, filepath.Join(root, b.Dockerfile), 0o644); err != nil {
		return nil, err
	}
	base := filepath.Join(root, b.Context)
	err = filepath.WalkDir(base, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		ignored, err := matcher.MatchesOrParentMatches(name)
		if err != nil || ignored {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return add(path.Clean(filepath.ToSlash(name)), file, info.Mode())
	})
	return &out, errors.Join(err, w.Close())
}

// buildLog reads the engine's answer to its end: what the steps of the build said, and the error that it failed with.
func buildLog(body io.Reader) (string, error) {
	var log strings.Builder
	for messages := json.NewDecoder(body); ; {
		var m struct {
			ID    string          `json:"id"`
			Aux   json.RawMessage `json:"aux"`
			Error string          `json:"error"`
		}
		err := messages.Decode(&m)
		if errors.Is(err, io.EOF) {
			return log.String(), nil
		}
		if err != nil {
			return log.String(), fmt.Errorf("the engine's answer: %w", err)
		}
		if m.ID == "moby.buildkit.trace" {
			var status []byte
			if err := json.Unmarshal(m.Aux, &status); err != nil {
				return log.String(), fmt.Errorf("the engine's answer: %w", err)
			}
			// StatusResponse.logs = 3, VertexLog.msg = 4 in BuildKit's api/services/control/control.proto
			for _, entry := range fields(status, 3) {
				for _, text := range fields(entry, 4) {
					log.Write(text)
				}
			}
		}
		if m.Error != "" {
			return log.String(), errors.New(m.Error)
		}
	}
}

// fields returns the values of one field, of a type that has a length, of a Protocol Buffers message; what is not such a
// message has none.
func fields(message []byte, number protowire.Number) [][]byte {
	var out [][]byte
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return nil
		}
		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			out = append(out, value)
		}
		message = message[size:]
	}
	return out
}
