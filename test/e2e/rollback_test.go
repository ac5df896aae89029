package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestRollback goes back from a bad image, a bad setting and a bad model at once, while fifty
// answers are being written: none fails, and so it stays.
func TestRollback(t *testing.T) {
	enabled(t)
	const stack = "e2e-rollback"
	sweep(t, stack)
	l := newLoaded(t, stack, dockerSettings, func(c *checkout) { c.remove(t, stack) })
	l.rollsBack(func() string { return dockerURL }, true)
	l.down()
}

// TestKubernetesRollback does the same on a cluster.
func TestKubernetesRollback(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-rollback"
	inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	l := newLoadedCluster(t, stack, "", 32, containerd)
	l.rollsBack(func() string { return l.url(t, stack) }, false)
	l.down()
}

// rollsBack makes a bad release of the stack and goes back from it under load, and, if crash is set,
// from one that does not start.
func (l *loaded) rollsBack(url func() string, crash bool) {
	t := l.t
	t.Helper()
	good, version := l.images(), l.serves()

	// What is bad: the frontend's image, how long conversations are kept, and what the model is told.
	const css = "services/frontend/internal/web/static/app.css"
	text, err := os.ReadFile(l.path(css))
	if err == nil {
		err = os.WriteFile(l.path(css), append(text, "\n/* bad */\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	edit(t, l.checkout, "modelfiles/codexcontinue/Modelfile", "You are", "You are not")
	l.change(t, l.stack, l.settings+"\nconversationTTL: 1h")
	l.up()
	bad := l.images()
	if bad[stacks.Frontend] == good[stacks.Frontend] || bad[stacks.Backend] != good[stacks.Backend] {
		t.Fatalf("the images are %v, and were %v", bad, good)
	}
	if now := l.serves(); now == version || now == "" {
		t.Fatalf("the version %s of the model serves", now)
	}

	l.many()
	site := url()
	var accounts []*person
	if strings.Contains(l.settings, "accounts: true") {
		accounts = l.members(t, l.stack, site, lookers+l.answers)
	}
	l.start(site, accounts...)

	// It says what it would do and changes nothing.
	seen := l.must(t, 5*time.Minute, "bin/codexctl", "rollback", "--preview", l.stack)
	for _, want := range []string{
		"back to 1 of ", "image of frontend: " + good[stacks.Frontend],
		"setting codexcontinue:conversationTTL: not set, now 1h", "secrets stay as they are: ",
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("the preview does not say %q:\n%s", want, seen)
		}
	}
	if now := l.images(); now[stacks.Frontend] != bad[stacks.Frontend] {
		t.Errorf("a preview has changed the images to %v", now)
	}

	l.mark("rollback")
	l.must(t, 10*time.Minute, "bin/codexctl", "rollback", "--yes", l.stack)
	l.done()
	for service, ref := range l.images() {
		if ref != good[service] {
			t.Errorf("%s has the image %s, not %s", service, ref, good[service])
		}
	}
	if now := l.serves(); now != version {
		t.Errorf("the version %s of the model serves, not %s", now, version)
	}

	// It is in the settings, so the next up changes nothing, and in the history.
	written, err := os.ReadFile(l.path("Pulumi." + l.stack + ".yaml"))
	if err != nil || strings.Contains(string(written), "conversationTTL") ||
		!strings.Contains(string(written), "codexcontinue:rollback:") ||
		!strings.Contains(string(written), "redisPassword") {
		t.Errorf("the settings are, %v:\n%s", err, written)
	}
	noChanges(t, l.checkout, l.stack)

	var updates []struct{ Release struct{ Rollback int } }
	said := l.must(t, time.Minute, "bin/codexctl", "history", "--json", "-n", "1", l.stack)
	if err := json.Unmarshal([]byte(said), &updates); err != nil || len(updates) != 1 ||
		updates[0].Release.Rollback != 1 {
		t.Errorf("%v, the history is\n%s", err, said)
	}

	ending := l.must(t, 5*time.Minute, "bin/codexctl", "rollback", "--end", "--preview", l.stack)
	if !strings.Contains(ending, "frontend") || strings.Contains(ending, "conversationTTL") {
		t.Errorf("to end the rollback would do:\n%s", ending)
	}

	if crash {
		if err := os.WriteFile(l.path(css), text, 0o644); err != nil {
			t.Fatal(err)
		}
		edit(t, l.checkout, "modelfiles/codexcontinue/Modelfile", "You are not", "You are")
		l.rollsBackFromCrash(good, version)
	}

	time.Sleep(l.long + 2*time.Second) // until the answers have ended that were open
	l.ended(500, 2*l.answers)
	if crash {
		l.prunes()
	}
}

// rollsBackFromCrash ends the rollback with a frontend that does not start, so that it fails, and goes
// back again.
func (l *loaded) rollsBackFromCrash(good map[string]string, version string) {
	t := l.t
	t.Helper()
	edit(t, l.checkout, "services/frontend/main.go", "func main() {\n", "func main() {\n\tos.Exit(1)\n")
	l.mark("an image that does not start")
	_, said, err := l.checkout.run(t, 10*time.Minute, "bin/codexctl", "rollback", "--end", "--yes",
		l.stack)
	l.done()
	if err == nil || !strings.Contains(said, "codexctl rollback "+l.stack) {
		t.Errorf("%v, it says\n%s", err, tail(said, 40))
	}

	l.mark("rollback from it")
	l.must(t, 10*time.Minute, "bin/codexctl", "rollback", "--yes", l.stack)
	l.done()
	for service, ref := range l.images() {
		if ref != good[service] {
			t.Errorf("%s has the image %s, not %s", service, ref, good[service])
		}
	}
	if now := l.serves(); now != version {
		t.Errorf("the version %s of the model serves, not %s", now, version)
	}
	noChanges(t, l.checkout, l.stack)
}

// images returns the references of the images that run, by service.
func (l *loaded) images() map[string]string {
	l.t.Helper()
	var report struct {
		Services []struct{ Name, Image string }
	}
	said := l.must(l.t, time.Minute, "bin/codexctl", "status", "--json", l.stack)
	if err := json.Unmarshal([]byte(said), &report); err != nil {
		l.t.Fatalf("%v:\n%s", err, said)
	}

	out := map[string]string{}
	for _, s := range report.Services {
		out[s.Name] = s.Image
	}
	return out
}

// serves returns the version of the model that serves.
func (l *loaded) serves() string {
	l.t.Helper()
	var r status.Releases
	said := l.must(l.t, time.Minute, "bin/codexctl", "model", "list", l.stack, "--json")
	if err := json.Unmarshal([]byte(said), &r); err != nil || len(r.Replicas) == 0 {
		l.t.Fatalf("%v:\n%s", err, said)
	}

	for _, v := range r.Replicas[0].Releases {
		if v.Serves {
			return v.Version
		}
	}
	return ""
}
