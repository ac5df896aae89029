package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/load"
	"github.com/codexcontinue/codexcontinue/test/load/chaos"
)

// slowImage is what test/images/build.sh slow makes: Ollama whose answers take as long as a question says.
const slowImage = stacks.OllamaImage + "-slow"

// slowCheckout is a checkout whose Ollama is the slow one.
func slowCheckout(t *testing.T) *checkout {
	t.Helper()
	c := copyTree(t)
	edit(t, c, "stacks/base.go", `"`+stacks.OllamaImage+`"`, `"`+slowImage+`"`)
	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")
	return c
}

// people starts the load that the promises are held under: eight people who look around and ask, and fifty event streams
// on twenty answers of half a minute, open all the time.
func people(t *testing.T, url string) *load.Run {
	t.Helper()
	// It ends when it is told to: also after a test that failed, whose context is done then.
	run, err := load.Start(context.WithoutCancel(t.Context()), load.Options{
		URL: url, People: 8, Answers: 20, Streams: 50, Long: 30 * time.Second, Rate: 40, Seed: 1, Resend: true,
		Progress: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// nothingLost ends the load: every acknowledged message and its answer are there, exactly once and to the letter.
// outage is how long connections to the edge may have been refused.
func nothingLost(t *testing.T, run *load.Run, outage time.Duration) {
	t.Helper()
	r := run.Stop()
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", out.String())
	keepReport(t, r)
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Refused.Longest > outage {
		t.Errorf("connections were refused for %s, at most %s are allowed", r.Refused.Longest, outage)
	}
}

// keepReport writes the report where CI keeps files, if it says where.
func keepReport(t *testing.T, r *load.Report) {
	t.Helper()
	dir := os.Getenv("CODEXCONTINUE_REPORTS")
	if dir == "" {
		return
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, t.Name()+".json"), text, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestLoad holds the promises of prod on Docker: while people chat, each service is updated in turn, by its image, its
// environment, its limits, its secret and its model, and each container is killed by its process. No message is lost, no
// answer is cut, nothing is doubled.
func TestLoad(t *testing.T) {
	enabled(t)
	const stack, url = "e2e-load", "http://127.0.0.1:38080"
	settings := `
		overlay: prod
		portOffset: 30000
		model: {base: tiny, parallel: 32}`
	c := slowCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, settings)
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "correct-horse-battery-staple")
	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)

	run := people(t, url)
	ended := false
	end := func() {
		if !ended {
			ended = true
			nothingLost(t, run, 5*time.Second)
		}
	}
	t.Cleanup(end)
	time.Sleep(15 * time.Second) // until all long answers are on their way

	up := func(name string, change func()) {
		t.Helper()
		t.Log("update: " + name)
		change()
		c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	}
	services := func(extra string) func() {
		return func() { c.settingsBeside(t, stack, settings+"\nlogLevel: debug\nservices: {"+extra+"}") }
	}
	up("environment of backend, frontend and ml", services(""))
	up("limit of redis", services("redis: {memory: 640Mi}"))
	up("secret", func() { c.secret(t, stack, "codexcontinue:redisPassword", "staple-battery-horse-correct") })
	up("limit of ollama", services("redis: {memory: 640Mi}, ollama: {cpu: 3000m}"))
	up("model", func() { edit(t, c, "modelfiles/codexcontinue/Modelfile", "You are", "You really are") })
	up("images of backend, frontend and ml", func() {
		if err := os.WriteFile(c.path("services/internal/server/changed.go"), []byte("package server\n\nvar _ = 1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	up("limit of edge", services("redis: {memory: 640Mi}, ollama: {cpu: 3000m}, edge: {pids: 160}"))

	engine := chaos.NewDocker(stack)
	_, err := chaos.Schedule{
		Seed: 1, Rounds: 1, Between: 5 * time.Second, Spread: 5 * time.Second,
		Services: []string{stacks.Frontend, stacks.Backend, stacks.ML, stacks.Ollama, stacks.Redis, stacks.Edge},
	}.Run(t.Context(), engine.Kill, engine.Healthy, func(e chaos.Event) { t.Log(e) })
	if err != nil {
		t.Error(err)
	}
	end()

	noChanges(t, c, stack)
	c.must(t, 15*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}
