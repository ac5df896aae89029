package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestNewDomain brings up a domain and a service as codexctl writes them, with nothing changed but
// the base model and the port. A person sees the domain's title and gets an answer of its model.
func TestNewDomain(t *testing.T) {
	enabled(t)
	t.Parallel()
	const (
		stack   = "e2e-domain"
		service = "e2e-echo"
		title   = "CodexContinue E2e Domain"
		url     = "http://127.0.0.1:35080/"
	)

	c := copyTree(t)
	c.remove(t, stack)

	// The command of the sources that were copied writes into the copy: Go's cache has that one.
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, addition := range [][]string{{"domain", stack}, {"service", service}} {
		args := []string{"-C", root, "run", "./cmd/codexctl", "new", "-C", c.dir}
		c.must(t, 10*time.Minute, "go", append(args, addition...)...)
	}
	edit(t, c, "modelfiles/"+stack+"/Modelfile", "FROM llama3", "FROM tiny")
	writeEvals(t, c.path("modelfiles/"+stack), ".")
	edit(t, c, "Pulumi."+stack+".yaml", "config:\n", "config:\n  codexcontinue:portOffset: 27000\n")
	c.must(t, 10*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")

	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "correct-horse-battery-staple")
	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)

	running := c.containers(t, stack)
	checkHardening(t, running, false)
	smallImages(t, c, running)
	if n := len(running[service]); n != 2 {
		t.Errorf("%s has %d containers, want the 2 of prod", service, n)
	}

	b := newBrowser(t)
	b.run(t, time.Minute, chromedp.Navigate(url), chromedp.WaitVisible(".greeting"))
	const greeting = "What would you like to know?"
	for what, expr := range map[string]string{
		"the title":    "document.title === " + js(title),
		"the greeting": "document.querySelector('.greeting').innerText === " + js(greeting),
		"the examples": "document.body.innerText.includes('Summarise this text')",
		"the notice":   "document.body.innerText.includes('Answers can be wrong.')",
	} {
		b.waitFor(t, time.Minute, what, expr)
	}
	chat(t, b, url)
	b.screenshot(t, "domain")

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
	if left := c.containers(t, stack); len(left) != 0 {
		t.Errorf("containers left after down: %v", left)
	}
}
