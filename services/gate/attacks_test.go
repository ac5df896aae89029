package main

import (
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestThousandStreams: somebody who opens a thousand event streams and reads none takes little,
// holds up nobody else, and has none left after signing out. A backend lets in few of them.
func TestThousandStreams(t *testing.T) {
	const streams = 1000
	town := newTown(t)
	ada, bob := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	ada.join("ada", town.code("invite ada"))
	bob.join("bob", town.code("invite bob"))

	before := memory()
	bodies := make(chan io.ReadCloser, streams)
	var open sync.WaitGroup
	for range 20 {
		open.Go(func() {
			for range streams / 20 {
				resp, err := ada.client.Do(streamRequest(t, ada))
				if err != nil {
					t.Error(err)
					continue
				}

				if resp.StatusCode != http.StatusOK {
					t.Error(resp.Status)
				}

				bodies <- resp.Body
			}
		})
	}

	open.Wait()
	close(bodies)

	// The memory is that of the streams' readers, of the gate and of the frontend.
	each := (memory() - before) / streams
	t.Logf("%d KiB for a stream, at its three ends together", each>>10)
	if each > 256<<10 {
		t.Errorf("a stream takes %d KiB", each>>10)
	}

	begin := time.Now()
	if !bob.signedIn() {
		t.Error("somebody else gets no page")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("somebody else's page takes %s", took)
	}

	ada.post("/sign-out")
	begin = time.Now()
	for body := range bodies {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
		body.Close()
	}

	if took := time.Since(begin); took > streamEnds {
		t.Errorf("the streams end %s after the session", took)
	}
}

// TestForeignOnPages: the pages of the gate's own end no session and revoke no
// key of somebody else.
func TestForeignOnPages(t *testing.T) {
	town := newTown(t)
	ada, bob := town.visitor("192.0.2.1"), town.visitor("192.0.2.2")
	ada.join("ada", town.code("invite ada --admin"))
	bob.join("bob", town.code("invite bob"))
	ada.post("/account/keys", "name", "editor", "scope", "chat", "days", "9")

	// What names them on her pages.
	_, sessions := ada.get("/account/sessions")
	_, keys := ada.get("/account/keys")
	session := regexp.MustCompile(`name="end" value="([\w-]{43})"`).FindStringSubmatch(sessions)
	key := regexp.MustCompile(`name="revoke" value="(\w+)"`).FindStringSubmatch(keys)
	if session == nil || key == nil {
		t.Fatalf("no session and no key:\n%s\n%s", sessions, keys)
	}

	for _, form := range [][]string{
		{"/account/sessions", "end", session[1]},
		{"/account/keys", "revoke", key[1]},
		{"/account/users", "act", "remove", "name", "ada"},
		{"/account/users", "act", "reset", "name", "ada"},
		{"/account/password", "current", password, "password", "one more horse", "again",
			"one more horse", "name", "ada"},
	} {
		resp, body := bob.post(form[0], form[1:]...)
		if strings.Contains(body, "editor") {
			t.Errorf("%q: %s %s", form, resp.Status, body)
		}
	}

	if !ada.signedIn() || town.visitor("192.0.2.3").signIn("ada", password) != http.StatusSeeOther {
		t.Error("she is signed out, or cannot sign in")
	}
	if _, now := ada.get("/account/keys"); !strings.Contains(now, key[1]) {
		t.Errorf("her key is gone:\n%s", now)
	}
}

// memory returns what this process holds in heap and stacks.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
