package e2e

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestNewDomain brings up a domain as codexctl writes it, with nothing changed but the base model
// and the port. A person sees its title and gets an answer of its model.
func TestNewDomain(t *testing.T) {
	enabled(t)
	const stack, title, url = "e2e-domain", "CodexContinue E2e Domain", "http://127.0.0.1:35080/"
	c := newCheckout(t)
	c.remove(t, stack)

	c.must(t, time.Minute, "bin/codexctl", "new", "domain", stack)
	edit(t, c, "modelfiles/"+stack+"/Modelfile", "FROM llama3", "FROM tiny")
	edit(t, c, "Pulumi."+stack+".yaml", "config:\n", "config:\n  codexcontinue:portOffset: 27000\n")
	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")

	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "correct-horse-battery-staple")
	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	checkHardening(t, c.containers(t, stack), false)

	b := newBrowser(t)
	b.run(t, time.Minute, chromedp.Navigate(url), chromedp.WaitVisible(".greeting"))
	for what, expr := range map[string]string{
		"the title":    "document.title === " + js(title),
		"the greeting": "document.querySelector('.greeting').innerText === 'What would you like to know?'",
		"the examples": "document.body.innerText.includes('Summarise this text')",
		"the notice":   "document.body.innerText.includes('Answers can be wrong.')",
	} {
		b.waitFor(t, 10*time.Second, what, expr)
	}
	chat(t, b, url)
	b.screenshot(t, "domain")

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
	if left := c.containers(t, stack); len(left) != 0 {
		t.Errorf("containers left after down: %v", left)
	}
}
