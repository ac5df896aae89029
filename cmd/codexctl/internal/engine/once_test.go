package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// backend1 is what the engine says of a container of the backend.
const backend1 = `{
	"Id": "b1", "Name": "/codexcontinue-prod-backend-1", "Image": "sha256:abc",
	"Config": {
		"Image": "codexcontinue/backend:1", "User": "65532:65532", "Env": ["PORT=8000"],
		"Labels": {"dev.codexcontinue.service": "backend", "com.docker.compose.service": "backend"},
		"Healthcheck": {"Test": ["CMD", "/backend", "healthcheck"]}
	},
	"HostConfig": {
		"NetworkMode": "bridge", "ReadonlyRootfs": true, "CapDrop": ["ALL"], "PidsLimit": 256,
		"SecurityOpt": ["no-new-privileges:true"], "Memory": 1073741824, "CpuQuota": 100000,
		"RestartPolicy": {"Name": "unless-stopped"}, "Tmpfs": {"/tmp": "rw"},
		"PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
		"VolumesFrom": ["f1:ro"], "Dns": ["127.0.0.1"],
		"LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
	},
	"Mounts": [
		{"Type": "volume", "Name": "files", "Destination": "/etc/app", "RW": false},
		{"Type": "volume", "Name": "secrets", "Destination": "/run/secrets", "RW": false},
		{"Type": "volume", "Name": "data", "Destination": "/data", "RW": true},
		{"Type": "volume", "Name": "cache", "Destination": "/cache", "RW": true},
		{"Type": "bind", "Source": "/checkout", "Destination": "/src", "RW": true}
	],
	"NetworkSettings": {"Networks": {
		"in": {"NetworkID": "n1", "Aliases": ["backend"], "IPAddress": "10.0.0.2"},
		"out": {"NetworkID": "n2", "Aliases": ["backend"], "IPAddress": "10.0.1.2"}
	}}
}`

// likeRunner is a runner that also has a container to be like.
func likeRunner(t *testing.T) (*runner, *Engine) {
	f := &runner{
		made:    map[string]string{},
		started: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	return f, connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/containers/b1/json") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, backend1)
			return
		}
		f.ServeHTTP(w, r)
	}))
}

var backendReplica = running.Replica{ID: "b1", Name: "codexcontinue-prod-backend-1", Service: "backend"}

func onceLike() running.Once {
	return running.Once{
		Args: []string{"/backend", "version"}, SecretDirs: []string{"/run/secrets"},
		Writable: []string{"/cache"}, Limit: time.Minute,
	}
}

// TestRunOnce checks what the container of a command has of its service's, and what it has not.
func TestRunOnce(t *testing.T) {
	for _, secrets := range []bool{false, true} {
		t.Run(fmt.Sprint("secrets ", secrets), func(t *testing.T) {
			f, e := likeRunner(t)
			close(f.ended)
			once := onceLike()
			once.Secrets = secrets
			var out, errs strings.Builder
			code, err := e.RunOnce(t.Context(), backendReplica, once,
				running.Streams{Out: &out, Err: &errs})
			if err != nil || code != 3 || out.String() != "ok\n" || errs.String() != "warning\n" {
				t.Errorf("got %d, %v, %q and %q", code, err, out.String(), errs.String())
			}

			checkOnce(t, f, e, secrets)
		})
	}
}

func checkOnce(t *testing.T, f *runner, e *Engine, secrets bool) {
	t.Helper()
	var made struct {
		Image, User      string
		Entrypoint, Cmd  []string
		Env              []string
		Labels           map[string]string
		Healthcheck      struct{ Test []string }
		OpenStdin        bool
		NetworkingConfig struct {
			EndpointsConfig map[string]struct{ Aliases []string }
		}
		HostConfig struct {
			NetworkMode                string
			AutoRemove, ReadonlyRootfs bool
			CapDrop, SecurityOpt, DNS  []string
			VolumesFrom                []string
			Memory, CPUQuota           int64
			PidsLimit                  int64
			RestartPolicy              struct{ Name string }
			PortBindings               map[string]any
			Tmpfs                      map[string]string
			LogConfig                  struct {
				Type   string
				Config map[string]string
			}
			Mounts []struct {
				Type, Source, Target string
				ReadOnly             bool
			}
		}
	}
	if err := json.Unmarshal([]byte(f.made["containers/create"]), &made); err != nil {
		t.Fatal(err)
	}

	if made.Image != "sha256:abc" || made.User != "65532:65532" ||
		!slices.Equal(made.Env, []string{"PORT=8000"}) || made.OpenStdin ||
		!slices.Equal(slices.Concat(made.Entrypoint, made.Cmd), []string{"/backend", "version"}) ||
		!slices.Equal(made.Healthcheck.Test, []string{"NONE"}) {
		t.Errorf("made %+v", made)
	}

	until, err := strconv.ParseInt(made.Labels[running.LabelUntil], 10, 64)
	if left := time.Until(time.Unix(until, 0)); err != nil || left < 0 || left > time.Minute {
		t.Errorf("it may be removed in %s, %v", left, err)
	}
	delete(made.Labels, running.LabelUntil)
	if want := map[string]string{
		stacks.LabelProject: stacks.Project, stacks.LabelStack: e.Stack, running.LabelOnce: "backend",
	}; fmt.Sprint(made.Labels) != fmt.Sprint(want) {
		t.Errorf("labels %v, want %v", made.Labels, want)
	}

	h := made.HostConfig
	if !h.AutoRemove || !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) ||
		!slices.Equal(h.SecurityOpt, []string{"no-new-privileges:true"}) || h.PidsLimit != 256 ||
		h.Memory != 1<<30 || h.CPUQuota != 100000 || h.Tmpfs["/tmp"] != "rw" ||
		!slices.Equal(h.DNS, []string{"127.0.0.1"}) {
		t.Errorf("bounds %+v", h)
	}
	if len(h.PortBindings)+len(h.VolumesFrom) > 0 || h.RestartPolicy.Name != "" {
		t.Errorf("it is made a service: %+v", h)
	}

	if h.LogConfig.Type != "none" || len(h.LogConfig.Config) > 0 {
		t.Errorf("what it writes is kept on the host: %+v", h.LogConfig)
	}

	var mounts []string
	for _, m := range h.Mounts {
		mounts = append(mounts, fmt.Sprint(m.Source, " ", m.Target, " ", m.ReadOnly))
	}
	want := []string{"files /etc/app true", "data /data true", "cache /cache false",
		"/checkout /src true"}
	if secrets {
		want = slices.Insert(want, 1, "secrets /run/secrets true")
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("mounts %q, want %q", mounts, want)
	}

	var second struct {
		EndpointConfig struct{ Aliases []string }
	}
	err = json.Unmarshal([]byte(f.made["networks/out/connect"]), &second)
	first, ok := made.NetworkingConfig.EndpointsConfig["in"]
	if err != nil || !ok || h.NetworkMode != "in" || len(made.NetworkingConfig.EndpointsConfig) != 1 {
		t.Errorf("networks %s, %+v; then %+v, %v", h.NetworkMode, made.NetworkingConfig, second, err)
	}
	if len(first.Aliases)+len(second.EndpointConfig.Aliases) > 0 {
		t.Errorf("the service's name leads to it: %v, %v", first, second)
	}
	if !slices.Equal(f.removed, []string{"containers/c1"}) {
		t.Errorf("removed %q", f.removed)
	}
}

// TestRunOnceEnds: the container is removed at an interrupt and when its time is over.
func TestRunOnceEnds(t *testing.T) {
	// The time has to be enough to make the container, also on a busy machine.
	for name, limit := range map[string]time.Duration{"interrupt": time.Hour, "limit": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			f, e := likeRunner(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if name == "interrupt" {
				go func() {
					<-f.started
					cancel()
				}()
			}

			once := onceLike()
			once.Limit = limit
			_, err := e.RunOnce(ctx, backendReplica, once,
				running.Streams{Out: io.Discard, Err: io.Discard})
			if name == "interrupt" && !errors.Is(err, context.Canceled) ||
				name == "limit" && (err == nil || !strings.Contains(err.Error(), "longer than 5s")) {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(f.removed, []string{"containers/c1"}) {
				t.Errorf("removed %q", f.removed)
			}
		})
	}
}

// TestOneOffs lists what runs once.
func TestOneOffs(t *testing.T) {
	e := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if !strings.HasSuffix(r.URL.Path, "/containers/json") {
			return
		}
		if !strings.Contains(r.URL.Query().Get("filters"), running.LabelOnce) {
			t.Errorf("all containers are asked for: %s", r.URL.RawQuery)
		}
		fmt.Fprintf(w, `[
			{"Id": "2", "Names": ["/run-2"], "Created": 200, "Labels": {%[1]q: "redis", %[2]q: "2000", %[3]q: ""}},
			{"Id": "1", "Names": ["/run-1"], "Created": 100, "Labels": {%[1]q: "gate", %[2]q: "1900"}},
			{"Id": "3", "Names": ["/other"], "Created": 100, "Labels": {%[1]q: "gate"}}]`,
			running.LabelOnce, running.LabelUntil, running.LabelLocked)
	}))
	list, err := e.OneOffs(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "run-1" || list[0].Service != "gate" ||
		list[1].Until.Unix() != 2000 || list[1].StartedAt.Unix() != 200 || list[0].Locked ||
		!list[1].Locked {
		t.Errorf("got %+v, %v", list, err)
	}
}
