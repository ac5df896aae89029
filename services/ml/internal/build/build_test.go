package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollamatest"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	"github.com/ollama/ollama/api"
)

// folder writes files into a new folder; those named *.gguf without content get the tiny weights.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if strings.HasSuffix(name, ".gguf") && content == "" {
			content = string(ollamatest.GGUF(t))
		}

		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

// modelfile is tinymodel's with one thread: the others only wait for each other on a busy machine.
func modelfile(from, end string) string {
	return tinymodel.Modelfile(from, end) + "PARAMETER num_thread 1\n"
}

// options are those of a plan that saw the folder as it is.
func options(t *testing.T, name, dir, base string) Options {
	t.Helper()
	m, err := modelfiles.Load(os.DirFS(dir), "Modelfile", base)
	if err != nil {
		t.Fatal(err)
	}

	return Options{
		Name: name, Modelfile: filepath.Join(dir, "Modelfile"), Digest: m.Digest, Base: base,
	}
}

// states records what a builder reports.
type states struct {
	mu  sync.Mutex
	all []mlapi.Build
}

func (s *states) add(b mlapi.Build) { s.mu.Lock(); defer s.mu.Unlock(); s.all = append(s.all, b) }

func (s *states) path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, b := range s.all {
		if len(out) == 0 || out[len(out)-1] != b.State {
			out = append(out, b.State)
		}
	}

	return strings.Join(out, " ")
}

func builder(url string, o Options) (*Builder, *states) {
	seen := &states{}
	return New(o, ollama.New(url), slog.New(slog.NewTextHandler(io.Discard, nil)), seen.add), seen
}

// gate passes requests on to Ollama and counts them by path.
type gate struct {
	*httptest.Server
	mu    sync.Mutex
	calls map[string]int
}

func newGate(t *testing.T, to string) *gate {
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}

	g := &gate{calls: map[string]int{}}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
	}, FlushInterval: -1}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.calls[strings.TrimPrefix(r.URL.Path, "/api/")]++
		g.mu.Unlock()
		// Else the server closes the body, which the proxy may be reading, when the answer begins.
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.ServeHTTP(w, r)
	}))

	t.Cleanup(g.Close)
	return g
}

func (g *gate) count(call string) int { g.mu.Lock(); defer g.mu.Unlock(); return g.calls[call] }

// models maps the names of one model to their digests.
func models(t *testing.T, s *ollamatest.Server, name string) map[string]string {
	t.Helper()
	list, err := s.Client().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]string{}
	for _, m := range list {
		if tag, ok := strings.CutPrefix(m.Name, name+":"); ok {
			out[tag] = m.Digest
		}
	}

	return out
}

func apply(t *testing.T, s *ollamatest.Server, o Options) {
	t.Helper()
	b, _ := builder(s.URL, o)
	if err := b.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// say is what a model answers.
func say(t *testing.T, s *ollamatest.Server, model string) string {
	t.Helper()
	var b strings.Builder
	err := s.Client().Chat(t.Context(),
		&api.ChatRequest{Model: model, Messages: []api.Message{{Role: "user", Content: "Hi"}}},
		func(t ollama.Token) error { b.WriteString(t.Text); return nil })
	if err != nil {
		t.Fatal(err)
	}

	return b.String()
}

// TestBuilds runs every build against one real Ollama; each test has a model of its own name.
func TestBuilds(t *testing.T) {
	s := ollamatest.Start(t)
	for name, test := range map[string]func(*testing.T, *ollamatest.Server, string){
		"from-a-file": testFromFile, "from-a-model": testFromModel, "versions": testVersions, "altered": testAltered,
		"failing": testSmokeTest, "mismatch": testMismatch, "broken-weights": testBrokenWeights, "pulled": testPull,
		"two-at-once": testTwoAtOnce, "gone": testGone, "thinks": testThinks, "missing": testMissing,
		"embedding": testEmbedding,
		"evals":     testEvals, "first-evals": testFirstEvals, "failing-series": testFailingSeries,
		"rollback": testRollback, "on-demand": testOnDemand, "adapter": testAdapter,
	} {
		t.Run(name, func(t *testing.T) { test(t, s, name) })
	}

	if !s.Running() {
		t.Error("Ollama did not survive the tests")
	}
}

func testFromFile(t *testing.T, s *ollamatest.Server, name string) {
	o := options(t, name,
		folder(t, map[string]string{
			"Modelfile": modelfile("./w/tiny.gguf", "") +
				"SYSTEM Hello.\nPARAMETER temperature 0.7\nPARAMETER stop zzz\nPARAMETER stop yyy\n",
			"w/tiny.gguf": "",
		}),
		"")

	g := newGate(t, s.URL)
	b, seen := builder(g.URL, o)
	if st := b.State(); st.State != mlapi.BuildPending || st.Name != name || st.Digest != o.Digest {
		t.Errorf("before: %+v", st)
	}
	if err := b.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := seen.path(); p != "creating testing ready" {
		t.Errorf("states: %s", p)
	}
	if got := say(t, s, name); got != tinymodel.Answer {
		t.Errorf("it says %q", got)
	}

	first := models(t, s, name)
	if len(first) != 2 || first["latest"] != first[o.Digest[:12]] || first["latest"] == "" {
		t.Errorf("models: %v", first)
	}

	// A second start finds everything as it left it.
	b, seen = builder(g.URL, o)
	if err := b.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := seen.path(); p != "ready" {
		t.Errorf("states of the second start: %s", p)
	}
	if g.count("create") != 1 || g.count("generate") != 1 || g.count("copy") != 1 {
		t.Errorf("calls: %v", g.calls)
	}
}

func testFromModel(t *testing.T, s *ollamatest.Server, name string) {
	s.Tiny(t, "basis", tinymodel.AltToken)
	o := options(t, name,
		folder(t,
			map[string]string{"Modelfile": "FROM other\nSYSTEM Hello.\nPARAMETER temperature 0.3\n"}),
		"basis")

	g := newGate(t, s.URL)
	for range 2 {
		b, _ := builder(g.URL, o)
		if err := b.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	if got := say(t, s, name); got != tinymodel.AltAnswer { // the base's template
		t.Errorf("it says %q", got)
	}
	if g.count("create") != 1 || g.count("pull") != 0 {
		t.Errorf("calls: %v", g.calls)
	}

	// Another base of the same name is another model.
	before := models(t, s, name)["latest"]
	s.Tiny(t, "basis", "")
	apply(t, s, o)
	if got := say(t, s, name); got != tinymodel.Answer || models(t, s, name)["latest"] == before {
		t.Errorf("after the base changed it says %q", got)
	}

	// A base that was deleted is not needed any more.
	if err := s.Client().Delete(t.Context(), "basis"); err != nil {
		t.Fatal(err)
	}

	apply(t, s, o)
}

func testVersions(t *testing.T, s *ollamatest.Server, name string) {
	var tags, digests []string
	var opts []Options
	for _, system := range []string{"One.", "Two.", "Three.", "Four."} {
		o := options(t, name,
			folder(t, map[string]string{
				"Modelfile": modelfile("tiny.gguf", "") + "SYSTEM " + system + "\n",
				"tiny.gguf": "",
			}),
			"")

		apply(t, s, o)
		have := models(t, s, name)
		opts, tags, digests = append(opts, o), append(tags, o.Digest[:12]), append(digests,
			have["latest"])
		if have["latest"] != have[o.Digest[:12]] {
			t.Errorf("%s: latest is another: %v", system, have)
		}
	}

	have := models(t, s, name)
	if len(have) != 4 || have[tags[0]] != "" || have[tags[1]] != digests[1] ||
		have[tags[2]] != digests[2] || have[tags[3]] != digests[3] {
		t.Errorf("the two before must be there and older ones not: %v", have)
	}

	if show, err := s.Client().Show(t.Context(), Latest(name)); err != nil ||
		show.System != "Four." {
		t.Errorf("latest: %q, %v", show.System, err)
	}

	// Back to one before: nothing is created, the newer ones are kept.
	g := newGate(t, s.URL)
	b, _ := builder(g.URL, opts[1])
	if err := b.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}

	if have := models(t, s,
		name); have["latest"] != digests[1] || have[tags[2]] != digests[2] ||
		have[tags[3]] != digests[3] ||
		g.count("create") != 0 || g.count("generate") != 1 {
		t.Errorf("after the rollback: %v, calls %v", have, g.calls)
	}
}

// testAltered: a version that somebody made anew with another content is not trusted for its name.
func testAltered(t *testing.T, s *ollamatest.Server, name string) {
	const plain = "SYSTEM Right.\nPARAMETER temperature 0.5\n"
	older := options(t, name,
		folder(t, map[string]string{
			"Modelfile": modelfile("tiny.gguf", "") + "SYSTEM Older.\n", "tiny.gguf": "",
		}),
		"")

	apply(t, s, older)
	o := options(t, name,
		folder(t, map[string]string{
			"Modelfile": modelfile("tiny.gguf", "") + plain, "tiny.gguf": "",
		}),
		"")

	apply(t, s, o)
	version, want := name+":"+o.Digest[:12], models(t, s, name)["latest"]
	for what, req := range map[string]*api.CreateRequest{
		"system":    {System: "Wrong."},
		"parameter": {Parameters: map[string]any{"temperature": 0.6}},
		"template":  {Template: "{{ .Prompt }} " + tinymodel.AltToken},
	} {
		req.Model, req.From = version, version
		if err := s.Client().Create(t.Context(), req, func(api.ProgressResponse) {}); err != nil {
			t.Fatal(err)
		}
		if models(t, s, name)[o.Digest[:12]] == want {
			t.Fatalf("%s: nothing was altered", what)
		}

		b, seen := builder(s.URL, o)
		if err := b.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}

		have := models(t, s, name)
		if have[o.Digest[:12]] != want || have["latest"] != want ||
			seen.path() != "creating testing ready" {
			t.Errorf("%s: %v, states %s", what, have, seen.path())
		}

		if have[older.Digest[:12]] == "" {
			t.Errorf("%s: the one to roll back to was deleted", what)
		}
	}

	// Other weights under the same prompt and parameters.
	other := bytes.Replace(ollamatest.GGUF(t), []byte("tiny-bigram"), []byte("evil-bigram"), 1)
	dir := folder(t, map[string]string{
		"Modelfile": modelfile("tiny.gguf", "") + plain, "tiny.gguf": string(other),
	})
	evil := options(t, "evil", dir, "")
	apply(t, s, evil)
	if err := s.Client().Copy(t.Context(), "evil:latest", version); err != nil {
		t.Fatal(err)
	}

	b, seen := builder(s.URL, o)
	if err := b.Apply(t.Context()); err != nil || models(t, s, name)[o.Digest[:12]] != want {
		t.Errorf("other weights passed for the model: %v, %s", err, seen.path())
	}
}

func testSmokeTest(t *testing.T, s *ollamatest.Server, name string) {
	good := options(t, name,
		folder(t, map[string]string{"Modelfile": modelfile("tiny.gguf", ""), "tiny.gguf": ""}), "")
	apply(t, s, good)
	before := models(t, s, name)["latest"]
	for what, tc := range map[string]struct{ modelfile, want string }{
		"says nothing": {modelfile("tiny.gguf", "") + "PARAMETER stop Hello\n",
			"answers with nothing, so the one before stays in use: check TEMPLATE and PARAMETER stop"},
		"bad template": {"FROM tiny.gguf\nTEMPLATE {{ .Nope\n", "create the model " + name + ":"},
		"cannot load":  {modelfile("tiny.gguf", "") + "ADAPTER ./lora.gguf\n", "lora.gguf"},
	} {
		o := options(t, name,
			folder(t, map[string]string{
				"Modelfile": tc.modelfile, "tiny.gguf": "", "lora.gguf": "GGUFnonsense",
			}),
			"")

		b, seen := builder(s.URL, o)
		err := b.Apply(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", what, err)
		}
		if st := b.State(); st.State != mlapi.BuildFailed || st.Error != err.Error() {
			t.Errorf("%s: %+v, %s", what, st, seen.path())
		}
		if models(t, s, name)["latest"] != before {
			t.Errorf("%s: latest is another", what)
		}
	}

	if got := say(t, s, name); got != tinymodel.Answer {
		t.Errorf("it says %q", got)
	}
}

// testThinks: a model that reasons before it answers lives, however long that takes.
func testThinks(t *testing.T, s *ollamatest.Server, name string) {
	file := "FROM tiny.gguf\nTEMPLATE \"\"\"" + ollamatest.ThinkingTemplate + "\"\"\"\nPARAMETER num_thread 1\n"
	apply(t, s,
		options(t, name, folder(t, map[string]string{"Modelfile": file, "tiny.gguf": ""}), ""))
	if models(t, s, name)["latest"] == "" {
		t.Error("it is not in use")
	}
}

func testMismatch(t *testing.T, s *ollamatest.Server, name string) {
	dir := folder(t, map[string]string{"Modelfile": modelfile("tiny.gguf", ""), "tiny.gguf": ""})
	o := options(t, name, dir, "")
	if err := os.WriteFile(o.Modelfile, []byte(modelfile("tiny.gguf", "")+"SYSTEM New.\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	b, _ := builder(s.URL, o)
	if err := b.Apply(t.Context()); err == nil ||
		!strings.HasPrefix(err.Error(), "MODELFILE_DIGEST: ") ||
		!strings.HasSuffix(err.Error(), "run `codexctl up` again") {
		t.Errorf("got %v", err)
	}

	o.Modelfile = filepath.Join(dir, "no", "Modelfile")
	b, _ = builder(s.URL, o)
	if err := b.Apply(t.Context()); err == nil ||
		!strings.HasPrefix(err.Error(), "MODELFILE_PATH: ") {
		t.Errorf("got %v", err)
	}

	if have := models(t, s, name); len(have) != 0 {
		t.Errorf("models: %v", have)
	}
}

// testBrokenWeights: what would crash Ollama for everyone does not reach it.
func testBrokenWeights(t *testing.T, s *ollamatest.Server, name string) {
	whole := ollamatest.GGUF(t)
	noBlocks := bytes.Replace(whole, []byte("llama.block_count"), []byte("llama.block_couna"), 1)
	noArch := bytes.Replace(whole, []byte("general.architecture"), []byte("general.architectura"),
		1)
	zeroBlocks := bytes.Clone(whole)
	// after the type
	at := bytes.Index(zeroBlocks, []byte("llama.block_count")) + len("llama.block_count") + 4
	binary.LittleEndian.PutUint32(zeroBlocks[at:], 0)
	for what, tc := range map[string]struct {
		gguf []byte
		want string
	}{
		"no block_count":   {noBlocks, "tiny.gguf: this GGUF file has no llama.block_count"},
		"block_count of 0": {zeroBlocks, "tiny.gguf: this GGUF file has no llama.block_count"},
		"no architecture":  {noArch, "tiny.gguf: this GGUF file names no general.architecture"},
		"cut metadata":     {whole[:2000], "tiny.gguf: this GGUF file cannot be read"},
		"no weights":       {[]byte("not a model"), ""},
	} {
		g := newGate(t, s.URL)
		o := options(t, name,
			folder(t, map[string]string{
				"Modelfile": modelfile("tiny.gguf", ""), "tiny.gguf": string(tc.gguf),
			}),
			"")

		b, _ := builder(g.URL, o)
		err := b.Apply(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", what, err)
		}
		if tc.want != "" && g.count("create") != 0 {
			t.Errorf("%s reached Ollama", what)
		}
		if _, err := s.Client().Version(t.Context()); err != nil {
			t.Fatalf("%s: Ollama is gone: %v", what, err)
		}
	}
}

// registry serves the models of an Ollama's store as a registry does.
type registry struct {
	*httptest.Server
	store string
}

func newRegistry(t *testing.T, store string) *registry {
	r := &registry{store: store}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		parts := strings.Split(strings.TrimPrefix(req.URL.Path, "/v2/library/"), "/")
		if len(parts) == 3 && parts[1] == "manifests" {
			b, err := os.ReadFile(filepath.Join(store, "manifests/registry.ollama.ai/library",
				parts[0], parts[2]))
			if err != nil {
				http.Error(w,
					`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`,
					http.StatusNotFound)
				return
			}

			_, _ = w.Write(b)
			return
		}

		if here, ok := strings.CutPrefix(req.Host, "127.0.0.1:"); ok &&
			req.Method == http.MethodGet {
			// Registries send downloads to another host, and Ollama insists on it.
			http.Redirect(w, req, "http://localhost:"+here+req.URL.Path,
				http.StatusTemporaryRedirect)
			return
		}

		http.ServeFile(w, req,
			filepath.Join(store, "blobs", strings.Replace(parts[len(parts)-1], ":", "-", 1)))
	}))

	t.Cleanup(r.Close)
	return r
}

func testPull(t *testing.T, s *ollamatest.Server, name string) {
	other := ollamatest.Start(t)
	other.Tiny(t, "remote", tinymodel.AltToken)
	reg := newRegistry(t, other.Store)
	base := reg.URL + "/library/remote:latest"
	o := options(t, name, folder(t, map[string]string{"Modelfile": "FROM llama3\nSYSTEM Hello.\n"}),
		base)
	g := newGate(t, s.URL)
	b, seen := builder(g.URL, o)
	if err := b.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := seen.path(); p != "pulling creating testing ready" {
		t.Errorf("states: %s", p)
	}

	var most mlapi.Build
	for _, st := range seen.all {
		if st.State == mlapi.BuildPulling && st.Total > most.Total {
			most = st
		}
		if st.Completed > st.Total {
			t.Errorf("more than all: %+v", st)
		}
	}

	if most.Total < int64(len(ollamatest.GGUF(t))) {
		t.Errorf("the most that was to come: %+v", most)
	}
	if got := say(t, s, name); got != tinymodel.AltAnswer {
		t.Errorf("it says %q", got)
	}

	pulls := g.count("pull") // Ollama's own download may break off and be continued
	if pulls > 1 {
		t.Logf("it took %d pulls: %+v", pulls, seen.all)
	}

	b, _ = builder(g.URL, o)
	if err := b.Apply(t.Context()); err != nil || g.count("pull") != pulls ||
		g.count("create") != 1 {
		t.Errorf("the second start: %v, calls %v", err, g.calls)
	}

	o = options(t, name, folder(t, map[string]string{"Modelfile": "FROM llama3\n"}),
		reg.URL+"/library/nobody:latest")
	b, seen = builder(g.URL, o)
	err := b.Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(),
		"/library/nobody:latest cannot be downloaded: ") ||
		!strings.Contains(err.Error(), "`pulumi config set --path codexcontinue:model.base NAME`") {
		t.Errorf("got %v", err)
	}

	broke := 0 // Ollama now and then drops the connection on which it should say no
	for _, s := range seen.all {
		if strings.HasPrefix(s.Detail, "attempt ") {
			broke++
		}
	}

	if n := g.count("pull") - pulls - broke; n != 1 {
		t.Errorf("an unknown model was asked for %d times: %+v", n, seen.all)
	}

	// A registry that is away may come back.
	reg.Close()
	o = options(t, name, folder(t, map[string]string{"Modelfile": "FROM llama3\n"}),
		reg.URL+"/library/later:latest")
	b, _ = builder(g.URL, o)
	b.pullPause = time.Millisecond
	if err := b.Apply(t.Context()); err == nil ||
		!strings.Contains(err.Error(), fmt.Sprintf("could not be downloaded in %d attempts", pullAttempts)) {
		t.Errorf("got %v", err)
	}
}

func testTwoAtOnce(t *testing.T, s *ollamatest.Server, name string) {
	for _, system := range []string{"One.", "Two."} {
		o := options(t, name,
			folder(t, map[string]string{
				"Modelfile": modelfile("tiny.gguf", "") + "SYSTEM " + system + "\n",
				"tiny.gguf": "",
			}),
			"")

		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				b, _ := builder(s.URL, o)
				if err := b.Apply(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}

		both.Wait()
		if have := models(t, s, name); have["latest"] == "" ||
			have["latest"] != have[o.Digest[:12]] {
			t.Errorf("%s: %v", system, have)
		}
	}

	if have := models(t, s, name); len(have) != 3 {
		t.Errorf("the one before is gone: %v", have)
	}
	if got := say(t, s, name); got != tinymodel.Answer {
		t.Errorf("it says %q", got)
	}
}

// testGone: Run makes a model again that somebody deleted, and leaves one alone that
// somebody rolled back.
func testGone(t *testing.T, s *ollamatest.Server, name string) {
	o := options(t, name,
		folder(t, map[string]string{"Modelfile": modelfile("tiny.gguf", ""), "tiny.gguf": ""}), "")
	g := newGate(t, s.URL)
	b, _ := builder(g.URL, o)
	b.watch = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	await(t, func() bool { return b.State().State == mlapi.BuildReady })
	for _, tag := range []string{"latest", o.Digest[:12]} {
		if err := s.Client().Delete(t.Context(), name+":"+tag); err != nil {
			t.Fatal(err)
		}
	}

	await(t, func() bool { return models(t, s, name)["latest"] != "" })
	s.Tiny(t, "rolled-back", tinymodel.AltToken)
	if err := s.Client().Copy(t.Context(), "rolled-back:latest", Latest(name)); err != nil {
		t.Fatal(err)
	}

	looks := g.count("tags")
	await(t, func() bool { return g.count("tags") > looks+3 })
	if got := say(t, s, name); got != tinymodel.AltAnswer {
		t.Errorf("it says %q", got)
	}

	cancel()
	<-ended
}

// await wants something to be true soon.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not become true")
		}
	}
}

// testMissing: without a way out nothing is asked for at a registry, and the model is made as soon
// as somebody has put its base there.
func testMissing(t *testing.T, s *ollamatest.Server, name string) {
	base := "base-of-" + name
	o := options(t, name, folder(t, map[string]string{"Modelfile": modelfile(base, "")}), "")
	o.NoDownload = true
	g := newGate(t, s.URL)
	b, seen := builder(g.URL, o)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	defer func() { stop(); <-ended }()

	await(t, func() bool { return b.State().State == mlapi.BuildFailed })
	st := b.State()
	if st.Missing != base || !strings.Contains(st.Error, "codexctl model import") {
		t.Errorf("without its base: %+v", st)
	}

	if _, final := errors.AsType[*FinalError](b.Apply(ctx)); !final {
		t.Error("a job would try again")
	}

	s.Tiny(t, base, "")
	await(t, func() bool { return b.State().State == mlapi.BuildReady })
	if p := seen.path(); strings.Contains(p, "pulling") || b.State().Missing != "" {
		t.Errorf("states: %s, %+v", p, b.State())
	}
}

// testEmbedding: the model that makes vectors of documents is brought like a base model. The own one
// serves meanwhile.
func testEmbedding(t *testing.T, s *ollamatest.Server, name string) {
	base := "base-of-" + name
	s.Tiny(t, base, "")
	o := options(t, name, folder(t, map[string]string{"Modelfile": modelfile(base, "")}), "")
	o.NoDownload, o.Embedding = true, "vectors-of-"+name
	g := newGate(t, s.URL)
	b, seen := builder(g.URL, o)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	defer func() { stop(); <-ended }()

	await(t, func() bool { return b.State().State == mlapi.BuildFailed })
	if st := b.State(); st.Missing != o.Embedding || !strings.Contains(st.Error, o.Embedding) {
		t.Errorf("without it: %+v", st)
	}
	if got := say(t, s, name); got != tinymodel.Answer {
		t.Errorf("meanwhile the own model says %q", got)
	}

	s.Tiny(t, o.Embedding, "")
	await(t, func() bool { return b.State().State == mlapi.BuildReady })
	if p := seen.path(); strings.Contains(p, "pulling") || g.count("create") != 1 {
		t.Errorf("states: %s, %d models were made", p, g.count("create"))
	}
}

// TestWaitsForOllama: Ollama may come after ml; a stop ends the wait.
func TestWaitsForOllama(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	o := options(t, "m", folder(t, map[string]string{"Modelfile": "FROM x\n"}), "")
	b, _ := builder(away.URL, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.Apply(ctx) }()
	await(t, func() bool { return strings.HasPrefix(b.State().Detail, "waiting for Ollama: ") })
	cancel()
	if err := <-ended; err == nil || b.State().State != mlapi.BuildPending {
		t.Errorf("%v, %+v", err, b.State())
	}
}

// TestAwaitJudgesEachReplica: the version counts where latest is it; names of two stores
// say nothing together.
func TestAwaitJudgesEachReplica(t *testing.T) {
	b := New(Options{Name: "m", Digest: strings.Repeat("a", 64)}, nil,
		slog.New(slog.DiscardHandler), nil)
	model := func(name, digest string) api.ListModelResponse {
		return api.ListModelResponse{Name: name, Digest: digest}
	}
	version := Version("m", strings.Repeat("a", 64))
	steps := []struct {
		lists [][]api.ListModelResponse
		err   error
		state string // after the step
		word  string
	}{
		{nil, errors.New("connection refused"), mlapi.BuildPending, "waiting for Ollama: " +
			"connection refused"},
		{[][]api.ListModelResponse{{}}, nil, mlapi.BuildPending, "waiting for the model job, " +
			"which makes " + version},
		// One replica names the old one latest, another has the new one but not yet its name.
		{[][]api.ListModelResponse{{model("m:latest", "1")}, {model(version, "1")}}, nil,
			mlapi.BuildPending, "waiting for the model job"},
		{[][]api.ListModelResponse{
			{model("m:latest", "old")}, {model("m:latest", "2"), model(version, "2")},
		},
			nil, mlapi.BuildReady, ""},
		// The next version takes the name: an update makes the model before it
		// replaces this instance.
		{[][]api.ListModelResponse{{model("m:latest", "3"), model("m:bbbbbbbbbbbb", "3")}}, nil, mlapi.BuildReady, ""},
		{[][]api.ListModelResponse{{}, {}}, nil, mlapi.BuildPending, "waiting for the model job"},
	}

	b.await = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	b.Await(ctx, func(context.Context) ([][]api.ListModelResponse, error) {
		if asked > 0 {
			last := steps[asked-1]
			if st := b.State(); st.State != last.state || !strings.HasPrefix(st.Detail, last.word) {
				t.Errorf("after step %d: %+v", asked-1, st)
			}
		}

		if asked == len(steps) {
			cancel()
			return nil, nil
		}

		asked++
		return steps[asked-1].lists, steps[asked-1].err
	})

	if asked != len(steps) {
		t.Errorf("%d of %d steps were asked for", asked, len(steps))
	}
}

func TestIsVersion(t *testing.T) {
	for listed, want := range map[string]bool{
		"m:0123456789ab":  true,
		"m:latest":        false,
		"m:0123456789AB":  false,
		"m:0123456789abc": false,
		"n:0123456789ab":  false,
		"mm:0123456789ab": false,
		"m":               false,
	} {
		if IsVersion(listed, "m") != want {
			t.Errorf("%s: %v", listed, !want)
		}
	}
}

func TestParameters(t *testing.T) {
	got := parameters("temperature                    0.7\n" +
		"stop                           \"<|a b|>\"\nstop                           \"x\\ny\"\n\n" +
		"num_ctx 8192\n")
	if len(got) != 3 || got["temperature"][0] != "0.7" || len(got["stop"]) != 2 ||
		got["stop"][0] != "<|a b|>" || got["stop"][1] != "x\ny" {
		t.Errorf("got %q", got)
	}

	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"0.7", "0.699999988079071", true}, {"8192", "8192", true}, {"0.7", "0.71", false},
		{"a", "a", true}, {"a", "b", false}, {"1", "x", false}, {"true", "true", true},
	} {
		if sameValue(tc.a, tc.b) != tc.want {
			t.Errorf("%+v", tc)
		}
	}
}
