package cli

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestMissingModel: the logs of a job that lacks its base model become what to type, once. Other
// problems stay as they are.
func TestMissingModel(t *testing.T) {
	job := failure.Problem{
		Service: stacks.ModelJob, What: "the job failed", Todo: "its log says why", Log: []string{
			"pending waiting for Ollama",
			"ml: ollama at 10.0.0.1: " + status.MissingText("llama3:8b") + ": put it there",
		}}
	problems := withMissingModel([]failure.Problem{job, job,
		{Service: stacks.Redis, What: "not well", Log: []string{"the base model of no use"}},
	}, "team/clinic")

	got := problems[0]
	if got.Service != stacks.ML || got.What != status.MissingText("llama3:8b") || got.Log != nil {
		t.Errorf("got %+v", got)
	}
	for _, want := range []string{
		"codexctl model pull team/clinic llama3:8b ",
		"codexctl model import team/clinic FILE.gguf --name llama3:8b ",
		"codexctl up team/clinic",
	} {
		if !strings.Contains(got.Todo, want) {
			t.Errorf("to do: %s, want %q", got.Todo, want)
		}
	}
	if len(problems) != 2 || problems[1].What != "not well" {
		t.Errorf("the problems are %+v", problems)
	}
}

// privateEngine is an engine that can be looked into alone: whether it has the volume of Ollama's
// models, with which files, or an Ollama that runs and has the models. baked are the files that
// Ollama's image has.
type privateEngine struct {
	volume       bool
	noImage      bool     // as long as nobody pulls it
	files, baked []string // names of models, with a slash before the tag
	runs         bool
	models       []string

	mu  sync.Mutex
	did []string // all that is not asking
}

func (f *privateEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, at, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		f.did = append(f.did, r.Method+" "+at)
	}

	w.Header().Set("Api-Version", "1.46")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
	case at == "version":
		io.WriteString(w, `{"Version": "27.0.0", "Os": "linux", "Arch": "amd64"}`)
	case at == "containers/json" && f.runs:
		io.WriteString(w, `[{"Id": "c1"}]`)
	case at == "containers/json":
		io.WriteString(w, "[]")
	case at == "containers/c1/json":
		fmt.Fprintf(w, `{"Id": "c1", "Name": "/ollama", "State": {"Status": "running", "Running": true},
			"Config": {"Labels": {%q: "ollama"}}}`, stacks.LabelService)
	case at == "containers/c1/exec":
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"Id": "x1"}`)
	case at == "exec/x1/start":
		_, _ = io.Copy(io.Discard, r.Body) // before the command's input
		f.tags(w)
	case strings.HasPrefix(at, "images/") && !f.noImage:
		io.WriteString(w, `{"Id": "sha256:0"}`)
	case strings.HasPrefix(at, "volumes/") && f.volume:
		io.WriteString(w, `{}`)
	case at == "containers/create":
		io.WriteString(w, `{"Id": "look"}`)
	case r.Method == http.MethodDelete:
	case at == "containers/look/archive" && f.has(r.URL.Query().Get("path")):
		w.Header().Set("X-Docker-Container-Path-Stat", "e30=") // {}
	default:
		http.Error(w, `{"message": "no such thing"}`, http.StatusNotFound)
	}
}

// has reports whether the volume or the image has the file.
func (f *privateEngine) has(file string) bool {
	files := f.baked
	if strings.HasPrefix(file, "/dev.codexcontinue.volume/") {
		files = f.files
	}
	return slices.ContainsFunc(files, func(name string) bool {
		return strings.HasSuffix(file, path.Join("/models/manifests/registry.ollama.ai/library", name))
	})
}

// tags answers the request in a command's input with the models that Ollama has.
func (f *privateEngine) tags(w http.ResponseWriter) {
	type model struct {
		Name string `json:"name"`
	}
	list := []model{}
	for _, name := range f.models {
		list = append(list, model{name})
	}
	body, err := json.Marshal(map[string]any{"models": list})
	if err != nil {
		panic(err)
	}

	conn, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	go func() {
		defer conn.Close()
		if _, err := http.ReadRequest(in.Reader); err != nil {
			return
		}
		text := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		head := [8]byte{0: 1}
		binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
		fmt.Fprintf(conn, "%s%s", head[:], text)
	}()
}

// TestUpWithoutModel: up of a stack that downloads no model says what to type, before it makes
// anything, where the engine lacks the base.
func TestUpWithoutModel(t *testing.T) {
	dir, _ := checkout(t, "clinic", "config:\n  codexcontinue:overlay: healthcare\n"+
		"  codexcontinue:redisPassword: {secure: AAAA}\n"+
		"  codexcontinue:internalAuthority: {secure: AAAA}\n")
	for name, c := range map[string]struct {
		engine  *privateEngine
		missing bool
		did     []string
	}{
		"no volume":                    {&privateEngine{}, true, looked},
		"an image with it":             {&privateEngine{baked: []string{"llama3/latest"}}, false, looked},
		"an empty volume":              {&privateEngine{volume: true}, true, looked},
		"a volume with it":             {&privateEngine{volume: true, files: []string{"llama3/latest"}}, false, looked},
		"one with what was made of it": {&privateEngine{volume: true, files: []string{"made of it"}}, false, looked},
		"Ollama":                       {&privateEngine{runs: true, models: []string{"llama3:8b"}}, true, asked},
		"an Ollama with it":            {&privateEngine{runs: true, models: []string{"llama3:latest"}}, false, asked},
	} {
		t.Run(name, func(t *testing.T) {
			a, said := c.engine.app(t, dir)
			on, stack, p, err := a.open(t.Context(), "clinic")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()

			made := stack.Model.Name + "/" + version(stack.Model.Digest)
			for i, file := range c.engine.files {
				c.engine.files[i] = strings.ReplaceAll(file, "made of it", made)
			}

			if c.missing {
				err = a.up(t.Context(), "clinic", upOptions{})
			} else {
				err = a.requireModels(t.Context(), on, p, stack)
			}
			if errors.Is(err, errReported) != c.missing || !c.missing && (err != nil || said.Len() > 0) {
				t.Errorf("it ends with %v, and says\n%s", err, said.String())
			}
			for _, want := range []string{status.MissingText("llama3"),
				"codexctl model pull clinic llama3", "codexctl model import clinic FILE.gguf",
				"Nothing was made or changed."} {
				if strings.Contains(said.String(), want) != c.missing {
					t.Errorf("it says\n%s\n%q missing: %t", said.String(), want, c.missing)
				}
			}
			if !slices.Equal(c.engine.did, c.did) {
				t.Errorf("it did %q, want %q", c.engine.did, c.did)
			}
		})
	}
}

// TestUpWithForeignImage: what models an image brings that nobody pulled is not known, so that up
// warns.
func TestUpWithForeignImage(t *testing.T) {
	dir, _ := checkout(t, "clinic", "config:\n  codexcontinue:overlay: healthcare\n"+
		"  codexcontinue:redisPassword: {secure: AAAA}\n"+
		"  codexcontinue:internalAuthority: {secure: AAAA}\n")
	for image, warns := range map[string]bool{stacks.OllamaImage: false, "team/ollama:1": true} {
		a, said := (&privateEngine{noImage: true}).app(t, dir)
		on, stack, p, err := a.open(t.Context(), "clinic")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()

		stack.Service(stacks.Ollama).Image.Ref = image
		err = a.requireModels(t.Context(), on, p, stack)
		if (err == nil) != warns || strings.Contains(said.String(), "warning: ") != warns ||
			!strings.Contains(said.String(), "codexctl model pull clinic llama3") {
			t.Errorf("%s: %v, and says\n%s", image, err, said.String())
		}
	}
}

// app returns codexctl in dir, whose engine is f, and what it says.
func (f *privateEngine) app(t *testing.T, dir string) (*App, *strings.Builder) {
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return appIn(dir, "DOCKER_HOST=tcp://"+strings.TrimPrefix(server.URL, "http://"))
}

// appIn returns codexctl in dir, with no other environment, and what it says.
func appIn(dir string, environment ...string) (*App, *strings.Builder) {
	said := new(strings.Builder)
	quiet := func(string) string { return "" }
	return &App{dir: dir, out: console.New(io.Discard, quiet), err: console.New(said, quiet),
		now: time.Now, environ: environ.Vars(environment)}, said
}

// What is done to find out what a volume has, and what a running Ollama.
var (
	looked = []string{"POST containers/create", "DELETE containers/look"}
	asked  = []string{"POST containers/c1/exec", "POST exec/x1/start"}
)

// TestSplit: a model is copied from where it is itself to where nothing is that it is needed for.
func TestSplit(t *testing.T) {
	var pods []running.Replica
	for _, name := range []string{"ollama-0", "ollama-1", "ollama-2", "ollama-3"} {
		pods = append(pods, running.Replica{Name: name})
	}
	has, lack := split(pods, map[string][]string{
		"ollama-0": {"own:0123456789ab"},
		"ollama-1": {"other:latest", "llama3:latest"},
		"ollama-3": {"llama3:8b"},
	}, need{base: "llama3", others: []string{"own:0123456789ab"}})
	if !slices.Equal(namesOf(has), []string{"ollama-1"}) ||
		!slices.Equal(namesOf(lack), []string{"ollama-2", "ollama-3"}) {
		t.Errorf("%v have it, %v lack it", namesOf(has), namesOf(lack))
	}
}
