package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// collections are one for everybody and one for a group.
const collections = "knowledge: {collections: {handbook: everybody, wards: [nurses]}"

// TestKnowledge has the domain that has no way out answer from documents. The model that makes their
// vectors is brought to it like the base model.
func TestKnowledge(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, site = "e2e-knowledge", "http://127.0.0.1:27080"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack,
		"overlay: healthcare\nportOffset: 19000\n"+collections+", embedding: vectors}")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "what-the-documents-say")
	c.must(t, time.Minute, "bin/codexctl", "certificates", "new", stack)

	weights := tinyWeights(t)
	c.must(t, 10*time.Minute, "bin/codexctl", "model", "import", stack, weights)
	c.noneLeft(t, stack, "the import")
	c.refused(t, stack, lookTime, // it looks into the volume
		"the base model vectors is not in Ollama",
		"codexctl model import "+stack+" FILE.gguf --name vectors")
	c.noneLeft(t, stack, "a look into the volume")
	c.must(t, 5*time.Minute, "bin/codexctl", "model", "import", stack, weights, "--name", "vectors")
	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	noChanges(t, c, stack)
	c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
	noChanges(t, c, stack)

	running := c.containers(t, stack)
	checkHardening(t, running, false)
	knowledge := running[stacks.Knowledge][0]
	id := knowledge.ID
	l := newLibrary(t, c, stack, site)
	l.answers(t)
	l.vectors(t)
	if got := holders(t, c, knowledge, rare); !strings.Contains(got, "/data/") {
		t.Fatalf("its volume has no %s, so nothing can be shown: %q", rare, got)
	}

	l.bearsAbsence(t, func() {
		// An engine does not start again what somebody killed by it.
		c.must(t, time.Minute, "docker", "kill", "--signal", "KILL", id)
	}, func() {
		c.must(t, time.Minute, "docker", "start", id)
	})

	t.Run("a process that is killed comes back by itself", func(t *testing.T) {
		const started = "{{.State.Pid}} {{.State.StartedAt}}"
		before := c.must(t, time.Minute, "docker", "inspect", "-f", started, id)
		c.must(t, time.Minute, "kill", "-9", strings.Fields(before)[0])
		await(t, "knowledge to be well again", func() bool {
			state := c.must(t, time.Minute, "docker", "inspect", "-f",
				started+" {{.State.Health.Status}}", id)
			return !strings.HasPrefix(state, strings.TrimSpace(before)) &&
				strings.HasSuffix(strings.TrimSpace(state), " healthy")
		})
		l.citesAgain(t, letters)
	})

	l.removes(t)
	t.Run("nothing is left of what was removed", func(t *testing.T) {
		for service, list := range c.containers(t, stack) {
			for _, x := range list {
				if x.State.Status != "running" { // those that carry files never do
					continue
				}
				// What a person asked is in Redis' append-only file until that is written anew.
				if got := holders(t, c, x, rare); got != "" && service != stacks.Redis {
					t.Errorf("files of %s have it: %s", service, got)
				}

				out, errs, err := c.run(t, time.Minute, "docker", "logs", x.ID)
				if err != nil || strings.Contains(out+errs, rare) {
					t.Errorf("the log of %s has it, or cannot be read: %v", service, err)
				}
			}
		}
	})
	t.Run("no way out", func(t *testing.T) { noWayOut(t, c, stack) })
	t.Run("TLS inside", func(t *testing.T) { c.speaksTLS(t, stack, stacks.Knowledge) })
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// TestKubernetesKnowledge has a stack on a cluster answer from documents, by their words alone.
func TestKubernetesKnowledge(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-knowledge"
	c := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	n.more = []string{stacks.Knowledge}
	c.ownWeights(t)
	c.settings(t, stack, "overlay: prod\ntarget: kubernetes\nmodel: {base: ./tiny.gguf}\n"+
		behindGateway+"signIn: {accounts: true}\n"+collections+"}\n"+
		"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}, knowledge-data: {size: 1Gi}}")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "what-the-documents-say")
	upServes(t, c, n, stack, "--load", "--into", "containerd="+containerd)
	noChanges(t, c, stack)
	c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
	noChanges(t, c, stack)

	l := newLibrary(t, c, stack, c.url(t, stack))
	l.answers(t)
	t.Run("a pod that is killed comes back by itself", func(t *testing.T) {
		n.kill(t, stacks.Knowledge)
		l.citesAgain(t, letters)
	})

	l.bearsAbsence(t, func() { n.scale(t, stacks.Knowledge, "0") },
		func() { n.scale(t, stacks.Knowledge, "1") })
	l.removes(t)
	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// scale sets how many pods a StatefulSet has, and waits until there are so many. Those that go are
// killed.
func (n *namespace) scale(t *testing.T, service, replicas string) {
	t.Helper()
	before := n.pods(t, service)
	_, err := n.AppsV1().StatefulSets(n.name).Patch(t.Context(), service, types.MergePatchType,
		[]byte(`{"spec": {"replicas": `+replicas+`}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}

	now := int64(0)
	for _, p := range before {
		if replicas != "0" {
			break
		}
		err := n.CoreV1().Pods(n.name).Delete(t.Context(), p.Name,
			metav1.DeleteOptions{GracePeriodSeconds: &now})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}

	await(t, service+" to have "+replicas+" pods", func() bool {
		pods := n.pods(t, service)
		return replicas == "0" && len(pods) == 0 || replicas != "0" && len(pods) > 0 && allReady(pods)
	})
}

// await waits until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for start := time.Now(); !so(); time.Sleep(200 * time.Millisecond) {
		if time.Since(start) > 5*time.Minute {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// What the documents say, and what is asked of them. The tiny model says the same whatever it is
// given, and names no source.
const (
	letters = "letters.md"
	letter  = "# Discharge letters\n\nOn the zebra ward a discharge letter is due at noon. " + rare + ".\n"
	rare    = "Okapikraal" // in no other text
	visits  = "visits.md"
	visit   = "# Visiting hours\n\nGuests of the zebra ward come from two to six.\n"
	asked   = "When is a discharge letter of the zebra ward due?"
)

// library is a stack with documents, and two people: ada is an admin and a nurse, bob is neither.
type library struct {
	c           *checkout
	stack, site string
	ada, bob    *person

	admin, other *browser // in which they are signed in
	path         string   // of the page with the passage that ada was shown
}

func newLibrary(t *testing.T, c *checkout, stack, site string) *library {
	t.Helper()
	l := &library{c: c, stack: stack, site: site}
	l.ada = c.invite(t, stack, site, "ada", "--admin")
	l.bob = l.ada.invite(t, "bob")
	c.must(t, time.Minute, "bin/codexctl", "user", "groups", "--stack", stack, "ada", "nurses")
	l.ada = l.ada.at(t, site) // as one of the group
	l.admin, l.other = newBrowser(t), newBrowser(t)
	l.admin.signIn(t, l.ada, site)
	l.other.signIn(t, l.bob, site)
	return l
}

// answers adds a document on the page and another by the command. Who may read it is answered with
// its source, and opens it; the other person gets neither.
func (l *library) answers(t *testing.T) {
	t.Helper()
	b := l.admin
	folder := t.TempDir()
	for name, text := range map[string]string{letters: letter, visits: visit} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	b.run(t, time.Minute, chromedp.Navigate(l.site+"/documents/wards"),
		chromedp.SetUploadFiles("#upload input[name=file]", []string{filepath.Join(folder, letters)}),
		chromedp.Click("#upload button.primary"))
	b.waitFor(t, time.Minute, "the document", "document.querySelector("+
		js(`article.document[data-file="`+letters+`"]`)+")")
	b.screenshots(t, "documents")

	l.c.must(t, time.Minute, "bin/codexctl", "knowledge", "add", l.stack, "handbook",
		filepath.Join(folder, visits))
	for collection, file := range map[string]string{"wards": letters, "handbook": visits} {
		list := l.c.must(t, time.Minute, "bin/codexctl", "knowledge", "list", l.stack, collection)
		if !strings.Contains(list, file) || strings.Count(list, ".md") != 1 {
			t.Errorf("%s holds\n%s", collection, list)
		}
	}

	l.cites(t, letters)
	b.screenshots(t, "sources")
	var err error
	l.path, err = chromedp.Run(b.ctx, chromedp.Evaluate[string](
		"(() => { const a = [...document.querySelectorAll('article.answer .sources li')]"+
			".find(x => x.innerText.includes("+js(letters)+")).querySelector('a.source'); "+
			"a.click(); return new URL(a.href).pathname })()"))
	if err != nil || !strings.HasPrefix(l.path, "/passages/") {
		t.Fatalf("the source leads to %q, %v", l.path, err)
	}
	b.waitFor(t, time.Minute, "the passage", "document.getElementById('source-dialog').open && "+
		"document.querySelector('#source-body .quoted').innerText.includes('is due at noon')")
	b.screenshots(t, "passage")

	l.opens(t, l.ada, http.StatusOK)
	l.opens(t, l.bob, http.StatusNotFound)

	l.ask(t, l.other)
	if said := l.sources(t, l.other); strings.Contains(said, letters) || !strings.Contains(said, visits) {
		t.Errorf("who is no nurse is shown\n%s", said)
	}
	l.other.screenshot(t, "sources-of-others")
	if got := l.status(t, l.bob, "/documents"); got == http.StatusOK {
		t.Error("who is no admin manages documents")
	}
}

// vectors waits until the model has made those of all passages.
func (l *library) vectors(t *testing.T) {
	t.Helper()
	indexed := regexp.MustCompile(`"state":\s*"indexed"`)
	await(t, "the vectors", func() bool {
		list := l.c.must(t, time.Minute, "bin/codexctl", "knowledge", "list", "--json", l.stack,
			"wards")
		return indexed.MatchString(list)
	})
	l.cites(t, letters)
}

// bearsAbsence has the service go away at once: chat goes on without sources, and says so. When it
// is back the documents are there as they were.
func (l *library) bearsAbsence(t *testing.T, goes, comes func()) {
	t.Helper()
	b := l.admin
	goes()
	await(t, "an answer without sources, which says so", func() bool {
		l.ask(t, b)
		return strings.Contains(l.sources(t, b), "Sources could not be searched")
	})
	b.screenshots(t, "sources-away")
	if said := l.sources(t, b); strings.Contains(said, ".md") {
		t.Errorf("while they could not be searched, the answer has sources:\n%s", said)
	}

	comes()
	l.citesAgain(t, letters)
	l.opens(t, l.ada, http.StatusOK)
}

// removes takes the document out: the next answer has it no more, and what was said before leads to
// a page that says that it is gone.
func (l *library) removes(t *testing.T) {
	t.Helper()
	b := l.admin
	l.c.must(t, time.Minute, "bin/codexctl", "knowledge", "remove", l.stack, "wards", letters)
	l.ask(t, b)
	if said := l.sources(t, b); strings.Contains(said, letters) {
		t.Errorf("after it was removed the answer has it still:\n%s", said)
	}

	l.opens(t, l.ada, http.StatusNotFound)
	b.run(t, time.Minute, chromedp.Navigate(l.site+l.path))
	b.waitFor(t, time.Minute, "a word about it",
		"document.body.innerText.includes('no longer there, or not for you')")
	b.screenshots(t, "passage-gone")

	audit := l.c.must(t, time.Minute, "bin/codexctl", "audit", l.stack)
	if !strings.Contains(audit, "document") || strings.Contains(audit, letters) ||
		strings.Contains(audit, "zebra") {
		t.Errorf("the audit lacks the documents, or shows what they are:\n%s", audit)
	}
}

// cites asks, and wants the file among the answer's sources. On a machine that is busy a search may
// take too long: then the answer says so, and is asked for again.
func (l *library) cites(t *testing.T, file string) {
	t.Helper()
	var said string
	await(t, "an answer whose sources could be searched", func() bool {
		l.ask(t, l.admin)
		said = l.sources(t, l.admin)
		return !strings.Contains(said, "Sources could not be searched")
	})
	if !strings.Contains(said, file) {
		t.Errorf("the answer's sources lack %s:\n%s", file, said)
	}
}

// citesAgain asks until the file is among an answer's sources: who calls the service may take a moment
// to find it again.
func (l *library) citesAgain(t *testing.T, file string) {
	t.Helper()
	await(t, file+" among the sources", func() bool {
		l.ask(t, l.admin)
		return strings.Contains(l.sources(t, l.admin), file)
	})
}

// ask asks in a new conversation, and waits for the whole answer.
func (l *library) ask(t *testing.T, b *browser) {
	t.Helper()
	askAt(t, b, l.site, asked)
}

// askAt asks in a new conversation at the site, and waits for the whole answer.
func askAt(t *testing.T, b *browser, site, question string) {
	t.Helper()
	b.send(t, site+"/", question)
	b.waitFor(t, time.Minute, "the answer's end",
		"document.querySelector('article.answer[data-state=complete]')")
	b.waitFor(t, time.Minute, "the answer",
		"document.querySelector('article.answer').innerText.includes("+js(answer)+")")
}

// sources returns what stands below the answer about its sources.
func (l *library) sources(t *testing.T, b *browser) string {
	t.Helper()
	said, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](
		"document.querySelector('article.answer .sources')?.innerText ?? ''"))
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// opens wants the passage that ada was shown to be answered with the status to the person.
func (l *library) opens(t *testing.T, who *person, want int) {
	t.Helper()
	for _, path := range []string{l.path, "/api" + l.path} {
		if got := l.status(t, who, path); got != want {
			t.Errorf("%s gets %d for %s, want %d", who.name, got, path, want)
		}
	}
}

// status returns that of the answer to the person's request for the path.
func (l *library) status(t *testing.T, who *person, path string) int {
	t.Helper()
	resp, err := who.client().Get(l.site + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// screenshots keeps a picture of the page on a desktop and on a phone.
func (b *browser) screenshots(t *testing.T, name string) {
	t.Helper()
	b.screenshot(t, name)
	b.run(t, time.Minute, chromedp.EmulateViewport(390, 844))
	b.screenshot(t, name+"-phone")
	b.run(t, time.Minute, chromedp.EmulateViewport(1280, 800))
}
