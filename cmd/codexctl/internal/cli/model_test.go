package cli

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
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
