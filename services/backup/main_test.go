package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/storage"
	"github.com/redis/go-redis/v9"
)

// stack is what the service works with: a real Redis, and peers that check who asks.
type stack struct {
	t     *testing.T
	redis *redis.Client
	id    *age.X25519Identity
	cfg   *backupenv.Config

	mu       sync.Mutex
	received string // by knowledge

	away atomic.Int32 // how many requests the peers cannot check
}

func newStack(t *testing.T) *stack {
	t.Helper()
	r := redistest.StartAs(t, stacks.Backup)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}

	s := &stack{t: t, redis: r.Client(t), id: id}
	s.cfg = &backupenv.Config{
		Common: contract.Common{Environment: "prod", LogLevel: "info",
			ListenAddr: "127.0.0.1:" + peers.FreePort(t, "127.0.0.1"), DrainTimeout: time.Second},
		RequiredRedis: contract.RequiredRedis{RedisURL: r.URL},
		Stack:         "prod", Recipients: []string{id.Recipient().String()},
		Every: time.Hour, KeepLast: 3, Erasures: true, Directory: t.TempDir(),
		MLServiceURL: s.peer(identity.ML, "GET /models", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"models":[]}`)
		}),
		KnowledgeURL: s.peer(identity.Knowledge, knowledgeapi.ArchivePath,
			func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					_, _ = io.WriteString(w, "documents")
					return
				}
				b, _ := io.ReadAll(r.Body)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.received = r.URL.Query().Get("sha256") + " " + string(b)
			}),
	}
	return s
}

// peer returns the URL of a service that takes requests of the service backup alone.
func (s *stack) peer(name, pattern string, h http.HandlerFunc) string {
	s.t.Helper()
	verifier := identity.NewVerifier(name, func(ctx context.Context, key string) (string, error) {
		return s.redis.Get(ctx, key).Result()
	}, identity.Backup)
	mux := http.NewServeMux()
	mux.Handle(pattern, h)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.away.Add(-1) >= 0 {
			problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "Redis starts."))
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, _, err := verifier.Verify(r.Context(), token); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	s.t.Cleanup(server.Close)
	return server.URL
}

func (s *stack) environ() []string {
	s.t.Helper()
	environ, err := contract.Environ(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return environ
}

// run runs a command, and returns what it prints.
func (s *stack) run(in string, args ...string) (string, error) {
	s.t.Helper()
	var out, said bytes.Buffer
	err := run(s.t.Context(), args, s.environ(), strings.NewReader(in), &out, &said)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, said.String())
	}
	return out.String(), err
}

func (s *stack) must(in string, args ...string) string {
	s.t.Helper()
	out, err := s.run(in, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", args[0], err)
	}
	return out
}

// TestCommands makes a backup, lists, checks and fetches it, and reads it with the identity.
func TestCommands(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	const secret, who = "what somebody wrote", "who is erased"
	line := auditlog.Key{}.Seal(auditlog.Record{Number: 1, ID: "A", Action: auditlog.Erase,
		Outcome: auditlog.Done, Object: who, Time: time.Now()})
	day := time.Now().UTC().Format(time.DateOnly)
	for _, err := range []error{
		s.redis.Set(ctx, "conversation:1", secret, 0).Err(),
		s.redis.RPush(ctx, "{audit}:days", day).Err(),
		s.redis.RPush(ctx, "{audit}:"+day, line).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	s.must(`{"settings":"a: b","deployment":{},"model":{"files":[{"path":"m","content":"aGk="}]}}`,
		"state")
	const weights = "weights of somebody's own"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(weights)))
	if out := s.must("", "missing", sum); out != sum+"\n" {
		t.Errorf("missing are %q", out)
	}
	s.must(weights, "weights", sum)
	if out := s.must("", "missing", sum); out != "" {
		t.Errorf("missing are %q", out)
	}
	var opened bytes.Buffer
	err := archive.OpenWeights(&opened, []age.Identity{s.id}, sum,
		strings.NewReader(s.must("", "fetch", archive.WeightsFile(sum))))
	if err != nil || opened.String() != weights {
		t.Errorf("the weights are %q, %v", opened.String(), err)
	}

	var made struct {
		Name string
		archive.Summary
	}
	if err := json.Unmarshal([]byte(s.must("", "create")), &made); err != nil {
		t.Fatal(err)
	}
	s.must("", "verify", made.Name)
	if list := s.must("", "list"); !strings.Contains(list, made.SHA256) {
		t.Errorf("the list is %s", list)
	}

	parts := map[string]string{}
	sealed := s.must("", "fetch", archive.File(made.Name))
	_, err = archive.Read(strings.NewReader(sealed), []age.Identity{s.id},
		func(name string, content io.Reader) error {
			b, err := io.ReadAll(content)
			parts[name] = string(b)
			return err
		})
	if err != nil || !strings.Contains(parts[archive.Redis], secret) ||
		parts[archive.Documents] != "documents" || parts[archive.Models] != `{"models":[]}` {
		t.Errorf("%v, %d parts", err, len(parts))
	}

	kinds := map[archive.Kind]string{}
	for _, name := range strings.Fields(s.must("", "files")) {
		kind, _, _ := archive.Parse(name)
		kinds[kind] = name
		b, err := os.ReadFile(filepath.Join(s.cfg.Directory, "prod", name))
		if err != nil || bytes.Contains(b, []byte(secret)) || bytes.Contains(b, []byte(who)) {
			t.Errorf("%s: %v, or it can be read", name, err)
		}
	}
	var erased []auditlog.Record
	err = archive.OpenJSON(strings.NewReader(s.must("", "fetch", kinds[archive.Gone])),
		[]age.Identity{s.id}, &erased)
	if err != nil || len(erased) != 1 || erased[0].Object != who {
		t.Errorf("erased are %+v, %v", erased, err)
	}
	var state archive.State
	err = archive.OpenJSON(strings.NewReader(s.must("", "fetch", kinds[archive.Settings])),
		[]age.Identity{s.id}, &state)
	if err != nil || state.Settings != "a: b" || state.Model == nil ||
		string(state.Model.Files[0].Content) != "hi" {
		t.Errorf("state %+v, %v", state, err)
	}

	hold := filepath.Join(s.cfg.Directory, "prod", archive.HoldFile(made.Name))
	s.must("", "create", made.Name)
	if _, err := os.Stat(hold); err != nil {
		t.Error(err)
	}
	s.must("", "release", made.Name)
	if _, err := os.Stat(hold); !os.IsNotExist(err) {
		t.Errorf("a backup that was released: %v", err)
	}

	s.away.Store(1) // Redis was restarted
	s.must("others", "documents", "sum")
	if s.received != "sum others" {
		t.Errorf("knowledge has got %q", s.received)
	}

	for _, wrong := range [][]string{
		{"fetch", "../../etc/passwd"}, {"fetch", "README.md"}, {"verify", "x"}, {"create", "x"}, {"release", "x"},
		{"verify", archive.Name(time.Unix(0, 0))}, {"state"}, {"x"}, {"documents"},
		{"missing"}, {"missing", "x"}, {"weights"}, {"weights", "../x"}, {"weights", sum[1:] + "0"},
	} {
		if out, err := s.run("", wrong...); err == nil {
			t.Errorf("%q: %s", wrong, out)
		}
	}
}

// TestBucket makes a backup in a bucket of a real server of S3.
func TestBucket(t *testing.T) {
	s, bucket := newStack(t), storage.Start(t, "127.0.0.1")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(bucket.SecretKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cfg.Directory, s.cfg.S3URL, s.cfg.S3Bucket = "", bucket.URL, storage.Bucket
	s.cfg.S3Region, s.cfg.S3AccessKey = "us-east-1", bucket.AccessKey
	s.cfg.S3SecretKeyFile, s.cfg.S3CAFile = secret, bucket.CAFile

	s.must("", "create")
	var list []struct{ Name string }
	if err := json.Unmarshal([]byte(s.must("", "list")), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	s.must("", "verify", list[0].Name)
	if _, err := os.Stat(filepath.Join(bucket.Dir, storage.Bucket, "prod",
		archive.File(list[0].Name))); err != nil {
		t.Error(err)
	}
}

// TestServe: the service makes a backup at once where there is none, and is ready when it can write.
func TestServe(t *testing.T) {
	s := newStack(t)
	ctx, stop := context.WithCancel(t.Context())
	var said bytes.Buffer
	done := make(chan error, 1)
	environ := s.environ()
	go func() { done <- run(ctx, nil, environ, nil, io.Discard, &said) }()

	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain until %s", what)
			}
		}
	}
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + s.cfg.ListenAddr + path)
		if err != nil {
			return 0, ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	until("it is ready", func() bool { code, _ := get("/ready"); return code == http.StatusOK })
	until("there is a backup", func() bool {
		_, text := get("/metrics")
		return strings.Contains(text, "backup_last_timestamp_seconds 1.")
	})
	if _, text := get("/metrics"); !strings.Contains(text, `backup_failures_total{what="backup"} 0`) {
		t.Errorf("metrics:\n%s", text)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("%v\n%s", err, said.String())
	}
	if strings.Contains(said.String(), s.id.Recipient().String()) {
		t.Error("the log has a recipient")
	}
}

// TestRefused: a service that cannot write does not start, and says why.
func TestRefused(t *testing.T) {
	s := newStack(t)
	s.cfg.Directory = filepath.Join(s.cfg.Directory, "none")
	if _, err := s.run(""); err == nil || !strings.HasPrefix(err.Error(), "DIRECTORY: ") {
		t.Errorf("got %v", err)
	}
}
