package e2e

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

var keyPattern = regexp.MustCompile(`cck_[A-Za-z0-9_]+`)

// contentStays asks a question with a phrase that nothing else has, on the page and as a program,
// reads the conversation as whoever operates the stack does, of which the person is told, and looks
// for it in whatever the stack leaves: Redis' volume has it, and nothing else.
func contentStays(t *testing.T, c *checkout, stack string, b *browser, ada *person) {
	t.Helper()
	phrase := "zibeline" + strings.ToLower(rand.Text())
	b.send(t, ada.site+"/", "What is a "+phrase+"?")
	b.waitFor(t, time.Minute, "the answer's end",
		"document.querySelector('article.answer[data-state=complete]')")
	askAsProgram(t, ada, "What is a "+phrase+"?")

	all := c.containers(t, stack)
	redis := all[stacks.Redis][0]
	if got := holders(t, c, redis, phrase); !strings.Contains(got, "/data/") {
		t.Fatalf("Redis' volume has no %s, so nothing can be shown: %q", phrase, got)
	}

	readInAnEmergency(t, c, stack, ada, phrase) // leaves no file either
	for service, list := range all {
		for _, x := range list {
			if x.State.Status != "running" {
				continue
			}
			if got := holders(t, c, x, phrase); service != stacks.Redis && got != "" {
				t.Errorf("files of %s have it: %s", x.Name, got)
			}
		}
	}

	// What a command may print, or a person may look at.
	said := map[string]string{
		"the audit":          c.must(t, time.Minute, "bin/codexctl", "audit", stack, "--json"),
		"the use":            c.must(t, time.Minute, "bin/codexctl", "usage", stack),
		"the status":         c.must(t, time.Minute, "bin/codexctl", "status", stack),
		"the outputs":        c.must(t, time.Minute, "bin/codexctl", "outputs", stack),
		"the state":          c.must(t, time.Minute, "pulumi", "stack", "export", "-s", stack),
		"the engine's facts": inspected(t, c, stack),
	}
	for service, list := range all {
		for _, x := range list {
			if x.State.Status != "running" { // those that carry files never do
				continue
			}

			out, errs, err := c.run(t, time.Minute, "docker", "logs", x.ID)
			if err != nil {
				t.Errorf("the log of %s: %v", x.Name, err)
			}
			said["the log of "+x.Name] = out + errs
			if own := ownPort[service]; own != "" {
				said["the metrics of "+x.Name] = metrics(t, c, x, own)
			}
		}
	}

	for what, text := range said {
		if strings.TrimSpace(text) == "" && !strings.HasPrefix(what, "the log of") {
			t.Errorf("%s is empty", what)
		}
		if strings.Contains(text, phrase) {
			t.Errorf("%s has it", what)
		}
	}
}

// ownPort is where each of the stack's own services answers for its metrics.
var ownPort = map[string]string{
	stacks.Gate: "8003", stacks.Frontend: "8501", stacks.Backend: "8000", stacks.ML: "5000",
}

// metrics returns those of the service's container, which gives them to who shows its certificate.
func metrics(t *testing.T, c *checkout, x container, port string) string {
	t.Helper()
	certificate := filepath.Join(t.TempDir(), "certificate.pem")
	c.must(t, time.Minute, "docker", "cp", x.ID+":/run/secrets/certificate.pem", certificate)
	pid := strings.TrimSpace(c.must(t, time.Minute, "docker", "inspect", "-f", "{{.State.Pid}}", x.ID))
	out := c.must(t, time.Minute, "nsenter", "-t", pid, "-n", "curl", "-sS", "--insecure",
		"--cert", certificate, "https://127.0.0.1:"+port+"/metrics")
	if !strings.Contains(out, "go_goroutines") {
		t.Errorf("%s gives no metrics: %s", x.Name, tail(out, 5))
	}
	return out
}

// askAsProgram asks with a key of the person's, and then the base model, which has no prompt for
// people's safety and answers nobody.
func askAsProgram(t *testing.T, p *person, question string) {
	t.Helper()
	key := keyPattern.FindString(p.post(t, "/account/keys",
		url.Values{"name": {"a program"}, "scope": {"chat"}, "days": {"1"}}))
	for model, want := range map[string]int{
		"codexcontinue-healthcare": http.StatusOK, "llama3": http.StatusForbidden,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			p.site+"/v1/chat/completions", strings.NewReader(`{"model": "`+model+`", `+
				`"max_tokens": 8, "messages": [{"role": "user", "content": "`+question+`"}]}`))
		if err != nil {
			t.Fatal(err)
		}

		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: insecure(), Timeout: time.Minute}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Fatalf("a program's question to %s: %s, %v: %s", model, resp.Status, err, body)
		}
	}
}

// holders returns the files that have the phrase, of those that the container sees: its image's,
// its volumes' and those in its memory. What looks for it is another container that sees the same.
func holders(t *testing.T, c *checkout, x container, phrase string) string {
	t.Helper()
	out, errs, _ := c.run(t, 5*time.Minute, "docker", "run", "--rm", "--user", "0",
		"--pid", "container:"+x.ID, "--network", "none", "--cap-add", "SYS_PTRACE",
		"--entrypoint", "sh", stacks.RedisImage, "-c",
		`cd /proc/1/root && echo seen >&2 && for d in * dev/shm; do `+
			`case $d in proc|sys|dev) ;; *) grep -rlaF -- "$0" "/proc/1/root/$d";; esac; done`, phrase)
	if !strings.Contains(errs, "seen") {
		t.Fatalf("the files of %s cannot be seen: %s", x.Name, errs)
	}
	return strings.ReplaceAll(strings.TrimSpace(out), "/proc/1/root", "")
}

// inspected returns what the engine says of the stack's containers, networks and volumes.
func inspected(t *testing.T, c *checkout, stack string) string {
	t.Helper()
	var said strings.Builder
	for _, kind := range []string{"container", "network", "volume"} {
		ids := strings.Fields(c.must(t, time.Minute, "docker", kind, "ls", "-q", "--filter",
			"label="+stacks.LabelStack+"="+stack))
		said.WriteString(c.must(t, time.Minute, "docker", append([]string{kind, "inspect"}, ids...)...))
	}
	return said.String()
}

// readInAnEmergency reads what is stored of the person by the command, for a reason that is
// recorded and that the person sees.
func readInAnEmergency(t *testing.T, c *checkout, stack string, p *person, phrase string) {
	t.Helper()
	const reason = "case 4711 of the board"
	file := filepath.Join(t.TempDir(), "read.json")
	read := []string{"user", "read", "--stack", stack, p.name, "--reason", reason, "--file", file}
	c.must(t, time.Minute, "bin/codexctl", read...)
	text, err := os.ReadFile(file)
	info, bad := os.Stat(file)
	if err != nil || bad != nil || info.Mode() != 0o600 || !strings.Contains(string(text), phrase) ||
		!strings.HasSuffix(string(text), "]}\n") {
		t.Errorf("read are %d bytes, %v, %v, %v", len(text), info.Mode(), err, bad)
	}

	if _, said, err := c.run(t, time.Minute, "bin/codexctl", read...); err == nil {
		t.Errorf("a file that is there is written again: %s", said)
	}

	records := c.must(t, time.Minute, "bin/codexctl", "audit", stack)
	if strings.Count(records, reason) != 2 || strings.Contains(records, phrase) {
		t.Errorf("recorded is\n%s", tail(records, 20))
	}

	resp, err := p.client().Get(p.site + "/account/data")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if page, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(page), reason) {
		t.Errorf("the person is not told: %v", err)
	}
}
