package api_test

import (
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// TestGroupsOfATakenOverAnswer: ml is told the groups that the person had who asked, by a backend that
// knows no more than what is stored.
func TestGroupsOfATakenOverAnswer(t *testing.T) {
	redis := redistest.StartAs(t, stacks.Backend)
	ml := mltest.Start(t)
	told := make(chan string, 4)
	ml.Chat(func(s *mltest.Stream) {
		told <- s.HTTP.Header.Get("Authorization")
		s.Text("hello")
		s.Done()
	})

	s := dead(t, store.Address{URL: redis.URL}, lease)
	for _, groups := range [][]string{{"research", "a \"team\"\n"}, nil} {
		if _, err := s.Begin(t.Context(), store.Turn{Owner: "alice", Title: "T", Model: "m:1",
			Message: "Count", Groups: groups}, "T"); err != nil {
			t.Fatal(err)
		}
	}

	newInstance(t, redis.URL, ml.URL, options{sign: identity.NewSigner(identity.Backend).For("ml")})
	got := map[string][]string{}
	for range 2 {
		select {
		case token := <-told:
			p, ok := identity.Peek(token)
			if !ok || p.ID != "alice" {
				t.Errorf("%+v, %v", p, ok)
			}
			if len(p.Groups) > 0 {
				got["some"] = p.Groups
			} else {
				got["none"] = nil
			}
		case <-time.After(patience):
			t.Fatal("nobody takes the answers over")
		}
	}

	want := map[string][]string{"some": {"research", "a \"team\"\n"}, "none": nil}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ml is told (-want +got):\n%s", d)
	}
}
