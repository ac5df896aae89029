package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/identity/identitytest"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// startKnowledge starts a process of the service itself, and returns its URL.
func startKnowledge(t *testing.T, redisURL string) (url string) {
	t.Helper()
	address := "127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	env, err := contract.Environ(&knowledgeenv.Config{
		Common: contract.Common{Environment: "test", LogLevel: "info", ListenAddr: address,
			DrainTimeout: 5 * time.Second},
		RequiredRedis: contract.RequiredRedis{RedisURL: redisURL},
		MLServiceURL:  "http://127.0.0.1:1",
		DataDir:       t.TempDir(),
		Collections:   knowledgeenv.Collections{"handbook": nil, "wards": {"nurses"}},
	})
	if err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	t.Cleanup(func() { // when it has ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	url = "http://" + address
	peers.RunService(t, "knowledge", env, url+"/ready", &log)
	return url
}

// TestKnowledge has the gate manage documents of the service itself, and finds what they say.
func TestKnowledge(t *testing.T) {
	r, f := redistest.Start(t), newFrontend(t)
	url := startKnowledge(t, r.URL)
	change := func(c *gateenv.Config) { c.SignIn, c.KnowledgeURL = gateenv.Accounts, url }
	base, stop, log := start(t, r.URL, f.URL, change)
	l := &library{town: &town{t, r, base, f, stop, log, environ(t, ":1", r.URL, f.URL, change)}}
	ada := l.visitor("192.0.2.1")
	ada.join("ada", l.code("invite ada --admin"))

	// By the page.
	const letter = "# Letters\n\nA discharge letter is due at noon."
	if status, said := ada.put("/documents/wards/files/letters.md", letter); status != http.StatusOK ||
		said != string(documents.Added) {
		t.Errorf("%d %s", status, said)
	}
	for _, x := range []struct {
		file, content string
		status        int
		says          string
	}{
		{"letters.md", "# Other", http.StatusConflict, "there already"},
		{"a.exe", "MZ", http.StatusUnsupportedMediaType, ".docx"},
		{"a.pdf", "no PDF", http.StatusUnsupportedMediaType, "PDF"},
		{"a.md", " ", http.StatusUnprocessableEntity, ""},
		{".md", "x", http.StatusBadRequest, "dot"},
		{"large.txt", strings.Repeat("word ", 32<<20/5), http.StatusUnprocessableEntity, ""},
	} {
		status, said := ada.put("/documents/wards/files/"+x.file, x.content)
		if status != x.status || !strings.Contains(said, x.says) {
			t.Errorf("%s: %d %s, want %d %s", x.file, status, said, x.status, x.says)
		}
	}
	if resp, body := ada.get("/documents/wards", "Accept", "text/html"); resp.StatusCode != 200 ||
		!strings.Contains(body, "letters.md") {
		t.Errorf("%s %s", resp.Status, body)
	}

	// By the command, which says by its digest what is there.
	var out bytes.Buffer
	err := l.command(archive(t, "visits.md", "Guests come from two.", "b.exe", "MZ"), &out, "add",
		"handbook")
	got := results(t, &out)
	if err == nil || len(got) != 2 || got[0] != "visits.md added" {
		t.Errorf("add: %v %q", err, got)
	}
	var list documents.Documents
	if err := l.command(nil, &out, "list", "wards"); err != nil ||
		json.Unmarshal(out.Bytes(), &list) != nil || len(list.Documents) != 1 ||
		list.Documents[0].SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(letter))) {
		t.Errorf("list: %v %s", err, &out)
	}

	// Who may read them finds them, as an answer does.
	backend := identitytest.Signer(t, contract.Redis{URL: r.URL}, identity.Backend)
	peer := hop.New("knowledge", url)
	find := func(groups ...string) (files []string) {
		t.Helper()
		p := identity.Person{ID: "somebody", Groups: groups}
		client := peer.Signing(backend.For(identity.Knowledge))
		found, err := sources.Find(identity.NewContext(t.Context(), p), client, p.ID,
			"When is a letter due, and when do guests come?")
		if err != nil {
			t.Error(err)
		}
		for _, s := range found {
			files = append(files, s.File)
		}
		slices.Sort(files)
		return files
	}
	if got := find("nurses"); !slices.Equal(got, []string{"letters.md", "visits.md"}) {
		t.Errorf("a nurse finds %q", got)
	}
	if got := find(); !slices.Equal(got, []string{"visits.md"}) {
		t.Errorf("somebody finds %q", got)
	}

	out.Reset()
	if err := l.command(nil, &out, "remove", "wards", "letters.md"); err != nil {
		t.Error(err)
	}
	if got := find("nurses"); !slices.Equal(got, []string{"visits.md"}) {
		t.Errorf("after the removal a nurse finds %q", got)
	}
}
