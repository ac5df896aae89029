package session_test

import (
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/google/go-cmp/cmp"
)

// TestNamesOfPeople: the names are those that the provider gave last, of whoever is signed in.
func TestNamesOfPeople(t *testing.T) {
	m := manager(t, redistest.Start(t).URL, time.Hour, 24*time.Hour)
	want := map[string]string{}
	var ids []string
	for _, who := range []session.Who{
		{Issuer: "https://id.example", Subject: "a", Name: "Ada"},
		{Issuer: "https://id.example", Subject: "b", Name: "Bob"},
		{Issuer: "https://id.example", Subject: "a", Name: "Ada Lovelace"},
		{Issuer: "https://id.example", Subject: "c", Name: "Carol"},
	} {
		c := signIn(t, m, request("/"), who)
		s, err := m.Find(request("/", c))
		if err != nil {
			t.Fatal(err)
		}

		ids = append(ids, s.ID)
		want[s.ID] = who.Name
	}

	carol := ids[3]
	if err := m.EndAll(t.Context(), carol, ""); err != nil {
		t.Fatal(err)
	}
	delete(want, carol)

	for _, asked := range [][]string{append(ids, "SOMEBODY"), nil} {
		if len(asked) == 0 {
			want = map[string]string{}
		}

		got, err := m.Names(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}
