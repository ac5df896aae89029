package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/load"
	"github.com/codexcontinue/codexcontinue/test/load/chaos"
	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

// slowImage is what test/images/build.sh slow makes: Ollama whose answers take as
// long as a question says.
const slowImage = stacks.OllamaImage + "-slow"

// longest are the bounds of what people may notice.
const (
	// refusedFor is how long the one edge of an engine may refuse connections while it is replaced
	// or comes back. Two seconds of it are the grace that its Caddyfile gives event streams.
	refusedFor = 5 * time.Second
	// silentFor is how long an answer may pause when the one that writes it dies.
	silentFor = 15 * time.Second
)

// loaded is a stack under load: whoever changes it finds out what people notice.
type loaded struct {
	*checkout
	t        *testing.T
	stack    string
	settings string

	// up brings the stack to what its settings say. What prepare does comes before it, and takes
	// none of its time. password is what Redis asks for from the next up on.
	prepare, up func()
	password    func(value string)

	// refused bounds how long connections may be refused, and silent how long an answer may pause; 0
	// are refusedFor and silentFor.
	refused, silent time.Duration

	// answers is how many long answers are open at any time, and long is how long each takes; 0 are
	// writers and half a minute.
	answers int
	long    time.Duration

	run    *load.Run
	steps  []step
	report *load.Report // of a load that has ended
}

// newLoaded brings up a prod stack with the slow model by codexctl, with flags at every `up`.
// prepare may change the checkout before.
func newLoaded(
	t *testing.T, stack, settings string, prepare func(*checkout), flags ...string,
) *loaded {
	t.Helper()
	c := copyTree(t)
	edit(t, c, "stacks/base.go", `"`+stacks.OllamaImage+`"`, `"`+slowImage+`"`)
	if prepare != nil {
		prepare(c)
	}

	c.must(t, 5*time.Minute, "go", "build", "-o", "bin/codexctl", "./cmd/codexctl")

	l := &loaded{checkout: c, t: t, stack: stack, settings: settings, prepare: func() {}}
	up := slices.Concat([]string{"up"}, flags, []string{stack})
	l.up = func() { c.must(t, 20*time.Minute, "bin/codexctl", up...) }
	l.password = func(value string) { c.secret(t, stack, "codexcontinue:redisPassword", value) }
	c.settings(t, stack, settings)
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	l.password("correct-horse-battery-staple")
	if strings.Contains(settings, "internalTLS: true") {
		c.must(t, time.Minute, "bin/codexctl", "certificates", "new", stack)
	}
	l.up()
	return l
}

// down removes the stack, which is as its settings say.
func (l *loaded) down() {
	l.t.Helper()
	noChanges(l.t, l.checkout, l.stack)
	l.must(l.t, 15*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", l.stack)
}

// What start puts in front of the stack.
const (
	lookers = 8
	writers = 20

	// wordPause is the time before each word of a long answer: it leaves two processors the time for
	// what is tried meanwhile.
	wordPause = 250 * time.Millisecond
)

// many has fifty answers of ten seconds open at any time.
func (l *loaded) many() { l.answers, l.long = 50, 10*time.Second }

// start puts people in front of the stack: eight who look around and ask, and fifty event streams
// on twenty answers of half a minute, open all the time. They have the accounts, if there are any.
func (l *loaded) start(url string, accounts ...*person) {
	l.t.Helper()
	var jar func(int) http.CookieJar
	if len(accounts) > 0 {
		jar = func(number int) http.CookieJar { return accounts[number].jar }
	}

	// It ends when it is told to: also after a test that failed, whose context is done then.
	run, err := load.Start(context.WithoutCancel(l.t.Context()), load.Options{
		URL:      url,
		Remote:   true, // the cluster's address is none of loopback, but this machine's own
		People:   lookers,
		Answers:  cmp.Or(l.answers, writers),
		Jar:      jar,
		Streams:  50,
		Long:     cmp.Or(l.long, 30*time.Second),
		Pause:    wordPause,
		Rate:     40,
		Seed:     1,
		Resend:   true,
		Progress: func(line string) { l.t.Log(line) },
	})
	if err != nil {
		l.t.Fatal(err)
	}

	l.run, l.steps, l.report = run, nil, nil
	l.t.Cleanup(func() { l.stop() })
	time.Sleep(15 * time.Second) // until all long answers are on their way
}

// stop ends the load, whose people look whether everything is there, and tells what they saw.
func (l *loaded) stop() *load.Report {
	l.t.Helper()
	if l.report != nil {
		return l.report
	}

	l.mark("")
	l.report = l.run.Stop()
	var out bytes.Buffer
	if err := l.report.Print(&out); err != nil {
		l.t.Error(err)
	}

	printSteps(&out, l)
	l.t.Logf("\n%s", out.String())
	return l.report
}

// end stops the load: every acknowledged message and its answer are there, exactly once and to the
// letter.
func (l *loaded) end() {
	l.t.Helper()
	// What happened was seen by enough people to tell something.
	const requests, questions = 10_000, 500
	until := time.Now().Add(3 * time.Minute)
	for l.run.Report().RequestCount() < requests && time.Now().Before(until) {
		time.Sleep(time.Second)
	}

	l.ended(requests, questions)
}

// ended stops the load, of which nobody may have noticed more than is allowed. With fewer requests
// and questions it tells nothing.
func (l *loaded) ended(requests, questions int) {
	l.t.Helper()
	r := l.stop()
	if err := r.Err(); err != nil {
		l.t.Error(err)
	}

	if most := cmp.Or(l.refused, refusedFor); r.Refused.Longest > most {
		l.t.Errorf("connections were refused for %s, at most %s are allowed",
			r.Refused.Longest, most)
	}

	if most := cmp.Or(l.silent, silentFor); r.Gaps.Max > most {
		l.t.Errorf("an answer paused for %s, at most %s are allowed", r.Gaps.Max, most)
	}
	if n := r.RequestCount(); n < requests || r.Asked < questions {
		l.t.Errorf("%d requests and %d questions are too few to tell anything", n, r.Asked)
	}
}

// updates changes each service in turn: by its environment, its limits, its secret,
// its model and its image.
func (l *loaded) updates() {
	services := func(settings string) func() {
		return func() {
			l.change(l.t, l.stack, l.settings+"\nlogLevel: debug\nservices: {"+settings+"}")
		}
	}

	const edgeLimit = "limit of edge"
	for _, u := range []struct {
		name   string
		change func()
	}{
		{"environment of backend, frontend and ml", services("")},
		{"limit of redis", services("redis: {memory: 640Mi}")},
		{"secret", func() { l.password("staple-battery-horse-correct") }},
		{"limit of ollama", services("redis: {memory: 640Mi}, ollama: {cpu: 3000m}")},
		{"model", func() {
			edit(l.t, l.checkout, "modelfiles/codexcontinue/Modelfile", "You are", "You really are")
		}},
		{"images of backend, frontend and ml", func() {
			changed := []byte("package server\n\nvar _ = 1\n")
			if err := os.WriteFile(l.path("services/internal/server/changed.go"), changed, 0o644); err != nil {
				l.t.Fatal(err)
			}
		}},
		{edgeLimit, services("redis: {memory: 640Mi}, ollama: {cpu: 3000m}, edge: {cpu: 900m}")},
	} {
		u.change()
		l.prepare()
		l.run.EdgeAway(u.name == edgeLimit)
		l.mark(u.name)
		l.up()
		l.done()
	}
}

// kills ends the process of each service in turn, at once.
func (l *loaded) kills(kill chaos.Kill, healthy chaos.Healthy) {
	l.run.EdgeAway(false)
	killed := func(ctx context.Context, service string) (string, error) {
		l.run.EdgeAway(service == stacks.Edge)
		l.mark(service + " killed")
		return kill(ctx, service)
	}

	_, err := chaos.Schedule{
		Seed:    1,
		Rounds:  1,
		Between: 5 * time.Second,
		Spread:  5 * time.Second,
		Services: []string{
			stacks.Gate, stacks.Frontend, stacks.Backend, stacks.ML, stacks.Ollama, stacks.Redis,
			stacks.Edge,
		},
	}.Run(l.t.Context(), killed, healthy, func(e chaos.Event) { l.done(); l.t.Log(e) })
	if err != nil {
		l.t.Error(err)
	}
}

// TestLoad holds the promises of prod on Docker: while people chat, each service is updated in
// turn, and each container is killed by its process. No message is lost, no answer is cut, nothing
// is doubled. Where that may be done, the whole engine dies as well.
func TestLoad(t *testing.T) {
	enabled(t)
	l := onDocker(t, "e2e-load")
	l.crashes()
	l.down()
}

// dockerURL is where the stack is on an engine that has these settings.
const (
	dockerURL      = "http://127.0.0.1:38080"
	dockerSettings = "overlay: prod\nportOffset: 30000\nmodel: {base: tiny, parallel: 32}"
)

// onDocker puts a stack on this machine's engine through everything.
func onDocker(t *testing.T, stack string) *loaded {
	t.Helper()
	sweep(t, stack)
	l := newLoaded(t, stack, dockerSettings, func(c *checkout) { c.remove(t, stack) })
	l.start(dockerURL)
	l.updates()
	engine := chaos.NewDocker(stack)
	l.kills(engine.Kill, engine.Healthy)
	l.end()
	return l
}

// TestKubernetesLoad holds the same promises on a cluster, where each service's container
// is killed on its node.
func TestKubernetesLoad(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack = "e2e-cluster-load"
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	l := newLoadedCluster(t, stack, "", 32, containerd)

	// The kubelet finds out that the edge is gone, and starts it again: 3.8 to 5.1 s on two busy
	// processors.
	l.refused = 8 * time.Second

	url := l.url(t, stack)
	l.start(url, l.members(t, stack, url, lookers+writers)...)
	l.updates()
	pods := chaos.NewPods(n, n.name, containerd)
	l.kills(pods.Kill, pods.Healthy)
	l.end()
	l.down()
}

// newLoadedCluster is newLoaded for a stack of a cluster that writes so many answers at once, with
// more settings in which each line ends.
func newLoadedCluster(t *testing.T, stack, more string, parallel int, containerd string) *loaded {
	t.Helper()
	settings := "overlay: prod\n" + more +
		fmt.Sprintf("target: kubernetes\nmodel: {base: ./tiny.gguf, parallel: %d}\n", parallel) +
		behindGateway +
		"signIn: {accounts: true}\n" +
		"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}}"
	return newLoaded(t, stack, settings, func(c *checkout) {
		c.ownWeights(t)
		c.continuing(t)
		// On a node of two processors the pods that come and those that drain leave no room for a
		// Redis that is replaced meanwhile, if the model reserves as much as a real one.
		edit(t, c, "stacks/base.go", "CPU: 4000, Memory: 8 * GiB", "CPU: 1000, Memory: 8 * GiB")
	}, "--load", "--into", "containerd="+containerd)
}

// continuing gives the stack's Modelfile the template of a model that can go on with a cut answer,
// which a file of weights alone has not.
func (c *checkout) continuing(t *testing.T) {
	t.Helper()
	_, template, ok := strings.Cut(slowmodel.Modelfile("x"), "\n")
	if !ok {
		t.Fatal("the slow model's Modelfile has no template")
	}

	const name = "modelfiles/codexcontinue/Modelfile"
	text, err := os.ReadFile(c.path(name))
	if err == nil {
		err = os.WriteFile(c.path(name), fmt.Appendf(text, "\n%s", template), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
