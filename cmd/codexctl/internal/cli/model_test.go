package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestSayNew: an error that stays is printed once.
func TestSayNew(t *testing.T) {
	var stderr strings.Builder
	a := &App{err: console.New(&stderr, func(string) string { return "" })}
	say := a.sayNew()
	for _, text := range []string{"no pod", "no pod", "refused", "refused", "no pod"} {
		say(errors.New(text))
	}
	if got, want := stderr.String(), "no pod\nrefused\nno pod\n"; got != want {
		t.Errorf("it said %q, want %q", got, want)
	}
}

// TestModelOfRolledBack fills the volume with the Ollama of the release that the stack has gone back
// to, and builds none of other sources under its name.
func TestModelOfRolledBack(t *testing.T) {
	dir, _ := checkout(t, "prod", "config:\n  codexcontinue:redisPassword: {secure: AAAA}\n"+
		"  codexcontinue:rollback: {to: 1, revision: 39a7f76, images: {ollama: \"codexcontinue/ollama:1\"}}\n")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.46")
		switch path := r.URL.Path; {
		case path == "/_ping":
		case strings.HasSuffix(path, "/containers/json"):
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "[]")
		case strings.Contains(path, "/images/"):
			http.Error(w, `{"message": "No such image"}`, http.StatusNotFound)
		default:
			http.Error(w, `{"message": "does not do `+path+`"}`, http.StatusNotImplemented)
		}
	}))
	defer server.Close()
	eng, err := engine.Connect(t.Context(),
		engine.Host{URL: "tcp://" + strings.TrimPrefix(server.URL, "http://")}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()

	none := console.New(io.Discard, func(string) string { return "" })
	a := &App{dir: dir, out: none, err: none}
	on, stack, err := a.load("prod")
	if err != nil {
		t.Fatal(err)
	}
	err = a.ollamasOnEngine(t.Context(), on, eng, stack, func(string, dialer) error { return nil })
	if err == nil || !strings.Contains(err.Error(),
		"codexcontinue/ollama:1: it is of an earlier release and no longer here") {
		t.Error(err)
	}
}

// importEngine is an engine of a stack that is down. It has what a killed import has left, and makes
// the container of another.
type importEngine struct {
	mu    sync.Mutex
	locks map[string]map[string]string // labels of volumes that are locks, by name
	did   []string
	made  struct{ Labels map[string]string }

	// started is called when the container is.
	started func()
}

func (f *importEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Api-Version", "1.46")
	w.Header().Set("Content-Type", "application/json")
	what := path.Base(r.URL.Path)
	switch at := r.URL.Path; {
	case at == "/_ping":
	case strings.HasSuffix(at, "/containers/json"):
		list := "[]"
		if strings.Contains(r.URL.Query().Get("filters"), running.LabelOnce) {
			list = fmt.Sprintf(`[{"Id": "left", "Names": ["/left"], "Labels": {%q: "ollama", %q: "%d", %q: "true"}}]`,
				running.LabelOnce, running.LabelUntil, time.Now().Add(time.Hour).Unix(),
				running.LabelLocked)
		}
		io.WriteString(w, list)
	case strings.Contains(at, "/images/"):
		io.WriteString(w, `{"Id": "sha256:0"}`)
	case strings.HasSuffix(at, "/volumes/create"):
		var v struct {
			Name   string
			Labels map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
			http.Error(w, `{"message": "no volume"}`, http.StatusBadRequest)
			return
		}
		if strings.Contains(v.Name, "lock-") && f.locks[v.Name] == nil {
			f.locks[v.Name] = v.Labels
		}
		f.did = append(f.did, "make "+strings.SplitAfter(v.Name, "lock")[0])
		io.WriteString(w, "{}")
	case strings.Contains(at, "/volumes/") && r.Method == http.MethodDelete:
		f.did = append(f.did, "remove "+strings.SplitAfter(what, "lock")[0])
		delete(f.locks, what)
	case strings.Contains(at, "/volumes/") && f.locks[what] == nil:
		http.Error(w, `{"message": "no such volume"}`, http.StatusNotFound)
	case strings.Contains(at, "/volumes/"):
		if err := json.NewEncoder(w).Encode(map[string]any{"Labels": f.locks[what]}); err != nil {
			panic(err)
		}
	case strings.HasSuffix(at, "/containers/create"):
		f.did = append(f.did, "make the container")
		if err := json.NewDecoder(r.Body).Decode(&f.made); err != nil {
			panic(err)
		}
		io.WriteString(w, `{"Id": "c1"}`)
	case strings.HasSuffix(at, "/start"):
		f.started()
	case r.Method == http.MethodDelete:
		f.did = append(f.did, "remove "+what)
	default:
		http.Error(w, `{"message": "does not do `+at+`"}`, http.StatusNotImplemented)
	}
}

// TestImportIsTheOnlyWriter: an import into a stack that is down holds the lock of the stack, and
// removes the Ollama of one that was killed before it starts its own, which others know for one.
func TestImportIsTheOnlyWriter(t *testing.T) {
	dir, _ := checkout(t, "prod", "config:\n  codexcontinue:redisPassword: {secure: AAAA}\n")
	f := &importEngine{locks: map[string]map[string]string{}}
	server := httptest.NewServer(f)
	defer server.Close()
	a, _ := appIn(dir, "DOCKER_HOST=tcp://"+strings.TrimPrefix(server.URL, "http://"))
	on, stack, err := a.load("prod")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.started = cancel
	put := func() error {
		return a.putModel(ctx, "model import", on, stack, "tiny:latest", models.Model{},
			&modelProgress{out: a.out, now: time.Now})
	}
	if err := put(); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("it ends with %v", err)
	}

	want := []string{
		"make codexcontinue-lock", "remove left", "make codexcontinue-ollama-data-prod",
		"make the container", "remove c1",
		"make codexcontinue-unlock", "remove codexcontinue-lock", "remove codexcontinue-unlock",
	}
	if !slices.Equal(f.did, want) {
		t.Errorf("it did %q, want %q", f.did, want)
	}

	labels := f.made.Labels
	until, err := strconv.ParseInt(labels[running.LabelUntil], 10, 64)
	if err != nil || time.Until(time.Unix(until, 0)) < time.Hour ||
		labels[running.LabelOnce] != stacks.Ollama || labels[running.LabelLocked] == "" ||
		labels[stacks.LabelStack] != "prod" || labels[stacks.LabelService] != "" {
		t.Errorf("its labels are %v", labels)
	}

	f.did = nil
	f.locks["codexcontinue-lock-prod"] = map[string]string{
		"dev.codexcontinue.lock": running.Holder{ID: "x", Host: "another", Command: "codexctl up prod"}.Text(),
	}
	ctx = t.Context()
	if err := put(); err == nil || !strings.Contains(err.Error(), "`codexctl up prod` of") {
		t.Errorf("during an up it ends with %v", err)
	}
	if !slices.Equal(f.did, []string{"make codexcontinue-lock"}) {
		t.Errorf("during an up it did %q", f.did)
	}
}

// TestLeft: who does not hold the lock leaves what another one may be about.
func TestLeft(t *testing.T) {
	a := &App{now: time.Now}
	for x, want := range map[running.OneOff][2]bool{
		{Until: a.now().Add(time.Hour)}:               {false, false},
		{Until: a.now().Add(-time.Hour)}:              {true, true},
		{Until: a.now().Add(time.Hour), Locked: true}: {false, true},
	} {
		if got := [2]bool{a.overdue(x), a.left(x)}; got != want {
			t.Errorf("%+v: got %v, want %v", x, got, want)
		}
	}
}

// TestSilent: an Ollama that does not answer is told apart by who started it. Other errors stay.
func TestSilent(t *testing.T) {
	silent := fmt.Errorf("ollama-0: %w: %w", errSilent, io.EOF)
	running, own := upFirst(silent, "clinic").Error(), onceMore(silent).Error()
	if !strings.HasSuffix(running, "does not answer there: EOF: `codexctl up clinic` first") ||
		!strings.Contains(own, "does not answer there: EOF: it was started for this: try again") {
		t.Errorf("got %q and %q", running, own)
	}
	if upFirst(io.EOF, "clinic") != io.EOF || onceMore(io.EOF) != io.EOF {
		t.Error("another error is changed")
	}
}
