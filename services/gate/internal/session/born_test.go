package session_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// before returns the URL of the Redis through a proxy that calls f once, before it passes on the
// first command that has the text.
func before(t *testing.T, r *redistest.Server, text string, f func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.Close() })
	var once sync.Once
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}

			server, err := net.Dial("tcp", r.Addr)
			if err != nil {
				client.Close()
				continue
			}

			go func() {
				_, _ = io.Copy(client, server)
				client.Close()
			}()

			go func() {
				defer server.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := client.Read(b)
					if err != nil {
						return
					}
					if bytes.Contains(b[:n], []byte(text)) {
						once.Do(f)
					}
					if _, err := server.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()

	return "redis://" + l.Addr().String()
}

// TestBornLate checks that no session begins after what should have ended it.
func TestBornLate(t *testing.T) {
	for name, end := range map[string]func(m *session.Manager, id string) error{
		"all": func(m *session.Manager, id string) error { return m.EndAll(t.Context(), id, "") },
		"by subject": func(m *session.Manager, _ string) error {
			_, err := m.EndBy(t.Context(), ada.Issuer, ada.Subject, "")
			return err
		},
		"by sid": func(m *session.Manager, _ string) error {
			_, err := m.EndBy(t.Context(), ada.Issuer, "", ada.SID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := redistest.Start(t)
			direct := manager(t, r.URL, time.Hour, time.Hour)
			c := signIn(t, direct, request("/"), ada)
			first, err := direct.Find(request("/", c))
			if err != nil {
				t.Fatal(err)
			}

			url := before(t, r, `"Browser":`, func() {
				if err := end(direct, first.ID); err != nil {
					t.Error(err)
				}
			})

			m := manager(t, url, time.Hour, time.Hour)
			w := httptest.NewRecorder()
			if err := m.SignIn(w, request("/"), ada); err == nil {
				t.Error("signed in")
			}

			if _, err := direct.Find(request("/", c)); !errors.Is(err, session.ErrNone) {
				t.Errorf("the session before: %v", err)
			}
			if n := len(r.Client(t).Keys(t.Context(), "gate:session:*").Val()); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		})
	}
}
