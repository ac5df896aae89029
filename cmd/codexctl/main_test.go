package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"gopkg.in/yaml.v3"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var update = flag.Bool("update", false, "rewrite the golden output in the scripts")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"codexctl": main,
	})
}

// TestHangup: the end of a terminal is an interrupt, after which what is half-made is removed, unless
// nohup has it ignored.
func TestHangup(t *testing.T) {
	for _, ignored := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0") // an engine that never answers
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()

		shell := `exec codexctl unlock dev`
		if ignored {
			shell = `trap "" HUP; ` + shell
		}
		cmd := exec.Command("sh", "-c", shell)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+l.Addr().String())
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill() // if it is still there

		if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		asked, err := l.Accept()
		if err != nil {
			t.Fatalf("it asks no engine: %v, %s", err, said.String())
		}
		defer asked.Close()

		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if interrupted := cmd.ProcessState.ExitCode() == 130; interrupted == ignored ||
			cmd.ProcessState.ExitCode() < 0 {
			t.Errorf("ignored %t: it ends with %s: %s", ignored, cmd.ProcessState, said.String())
		}
	}
}

// TestScripts runs the real command in a project with the repository's own
// settings files and domain.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// runScripts runs the scripts in the folder.
func runScripts(t *testing.T, dir string) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			names := []string{
				"Pulumi.yaml", "Pulumi.dev.yaml", "Pulumi.prod.yaml",
				"modelfiles/codexcontinue/Modelfile", "modelfiles/codexcontinue/domain.yaml",
				"tools/lint/go.mod", "tools/lint/go.sum",
			}

			for _, pattern := range []string{"services/*Dockerfile*", "services/*/Dockerfile*"} {
				found, err := fs.Glob(os.DirFS(root), pattern)
				if err != nil {
					return err
				}
				names = append(names, found...)
			}

			for _, name := range names {
				b, err := os.ReadFile(filepath.Join(root, name))
				if err != nil {
					return err
				}

				to := filepath.Join(e.WorkDir, "project", name)
				if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(to, b, 0o644); err != nil {
					return err
				}
			}

			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", home)
			e.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
			// ONLY is the folder of codexctl, without anything else of this machine.
			e.Setenv("ONLY", filepath.SplitList(e.Getenv("PATH"))[0])
			e.Setenv("PROJECT", filepath.Join(e.WorkDir, "project"))
			return os.MkdirAll(home, 0o755)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fake-engine":  fakeEngine,
			"fake-cluster": fakeCluster,
			"take-port":    takePort,
			"config":       setConfig,
			"exits":        exits,
			"hostname":     hostname,
			"release":      release,
		},
	})
}

// fakeEngine starts an engine without containers on a socket and points DOCKER_HOST at it. It has
// the images that the file $WORK/images lists:
//
//	fake-engine [VERSION API]
//	fake-engine lock=HOST:PID[@BOOT]  (a process there holds the lock of the stack dev; without a
//	                                  boot one that sees the processes that the script does)
func fakeEngine(ts *testscript.TestScript, _ bool, args []string) {
	version, api := "27.0.0", "1.46"
	if len(args) == 2 {
		version, api = args[0], args[1]
	}

	volumes := &fakeVolumes{labels: map[string]map[string]string{}}
	if len(args) == 1 {
		host, pid, _ := strings.Cut(strings.TrimPrefix(args[0], "lock="), ":")
		boot, namespace := running.Here()
		if number, other, ok := strings.Cut(pid, "@"); ok {
			pid, boot = number, other
		}
		volumes.labels["codexcontinue-lock-dev"] = map[string]string{
			"dev.codexcontinue.lock": `{"id":"x","user":"ada","host":"` + host + `","pid":` + pid +
				`,"boot":"` + boot + `","pidNamespace":"` + namespace + `","command":"codexctl up dev","since":"2026-01-02T03:04:00Z"}`,
		}
	}

	// The folder is not the script's, as the path of a socket is limited to about 100 bytes.
	dir, err := os.MkdirTemp("", "engine")
	ts.Check(err)
	sock, images := filepath.Join(dir, "s"), ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "images"))
	l, err := net.Listen("unix", sock)
	ts.Check(err)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
	}

	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", api)
		switch path := r.URL.Path; {
		case path == "/_ping":
		case strings.HasSuffix(path, "/containers/json"):
			answer(w, []any{})
		case strings.Contains(path, "/images/") && strings.HasSuffix(path, "/json"):
			_, ref, _ := strings.Cut(strings.TrimSuffix(path, "/json"), "/images/")
			list, _ := os.ReadFile(images)
			if !slices.Contains(strings.Fields(string(list)), ref) {
				http.Error(w, `{"message":"No such image: `+ref+`"}`, http.StatusNotFound)
				return
			}
			answer(w, map[string]any{"Id": "sha256:" + strings.Repeat("0", 64)})
		case strings.HasSuffix(path, "/networks"):
			answer(w, fakeNetworks(r.URL.Query().Get("filters")))
		case strings.Contains(path, "/images/") && r.Method == http.MethodDelete:
			_, ref, _ := strings.Cut(path, "/images/")
			list, _ := os.ReadFile(images)
			left := strings.Replace(string(list), ref+"\n", "", 1)
			if err := os.WriteFile(images, []byte(left), 0o600); err != nil {
				http.Error(w, `{"message":"the test's disk"}`, http.StatusInternalServerError)
				return
			}
			answer(w, []any{})
		case strings.HasSuffix(path, "/volumes"):
			answer(w, map[string]any{"Volumes": []any{}})
		case strings.Contains(path, "/volumes/"):
			volumes.ServeHTTP(w, r)
		case strings.HasSuffix(path, "/version"):
			answer(w, map[string]any{
				"Version":    version,
				"ApiVersion": api,
				"Os":         "linux",
				"Arch":       "amd64",
			})
		case strings.HasSuffix(path, "/info"):
			answer(w, map[string]any{
				"NCPU":          4,
				"MemTotal":      64 << 30,
				"DockerRootDir": "/nonexistent",
			})
		default:
			http.Error(w, `{"message":"the fake engine does not do `+path+`"}`,
				http.StatusNotImplemented)
		}
	})}

	go server.Serve(l)
	ts.Defer(func() {
		server.Close()
		os.RemoveAll(dir)
	})

	ts.Setenv("DOCKER_HOST", "unix://"+sock)
}

// fakeNetworks are those of the private stack ward, which is up, of the filters for labels.
func fakeNetworks(filters string) []any {
	if !strings.Contains(filters, stacks.LabelStack+"=ward") {
		return []any{}
	}
	return []any{
		map[string]any{"Name": "codexcontinue-private-ward", "Options": map[string]string{
			"com.docker.network.bridge.inhibit_ipv4": "true",
		}},
		map[string]any{"Name": "codexcontinue-network-ward", "Options": map[string]string{
			"com.docker.network.bridge.name": "cc-ward",
		}},
	}
}

// fakeVolumes are the volumes of an engine, by name.
type fakeVolumes struct {
	mu     sync.Mutex
	labels map[string]map[string]string
}

func (f *fakeVolumes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := path.Base(r.URL.Path)
	if r.Method == http.MethodPost {
		var made struct {
			Name   string
			Labels map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
			http.Error(w, `{"message":"no volume"}`, http.StatusBadRequest)
			return
		}
		if name = made.Name; f.labels[name] == nil {
			f.labels[name] = made.Labels
		}
	}

	w.Header().Set("Content-Type", "application/json")
	switch labels, ok := f.labels[name]; {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such volume"}`)
	case r.Method == http.MethodDelete:
		delete(f.labels, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"Name": name, "Labels": labels})
	}
}

// takePort listens on a free port of this machine and stores its number in $TAKEN.
func takePort(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv("TAKEN", fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
}

// hostname stores the name of this machine in $HOST.
func hostname(ts *testscript.TestScript, _ bool, _ []string) {
	name, err := os.Hostname()
	ts.Check(err)
	ts.Setenv("HOST", name)
}

// exits runs a command that has to end with the exit code:
//
//	exits CODE COMMAND...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}

	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// setConfig sets values of a stack's config:
//
//	config STACK 'codexcontinue:edge: {port: 1}' ...
func setConfig(ts *testscript.TestScript, _ bool, args []string) {
	path := filepath.Join(ts.Getenv("PROJECT"), "Pulumi."+args[0]+".yaml")
	file := map[string]any{}
	b, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(yaml.Unmarshal(b, &file))
	values, ok := file["config"].(map[string]any)
	if !ok {
		values = map[string]any{}
		file["config"] = values
	}

	for _, line := range args[1:] {
		ts.Check(yaml.Unmarshal([]byte(line), values))
	}

	b, err = yaml.Marshal(file)
	ts.Check(err)
	ts.Check(os.WriteFile(path, b, 0o644))
}
