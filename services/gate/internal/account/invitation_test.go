package account

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

// TestAcceptAgain checks that who gets no answer to a code can send it again, and nobody else can.
func TestAcceptAgain(t *testing.T) {
	a, r := newAccounts(t)
	ctx, redis := t.Context(), r.Client(t)
	const password, other = "a password for ada", "a password of others"
	for _, kind := range []string{"invitation", "reset"} {
		ask := a.Reset
		if kind == "invitation" {
			ask = func(ctx context.Context, name string) (string, *Invitation, error) {
				return a.Invite(ctx, name, true)
			}
		}

		code, _, err := ask(ctx, "ada")
		if err != nil {
			t.Fatal(err)
		}

		stored := redis.HGet(ctx, invitationsKey, "ada").Val()
		first, err := a.accept(ctx, auditlog.Record{}, "ada", code, password+kind)
		if err != nil {
			t.Fatal(err)
		}
		if n := redis.HLen(ctx, invitationsKey).Val(); n != 0 {
			t.Errorf("%d invitations after the %s", n, kind)
		}

		// It is as if Redis had gone away before the invitation was withdrawn.
		redis.HSet(ctx, invitationsKey, "ada", stored)
		if _, err := a.accept(ctx, auditlog.Record{}, "ada", code, other); !errors.Is(err, ErrCode) {
			t.Errorf("the %s with another password: %v", kind, err)
		}

		again, err := a.accept(ctx, auditlog.Record{}, "ada", code, password+kind)
		if err != nil || encode(again) != encode(first) {
			t.Errorf("the %s again: %v", kind, err)
		}
		if n := redis.HLen(ctx, invitationsKey).Val(); n != 0 {
			t.Errorf("%d invitations after the %s again", n, kind)
		}
	}
}

// TestAcceptOnce checks that of many who use a code at once, one comes first.
func TestAcceptOnce(t *testing.T) {
	a, _ := newAccounts(t)
	if err := a.create(t.Context(), &Account{Name: "bob", Hash: "x"}); err != nil {
		t.Fatal(err)
	}

	for name, ask := range map[string]func() (string, *Invitation, error){
		"ada": func() (string, *Invitation, error) { return a.Invite(t.Context(), "ada", false) },
		"bob": func() (string, *Invitation, error) { return a.Reset(t.Context(), "bob") },
	} {
		code, _, err := ask()
		if err != nil {
			t.Fatal(err)
		}

		var people sync.WaitGroup
		taken := make([]bool, 6)
		for i := range taken {
			people.Go(func() {
				_, err := a.accept(t.Context(), auditlog.Record{}, name, code,
					"some password "+string(rune('a'+i)))
				taken[i] = err == nil
			})
		}

		people.Wait()
		n := 0
		for _, ok := range taken {
			if ok {
				n++
			}
		}

		if n != 1 {
			t.Errorf("%d of %d used the code of %s", n, len(taken), name)
		}
	}
}
