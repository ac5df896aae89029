package account

import (
	"context"
	"errors"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
)

// nothing erases nothing.
func nothing(context.Context, string) error { return nil }

// TestEraseLastAdmins has the last two admins erase their data at once: one is left.
func TestEraseLastAdmins(t *testing.T) {
	a, _ := newAccounts(t)
	ctx := t.Context()
	for _, name := range []string{"ada", "bob"} {
		if err := a.create(ctx, &Account{Name: name, Admin: true, Hash: "x"}); err != nil {
			t.Fatal(err)
		}
	}

	// Bob comes while Ada's data are being erased.
	var bobs error
	err := a.Erase(ctx, "ada", func(ctx context.Context, _ string) error {
		bobs = a.Erase(ctx, "bob", nothing)
		return nil
	})
	if err != nil || !errors.Is(bobs, owndata.ErrKept) {
		t.Errorf("ada: %v, bob: %v", err, bobs)
	}
	if _, err := a.Find(ctx, "bob"); err != nil {
		t.Errorf("bob: %v", err)
	}
	if _, err := a.stored(ctx, "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("ada: %v", err)
	}
}

// TestEraseAgain erases the data of a person whose account a crash has left
// closed, an admin's, too.
func TestEraseAgain(t *testing.T) {
	a, _ := newAccounts(t)
	ctx := t.Context()
	if err := a.create(ctx, &Account{Name: "ada", Admin: true, Hash: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.change(ctx, "ada", remove); err != nil {
		t.Fatal(err)
	}

	away := errors.New("the backend is away")
	if err := a.Erase(ctx, "ada", func(context.Context, string) error { return away }); !errors.Is(
		err, away) {
		t.Errorf("erased: %v", err)
	}

	if account, err := a.stored(ctx, "ada"); err != nil || !account.Removed {
		t.Fatalf("%+v, %v", account, err)
	}

	var ids []string
	err := a.Erase(ctx, "ada", func(_ context.Context, id string) error {
		ids = append(ids, id)
		return nil
	})

	if _, unknown := a.stored(ctx, "ada"); err != nil || len(ids) != 1 ||
		!errors.Is(unknown, ErrUnknown) {
		t.Errorf("%q, %v, %v", ids, err, unknown)
	}
}
