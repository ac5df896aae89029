package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// fake is an engine with containers whose logs the test writes.
type fake struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
}

type fakeContainer struct {
	service string
	log     chan string // lines; closed when the container ends
	lines   []string    // the log of a request that does not follow
	opened  chan struct{}
}

func (f *fake) add(id, service string) *fakeContainer {
	c := &fakeContainer{service: service, log: make(chan string), opened: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = c
	return c
}

func (f *fake) get(id string) *fakeContainer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.containers[id]
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
	case path == "containers/json":
		f.mu.Lock()
		defer f.mu.Unlock()
		list := []map[string]any{}
		for id, c := range f.containers {
			if strings.Contains(r.URL.Query().Get("filters"), stacks.LabelService+"="+c.service) {
				list = append(list, map[string]any{"Id": id})
			}
		}

		json.NewEncoder(w).Encode(list)
	case strings.HasSuffix(path, "/logs"):
		f.logs(w, r, f.get(strings.Split(path, "/")[1]))
	case strings.HasPrefix(path, "containers/"):
		id := strings.Split(path, "/")[1]
		c := f.get(id)
		if c == nil {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"no such container"}`)
			return
		}

		json.NewEncoder(w).Encode(map[string]any{
			"Id":      id,
			"Name":    "/codexcontinue-dev-" + c.service + "-" + id,
			"Created": "2026-01-01T00:00:0" + id[len(id)-1:] + "Z",
			"State":   map[string]any{"Status": "running"},
			"Config":  map[string]any{"Labels": map[string]string{stacks.LabelService: c.service}},
			"HostConfig": map[string]any{
				"CpuPeriod":    100000,
				"CpuQuota":     150000,
				"Memory":       1 << 29,
				"PortBindings": bindings(id),
			},
		})
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

// bindings are the published ports of a container: of tls1 those of an edge that ends TLS.
func bindings(id string) map[string]any {
	at := func(port string) []any {
		return []any{map[string]string{"HostIp": "127.0.0.1", "HostPort": port}}
	}
	if id == "tls1" {
		return map[string]any{"8080/tcp": at("80"), "8443/tcp": at("443"), "8443/udp": at("443")}
	}
	return map[string]any{"8080/tcp": at("18080")}
}

func (f *fake) logs(w http.ResponseWriter, r *http.Request, c *fakeContainer) {
	frame := func(text string) {
		head := make([]byte, 8)
		head[0] = 1
		binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
		w.Write(append(head, text...))
		w.(http.Flusher).Flush()
	}

	for _, l := range c.lines {
		frame(l + "\n")
	}

	if r.URL.Query().Get("follow") == "" {
		return
	}

	close(c.opened)
	for {
		select {
		case l, ok := <-c.log:
			if !ok {
				return
			}
			// A line may come in pieces.
			frame(l[:len(l)/2])
			frame(l[len(l)/2:] + "\n")
		case <-r.Context().Done():
			return
		}
	}
}

func start(t *testing.T) (*fake, *Engine) {
	t.Helper()
	f := &fake{containers: map[string]*fakeContainer{}}
	return f, connect(t, f)
}

// connect returns a connection to an engine that the handler is.
func connect(t *testing.T, f http.Handler) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // the path of a socket is limited to about 100 bytes
	if err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}

	server := &http.Server{Handler: f}
	go server.Serve(l)
	t.Cleanup(func() {
		server.Close()
		os.RemoveAll(dir)
	})

	e, err := Connect(t.Context(), Host{
		URL:    "unix://" + filepath.Join(dir, "s"),
		Source: "the test",
	}, "dev")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { e.Close() })
	return e
}

func TestInspect(t *testing.T) {
	f, e := start(t)
	f.add("a1", "edge")
	f.add("b2", "ml")
	list, err := e.Containers(t.Context(), "edge")
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}

	c := list[0]
	if c.Name != "codexcontinue-dev-edge-a1" || c.CPU != 1500 || c.Memory != 512*stacks.MiB ||
		!c.Healthy {
		t.Errorf("got %+v", c)
	}

	if len(c.Ports) != 1 || c.Ports[0].URL() != "http://127.0.0.1:18080" {
		t.Errorf("ports %+v", c.Ports)
	}
}

func TestLogsOfReplicas(t *testing.T) {
	f, e := start(t)
	f.add("a1", "backend").lines = []string{"one", "two"}
	f.add("b2", "backend").lines = []string{"three"}
	f.add("c3", "ml").lines = []string{"of another service"}
	var got []string
	err := e.Logs(t.Context(), "backend", running.LogOptions{Tail: -1},
		func(c running.Replica, text string) {
			got = append(got, c.ID+" "+text)
		})
	if err != nil || !slices.Equal(got, []string{"a1 one", "a1 two", "b2 three"}) {
		t.Errorf("got %q, %v", got, err)
	}

	last, err := e.LastLines(t.Context(), running.Replica{ID: "a1"}, 20)
	if err != nil || !slices.Equal(last, []string{"one", "two"}) {
		t.Errorf("last lines %q, %v", last, err)
	}
}

// TestFollowOverReplacement follows a service while its container is replaced,
// as in a rolling update.
func TestFollowOverReplacement(t *testing.T) {
	f, e := start(t)
	old := f.add("a1", "backend")
	ctx, cancel := context.WithCancel(t.Context())
	lines, done := make(chan string), make(chan error, 1)
	go func() {
		done <- e.Logs(ctx, "backend", running.LogOptions{Tail: -1, Follow: true},
			func(c running.Replica, text string) {
				lines <- c.ID + " " + text
			})
	}()

	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case err := <-done:
			t.Fatalf("ended with %v instead of %q", err, want)
		}
	}

	<-old.opened
	old.log <- "before"
	expect("a1 before")
	fresh := f.add("b2", "backend")
	<-fresh.opened
	fresh.log <- "the new one"
	expect("b2 the new one")
	close(old.log)
	fresh.log <- "goes on"
	expect("b2 goes on")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestEdgePorts holds that the edge's address is the one where it ends TLS.
func TestEdgePorts(t *testing.T) {
	f, e := start(t)
	f.add("tls1", stacks.Edge)
	c, err := e.Inspect(t.Context(), "tls1")
	if err != nil {
		t.Fatal(err)
	}

	var got []string
	for _, p := range c.Ports {
		got = append(got, p.URL())
	}
	if want := []string{"https://127.0.0.1", "http://127.0.0.1:80"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTakenUDPPort holds that a port of UDP is another than that of TCP with its number.
func TestTakenUDPPort(t *testing.T) {
	// Not one that the kernel also gives to connections of TCP.
	c, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", peers.FreePort(t, "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	port := c.LocalAddr().(*net.UDPAddr).Port
	if got := takenPort(nil, "dev", "tcp", "127.0.0.1", port, true); got != nil {
		t.Errorf("the port of TCP is taken: %v", got)
	}

	got := takenPort(nil, "dev", "udp", "127.0.0.1", port, true)
	if want := fmt.Sprintf("127.0.0.1:%d (UDP) is taken by process %d", port, os.Getpid()); got == nil ||
		!strings.Contains(got.Error(), want) {
		t.Errorf("got %v, want it to hold %s", got, want)
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	port := l.Addr().(*net.TCPAddr).Port
	local := netip.MustParseAddr("127.0.0.1")
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, uint16(port)) }
	for name, c := range map[string]struct {
		publishers map[netip.AddrPort]holder
		local      bool
		by         string // empty: free
	}{
		"process of this machine": {nil, true, "process"},
		"engine elsewhere":        {nil, false, ""},
		"own container":           {map[netip.AddrPort]holder{at(local): {Name: "x", Stack: "dev"}}, true, ""},
		"another stack": {map[netip.AddrPort]holder{at(local): {Name: "x", Stack: "prod"}},
			true, "stack prod"},
		"another container": {map[netip.AddrPort]holder{at(netip.IPv4Unspecified()): {Name: "nginx"}},
			false, "container nginx"},
		"another address": {map[netip.AddrPort]holder{at(netip.MustParseAddr("10.0.0.1")): {Name: "nginx"}}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := takenPort(c.publishers, "dev", "tcp", "127.0.0.1", port, c.local)
			if (got == nil) != (c.by == "") ||
				got != nil && !strings.Contains(got.By+"process", c.by) {
				t.Errorf("got %+v, want %q", got, c.by)
			}
		})
	}
}

func TestResolveHost(t *testing.T) {
	home := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(home, ".docker", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	write("config.json", `{"currentContext":"colima"}`)
	// sha256 of "colima", as the docker command names the folder.
	write("contexts/meta/f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16/meta.json",
		`{"Name":"colima","Endpoints":{"docker":{"Host":"unix:///colima.sock"}}}`)
	for name, c := range map[string]struct {
		configured string
		env        map[string]string
		url, err   string
		export     bool
	}{
		"config wins": {"tcp://a:1",
			map[string]string{"DOCKER_HOST": "tcp://b:1", "HOME": home}, "tcp://a:1", "", false},
		"DOCKER_HOST":     {"", map[string]string{"DOCKER_HOST": "tcp://b:1", "HOME": home}, "tcp://b:1", "", false},
		"chosen context":  {"", map[string]string{"HOME": home}, "unix:///colima.sock", "", true},
		"default context": {"", map[string]string{"HOME": home, "DOCKER_CONTEXT": "default"}, defaultHost, "", false},
		"missing context": {"", map[string]string{"HOME": home, "DOCKER_CONTEXT": "x"}, "",
			`there is no docker context "x"`, false},
		"nothing is chosen": {"", map[string]string{}, defaultHost, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := ResolveHost(c.configured, func(k string) string { return c.env[k] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}

			if err != nil || h.URL != c.url || h.Export != c.export {
				t.Errorf("got %+v, %v, want %s, export %v", h, err, c.url, c.export)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	_, err := Connect(t.Context(),
		Host{URL: "unix:///nonexistent.sock", Source: "DOCKER_HOST"}, "dev")
	if err == nil || !strings.Contains(err.Error(), "is not running: start it, or correct DOCKER_HOST") {
		t.Errorf("got %v", err)
	}

	_, err = Connect(t.Context(), Host{URL: "ssh://host", Source: "DOCKER_HOST"}, "dev")
	if err == nil || !strings.Contains(err.Error(), "forward its socket") {
		t.Errorf("got %v", err)
	}
}

func TestCondition(t *testing.T) {
	health := func(status container.HealthStatus, output string) *container.Health {
		return &container.Health{
			Status: status,
			Log:    []*container.HealthcheckResult{{Output: output}},
		}
	}

	for want, c := range map[string]struct {
		state    container.State
		restarts int
	}{
		"running, healthy": {container.State{Status: "running", Health: health("healthy", "")}, 0},
		"killed: it used more than its 512Mi of memory": {
			container.State{Status: "exited", ExitCode: 137, OOMKilled: true}, 0},
		"exited with code 2": {container.State{Status: "exited", ExitCode: 2}, 0},
		"restarting again and again, last exit code 1": {
			container.State{Status: "restarting", ExitCode: 1}, 5},
		"running, unhealthy; its health check says: HTTP 503": {
			container.State{Status: "running", Health: health("unhealthy", "x\nHTTP 503")}, 0},
		"created: no such runtime": {container.State{Status: "created", Error: "no such runtime"}, 0},
	} {
		r := Container{Replica: running.Replica{Restarts: c.restarts, Memory: 512 << 20}}
		if r.setState(c.state); r.Condition != want {
			t.Errorf("got %q, want %q", r.Condition, want)
		}
	}
}
