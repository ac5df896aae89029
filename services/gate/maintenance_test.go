package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/maintenance"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// maintained runs `gate maintenance` with the words.
func maintained(t *testing.T, env []string, words ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"maintenance"}, words...), env, &out, io.Discard)
	return out.String(), err
}

// await asks the path until it is answered with the status.
func await(t *testing.T, url string, status int) (*http.Response, string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, body := get(t, url, "Accept", "text/html", "Cookie", "theme=dark")
		if resp.StatusCode == status {
			return resp, body
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s, want %d", url, resp.Status, status)
		}
	}
}

// TestMaintenance shows people a page and programs an error, and leaves alone who follows an answer,
// the state of the stack and the probes. A gate that starts anew shows it as well.
func TestMaintenance(t *testing.T) {
	r, f := redistest.StartAs(t, stacks.Gate), newFrontend(t)
	env := environ(t, ":0", r.URL, f.URL)
	base, stop, _ := start(t, r.URL, f.URL)
	if said, err := maintained(t, env); err != nil || said != "null\n" {
		t.Errorf("without a notice: %q, %v", said, err)
	}

	stream, err := http.Get(base + "/generations/1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, stream.Body)
	}()

	if _, err := maintained(t, env, "on", "carol", "New <disks> until noon."); err != nil {
		t.Fatal(err)
	}
	resp, body := await(t, base+"/", http.StatusServiceUnavailable)
	for _, want := range []string{
		"Back soon", "New &lt;disks&gt; until noon.", `data-theme="dark"`, "/static/gate/app.css",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q: %s", want, body)
		}
	}
	if resp.Header.Get("Retry-After") != "30" || len(resp.Cookies()) > 0 ||
		!strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page's header is %v", resp.Header)
	}

	select {
	case <-ended:
		t.Error("an answer was cut")
	default:
	}

	// The gate after it.
	if err := stop(); err != nil {
		t.Errorf("run: %v", err)
	}
	base, _, _ = start(t, r.URL, f.URL)
	resp, body = get(t, base+"/v1/models", "Authorization", "Bearer x")
	var answer struct {
		Error struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 503 ||
		resp.Header.Get("Retry-After") != "30" || answer.Error.Code != "maintenance" ||
		answer.Error.Type != "server_error" || answer.Error.Message != "New <disks> until noon." {
		t.Errorf("a program gets %s %s", resp.Status, body)
	}
	if resp, body := get(t, base+"/c/1"); resp.StatusCode != 503 ||
		!strings.Contains(body, `"detail":"New \u003cdisks\u003e until noon."`) ||
		resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a script gets %s %s", resp.Status, body)
	}

	for _, path := range []string{
		"/health", "/ready", "/metrics", "/api/status", "/static/gate/app.css",
	} {
		if resp, body := get(t, base+path); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
	again, err := http.Get(base + "/generations/1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Body.Close()
	if again.StatusCode != http.StatusOK {
		t.Errorf("who follows an answer gets %s", again.Status)
	}

	// While Redis is away it stays.
	resume := r.Pause(t)
	time.Sleep(2 * time.Second)
	if resp, _ := get(t, base+"/", "Accept", "text/html"); resp.StatusCode != 503 {
		t.Errorf("without Redis: %s", resp.Status)
	}
	resume()
	if said, err := maintained(t, env); err != nil || !strings.Contains(said, "noon") {
		t.Errorf("the notice is %q, %v", said, err)
	}
	if _, err := maintained(t, env, "off", "carol"); err != nil {
		t.Fatal(err)
	}
	if _, body := await(t, base+"/", http.StatusOK); body != "the page" {
		t.Errorf("afterwards the page is %q", body)
	}
}

// TestMaintenanceRecorded: it is recorded who puts the notice up, and not what it says.
func TestMaintenanceRecorded(t *testing.T) {
	town := newTown(t, auditing)
	for _, words := range [][]string{{"on", "carol", "Noon."}, {"off", "carol"}} {
		if _, err := maintained(t, town.env, words...); err != nil {
			t.Fatal(err)
		}
	}
	text, acts := town.records()
	want := "maintenance intent, maintenance done, maintenance intent, maintenance done"
	if got := strings.Join(acts, ", "); !strings.HasSuffix(got, want) {
		t.Errorf("recorded: %s", got)
	}
	if strings.Contains(text, "Noon") || !strings.Contains(text, `"detail":{"state":"on"}`) ||
		!strings.Contains(text, `"by":"carol"`) {
		t.Errorf("recorded:\n%s", text)
	}

	for _, bad := range [][]string{
		{"on"}, {"off"}, {"off", "carol", "x"}, {"maybe", "carol"}, {"on", "carol", "two\nlines"},
		{"on", "carol", strings.Repeat("x", 501)}, {"on", "carol", "\xff"},
	} {
		if _, err := maintained(t, town.env, bad...); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}

	said, err := maintained(t, town.env, "on", "carol")
	if err == nil {
		said, err = maintained(t, town.env)
	}
	var n maintenance.Notice
	if err == nil {
		err = json.Unmarshal([]byte(said), &n)
	}
	if err != nil || n.Message != maintenance.Standard || n.By != "carol" ||
		time.Since(n.Since) > time.Minute {
		t.Errorf("the notice is %q, %v", said, err)
	}
}
