package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
)

// site is a gate, a frontend and a backend, each a process, in which people have accounts.
type site struct {
	t     *testing.T
	url   string
	gate  string   // the binary
	env   []string // of the gate
	log   *logs
	redis *redistest.Server
	dir   string // of Redis
	ml    *mltest.Server
}

// service starts the binary, and returns the URL that it listens on.
func (s *site) service(binary string, env []string, extra ...string) string {
	s.t.Helper()
	out := newLogs()
	cmd := exec.Command(binary)
	cmd.Env, cmd.Stderr = append(env, extra...), io.MultiWriter(out, s.log)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return out.url(s.t)
}

func newSite(t *testing.T, records contract.Auditing) *site {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../gate", "../frontend")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	s := &site{
		t: t, gate: filepath.Join(bin, "gate"), log: &logs{addr: make(chan string, 100)},
		redis: redistest.StartOn(t, dir), dir: dir, ml: mltest.Start(t),
	}
	// What Redis compresses cannot be searched.
	r := s.redis.Client(t)
	r.ConfigSet(t.Context(), "aof-use-rdb-preamble", "no")

	const address = "127.0.0.1:0" // which nobody can take meanwhile
	backendURL := s.service(os.Args[0], environ(t, func(b *backendenv.Config) {
		b.RedisURL, b.MLServiceURL, b.ListenAddr = s.redis.URL, s.ml.URL, address
		b.Auditing, b.Ratings = records, true
	}), asBackend+"=1")

	texts, err := domain.Texts{Title: "T", Greeting: "G", Prompts: []string{"P"}, Notice: "N"}.Encode()
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(bin, "domain.json")
	if err := os.WriteFile(file, []byte(texts), 0o600); err != nil {
		t.Fatal(err)
	}

	common := contract.Common{Environment: "test", LogLevel: "info", ListenAddr: address,
		DrainTimeout: time.Second}
	env, err := contract.Environ(&frontendenv.Config{
		Common: common, BackendURL: backendURL, DomainFile: file, Ratings: true,
	})
	if err != nil {
		t.Fatal(err)
	}

	frontendURL := s.service(filepath.Join(bin, "frontend"), env)
	s.env, err = contract.Environ(&gateenv.Config{
		Common:            common,
		RequiredRedis:     contract.RequiredRedis{RedisURL: s.redis.URL},
		Auditing:          records,
		FrontendURL:       frontendURL,
		MLServiceURL:      s.ml.URL,
		Title:             "T",
		SignIn:            gateenv.Accounts,
		SessionIdle:       time.Hour,
		SessionLife:       time.Hour,
		GenerationTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}

	s.url = s.service(s.gate, s.env)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.url + "/ready")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("the gate is not ready: %s", resp.Status)
		}
	}
}

// user runs `gate user` and returns what it says.
func (s *site) user(words ...string) (string, error) { return s.command("user", words...) }

// command runs a command of the gate and returns what it says.
func (s *site) command(name string, words ...string) (string, error) {
	cmd := exec.CommandContext(s.t.Context(), s.gate, append([]string{name}, words...)...)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// audit returns what `codexctl audit --export` asks the gate for: the first page of each day.
func (s *site) audit() string {
	s.t.Helper()
	days, err := s.command("audit", "days")
	if err != nil {
		s.t.Fatalf("audit days: %v: %s", err, days)
	}

	var records strings.Builder
	for day := range strings.FieldsSeq(days) {
		page, err := s.command("audit", "page", day, "0")
		if err != nil {
			s.t.Fatalf("audit page %s: %v: %s", day, err, page)
		}
		records.WriteString(page)
	}
	return records.String()
}

// member is somebody with an account, and a browser.
type member struct {
	*http.Client
	s    *site
	name string
}

const memberPassword = "a horse of another colour"

func (s *site) join(name string, words ...string) *member {
	s.t.Helper()
	out, err := s.user(append([]string{"invite", name}, words...)...)
	if err != nil {
		s.t.Fatalf("invite: %v: %s", err, out)
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}

	m := &member{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, s, name}
	m.want(http.StatusSeeOther, "/invitation", "name", name, "password", memberPassword, "again",
		memberPassword, "code", regexp.MustCompile(`[A-Z2-7]{26}`).FindString(out))
	return m
}

// do sends a form, or gets the path without fields, and returns the answer.
func (m *member) do(path string, fields ...string) (status int, body string) {
	m.s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}

	method := http.MethodGet
	if len(fields) > 0 {
		method = http.MethodPost
	}

	req, err := http.NewRequestWithContext(m.s.t.Context(), method, m.s.url+path,
		strings.NewReader(form.Encode()))
	if err != nil {
		m.s.t.Fatal(err)
	}

	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "text/html")
	resp, err := m.Do(req)
	if err != nil {
		m.s.t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.s.t.Fatal(err)
	}

	return resp.StatusCode, string(b)
}

func (m *member) want(status int, path string, fields ...string) (body string) {
	m.s.t.Helper()
	got, body := m.do(path, fields...)
	if got != status {
		m.s.t.Fatalf("%s: status %d, want %d: %s", path, got, status, body)
	}
	return body
}

// rewritten waits until Redis has written its append-only file anew.
func (s *site) rewritten() {
	s.t.Helper()
	r := s.redis.Client(s.t)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		info := r.Info(s.t.Context(), "persistence").Val()
		if strings.Contains(info, "aof_rewrite_in_progress:0") &&
			strings.Contains(info, "aof_rewrite_scheduled:0") &&
			!strings.Contains(info, "aof_rewrites:0") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("Redis does not write its file anew: %s", info)
		}
	}
}

// TestNothingLeft gives a person all data, and erases them while an answer is being written and
// another tab asks. Redis, its files, the logs and the audit have nothing of it afterwards, but for the
// pseudonym in the audit.
func TestNothingLeft(t *testing.T) {
	s := newSite(t, contract.Auditing{Audit: true, AuditLog: true})
	const phrase = "the pangolin sleeps at noon"
	began := make(chan struct{}, 10)
	s.ml.Chat(func(st *mltest.Stream) {
		st.Text(phrase)
		began <- struct{}{}
		st.Hold()
	})

	boss, ada := s.join("boss", "--admin"), s.join("ada-lovelace")
	for _, m := range []*member{boss, ada} {
		m.want(http.StatusOK, "/account/keys", "name", "my editor", "scope", "chat", "days", "9")
	}

	ada.want(http.StatusSeeOther, "/chat", "message", "Tell me: "+phrase)
	<-began

	all := ada.want(http.StatusOK, "/account/data/export?format=json")
	for _, part := range []string{`"name": "ada-lovelace"`, `"name": "my editor"`, phrase,
		`"conversations":[`} {
		if !strings.Contains(all, part) {
			t.Errorf("the export lacks %s:\n%s", part, all)
		}
	}
	if strings.Contains(all, "cck_") || strings.Contains(all, "boss") {
		t.Errorf("the export has a secret, or somebody else's: %s", all)
	}

	r := s.redis.Client(t)
	owners := r.Keys(t.Context(), "owner:*:conversations").Val()
	if len(owners) != 1 {
		t.Fatalf("owners: %q", owners)
	}

	id := strings.Split(owners[0], ":")[1]
	// Redis writes to its file up to two seconds later while the disk is busy.
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if len(redistest.FindFiles(t, s.dir, phrase)) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Redis' files do not have the phrase before: nothing is shown")
		}
	}

	// A wrong password, and the last admin's.
	ada.want(http.StatusUnprocessableEntity, "/account/data", "current", "wrong")
	body := boss.want(http.StatusConflict, "/account/data", "current", memberPassword)
	if !strings.Contains(body, "make another admin first") {
		t.Errorf("the last admin: %s", body)
	}

	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for ctx.Err() == nil {
			ada.do("/chat", "message", phrase)
		}
	}()

	ada.want(http.StatusOK, "/account/data", "current", memberPassword)
	stop()
	<-asked
	ada.want(http.StatusUnauthorized, "/chat", "message", phrase)
	ada.want(http.StatusUnprocessableEntity, "/sign-in", "name", "ada-lovelace", "password",
		memberPassword)

	for _, key := range redistest.Find(t, r, phrase, "ada-lovelace") {
		t.Errorf("%s has the phrase or the name", key)
	}
	for _, key := range redistest.Find(t, r, id) {
		if strings.HasPrefix(key, "{audit}:") {
			continue
		}
		most := 3 * time.Minute
		if key == usage.Key(id) {
			most = usage.ErasedMark
		}
		const gone = -2 // meanwhile
		if left := r.PTTL(t.Context(), key).Val(); left != gone && (left <= 0 || left > most) {
			t.Errorf("%s stays for %v", key, left)
		}
	}

	export := s.audit()
	if !strings.Contains(export, `"erase"`) || !strings.Contains(export, id) {
		t.Errorf("the audit's export does not have who erased what: %s", export)
	}
	for _, text := range []string{phrase, "ada-lovelace", memberPassword} {
		if strings.Contains(export, text) {
			t.Errorf("the audit's export has %q", text)
		}
	}

	s.rewritten()
	if got := redistest.FindFiles(t, s.dir, phrase, "ada-lovelace"); len(got) > 0 {
		t.Errorf("the phrase or the name is in %q", got)
	}
	for _, text := range []string{phrase, "ada-lovelace", memberPassword} {
		if strings.Contains(s.log.String(), text) {
			t.Errorf("a log has %q", text)
		}
	}

	if got := redistest.Find(t, r, "boss"); len(got) == 0 {
		t.Error("the other person's account is gone")
	}
	boss.want(http.StatusOK, "/")
}

// TestMoved gives one person's conversations to another one by the command.
func TestMoved(t *testing.T) {
	s := newSite(t, contract.Auditing{})
	const phrase = "the pangolin sleeps at noon"
	s.ml.Chat(func(st *mltest.Stream) { st.Text(phrase); st.Done() })
	ada, bob := s.join("ada"), s.join("bob")
	ada.want(http.StatusSeeOther, "/chat", "message", "Tell me.")
	for _, m := range []*member{ada, bob} {
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			all := m.want(http.StatusOK, "/account/data/export?format=json")
			if strings.Contains(all, phrase) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s has no conversation: %s", m.name, all)
			}
		}

		if m == bob {
			break
		}

		if out, err := s.user("move", "ada", "bob"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		bob.want(http.StatusSeeOther, "/sign-in", "name", "bob", "password", memberPassword)
	}

	ada.want(http.StatusSeeOther, "/sign-in", "name", "ada", "password", memberPassword)
	if all := ada.want(http.StatusOK, "/account/data/export?format=json"); strings.Contains(all,
		phrase) {
		t.Errorf("ada still has it: %s", all)
	}
}
