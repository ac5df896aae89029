package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

func TestMain(m *testing.M) { ollamatest.Main(m) }

// serving is the service as a process would run it.
type serving struct {
	t       *testing.T
	environ []string
	url     string
	client  *http.Client
	logs    output
}

func startService(t *testing.T, environ []string, url string) *serving {
	t.Helper()
	s := &serving{t: t, environ: environ, url: url, client: backend(t, environ)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, environ, io.Discard, &s.logs) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", s.logs.String())
		}
	})

	await(t, func() bool {
		return run(t.Context(), []string{"healthcheck"}, environ, io.Discard, io.Discard) == nil
	})
	return s
}

// readiness is what /ready says of the model.
func (s *serving) readiness() (int, string) {
	s.t.Helper()
	resp, err := http.Get(s.url + "/ready")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()

	var r wire.Readiness
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		s.t.Fatal(err)
	}

	return resp.StatusCode, r.Checks["model"]
}

func (s *serving) ready() bool { code, _ := s.readiness(); return code == http.StatusOK }

// ask asks with the messages, of the user and the assistant in turns. It returns the
// answer's chunks as they come.
func (s *serving) ask(
	model string, messages ...string,
) (next func() (mlapi.Chunk, error), end func(), err error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}

	var list []message
	for i, m := range messages {
		list = append(list, message{[]string{"user", "assistant"}[i%2], m})
	}

	body, err := json.Marshal(map[string]any{"model": model, "messages": list})
	if err != nil {
		return nil, nil, err
	}

	resp, err := s.client.Post(s.url+"/chat", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}

	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return nil, nil, fmt.Errorf("%s: %s", resp.Status, b)
	}

	d := json.NewDecoder(resp.Body)
	return func() (c mlapi.Chunk, err error) {
		if err = d.Decode(&c); err == nil && c.Error != nil {
			err = c.Error
		}
		return c, err
	}, func() { resp.Body.Close() }, nil
}

// chat is the whole answer.
func (s *serving) chat(model string, messages ...string) (string, error) {
	next, end, err := s.ask(model, messages...)
	if err != nil {
		return "", err
	}
	defer end()

	for text := ""; ; {
		c, err := next()
		text += c.Text
		if err != nil || c.Done != nil {
			return text, err
		}
	}
}

// at reads a metric of each replica.
func (s *serving) at(metric string) map[string]float64 {
	s.t.Helper()
	resp, err := http.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}

	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		var value float64
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), metric+`{replica="`)
		address, number, found := strings.Cut(rest, `"} `)
		if !ok || !found {
			continue
		}
		if _, err := fmt.Sscan(number, &value); err != nil {
			s.t.Fatal(err)
		}

		out[address] = value
	}

	return out
}

// home is the replica that got the one request that do makes.
func (s *serving) home(do func()) string {
	s.t.Helper()
	before := s.at("ml_ollama_replica_requests_total")
	do()
	for address, n := range s.at("ml_ollama_replica_requests_total") {
		if n > before[address] {
			return address
		}
	}

	s.t.Fatal("no replica got the request")
	return ""
}

// TestReplicas runs the service on three real replicas behind one name: the job makes the model in
// each, conversations keep to one, and one that dies takes no conversation with it.
func TestReplicas(t *testing.T) {
	fleet := ollamatest.StartFleet(t, 3)
	var there atomic.Int32
	ollamatest.Resolve(t, "ollama.internal", func() []string {
		return fleet.Addresses(int(there.Load()))
	})
	environ, url := project(t, "http://ollama.internal:"+fleet.Port)
	environ = append(environ, "APPLY_MODEL=false", "MAX_QUEUE=32")
	s := startService(t, environ, url)

	// The replicas come one after the other: the job waits for all. It runs twice, as two
	// may after a lost node.
	var jobs [2]output
	var running sync.WaitGroup
	for i := range jobs {
		running.Go(func() {
			if err := run(t.Context(), []string{"model", "apply", "--replicas", "3"}, environ,
				io.Discard, &jobs[i]); err != nil {
				t.Errorf("%v\n%s", err, jobs[i].String())
			}
		})
	}

	// the name does not exist
	await(t, func() bool { return strings.Contains(jobs[0].String(), "waiting for Ollama: ") })
	there.Store(2)
	await(t, func() bool {
		return strings.Contains(jobs[0].String(), "waiting for 3 replicas of Ollama: 2 are there")
	})
	if code, why := s.readiness(); code != http.StatusServiceUnavailable ||
		!strings.Contains(why, "not there yet") {
		t.Errorf("ready before its model: %d %s", code, why)
	}

	there.Store(3)
	running.Wait()
	for _, o := range fleet.Servers {
		list, err := o.Client().List(t.Context())
		names := map[string]string{}
		for _, m := range list {
			names[m.Name] = m.Digest
		}

		if err != nil || len(names) != 2 || names["m:latest"] == "" {
			t.Errorf("%s has %v, %v", o.Address(), names, err)
		}

		for i := range jobs {
			if !strings.Contains(jobs[i].String(), o.Address()+": ready") {
				t.Errorf("job %d does not say that %s is ready:\n%s",
					i, o.Address(), jobs[i].String())
			}
		}
	}

	await(t, s.ready)
	await(t, func() bool { return len(s.at("ml_ollama_replica_up")) == 3 })

	// Conversations spread, and each turn goes where the first one went.
	homes, at := map[string]string{}, map[string]int{}
	for i := range 24 {
		q := fmt.Sprintf("question %d", i)
		var answer string
		first := s.home(func() {
			var err error
			if answer, err = s.chat("", q); err != nil || answer != tinymodel.Answer {
				t.Fatalf("%q, %v", answer, err)
			}
		})

		if second := s.home(func() { _, _ = s.chat("", q, answer, "and then?") }); second != first {
			t.Errorf("the second turn of %q went from %s to %s", q, first, second)
		}

		homes[q] = first
		at[first]++
	}

	if len(at) != 3 {
		t.Errorf("24 conversations are at %v", at)
	}

	// One dies: its conversations go on elsewhere, nobody sees an error, and it is left alone.
	dead := fleet.Servers[0]
	dead.Kill(t)
	for q := range homes {
		if answer, err := s.chat("", q); err != nil || answer != tinymodel.Answer {
			t.Errorf("with one replica dead: %q, %v", answer, err)
		}
	}

	await(t, func() bool { return s.at("ml_ollama_replica_up")[dead.Address()] == 0 })
	if !s.ready() {
		t.Error("with two of three replicas the service is not ready")
	}

	// It comes back, and its conversations with it. A turn goes elsewhere while its replica is slow
	// to answer; the next one is at home again.
	dead.Restart(t)
	await(t, func() bool { return s.at("ml_ollama_replica_up")[dead.Address()] == 1 })
	for q, home := range homes {
		await(t, func() bool { return s.home(func() { _, _ = s.chat("", q) }) == home })
	}

	// One that dies in the middle of an answer: the reader learns it, and the
	// answer does not begin anew.
	for _, o := range fleet.Servers {
		o.Tiny(t, "loop", tinymodel.LoopToken)
	}

	next, end, err := s.ask("loop", "for ever")
	if err != nil {
		t.Fatal(err)
	}
	defer end()

	for range 5 {
		if c, err := next(); err != nil || c.Text == "" {
			t.Fatalf("%+v, %v", c, err)
		}
	}

	load := s.at("ml_ollama_replica_running")
	for _, o := range fleet.Servers {
		if load[o.Address()] > 0 {
			o.Kill(t)
		}
	}

	for err == nil {
		_, err = next()
	}

	if p, ok := errors.AsType[*problem.Problem](err); !ok || p.Status != http.StatusBadGateway {
		t.Errorf("the end of an answer that was cut off: %v", err)
	}
}

// TestSharedStore: replicas that read one store, which they cannot write to, serve what a job makes
// through an Ollama of its own, without a restart. docs/scaling.md tells what they need for it.
func TestSharedStore(t *testing.T) {
	writer := ollamatest.Start(t)
	fleet := ollamatest.StartReaders(t, 2, writer.Store)
	ollamatest.Resolve(t, "ollama.internal", func() []string { return fleet.Addresses(2) })
	if said := ollamatest.ReadsEmpty(t); !strings.Contains(said, "read-only file system") {
		t.Errorf("on an empty store an Ollama that cannot write says: %s", said)
	}

	environ, url := project(t, "http://ollama.internal:"+fleet.Port)
	environ = append(environ, "APPLY_MODEL=false")
	s := startService(t, environ, url)
	var out output
	if err := run(t.Context(), []string{"model", "apply"},
		append(environ, "OLLAMA_API_URL="+writer.URL), io.Discard, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}

	await(t, s.ready)
	await(t, func() bool { return len(s.at("ml_ollama_replica_up")) == 2 })
	at := map[string]bool{}
	for i := range 16 {
		at[s.home(func() {
			if answer, err := s.chat("", fmt.Sprint("question ", i)); err != nil ||
				answer != tinymodel.Answer {
				t.Errorf("%q, %v", answer, err)
			}
		})] = true
	}

	if len(at) != 2 {
		t.Errorf("16 conversations are at %v", at)
	}

	// A new prompt is a new version, which both have in memory under its old name.
	next, _ := project(t, writer.URL)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"Modelfile": tinymodel.Modelfile("tiny.gguf", "") + "PARAMETER num_thread 1\nSYSTEM two\n",
		"tiny.gguf": string(ollamatest.GGUF(t)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	m, err := modelfiles.Load(os.DirFS(dir), "Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}

	next = append(next, "MODELFILE_PATH="+filepath.Join(dir, "Modelfile"),
		"MODELFILE_DIGEST="+m.Digest)
	if err := run(t.Context(), []string{"model", "apply"}, next, io.Discard, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}

	for _, o := range fleet.Servers {
		show, err := o.Client().Show(t.Context(), "m:latest")
		if err != nil || show.System != "two" {
			t.Errorf("%s reads the prompt %q, %v", o.Address(), show.System, err)
		}
	}

	if answer, err := s.chat("", "and now?"); err != nil || answer != tinymodel.Answer {
		t.Errorf("%q, %v", answer, err)
	}
	if !s.ready() {
		t.Error("the version that comes next ended the readiness of the one before")
	}

	// Nobody can spoil the store through a reader.
	o := fleet.Servers[0].Client()
	if err := o.Delete(t.Context(), "m:latest"); err == nil ||
		!strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("delete: %v", err)
	}

	if err := o.Copy(t.Context(), "m:latest", "n"); err == nil ||
		!strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("copy: %v", err)
	}
}

// TestApplyNamesTheReplica: a job fails when one replica does not come right, and says
// which. Its others are done.
func TestApplyNamesTheReplica(t *testing.T) {
	fleet := ollamatest.StartFleet(t, 2)
	ollamatest.Resolve(t, "ollama.internal", func() []string { return fleet.Addresses(2) })
	environ, _ := project(t, "http://ollama.internal:"+fleet.Port)
	fleet.Servers[1].Kill(t)
	var out output
	err := run(t.Context(), []string{"model", "apply", "--replicas", "2", "--timeout", "1s"},
		environ, io.Discard, &out)
	if err == nil || !strings.Contains(err.Error(),
		"ollama at "+fleet.Servers[1].Address()+": no answer within 1s: ") ||
		strings.Contains(err.Error(), fleet.Servers[0].Address()+":") {
		t.Errorf("got %v", err)
	}

	if final, ok := errors.AsType[*build.FinalError](err); ok {
		t.Errorf("nobody need try again: %v", final)
	}
	if !strings.Contains(out.String(), fleet.Servers[0].Address()+": ready") {
		t.Errorf("the other one:\n%s", out.String())
	}

	// A Modelfile that is not the planned one is wrong at every replica, and at every try.
	err = run(t.Context(), []string{"model", "apply"},
		append(environ, "MODELFILE_DIGEST="+strings.Repeat("0", 64)), io.Discard, io.Discard)
	if _, ok := errors.AsType[*build.FinalError](err); !ok {
		t.Errorf("trying again would help: %v", err)
	}

	// A job that is stopped says so and fails.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("terminated"))
	if err := run(ctx, []string{"model", "apply"}, environ, io.Discard,
		io.Discard); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("a job that is stopped: %v", err)
	}
}
