package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls/mtlstest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// release writes another Modelfile and its evals into the project's folder, and returns the
// environment of the plan that saw them.
func release(t *testing.T, environ []string, modelfile, evals string) []string {
	t.Helper()
	dir := ""
	for _, v := range environ {
		if path, ok := strings.CutPrefix(v, "MODELFILE_PATH="); ok {
			dir = filepath.Dir(path)
		}
	}

	for name, content := range map[string]string{"Modelfile": modelfile, "evals.yaml": evals} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	m, err := modelfiles.Load(os.DirFS(dir), "Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := modelfiles.LoadEvals(os.DirFS(dir), "Modelfile")
	if err != nil {
		t.Fatal(err)
	}

	return append(slices.Clone(environ), "MODELFILE_DIGEST="+m.Digest, "EVALS_DIGEST="+e.Digest)
}

// command runs ml's command and reads what it prints.
func command(t *testing.T, environ []string, words ...string) (m mlapi.Model, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	if err := run(t.Context(), words, environ, &out, &errs); err != nil {
		return m, err
	}
	if out.Len() > 0 {
		err = json.Unmarshal(out.Bytes(), &m)
	}
	return m, err
}

func mustCommand(t *testing.T, environ []string, words ...string) mlapi.Model {
	t.Helper()
	m, err := command(t, environ, words...)
	if err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return m
}

const (
	saysHello   = "cases: [{name: greets, prompt: Hi, must: [^hello]}]\n"
	saysAnyWord = "cases: [{name: says something, prompt: Hi, must: [\"[a-z]\"], tokens: 16}]\n"
)

func oneThread(end string) string {
	return tinymodel.Modelfile("tiny.gguf", end) + "PARAMETER num_thread 1\n"
}

// TestRollbackUnderLoad: while fifty answers are open the version before takes over within seconds,
// every answer comes to its end, and those asked after it are the earlier version's, also after a
// restart.
func TestRollbackUnderLoad(t *testing.T) {
	o := ollamatest.Start(t)
	environ, url := project(t, o.URL)
	environ = append(environ, "MAX_PARALLEL=50", "MAX_QUEUE=100")
	one := release(t, environ, oneThread(""), saysHello)
	mustCommand(t, one, "model", "apply")
	two := release(t, environ, oneThread(tinymodel.LoopToken), saysAnyWord)
	ctx, stop := context.WithCancel(t.Context())
	s := &serving{t: t, environ: two, url: url, client: backend(t, two)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, two, io.Discard, &s.logs) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	await(t, func() bool {
		return run(t.Context(), []string{"healthcheck"}, two, io.Discard, io.Discard) == nil &&
			strings.Contains(state(t, s.client, url), "ready")
	})

	const answers, words = 50, 200
	long := fmt.Sprintf(
		`{"messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":%d}}`, words)
	var done sync.WaitGroup
	errs := make(chan error, answers)
	for range answers {
		done.Go(func() { errs <- finish(s.client, url, long) })
	}

	await(t, func() bool {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()

		text, err := io.ReadAll(resp.Body)
		_, rest, found := strings.Cut(string(text), "\nml_queue_running ")
		running := 0
		_, failed := fmt.Sscan(rest, &running)
		return err == nil && found && failed == nil && running >= answers*8/10
	})

	begin := time.Now()
	m := mustCommand(t, two, "model", "rollback")
	took := time.Since(begin)
	if m.Version != version(one) || m.From != version(two) {
		t.Errorf("%+v", m)
	}

	left := answers - len(errs)
	text, err := s.chat("", "Hi")
	if err != nil || text != tinymodel.Answer {
		t.Errorf("after the rollback it says %q, %v", text, err)
	}

	done.Wait()
	for range answers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}

	t.Logf("rolled back in %s; %d of %d answers ended after it", took.Round(time.Millisecond), left,
		answers)
	if took > 20*time.Second || left < answers/2 {
		t.Errorf("%s, %d answers were open", took, left)
	}

	// What starts again leaves it so.
	mustCommand(t, two, "model", "apply")
	if all := mustCommand(t, two, "model", "list").Replicas[0].Releases; len(all) != 2 ||
		all[0].Serves || !all[0].Wanted || !all[0].Held || !all[1].Serves ||
		all[1].Verdict != mlapi.VerdictPassed {
		t.Errorf("%+v", all)
	}

	await(t, func() bool {
		resp, err := s.client.Get(url + "/models")
		if err != nil {
			return false
		}
		defer resp.Body.Close()

		var m mlapi.Models
		return json.NewDecoder(resp.Body).Decode(&m) == nil && m.Build.RolledBack &&
			m.Build.Serves == version(one) && m.Build.State == mlapi.BuildReady
	})

	if _, err := command(t, two, "model", "rollback", version(one)); err == nil ||
		!strings.Contains(err.Error(), "it serves already") {
		t.Errorf("%v", err)
	}

	mustCommand(t, two, "model", "apply", "--again")
	if all := mustCommand(t, two, "model", "list").Replicas[0].Releases; !all[0].Serves ||
		all[0].Held {
		t.Errorf("%+v", all)
	}
}

// version is that of the Modelfile of an environment.
func version(environ []string) string {
	v := ""
	for _, e := range environ {
		if digest, ok := strings.CutPrefix(e, "MODELFILE_DIGEST="); ok {
			v = digest[:12]
		}
	}
	return v
}

// finish asks and reads the answer to its end.
func finish(client *http.Client, url, body string) error {
	resp, err := client.Post(url+"/chat", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	d := json.NewDecoder(resp.Body)
	for text := ""; ; {
		var c mlapi.Chunk
		switch err := d.Decode(&c); {
		case err != nil:
			return fmt.Errorf("after %d bytes: %w", len(text), err)
		case c.Error != nil:
			return fmt.Errorf("after %d bytes: %w", len(text), c.Error)
		case c.Again:
			return fmt.Errorf("it began again after %d bytes", len(text))
		case c.Done != nil:
			// One that Ollama had not begun may be the earlier version's.
			if !strings.Contains(text, tinymodel.LoopWords) && text != tinymodel.Answer {
				return fmt.Errorf("it ends as %q", text)
			}
			return nil
		}
		text += c.Text
	}
}

// TestEvalsOfAVersion: evals can be asked on demand, the report names what is wrong, and nobody
// can ask a version itself.
func TestEvalsOfAVersion(t *testing.T) {
	o := ollamatest.Start(t)
	environ, url := project(t, o.URL)
	one := release(t, environ, oneThread(""), saysHello)
	mustCommand(t, one, "model", "apply")
	bad := release(t, environ, oneThread(tinymodel.AltToken), saysHello)
	if _, err := command(t, bad, "model", "apply", "--tries", "4"); err == nil ||
		!strings.Contains(err.Error(), "does not pass its evals") {
		t.Fatalf("%v", err)
	}

	m := mustCommand(t, bad, "model", "list")
	if m.Evals == nil || m.Evals.Failures[0].Answer != tinymodel.AltAnswer || m.Name != "m" {
		t.Errorf("%+v", m.Evals)
	}

	for words, want := range map[string]string{
		"eval":                  version(one),
		"eval " + version(bad):  version(bad),
		"eval 000000000000":     "there is no version 000000000000",
		"rollback":              "there is no earlier version",
		"rollback --replicas 2": "only 1 of 2 replicas of Ollama are there",
		"list --replicas 2":     "usage: ",
		"rollback 000000000000": "there is no version 000000000000",
		"list x":                "usage: ",
		"eval a b":              "usage: ",
	} {
		m, err := command(t, bad, append([]string{"model"}, strings.Fields(words)...)...)
		if err == nil && m.Version != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", words, m, err)
		}
	}

	s := startService(t, bad, url)
	await(t, func() bool { return strings.Contains(state(t, s.client, url), "its evals") })
	for _, name := range []string{"m:" + version(bad), "m:" + version(bad) + "-failed",
		"m:" + version(one)} {
		if text, err := s.chat(name, "Hi"); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s says %q, %v", name, text, err)
		}
	}
}

// TestReleasesOverTLS: where the services speak TLS, the commands do so with Ollama.
func TestReleasesOverTLS(t *testing.T) {
	o := ollamatest.Start(t)
	environ, _ := project(t, o.URL)
	mustCommand(t, environ, "model", "apply")
	behind, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}

	text := mtlstest.Now()
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(behind))
	front.TLS = mtlstest.New(t, text, "localhost", "ml").Server()
	front.StartTLS()
	defer front.Close()

	v := mtlstest.Files(t, text, "ml")
	_, port, _ := net.SplitHostPort(front.Listener.Addr().String())
	m := mustCommand(t, append(environ, "OLLAMA_API_URL=https://localhost:"+port,
		"TLS_CERTIFICATE_FILE="+v.TLSCertificateFile, "TLS_AUTHORITIES_FILE="+v.TLSAuthoritiesFile,
	), "model", "list")
	if len(m.Replicas) != 1 || len(m.Replicas[0].Releases) != 1 {
		t.Errorf("%+v", m)
	}
}

// TestParted: a rollback that was cut off is brought to its end, and goes no further.
func TestParted(t *testing.T) {
	for name, tc := range map[string]struct {
		serve []string
		want  string
	}{
		"all the same":         {[]string{"b", "b"}, ""},
		"the first went back":  {[]string{"a", "b"}, "a"},
		"the second went back": {[]string{"b", "a"}, "a"},
		"after another":        {[]string{"c", "b", "a", "c"}, "a"},
		"one has none":         {[]string{"", "b"}, ""},
		"one has none yet":     {[]string{"b", "", "a"}, "a"},
	} {
		var r releases
		for _, serves := range tc.serve {
			var replica mlapi.Releases
			for _, v := range []string{"c", "b", "a"} {
				replica.Releases = append(replica.Releases,
					mlapi.Release{Version: v, Serves: v == serves})
			}
			r.out.Replicas = append(r.out.Replicas, replica)
		}
		if got := r.parted(); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestSpareTurns: evals let people go first, and get a turn in the end.
func TestSpareTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := queue.New(1, 1)
		first, err := turns.Acquire(t.Context(), "a", nil)
		if err != nil {
			t.Fatal(err)
		}

		waits := make(chan func())
		go func() {
			release, err := turns.Acquire(t.Context(), "b", func(int) error { return nil })
			if err != nil {
				t.Error(err)
			}
			waits <- release
		}()
		synctest.Wait()

		got := make(chan func())
		start := time.Now()
		go func() {
			release, err := spare(turns)(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- release
		}()

		time.Sleep(5 * time.Second)
		first()
		second := <-waits // who came before the evals
		time.Sleep(time.Second)
		second()
		(<-got)()
		if took := time.Since(start); took < 6*time.Second {
			t.Errorf("the evals had their turn after %s", took)
		}
	})
}

// TestSpareAtOnce: evals wait where another ml asks them for the same owner.
func TestSpareAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := queue.New(2, 2)
		turns.Limit(1)
		first, err := spare(turns)(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		time.AfterFunc(5*time.Second, first)
		second, err := spare(turns)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second()
	})
}
