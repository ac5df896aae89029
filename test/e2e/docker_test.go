package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// answer is what the tiny model always says.
const answer = "every answer from me is always these same twenty fixed words"

// allServices are the services of every shipped stack.
var allServices = []string{
	stacks.Backend, stacks.Edge, stacks.Frontend, stacks.Gate, stacks.ML, stacks.Ollama,
	stacks.Redis,
}

// engineWanted skips unless `make e2e` asked for this and Docker is there.
func engineWanted(t *testing.T) {
	t.Helper()
	peers.EndToEnd(t)
	peers.Find(t, "docker", "docker")
}

// enabled skips unless Docker and what Pulumi needs are there as well.
func enabled(t *testing.T) {
	t.Helper()
	engineWanted(t)
	peers.Find(t, "pulumi", "pulumi")
	peers.DockerPlugin(t)
}

// TestDev is the life of a dev stack: what a platform engineer, a service developer and a
// person who chats see.
func TestDev(t *testing.T) {
	enabled(t)
	const stack, port = "e2e-dev", "18080"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, `
		overlay: dev
		portOffset: 10000
		model: {base: tiny}`)

	c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	c.usePulumi(t, stack)
	checkHardening(t, c.containers(t, stack), true)

	b := newBrowser(t)
	chat(t, b, "http://127.0.0.1:"+port+"/")
	b.run(t, time.Minute, chromedp.Reload())
	b.waitFor(t, time.Minute, "the conversation after a reload",
		"document.body.innerText.includes("+js(answer)+")")
	b.screenshot(t, "dev")

	t.Run("preview is clean after up", func(t *testing.T) { noChanges(t, c, stack) })
	t.Run("preview is clean after refresh", func(t *testing.T) {
		c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
		noChanges(t, c, stack)
	})

	t.Run("second up changes nothing", func(t *testing.T) {
		before := c.containers(t, stack)
		start := time.Now()
		c.must(t, time.Minute, "bin/codexctl", "up", stack)
		if took := time.Since(start); took > 20*time.Second { // the 5 s is measured by make bench, on a quiet machine
			t.Errorf("a second up took %s", took)
		}
		sameContainers(t, before, c.containers(t, stack))
	})

	t.Run("tests and linters", func(t *testing.T) {
		before := c.containers(t, stack)
		developed(t, c, "--stack", stack)
		sameContainers(t, before, c.containers(t, stack))
	})

	t.Run("live reload", func(t *testing.T) { liveReload(t, c, stack) })
	t.Run("logs and status", func(t *testing.T) {
		if out := c.must(t, time.Minute, "bin/codexctl", "logs", "--stack", stack,
			"backend"); !strings.Contains(out, "listening") {
			t.Errorf("logs of backend show no start:\n%s", tail(out, 10))
		}

		out := c.must(t, time.Minute, "bin/codexctl", "status", stack)
		for _, s := range allServices {
			if !strings.Contains(out, s) {
				t.Errorf("status does not show %s:\n%s", s, out)
			}
		}
	})

	t.Run("down keeps the volumes, up finds the conversation", func(t *testing.T) {
		c.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
		if left := c.containers(t, stack); len(left) != 0 {
			t.Errorf("containers left after down: %v", left)
		}

		if n := c.must(t, time.Minute, "docker", "network", "ls", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack); n != "" {
			t.Errorf("networks left after down: %s", n)
		}

		vols := c.must(t, time.Minute, "docker", "volume", "ls", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack)
		for _, want := range []string{stacks.RedisData, stacks.OllamaData} {
			if !strings.Contains(vols, want) {
				t.Errorf("volume %s is gone after down: %s", want, vols)
			}
		}

		c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
		b.run(t, time.Minute, chromedp.Reload())
		b.waitFor(t, time.Minute, "the conversation after down and up",
			"document.body.innerText.includes("+js(answer)+")")
		c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
	})
}

// TestProd checks what production promises: small images, one published port, a secret that shows
// nowhere, and that a changed source replaces one service only.
func TestProd(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack, port, password = "e2e-prod", "28080", "correct-horse-battery-staple"
	c := newCheckout(t)
	c.remove(t, stack)
	c.settings(t, stack, `
		overlay: prod
		portOffset: 20000
		model: {base: tiny}`)

	out, errOut, err := c.run(t, 5*time.Minute, "bin/codexctl", "up", stack)
	if err == nil || !strings.Contains(out+errOut, "redisPassword") {
		t.Errorf("without its secret prod must not come up, and must name redisPassword: %v\n%s\n%s",
			err, out, errOut)
	}

	if left := c.containers(t, stack); len(left) != 0 {
		t.Errorf("a refused up left containers: %v", left)
	}

	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", password)
	said := c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
	running := c.containers(t, stack)
	checkHardening(t, running, false)
	smallImages(t, c, running)
	b := newBrowser(t)
	chat(t, b, "http://127.0.0.1:"+port+"/")
	b.screenshot(t, "prod")

	t.Run("preview is clean", func(t *testing.T) {
		noChanges(t, c, stack)
		c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
		noChanges(t, c, stack)
	})

	t.Run("the secret shows nowhere", func(t *testing.T) {
		// Also not the one that ml has of it.
		own := stacks.File{Secret: stacks.RedisPassword, Content: stacks.SecretFor("redis user ml")}
		preview := c.preview(t, stack, "--diff")
		for _, value := range []string{password, own.Text(password)} {
			showsNowhere(t, c, stack, value, map[string]string{"up": said, "preview": preview})
		}
	})

	t.Run("Redis knows its services alone", func(t *testing.T) {
		out := c.must(t, time.Minute, "docker", "exec", running[stacks.Redis][0].ID,
			"redis-cli", "get", "running")
		if !strings.Contains(out, "NOAUTH") {
			t.Errorf("who is nobody gets %q", out)
		}
	})

	t.Run("one deploy at a time", func(t *testing.T) { deploysAlone(t, c, stack) })
	t.Run("maintenance", func(t *testing.T) { closes(t, c, stack, "http://127.0.0.1:"+port) })
	t.Run("a command of its own", func(t *testing.T) {
		runsOnce(t, c, stack)
		noChanges(t, c, stack)
	})

	t.Run("another password replaces those who have it", func(t *testing.T) {
		before := c.containers(t, stack)
		c.secret(t, stack, "codexcontinue:redisPassword", "staple-battery-horse-correct")
		c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
		after := c.containers(t, stack)
		having := []string{stacks.Redis, stacks.Gate, stacks.Backend, stacks.ML}
		for _, s := range allServices {
			user := slices.Contains(having, s)
			if same := ids(before[s]) == ids(after[s]); same == user {
				t.Errorf("%s: %s, then %s", s, ids(before[s]), ids(after[s]))
			}
		}
		chat(t, b, "http://127.0.0.1:"+port+"/")
	})

	t.Run("a secret of a service is that service's", func(t *testing.T) { hasSecret(t, c, stack) })

	t.Run("a changed source replaces its service only", func(t *testing.T) {
		before := c.containers(t, stack)
		edit(t, c, "services/backend/main.go", "func main() {",
			"var _ = \"changed\"\n\nfunc main() {")
		c.must(t, 20*time.Minute, "bin/codexctl", "up", stack)
		after := c.containers(t, stack)
		for _, s := range allServices {
			same := ids(before[s]) == ids(after[s])
			if s == stacks.Backend && (same || before[s][0].Image == after[s][0].Image) {
				t.Errorf("backend was not replaced: image %s", after[s][0].Image)
			}
			if s != stacks.Backend && !same {
				t.Errorf("%s was replaced: %s, then %s", s, ids(before[s]), ids(after[s]))
			}
		}
	})

	t.Run("nothing of the checkout is needed", func(t *testing.T) { withoutCheckout(t, c, stack) })
	t.Run("a pruned image is built again", func(t *testing.T) { builtAgain(t, c, stack) })
	t.Run("images say what is in them", func(t *testing.T) { listsWhatIsInside(t, c, stack) })

	c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
}

// smallImages holds the images of the repository's own services to the 16 MB that production
// promises, and the gate's, which has a client of Redis and templates, to 25 MB.
func smallImages(t *testing.T, c *checkout, running map[string][]container) {
	t.Helper()
	for s, most := range map[string]float64{
		stacks.Gate: 25e6, stacks.Frontend: 16e6, stacks.Backend: 16e6, stacks.ML: 16e6,
	} {
		if len(running[s]) == 0 {
			t.Errorf("service %s has no container", s)
			continue
		}

		var size int64
		if _, err := fmt.Sscan(c.must(t, time.Minute, "docker", "image", "inspect", "-f",
			"{{.Size}}", running[s][0].Image),
			&size); err != nil {
			t.Fatal(err)
		}

		t.Logf("image of %s: %.1f MB", s, float64(size)/1e6)
		if float64(size) >= most {
			t.Errorf("image of %s is %.1f MB, want below %.0f MB", s, float64(size)/1e6, most/1e6)
		}
	}
}

// showsNowhere looks for a secret's value where everyone on the machine can look, and
// in what else was said.
func showsNowhere(t *testing.T, c *checkout, stack, value string, said map[string]string) {
	t.Helper()
	filter := "--filter label=" + stacks.LabelStack + "=" + stack
	said["inspect"] = c.must(t, time.Minute, "sh", "-c",
		"docker inspect $(docker ps -aq "+filter+")")
	said["logs"] = c.must(t, time.Minute, "sh", "-c",
		"for i in $(docker ps -q "+filter+"); do docker logs $i 2>&1; done")
	said["processes"] = c.must(t, time.Minute, "ps", "axeww")
	for where, text := range said {
		if strings.Contains(text, value) {
			t.Errorf("%s shows the secret", where)
		}
	}
}

// chat asks a question as a person does and waits for the whole answer.
func chat(t *testing.T, b *browser, url string) {
	t.Helper()
	b.send(t, url, "What is a bounded queue?")
	b.waitFor(t, time.Minute, "the streamed answer",
		"document.body.innerText.includes("+js(answer)+")")
	b.waitFor(t, time.Minute, "the answer's end",
		"document.querySelector('article.answer[data-state=complete]')")
	b.waitFor(t, time.Minute, "the conversation's address",
		"location.pathname.startsWith('/c/')")
}

// noChanges wants a preview with nothing in it.
func noChanges(t *testing.T, c *checkout, stack string) {
	t.Helper()
	c.preview(t, stack, "--expect-no-changes")
}

// preview runs a plain `pulumi preview`, as a reviewer's pipeline does, where the Go language host
// is there, and codexctl's, which needs none, elsewhere.
func (c *checkout) preview(t *testing.T, stack, flag string) string {
	t.Helper()
	if _, err := exec.LookPath("pulumi-language-go"); err == nil {
		return c.must(t, 5*time.Minute, "pulumi", "preview", "-s", stack, flag, "--non-interactive")
	}
	if flag == "--diff" {
		return c.must(t, 5*time.Minute, "bin/codexctl", "preview", stack)
	}

	return c.must(t, 5*time.Minute, "bin/codexctl", "preview", flag, stack)
}

// usePulumi gives the plain pulumi CLI what `codexctl env` prints for it.
func (c *checkout) usePulumi(t *testing.T, stack string) {
	t.Helper()
	for line := range strings.Lines(c.must(t, time.Minute, "bin/codexctl", "env", stack)) {
		if kv, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			c.env = append(c.env, strings.ReplaceAll(kv, "'", ""))
		}
	}
}

// secret sets the secret of the config at the key, which may be a path.
func (c *checkout) secret(t *testing.T, stack, key, value string) {
	t.Helper()
	f := t.TempDir() + "/secret"
	if err := os.WriteFile(f, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, time.Minute, "sh", "-c", "pulumi config set --secret --path -s "+stack+" "+key+" < "+f)
}

func liveReload(t *testing.T, c *checkout, stack string) {
	before := c.containers(t, stack)
	edit(t, c, "services/internal/server/server.go", `Status: "ok"`, `Status: "reloaded"`)
	start := time.Now()
	for {
		var body struct{ Status string }
		resp, err := http.Get("http://127.0.0.1:18000/health")
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&body)
			resp.Body.Close()
		}

		if err == nil && body.Status == "reloaded" {
			break
		}
		if time.Since(start) > 5*time.Minute {
			t.Fatalf("five minutes after the edit backend still says %q (%v)", body.Status, err)
		}

		time.Sleep(100 * time.Millisecond)
	}

	t.Logf("edit to running: %.1f s", time.Since(start).Seconds())
	sameContainers(t, before, c.containers(t, stack))
	noChanges(t, c, stack)
}

func edit(t *testing.T, c *checkout, name, from, to string) {
	t.Helper()
	b, err := os.ReadFile(c.path(name))
	if err != nil {
		t.Fatal(err)
	}

	s := strings.Replace(string(b), from, to, 1)
	if s == string(b) {
		t.Fatalf("%s does not hold %q", name, from)
	}
	if err := os.WriteFile(c.path(name), []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ids(list []container) string {
	var out []string
	for _, x := range list {
		out = append(out, x.ID)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func sameContainers(t *testing.T, before, after map[string][]container) {
	t.Helper()
	for s := range before {
		if ids(before[s]) != ids(after[s]) {
			t.Errorf("containers of %s changed: %s, then %s", s, ids(before[s]), ids(after[s]))
		}
	}
}

// checkHardening holds every container to what the issue of the dev stack and CIS Docker
// sections 4 and 5 ask for.
func checkHardening(t *testing.T, all map[string][]container, dev bool) {
	t.Helper()
	for _, s := range allServices {
		if len(all[s]) == 0 {
			t.Errorf("service %s has no container", s)
		}
	}

	for s, list := range all {
		for _, x := range list {
			bad := func(format string, args ...any) {
				t.Errorf("%s (%s): %s", s, x.Name, fmt.Sprintf(format, args...))
			}
			if uid, _, _ := strings.Cut(x.Config.User, ":"); uid == "" || uid == "0" ||
				uid == "root" {
				bad("runs as %q", x.Config.User)
			}

			h := x.HostConfig
			carrier := s == "" && x.State.Status == "created" // it holds files and is never started
			if !h.ReadonlyRootfs && !carrier {
				bad("root file system is writable")
			}
			if !slices.Contains(h.CapDrop, "ALL") {
				bad("capabilities dropped: %v", h.CapDrop)
			}

			for _, k := range h.CapAdd {
				if s != stacks.Edge || strings.TrimPrefix(k, "CAP_") != "NET_BIND_SERVICE" {
					bad("capability %s is added", k)
				}
			}

			if !slices.ContainsFunc(h.SecurityOpt, func(o string) bool {
				return strings.HasPrefix(o, "no-new-privileges")
			}) || h.Privileged {
				bad("privileges: %v, privileged %v", h.SecurityOpt, h.Privileged)
			}

			if carrier {
				continue
			}

			if h.Memory == 0 || h.NanoCPUs == 0 && h.CPUQuota == 0 || h.PidsLimit == nil ||
				*h.PidsLimit <= 0 {
				bad("limits: memory %d, cpus %d/%d, pids %v",
					h.Memory, h.NanoCPUs, h.CPUQuota, h.PidsLimit)
			}

			for port, bindings := range h.PortBindings {
				for _, bind := range bindings {
					if bind.HostIP != "127.0.0.1" {
						bad("port %s is published on %q", port, bind.HostIP)
					}
				}

				if !dev && s != stacks.Edge && len(bindings) > 0 {
					bad("port %s is published in prod", port)
				}
			}

			if s != "" && (x.State.Health == nil || x.State.Health.Status != "healthy") {
				bad("health: %s %+v", x.State.Status, x.State.Health)
			}

			for _, kv := range x.Config.Env {
				if strings.Contains(strings.ToUpper(kv), "PASSWORD=") {
					bad("a password in the environment")
				}
			}
		}
	}
}
