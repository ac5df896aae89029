package session_test

import (
	"errors"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

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

			url := redistest.Before(t, r, `"Browser":`, func() {
				if err := end(direct, first.ID); err != nil {
					t.Error(err)
				}
			})

			m := manager(t, url, time.Hour, time.Hour)
			w := httptest.NewRecorder()
			other := ada
			other.Groups = []string{"another"}
			if err := m.SignIn(w, request("/"), other); err == nil {
				t.Error("signed in")
			}
			if got := groups(t, r, first.ID); slices.Contains(got, "another") {
				t.Errorf("keys have the groups %q of no session", got)
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

// TestGroupsLate checks that nothing is left of the groups of a session that is ended, and they
// forgotten, at the moment in which they are stored.
func TestGroupsLate(t *testing.T) {
	r := redistest.Start(t)
	direct := manager(t, r.URL, time.Hour, time.Hour)
	member := ada
	member.Groups = []string{"research"}
	first, err := direct.Find(request("/", signIn(t, direct, request("/"), member)))
	if err != nil {
		t.Fatal(err)
	}

	if got := groups(t, r, first.ID); !slices.Equal(got, member.Groups) {
		t.Fatalf("keys have the groups %q", got)
	}

	url := redistest.Before(t, r, "gate:groups:", func() {
		if err := direct.EndAll(t.Context(), first.ID, ""); err != nil {
			t.Error(err)
		}
		r.Client(t).Del(t.Context(), "gate:groups:"+first.ID)
	})

	m := manager(t, url, time.Hour, time.Hour)
	if err := m.SignIn(httptest.NewRecorder(), request("/"), member); err == nil {
		t.Error("signed in")
	}
	if got := groups(t, r, first.ID); len(got) != 0 {
		t.Errorf("keys have the groups %q of no session", got)
	}
}

// groups returns the groups that the keys of the person follow.
func groups(t *testing.T, r *redistest.Server, id string) []string {
	t.Helper()
	st, err := store.New(redisclient.Address{URL: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()

	list, err := st.Groups(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
