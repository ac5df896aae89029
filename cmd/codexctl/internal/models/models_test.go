package models

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ollama/ollama/api"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// server is a real Ollama.
type server struct {
	*Ollama
	store   string // its folder of models
	address string
}

func start(t *testing.T) server {
	t.Helper()
	peers.Find(t, "ollama", "ollama")
	home := t.TempDir()
	address := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	s := server{store: filepath.Join(home, "models"), address: address}
	cmd := exec.Command("ollama", "serve")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "OLLAMA_MODELS=" + s.store,
		"OLLAMA_HOST=" + address, "OLLAMA_NOPRUNE=1", "OLLAMA_NO_CLOUD=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })

	s.Ollama = NewOllama(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	})

	t.Cleanup(s.Close)

	deadline := time.Now().Add(2 * time.Minute)
	for {
		if _, err := s.Version(t.Context()); err == nil {
			return s
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// show returns what Ollama says of a model: its template, system prompt and parameters.
func (s server) show(t *testing.T, name string) string {
	t.Helper()
	r, err := s.client.Show(t.Context(), &api.ShowRequest{Model: name})
	if err != nil {
		t.Fatal(err)
	}

	parameters := strings.Split(r.Parameters, "\n") // in any order
	slices.Sort(parameters)
	return fmt.Sprintf("%q %q %q %q", r.Template, r.System, parameters, r.License)
}

// told collects what is told of the progress.
type told struct {
	mu   sync.Mutex
	what map[string]bool
}

func (p *told) tell(what string, _, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what == nil {
		p.what = map[string]bool{}
	}
	word, _, _ := strings.Cut(what, " ")
	p.what[word] = true
}

func quiet(string, int64, int64) {}

// gguf writes the tiny model, changed.
func gguf(t *testing.T, change func([]byte) []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := tinymodel.Write(&b); err != nil {
		t.Fatal(err)
	}

	name := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(name, change(b.Bytes()), 0o600); err != nil {
		t.Fatal(err)
	}

	return name
}

func whole(b []byte) []byte { return b }

// pack writes the folder of models as an archive, as `tar -C ~ -c .ollama` names its files.
func pack(t *testing.T, store string, compress bool) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"blobs", "manifests"} {
		err := filepath.WalkDir(filepath.Join(store, dir),
			func(at string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}

				content, err := os.ReadFile(at)
				if err != nil {
					return err
				}

				rel, err := filepath.Rel(store, at)
				if err != nil {
					return err
				}

				h := &tar.Header{
					Name: "./.ollama/models/" + rel,
					Mode: 0o600,
					Size: int64(len(content)),
				}

				if err := w.WriteHeader(h); err != nil {
					return err
				}

				_, err = w.Write(content)
				return err
			})
		if err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	name := filepath.Join(t.TempDir(), "models.tar")
	content := b.Bytes()
	if compress {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}

		content = packed.Bytes()
	}

	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}

	return name
}

// TestPut brings one model from a file into an Ollama, gives it what a registry's models have
// beside their weights, and brings that by each way into others.
func TestPut(t *testing.T) {
	first := start(t)
	m, done, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = done() }()

	var progress told
	if err := first.Put(t.Context(), "tiny:latest", m, progress.tell); err != nil {
		t.Fatal(err)
	}
	if !progress.what["sending"] || !progress.what["making"] {
		t.Errorf("it told %v", progress.what)
	}

	made := &api.CreateRequest{
		Model:      "llama3",
		From:       "tiny",
		Template:   "{{ .System }}! {{ .Prompt }}",
		System:     "Be brief.",
		License:    []string{"Take it."},
		Parameters: map[string]any{"temperature": 0.5, "stop": []string{"zzz"}},
	}

	if err := first.client.Create(t.Context(), made, func(api.ProgressResponse) error {
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	want := first.show(t, "llama3")
	second := start(t)
	for _, from := range []string{
		first.store, filepath.Dir(first.store), pack(t, first.store, false), pack(t, first.store, true),
	} {
		m, done, err := Open(t.Context(), from, "llama3", quiet)
		if err != nil {
			t.Fatal(err)
		}

		var progress told
		if err := second.Put(t.Context(), "llama3:latest", m, progress.tell); err != nil {
			t.Errorf("%s: %v", from, err)
		}
		if err := done(); err != nil {
			t.Error(err)
		}

		if got := second.show(t, "llama3"); got != want {
			t.Errorf("%s: it is %s, want %s", from, got, want)
		}
		if again := from != first.store; progress.what["sending"] == again {
			t.Errorf("%s: it told %v", from, progress.what)
		}
	}

	if said := second.say(t, "llama3"); said != tinymodel.Answer {
		t.Errorf("it says %q", said)
	}
}

// say returns what a model answers.
func (s server) say(t *testing.T, name string) string {
	t.Helper()
	said := ""
	err := s.client.Generate(t.Context(),
		&api.GenerateRequest{
			Model:   name,
			Prompt:  "Hello",
			Options: map[string]any{"num_ctx": 512},
		},
		func(r api.GenerateResponse) error { said += r.Response; return nil })
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(said)
}

// TestAdapterAlone: an adapter is no base model, which Ollama would take it for.
func TestAdapterAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "team.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tinymodel.WriteAdapter(f), f.Close()); err != nil {
		t.Fatal(err)
	}

	_, done, err := Open(t.Context(), path, "llama3", func(string, int64, int64) {})
	if err == nil || !strings.Contains(err.Error(), "is an adapter") {
		t.Errorf("an adapter as the base model: %v", err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}

// TestAdapter: a model of a folder comes with its adapter.
func TestAdapter(t *testing.T) {
	var adapter bytes.Buffer
	if err := tinymodel.WriteAdapter(&adapter); err != nil {
		t.Fatal(err)
	}
	m, _, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}

	first := start(t)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(adapter.Bytes()))
	if err := first.client.CreateBlob(t.Context(), digest, bytes.NewReader(adapter.Bytes())); err != nil {
		t.Fatal(err)
	}
	m.Request.Adapters = map[string]string{"team.gguf": digest}
	if err := first.Put(t.Context(), "llama3:latest", m, quiet); err != nil {
		t.Fatal(err)
	}

	second := start(t)
	for _, from := range []string{first.store, pack(t, first.store, false)} {
		m, done, err := Open(t.Context(), from, "llama3", quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Put(t.Context(), "llama3:latest", m, quiet); err != nil {
			t.Errorf("%s: %v", from, err)
		}
		if err := done(); err != nil {
			t.Error(err)
		}

		got, err := FromFolder(os.DirFS(second.store), "there", "llama3")
		if err != nil || len(got.Request.Adapters) != 1 ||
			!slices.Contains(slices.Collect(maps.Values(got.Request.Adapters)), digest) {
			t.Errorf("%s: it is made of %+v, %v", from, got.Request, err)
		}
	}

	if said := second.say(t, "llama3"); said != tinymodel.AltAnswer {
		t.Errorf("with the adapter it says %q", said)
	}
}

// cut is a connection that breaks when that much was written or, if answer is set, when the answer to
// that comes.
type cut struct {
	net.Conn
	answer  bool
	written atomic.Int64
}

const cutAt = 100_000

func (c *cut) Write(p []byte) (int, error) {
	if c.written.Add(int64(len(p))) > cutAt && !c.answer {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *cut) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.written.Load() > cutAt && c.answer {
		return 0, net.ErrClosed
	}
	return n, err
}

// TestBroken: a file whose connection breaks is sent again, by a new one, a few times. One that came
// whole is not, though the answer did not come.
func TestBroken(t *testing.T) {
	m, _, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		broken int // connections, of those that send much
		answer bool
		sent   int // how often the file is sent from its beginning
		want   string
	}{
		"twice":         {broken: sendAttempts - 1, sent: sendAttempts},
		"too often":     {broken: sendAttempts, sent: sendAttempts, want: "in 3 attempts"},
		"at the answer": {broken: 1, answer: true, sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			var mu sync.Mutex // the client may dial two at once
			var conns []*cut
			o := NewOllama(func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, "tcp", s.address)
				if err != nil {
					return nil, err
				}
				mu.Lock()
				defer mu.Unlock()
				large := 0
				for _, c := range conns {
					if c.written.Load() > cutAt {
						large++
					}
				}
				if large == c.broken {
					return conn, nil
				}
				conns = append(conns, &cut{Conn: conn, answer: c.answer})
				return conns[len(conns)-1], nil
			})
			defer o.Close()
			o.Pause = time.Millisecond

			sent, last := 0, int64(0)
			err := o.Put(t.Context(), "tiny:latest", m, func(what string, done, _ int64) {
				if strings.HasPrefix(what, "sending") {
					if done < last || sent == 0 {
						sent++
					}
					last = done
				}
			})
			if c.want == "" && err != nil ||
				c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("it ends with %v", err)
			}
			if sent != c.sent {
				t.Errorf("it was sent %d times, want %d", sent, c.sent)
			}
		})
	}
}

// TestRefused: what is no model is refused before Ollama is asked, and what is not what its digest
// says by Ollama.
func TestRefused(t *testing.T) {
	noBlocks := gguf(t, func(b []byte) []byte {
		return bytes.Replace(b, []byte("llama.block_count"), []byte("llama.block_couna"), 1)
	})
	half := gguf(t, func(b []byte) []byte { return b[:500] })
	text := gguf(t, func([]byte) []byte { return []byte("weights") })
	for from, want := range map[string]string{
		noBlocks:    "this GGUF file has no llama.block_count",
		half:        "this GGUF file cannot be read",
		text:        "is neither a GGUF file nor",
		t.TempDir(): "is no folder of models",
		"/nowhere":  "no such file",
	} {
		if _, _, err := Open(t.Context(), from, "llama3", quiet); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", from, err, want)
		}
	}

	s := start(t)
	m, _, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "tiny:latest", m, quiet); err != nil {
		t.Fatal(err)
	}

	for _, from := range []string{s.store, pack(t, s.store, false)} {
		_, _, err := Open(t.Context(), from, "llama3", quiet)
		if err == nil || !strings.HasSuffix(err.Error(), "has no llama3: it has tiny:latest") {
			t.Errorf("%s: %v", from, err)
		}
	}

	blob := filepath.Join(s.store, "blobs", strings.Replace(m.Blobs[0].Digest, ":", "-", 1))
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}

	content[len(content)-1] ^= 1
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		t.Fatal(err)
	}

	changed, _, err := Open(t.Context(), s.store, "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}

	other := start(t)
	if err := other.Put(t.Context(), "tiny:latest", changed, quiet); err == nil ||
		!strings.Contains(err.Error(), "digest") {
		t.Errorf("changed weights: %v", err)
	}

	if list, err := other.client.List(t.Context()); err != nil || len(list.Models) > 0 {
		t.Errorf("it has %v, %v", list, err)
	}
}

// TestChangedText: what goes into the request is what its digest says, as Ollama is not shown the
// file.
func TestChangedText(t *testing.T) {
	const config = "{}"
	texts := map[string]string{"template": "{{ .Prompt }}", "system": "Be brief.",
		"license": "Take it.", "params": "{}", "messages": "[]"}
	for changed, text := range texts {
		fsys := fstest.MapFS{}
		add := func(kind, content, is string) layer {
			l := layer{"application/vnd.ollama.image." + kind,
				fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))), int64(len(content))}
			at, err := blobPath(l.Digest)
			if err != nil {
				t.Fatal(err)
			}

			fsys[at] = &fstest.MapFile{Data: []byte(is)}
			return l
		}

		list := manifest{Config: add("config", config, config)}
		list.Layers = []layer{add(changed, text, text+" ")}
		listed, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}

		const name = "manifests/registry.ollama.ai/library/tiny/latest"
		fsys[name] = &fstest.MapFile{Data: listed}
		_, err = FromFolder(fsys, "there", "tiny")
		if err == nil || !strings.Contains(err.Error(), ": has the digest sha256:") {
			t.Errorf("%s: %v", changed, err)
		}
	}
}

// TestInterrupted: reading a large file ends with the context, and leaves no copy behind.
func TestInterrupted(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "manifests"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}

	weights, packed, temp := gguf(t, whole), pack(t, folder, true), t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, from := range []string{weights, packed} {
		_, done, err := Open(ctx, from, "tiny", quiet)
		if err := done(); err != nil {
			t.Error(err)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", from, err)
		}
	}

	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}

	// What is downloaded is read again, for its digest.
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("text")))
	name, err := blobPath(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".part"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}

	err = Registry{}.blob(ctx, &url.URL{}, layer{Digest: digest, Size: 4}, folder, quiet)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a download: %v", err)
	}
}

// registry answers as a registry does, from a folder of models. The first answer for a file of
// weights breaks off in the middle.
type registry struct {
	*httptest.Server
	store string

	mu     sync.Mutex
	asked  []string // paths and ranges
	broken bool
}

func newRegistry(t *testing.T, store string) *registry {
	r := &registry{store: store}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, req.URL.Path+" "+req.Header.Get("Range"))
	part := strings.Split(strings.TrimPrefix(req.URL.Path, "/v2/library/"), "/")
	if len(part) != 3 {
		http.NotFound(w, req)
		return
	}

	file := filepath.Join(r.store, "blobs", strings.Replace(part[2], ":", "-", 1))
	if part[1] == "manifests" {
		file = filepath.Join(r.store, "manifests", "registry.ollama.ai", "library", part[0],
			part[2])
	}

	if info, err := os.Stat(file); err == nil && info.Size() > 100_000 && !r.broken {
		r.broken = true
		content, _ := os.ReadFile(file)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:100_000])
		panic(http.ErrAbortHandler)
	}

	http.ServeFile(w, req, file)
}

func TestDownload(t *testing.T) {
	s := start(t)
	m, _, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "tiny:latest", m, quiet); err != nil {
		t.Fatal(err)
	}

	from := newRegistry(t, s.store)
	u, err := url.Parse(from.URL)
	if err != nil {
		t.Fatal(err)
	}

	r := Registry{Client: from.Client(), Pause: time.Millisecond}
	name, dir := from.URL+"/library/tiny", t.TempDir()
	if err := r.Download(t.Context(), name, dir, quiet); err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(from.asked, "\n"); !strings.Contains(all, "bytes=100000-") {
		t.Errorf("it did not go on where it broke off:\n%s", all)
	}

	got, err := FromFolder(os.DirFS(dir), dir, u.Host+"/library/tiny:latest")
	if err != nil {
		t.Fatal(err)
	}

	f, err := got.Blobs[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	h := sha256.New()
	if _, err := h.Write(must(t, got.Blobs[0])); err != nil {
		t.Fatal(err)
	}
	if digest := fmt.Sprintf("sha256:%x", h.Sum(nil)); digest != m.Blobs[0].Digest {
		t.Errorf("it downloaded %s, want %s", digest, m.Blobs[0].Digest)
	}

	asked := len(from.asked)
	if err := r.Download(t.Context(), name, dir, quiet); err != nil || len(from.asked) != asked+1 {
		t.Errorf("again: %v, asked for %q", err, from.asked[asked:])
	}

	err = r.Download(t.Context(), from.URL+"/library/other", dir, quiet)
	if err == nil || !strings.Contains(err.Error(), "it has no such model") {
		t.Errorf("a model that it has not: %v", err)
	}

	blob := filepath.Join(s.store, "blobs", strings.Replace(m.Blobs[0].Digest, ":", "-", 1))
	content := must(t, m.Blobs[0])
	content[0] ^= 1
	if err := os.WriteFile(blob, content, 0o600); err != nil {
		t.Fatal(err)
	}

	err = r.Download(t.Context(), name, t.TempDir(), quiet)
	if err == nil || !strings.Contains(err.Error(), "what came has the digest") {
		t.Errorf("changed weights: %v", err)
	}
}

func must(t *testing.T, b Blob) []byte {
	t.Helper()
	f, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	var out bytes.Buffer
	if _, err := out.ReadFrom(f); err != nil {
		t.Fatal(err)
	}

	return out.Bytes()
}
