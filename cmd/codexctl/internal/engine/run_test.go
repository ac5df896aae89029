package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/pkg/stdcopy"
)

// runner is an engine that runs one command, which writes a line to each stream.
type runner struct {
	mu sync.Mutex

	// made are the bodies of what was created, by path, and removed the containers.
	made    map[string]string
	removed []string

	started, ended chan struct{}

	// creating is called while the container is made.
	creating func()
}

func (f *runner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}

	f.mu.Lock()
	f.made[path] = string(body)
	if r.Method == http.MethodDelete {
		f.removed = append(f.removed, path)
	}

	f.mu.Unlock()
	switch {
	case r.Method == http.MethodDelete, strings.HasSuffix(r.URL.Path, "/_ping"):
	case path == "volumes/create", strings.HasSuffix(path, "/connect"):
		fmt.Fprint(w, `{}`)
	case path == "containers/create":
		if f.creating != nil {
			f.creating()
		}

		select {
		case <-r.Context().Done(): // the client did not wait
		case <-time.After(50 * time.Millisecond):
			fmt.Fprint(w, `{"Id":"c1"}`)
		}
	case path == "containers/c1/attach":
		f.attach(w)
	case path == "containers/c1/wait":
		w.(http.Flusher).Flush()
		select {
		case <-f.ended:
			fmt.Fprint(w, `{"StatusCode":3}`)
		case <-r.Context().Done():
		}
	case path == "containers/c1/start":
		close(f.started)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

// attach writes what the command does, from its start to its end.
func (f *runner) attach(w http.ResponseWriter) {
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}

	fmt.Fprint(buffered, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	buffered.Flush()
	go func() {
		defer conn.Close()
		<-f.started
		for stream, text := range map[stdcopy.StdType]string{
			stdcopy.Stdout: "ok\n", stdcopy.Stderr: "warning\n",
		} {
			writeFrame(conn, stream, text)
		}

		<-f.ended
	}()
}

// command is what the tests run.
func command(stdout, stderr io.Writer) Command {
	return Command{
		Args: []string{"go", "test"},
		Name: "codexcontinue-dev-test-backend",
		Root: "/checkout",
		Service: types.ServiceConfig{
			ContainerSpec: types.ContainerSpec{
				Image:    "backend-dev:1",
				User:     "1000:1000",
				ReadOnly: true,
				CapDrop:  []string{"ALL"},
				MemLimit: 1 << 30,
				Tmpfs:    types.StringList{"/tmp:rw,size=1"},
				Logging:  &types.LoggingConfig{Driver: "json-file"},
				Environment: types.MappingWithEquals{
					"REDIS_URL": new("redis://redis"),
				},
				Volumes: []types.ServiceVolumeConfig{
					{Type: types.VolumeTypeBind, Source: "./.", Target: "/src", ReadOnly: true},
					{Type: types.VolumeTypeVolume, Source: "go-cache", Target: "/cache"},
				},
			},
		},
		Volumes: types.Volumes{"go-cache": types.VolumeConfig{
			Name:   "codexcontinue-go-cache-dev",
			Labels: types.Labels{"of": "the cache"},
		}},
		Labels: map[string]string{"of": "dev"},
		Stdout: stdout,
		Stderr: stderr,
	}
}

func startRunner(t *testing.T) (*runner, *Engine) {
	f := &runner{
		made:    map[string]string{},
		started: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	return f, connect(t, f)
}

func TestRun(t *testing.T) {
	f, e := startRunner(t)
	close(f.ended)
	var stdout, stderr strings.Builder
	code, err := e.Run(t.Context(), command(&stdout, &stderr))
	if err != nil || code != 3 || stdout.String() != "ok\n" || stderr.String() != "warning\n" {
		t.Errorf("got %d, %v, %q and %q", code, err, stdout.String(), stderr.String())
	}

	var made struct {
		Image, User     string
		Entrypoint, Cmd []string
		Env             []string
		Labels          map[string]string
		HostConfig      struct {
			AutoRemove, ReadonlyRootfs bool
			CapDrop                    []string
			Memory                     int64
			Tmpfs                      map[string]string
			Mounts                     []struct {
				Type, Source, Target string
				ReadOnly             bool
			}
		}
	}

	if err := json.Unmarshal([]byte(f.made["containers/create"]), &made); err != nil {
		t.Fatal(err)
	}

	h := made.HostConfig
	if made.Image != "backend-dev:1" || made.User != "1000:1000" || made.Labels["of"] != "dev" ||
		!slices.Equal(slices.Concat(made.Entrypoint, made.Cmd), []string{"go", "test"}) {
		t.Errorf("made %+v", made)
	}

	if len(made.Env) > 0 {
		t.Errorf("it is given the service's environment: %q", made.Env)
	}

	if !h.AutoRemove || !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) ||
		h.Memory != 1<<30 || h.Tmpfs["/tmp"] != "rw,size=1" {
		t.Errorf("host config %+v", h)
	}

	if len(h.Mounts) != 2 || h.Mounts[0].Source != "/checkout" || !h.Mounts[0].ReadOnly ||
		h.Mounts[1].Source != "codexcontinue-go-cache-dev" {
		t.Errorf("mounts %+v", h.Mounts)
	}

	var volume struct {
		Name   string
		Labels map[string]string
	}

	if err := json.Unmarshal([]byte(f.made["volumes/create"]), &volume); err != nil ||
		volume.Name != "codexcontinue-go-cache-dev" || volume.Labels["of"] != "the cache" {
		t.Errorf("the volume is made as %+v, %v", volume, err)
	}
}

// TestRunInterrupted ends the context while the command runs.
func TestRunInterrupted(t *testing.T) {
	f, e := startRunner(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.started
		cancel()
	}()

	_, err := e.Run(ctx, command(io.Discard, io.Discard))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(f.removed, []string{"containers/c1"}) {
		t.Errorf("removed %q", f.removed)
	}
}

// TestRunInterruptedEarly ends the context while the container is made.
func TestRunInterruptedEarly(t *testing.T) {
	f, e := startRunner(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.creating = cancel
	_, err := e.Run(ctx, command(io.Discard, io.Discard))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(f.removed, []string{"containers/c1"}) {
		t.Errorf("removed %q", f.removed)
	}
}
