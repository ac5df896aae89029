package account

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// newAccounts returns accounts in a Redis of their own.
func newAccounts(t *testing.T) (*Accounts, *redistest.Server) {
	t.Helper()
	r := redistest.StartAs(t, "gate")
	st, err := store.New(redisclient.Address{URL: r.URL})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(st.Close)

	names := &pseudonym.Names{}
	if err := names.Load(t.Context(), st.Claim); err != nil {
		t.Fatal(err)
	}

	log := slog.New(slog.DiscardHandler)
	return New(st, names, session.New(st, names, time.Hour, time.Hour, log)), r
}

// TestRemoveAgain checks that a removal that failed has closed the account, and can be made again.
func TestRemoveAgain(t *testing.T) {
	a, _ := newAccounts(t)
	ctx := t.Context()
	if err := a.create(ctx, &Account{Name: "ada", Hash: "x"}); err != nil {
		t.Fatal(err)
	}

	away := errors.New("Redis is away")
	var tries []string
	a.OnRemove(func(_ context.Context, id string) error {
		tries = append(tries, id)
		if len(tries) == 1 {
			return away
		}
		return nil
	})

	if err := a.Remove(ctx, "ada"); !errors.Is(err, away) {
		t.Fatalf("removed: %v", err)
	}
	if _, err := a.Find(ctx, "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("found: %v", err)
	}
	if err := a.SetAdmin(ctx, "ada", true); !errors.Is(err, ErrUnknown) {
		t.Errorf("made an admin: %v", err)
	}
	if _, _, err := a.Invite(ctx, "ada", false); !errors.Is(err, ErrTaken) {
		t.Errorf("invited: %v", err)
	}

	if err := a.Remove(ctx, "ada"); err != nil {
		t.Errorf("again: %v", err)
	}
	if len(tries) != 2 || tries[0] != tries[1] {
		t.Errorf("keys were revoked of %q", tries)
	}

	if err := a.Remove(ctx, "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a third time: %v", err)
	}
}

// TestRemoveUnasked checks that a removal that has begun does not end with its request.
func TestRemoveUnasked(t *testing.T) {
	a, _ := newAccounts(t)
	if err := a.create(t.Context(), &Account{Name: "ada", Hash: "x"}); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	a.OnRemove(func(ctx context.Context, _ string) error {
		cancel()
		return ctx.Err()
	})

	if err := a.Remove(ctx, "ada"); err != nil {
		t.Errorf("removed: %v", err)
	}
	if _, err := a.stored(t.Context(), "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("found: %v", err)
	}
}
