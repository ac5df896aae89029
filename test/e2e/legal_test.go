package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestLegal brings up a domain with the settings and the documents that it is shipped with, but for
// the base model and the port. A lawyer's answer names the document of the lawyers, and that of
// somebody else does not.
func TestLegal(t *testing.T) {
	enabled(t)
	t.Parallel()
	const (
		stack, site = "e2e-legal", "http://127.0.0.1:30100"
		documents   = "modelfiles/legal/documents/"
		guide       = "contract-review-guide.md"
		authority   = "signature-authority.md"
	)

	c := newCheckout(t)
	c.remove(t, stack)
	shipped, err := os.ReadFile(c.path("Pulumi.legal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	settings := string(shipped) + "  codexcontinue:overlay: legal\n" +
		"  codexcontinue:portOffset: 22000\n  codexcontinue:model: {base: tiny}\n"
	if err := os.WriteFile(c.path("Pulumi."+stack+".yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}

	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "without-prejudice")
	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	noChanges(t, c, stack)
	for collection, file := range map[string]string{"policies": authority, "playbook": guide} {
		c.must(t, 5*time.Minute, "bin/codexctl", "knowledge", "add", stack, collection,
			documents+collection)
		list := c.must(t, time.Minute, "bin/codexctl", "knowledge", "list", stack, collection)
		if !strings.Contains(list, file) {
			t.Errorf("%s holds\n%s", collection, list)
		}
	}

	l := &library{c: c, stack: stack, site: site}
	l.ada = c.invite(t, stack, site, "ada", "--admin")
	l.bob = l.ada.invite(t, "bob")
	c.must(t, time.Minute, "bin/codexctl", "user", "groups", "--stack", stack, "ada", "lawyers")
	l.ada = l.ada.at(t, site) // as one of the group

	for who, wants := range map[*person]map[string]bool{
		l.ada: {authority: true, guide: true},
		l.bob: {authority: true, guide: false},
	} {
		b := newBrowser(t)
		b.signIn(t, who, site)
		b.waitFor(t, time.Minute, "the notice", "document.title === 'CodexContinue Legal' && "+
			"document.body.innerText.includes('Not legal advice.')")
		for file, question := range map[string]string{
			authority: "Who may sign a supplier contract over EUR 80,000?",
			guide:     "Which liability cap do we accept in a contract review?",
		} {
			askAt(t, b, site, question)
			if said := l.sources(t, b); strings.Contains(said, file) != wants[file] {
				t.Errorf("%s asks %q and is shown the sources\n%s", who.name, question, said)
			}
		}
		b.run(t, time.Minute, chromedp.Navigate(site+"/"))
		b.screenshot(t, "legal-"+who.name)
	}

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}
