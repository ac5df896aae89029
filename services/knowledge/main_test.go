package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse/parsetest"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

const patience = time.Minute

// asKnowledge makes this test binary the service itself: a process that a test can kill.
const asKnowledge = "CODEXCONTINUE_TEST_AS_KNOWLEDGE"

func TestMain(m *testing.M) {
	if os.Getenv(asKnowledge) != "" {
		main()
		return
	}
	parsetest.Main(m, parsetest.Service)
}

// fakeML makes vectors that count words, for whoever has a token of the service.
type fakeML struct {
	*httptest.Server
	away  atomic.Bool
	texts atomic.Int64
}

func newML(t testing.TB, at contract.Redis) *fakeML {
	t.Helper()
	k, err := openKeys(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })

	ml := &fakeML{}
	verifier := identity.NewVerifier(identity.ML, k.Get, identity.Knowledge)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /embed", func(w http.ResponseWriter, r *http.Request) {
		var req mlapi.EmbedRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || ml.away.Load() {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		if owner := r.Header.Get(wire.OwnerHeader); owner != "" {
			t.Errorf("vectors are asked for in the name of %q", owner)
		}

		out := mlapi.EmbedResponse{Model: req.Model}
		for _, text := range req.Input {
			v := make([]float32, 64)
			for word := range strings.FieldsSeq(strings.ToLower(text)) {
				h := fnv.New32()
				io.WriteString(h, strings.Trim(word, ".,?"))
				v[h.Sum32()%64]++
			}
			out.Embeddings = append(out.Embeddings, v)
			ml.texts.Add(1)
		}
		wire.WriteJSON(w, http.StatusOK, out)
	})
	ml.Server = httptest.NewServer(verifier.Require(mux, logging.New(io.Discard, "ml", "error", false)))
	t.Cleanup(ml.Close)
	return ml
}

// service is a process of the service.
type service struct {
	t     testing.TB
	cfg   knowledgeenv.Config
	url   string
	cmd   *exec.Cmd
	log   *lockedBuffer
	redis *redistest.Server
	gate  *identity.Signer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// unbound is the Redis for those who publish other keys than those of knowledge.
func unbound(r *redistest.Server) contract.Redis { return contract.Redis{URL: "redis://" + r.Addr} }

func newService(t testing.TB, change func(*knowledgeenv.Config)) *service {
	t.Helper()
	s := &service{t: t, redis: redistest.StartAs(t, identity.Knowledge), log: &lockedBuffer{}}
	address := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	s.url = "http://" + address
	s.gate = identitytest.Signer(t, unbound(s.redis), identity.Gate)
	s.cfg = knowledgeenv.Config{
		Common: contract.Common{Environment: "test", LogLevel: "info", ListenAddr: address,
			DrainTimeout: 5 * time.Second},
		RequiredRedis: contract.RequiredRedis{RedisURL: s.redis.URL},
		Auditing:      contract.Auditing{Audit: true, AuditLog: true},
		MLServiceURL:  "http://127.0.0.1:1",
		DataDir:       t.TempDir(),
		Collections:   knowledgeenv.Collections{"guidelines": nil, "staff": {"nurses"}},
	}
	if change != nil {
		change(&s.cfg)
	}
	s.start()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Log(s.log)
		}
	})
	return s
}

// start starts the process, and returns when it is ready.
func (s *service) start() {
	s.t.Helper()
	env, err := contract.Environ(&s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env, s.cmd.Stderr = append(env, asKnowledge+"=1"), s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.url + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			s.t.Fatalf("the service is not ready: %v\n%s", err, s.log)
		}
	}
}

func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

var (
	admin   = identity.Person{ID: "admin", Name: "Ada", Admin: true, Address: "192.0.2.1"}
	nurse   = identity.Person{ID: "nurse", Groups: []string{"nurses"}}
	visitor = identity.Person{ID: "visitor"}
)

// do makes a request in a person's name, and decodes the answer.
func (s *service) do(p identity.Person, method, path string, body []byte, out any) (int, error) {
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization",
		identity.Authorization(s.gate.Sign(p, identity.Knowledge)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if out != nil && len(b) > 0 {
		if err := json.Unmarshal(b, out); err != nil {
			return 0, fmt.Errorf("%w: %s", err, b)
		}
	}
	return resp.StatusCode, nil
}

func (s *service) want(p identity.Person, method, path string, body []byte, out any, status int) {
	s.t.Helper()
	var raw json.RawMessage
	got, err := s.do(p, method, path, body, &raw)
	if err != nil || got != status {
		s.t.Fatalf("%s %s: %d %s, want %d: %v", method, path, got, raw, status, err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			s.t.Fatal(err)
		}
	}
}

func documentPath(collection, file string) string {
	return "/collections/" + collection + "/documents/" + url.PathEscape(file)
}

// search returns the texts that a person's search finds.
func (s *service) search(p identity.Person, question string, in ...string) []string {
	s.t.Helper()
	body, _ := json.Marshal(knowledgeapi.SearchRequest{Query: question, Collections: in})
	var found knowledgeapi.SearchResponse
	s.want(p, "POST", "/search", body, &found, http.StatusOK)
	out := []string{}
	for _, x := range found.Passages {
		out = append(out, x.Text)
	}
	return out
}

func TestService(t *testing.T) {
	s := newService(t, nil)
	var d, other knowledgeapi.Document
	about := []byte("# About\n\nWe discharge on Tuesdays.")
	s.want(admin, "PUT", documentPath("guidelines", "Über uns, 1.md"),
		about, &d, http.StatusAccepted)
	s.want(admin, "PUT", documentPath("staff", "pay.pdf"),
		parsetest.PDF("Pay", "The pay of Mr. Secret is 5 per hour"), &other, http.StatusAccepted)
	if d.Title != "About" || d.File != "Über uns, 1.md" || d.AddedBy != "Ada" || other.Title != "Pay" {
		t.Errorf("got %+v, %+v", d, other)
	}

	// By the digest codexctl knows what is there already.
	var list knowledgeapi.Documents
	s.want(visitor, "GET", "/collections/guidelines/documents", nil, &list, http.StatusOK)
	if len(list.Documents) != 1 ||
		list.Documents[0].SHA256 != fmt.Sprintf("%x", sha256.Sum256(about)) {
		t.Errorf("got %+v", list)
	}

	// Who reads what.
	for _, tt := range []struct {
		p        identity.Person
		question string
		want     int
	}{
		{visitor, "When do we discharge?", 1}, {nurse, "When do we discharge?", 1},
		{admin, "When do we discharge?", 1},
		{visitor, "pay of Secret", 0}, {nurse, "pay of Secret", 1}, {admin, "pay of Secret", 0},
	} {
		if got := s.search(tt.p, tt.question); len(got) != tt.want {
			t.Errorf("%s finds %q for %q", tt.p.ID, got, tt.question)
		}
	}
	id := other.ID + "-0"
	var passage knowledgeapi.Passage
	s.want(nurse, "GET", "/passages/"+id, nil, &passage, http.StatusOK)
	if passage.Page != 1 || passage.Collection != "staff" || passage.File != "pay.pdf" {
		t.Errorf("got %+v", passage)
	}

	query := []byte(`{"query":"pay","collections":["staff"]}`)
	secret := documentPath("staff", "x.md")
	for _, tt := range []struct {
		p            identity.Person
		method, path string
		body         []byte
		status       int
	}{
		{visitor, "GET", "/passages/" + id, nil, 404}, {admin, "GET", "/passages/" + id, nil, 404},
		{visitor, "POST", "/search", query, 404}, {admin, "POST", "/search", query, 404},
		{visitor, "GET", "/collections/staff/documents", nil, 404},
		{visitor, "PUT", secret, []byte("x"), 404}, {nurse, "PUT", secret, []byte("x"), 403},
		{nurse, "DELETE", documentPath("staff", other.ID), nil, 403},
		{visitor, "DELETE", documentPath("staff", other.ID), nil, 404},
		{nurse, "POST", "/collections/staff/reindex", nil, 400}, // no model
		{admin, "PUT", documentPath("none", "x.md"), []byte("x"), 404},
		{admin, "DELETE", documentPath("guidelines", other.ID), nil, 404},
		{admin, "PUT", documentPath("guidelines", "a/b.md"), []byte("x"), 400},
		{admin, "PUT", documentPath("guidelines", ".md"), []byte("x"), 400},
		{admin, "PUT", documentPath("guidelines", "a\u202eb.md"), []byte("x"), 400},
		{admin, "PUT", documentPath("guidelines", strings.Repeat("x", 200)+".md"), []byte("x"), 400},
		{admin, "PUT", documentPath("guidelines", "x.exe"), []byte("x"), 415},
		{admin, "PUT", documentPath("guidelines", "x.pdf"), []byte("x"), 415},
		{admin, "PUT", documentPath("guidelines", "x.md"), nil, 422},
		{admin, "PUT", documentPath("guidelines", "x.pdf"), parsetest.EncryptedPDF("x"), 422},
		{admin, "PUT", documentPath("guidelines", "x.txt"), make([]byte, knowledgeapi.MaxDocument+1), 413},
		{visitor, "POST", "/search", []byte(`{}`), 400},
		{visitor, "POST", "/search", []byte(`{"query":" "}`), 400},
		{visitor, "POST", "/search", []byte(`{"query":"x","limit":21}`), 400},
		{visitor, "POST", "/search", []byte(`{"query":"x","more":1}`), 400},
		{visitor, "POST", "/search", []byte(`{"query":"` + strings.Repeat("x", 9000) + `"}`), 400},
		{visitor, "POST", "/search", []byte(`{"query":"` + strings.Repeat("x", 70000) + `"}`), 413},
		{visitor, "GET", "/passages/" + d.ID + "-7", nil, 404},
		{visitor, "GET", "/passages/x", nil, 404},
	} {
		s.want(tt.p, tt.method, tt.path, tt.body, nil, tt.status)
	}

	// What was refused has changed nothing.
	var collections knowledgeapi.Collections
	s.want(admin, "GET", "/collections", nil, &collections, http.StatusOK)
	if c := collections.Collections; len(c) != 2 || c[0].Documents != 1 || c[1].Documents != 1 ||
		!c[0].Readable || c[1].Readable || !slices.Equal(c[1].Groups, []string{"nurses"}) {
		t.Errorf("got %+v", collections)
	}
	s.want(visitor, "GET", "/collections", nil, &collections, http.StatusOK)
	if c := collections.Collections; len(c) != 1 || c[0].Name != "guidelines" {
		t.Errorf("a visitor sees %+v", collections)
	}
	var documents knowledgeapi.Documents
	s.want(nurse, "GET", "/collections/staff/documents", nil, &documents, http.StatusOK)
	if len(documents.Documents) != 1 || documents.Documents[0].AddedBy != "" {
		t.Errorf("got %+v", documents)
	}

	s.want(admin, "DELETE", documentPath("staff", other.ID), nil, nil, http.StatusNoContent)
	s.want(admin, "DELETE", documentPath("staff", other.ID), nil, nil, http.StatusNotFound)
	s.want(nurse, "GET", "/passages/"+id, nil, nil, http.StatusNotFound)
	if got := s.search(nurse, "pay of Secret"); len(got) != 0 {
		t.Errorf("found %q", got)
	}

	// What people write is in no log, no metric and no record; who did what is.
	resp, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(metrics), `knowledge_adds_total{outcome="added",type="pdf"} 1`) {
		t.Errorf("metrics: %s", metrics)
	}
	// Whether what reads documents is confined is told: here as the kernel has it.
	whole := true
	for from, taken := range map[string]bool{
		"files": parse.Confined().Files, "network": parse.Confined().Network,
	} {
		value := "0"
		if taken {
			value = "1"
		}
		if !strings.Contains(string(metrics), `knowledge_parser_confined{from="`+from+`"} `+value) {
			t.Errorf("the metrics do not say whether it is confined from %s: %s", from, metrics)
		}
		whole = whole && taken
	}
	if warned := strings.Contains(s.log.String(), "is not confined"); warned == whole {
		t.Errorf("confined: %t, warned: %t", whole, warned)
	}
	for _, word := range []string{"Secret", "Tuesdays", "discharge", "guidelines"} {
		if bytes.Contains(metrics, []byte(word)) {
			t.Errorf("the metrics have %q", word)
		}
	}
	log := s.log.String()
	for _, word := range []string{"Secret", "Tuesdays", "discharge", "pay.pdf", "ber uns"} {
		if strings.Contains(log, word) {
			t.Errorf("the log has %q", word)
		}
	}

	var records []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"action":"document-`) {
			records = append(records, line)
		}
	}
	all := strings.Join(records, "")
	for _, part := range []string{
		`"action":"document-added","outcome":"done","actor":"admin","address":"192.0.2.1","object":"document:`,
		`"action":"document-removed","outcome":"done","actor":"admin"`,
		`"action":"document-added","outcome":"refused","actor":"nurse"`,
		`"detail":{"collection":"staff"}`,
	} {
		if !strings.Contains(all, part) {
			t.Errorf("no record has %s:\n%s", part, all)
		}
	}
}

// TestForgedIdentity holds that a request without a token of those who may ask is refused on every
// route, and changes nothing.
func TestForgedIdentity(t *testing.T) {
	s := newService(t, nil)
	var d knowledgeapi.Document
	s.want(admin, "PUT", documentPath("guidelines", "a.md"), []byte("Ask the ward."), &d,
		http.StatusAccepted)

	at := unbound(s.redis)
	forged := identitytest.Forged(t, at, admin.ID, identity.Knowledge)
	for _, signer := range []string{identity.ML, identity.Knowledge, "frontend"} {
		forged["by "+signer] = identitytest.Signer(t, at, signer).Sign(admin, identity.Knowledge)
	}

	routes := []string{
		"GET /collections", "GET /collections/guidelines/documents",
		"PUT " + documentPath("guidelines", "x.md"),
		"GET " + documentPath("guidelines", "x.md") + "/turn",
		"DELETE " + documentPath("guidelines", d.ID), "POST /collections/guidelines/reindex",
		"POST /search", "GET /passages/" + d.ID + "-0",
		"GET " + knowledgeapi.ArchivePath, "PUT " + knowledgeapi.ArchivePath,
	}
	people, archive := routes[:len(routes)-2], routes[len(routes)-2:]
	only := map[string][]string{identity.Gate: archive, identity.Backup: people}
	for signer := range only {
		forged[signer] = identitytest.Signer(t, at, signer).Sign(admin, identity.Knowledge)
	}

	for name, token := range forged {
		refused, ok := only[name] // the others are answered
		if !ok {
			refused = routes
		}
		for _, route := range refused {
			method, path, _ := strings.Cut(route, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, s.url+path,
				strings.NewReader(`{"query":"ward"}`))
			if err != nil {
				t.Fatal(err)
			}

			r.Header.Set(wire.OwnerHeader, admin.ID)
			if token != "" {
				r.Header.Set("Authorization", identity.Authorization(token))
			}

			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusUnauthorized ||
				bytes.Contains(body, []byte("ward")) {
				t.Errorf("%s: %s answers %s %s %v", name, route, resp.Status, body, err)
			}
		}

		if i := strings.LastIndex(token, "."); i > 0 && i < len(token)-1 &&
			strings.Contains(s.log.String(), token[i+1:]) {
			t.Errorf("%s: the log has the signature", name)
		}
	}

	// What is refused above is the token alone.
	var list knowledgeapi.Documents
	s.want(visitor, "GET", "/collections/guidelines/documents", nil, &list, http.StatusOK)
	if len(list.Documents) != 1 || list.Documents[0].SHA256 != d.SHA256 ||
		len(s.search(visitor, "ward")) != 1 {
		t.Errorf("there are %+v", list)
	}
}

// TestBackendIsNoAdmin holds that the word of the backend, which asks people's questions, makes
// nobody an administrator.
func TestBackendIsNoAdmin(t *testing.T) {
	s := newService(t, nil)
	var d knowledgeapi.Document
	s.want(admin, "PUT", documentPath("staff", "pay.md"), []byte("Pay is due."), &d,
		http.StatusAccepted)
	backend := *s
	backend.gate = identitytest.Signer(t, unbound(s.redis), identity.Backend)
	matron := identity.Person{ID: "matron", Admin: true, Groups: []string{"nurses"}}
	for _, tt := range []struct {
		p            identity.Person
		method, path string
		status       int
	}{
		{admin, "PUT", documentPath("guidelines", "x.md"), 403},
		{admin, "PUT", documentPath("staff", "x.md"), 404},
		{matron, "DELETE", documentPath("staff", d.ID), 403},
		{admin, "GET", "/collections/staff/documents", 404},
		{admin, "GET", documentPath("staff", "x.md") + "/turn", 404},
	} {
		backend.want(tt.p, tt.method, tt.path, []byte("x"), nil, tt.status)
	}

	if got := backend.search(matron, "pay"); len(got) != 1 {
		t.Errorf("a question finds %q", got)
	}
}

// TestVectors has ml make vectors in the name of the service.
func TestVectors(t *testing.T) {
	redis := redistest.StartAs(t, identity.Knowledge)
	ml := newML(t, unbound(redis))
	s := newService(t, func(c *knowledgeenv.Config) {
		c.RedisURL, c.MLServiceURL, c.EmbeddingModel = redis.URL, ml.URL, "tiny"
	})
	s.gate = identitytest.Signer(t, unbound(redis), identity.Gate)
	s.want(admin, "PUT", documentPath("guidelines", "a.txt"), []byte("alpha beta\n\ngamma"), nil,
		http.StatusAccepted)

	until(t, "vectors are made", func() bool {
		var c knowledgeapi.Collections
		s.want(admin, "GET", "/collections", nil, &c, http.StatusOK)
		return c.Embedding == "tiny" && c.Collections[0].Pending == 0
	})
	var found knowledgeapi.SearchResponse
	s.want(visitor, "POST", "/search", []byte(`{"query":"alpha"}`), &found, http.StatusOK)
	if found.WordsAlone || len(found.Passages) != 1 {
		t.Errorf("got %+v", found)
	}

	texts := ml.texts.Load()
	s.want(admin, "POST", "/collections/guidelines/reindex", nil, nil, http.StatusAccepted)
	until(t, "vectors are made anew", func() bool { return ml.texts.Load() > texts })

	ml.away.Store(true)
	s.want(visitor, "POST", "/search", []byte(`{"query":"alpha"}`), &found, http.StatusOK)
	if !found.WordsAlone || len(found.Passages) != 1 {
		t.Errorf("while ml is away: %+v", found)
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestStop stops the process while it reads a document.
func TestStop(t *testing.T) {
	s := newService(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		status, err := s.do(admin, "PUT", documentPath("guidelines", "a.txt"),
			bytes.Repeat([]byte("some words\n\n"), 50_000), nil)
		if err != nil || status != http.StatusAccepted {
			t.Errorf("the document: %d %v", status, err)
		}
	})
	until(t, "the document is received", func() bool {
		entries, _ := os.ReadDir(s.cfg.DataDir + "/spool")
		return len(entries) > 0
	})
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the process: %v", err)
	}

	s.start()
	if got := s.search(visitor, "words"); len(got) == 0 {
		t.Error("nothing is found")
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	for _, args := range [][]string{{"parse"}, {"parse", "a", "b"}, {"other"}} {
		err := run(context.Background(), args, nil, strings.NewReader(""), &out, &out)
		if err == nil || !strings.Contains(err.Error(), "usage:") {
			t.Errorf("%q: %v", args, err)
		}
	}
}
