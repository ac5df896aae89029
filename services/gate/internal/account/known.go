package account

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/forward"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
)

// knownCookie names a browser in which somebody has signed in before. It signs nobody in: it only
// has the browser's attempts counted apart from those of strangers, who cannot lock it out then.
const knownCookie = forward.CookiePrefix + "known"

// knownLength is the length of its value, that of rand.Text.
const knownLength = 26

// knownLife is how long a browser stays known without a sign-in.
const knownLife = 180 * 24 * time.Hour

func knownName(r *http.Request) string {
	if session.Secure(r) {
		return "__Host-" + knownCookie
	}
	return knownCookie
}

// knownKey returns the name in Redis of what says that the account knows the browser.
func (a *Accounts) knownKey(browser, name string) string {
	return "gate:known:" + a.names.Of("known\x00"+browser, name)
}

// known returns the browser's name if the account with the name knows it, else "".
func (a *Accounts) known(r *http.Request, name string) (string, error) {
	c, err := r.Cookie(knownName(r))
	if err != nil || len(c.Value) != knownLength {
		return "", nil
	}

	value, err := a.store.Get(r.Context(), a.knownKey(c.Value, name))
	if err != nil || value == "" {
		return "", err
	}

	return c.Value, nil
}

// remember has the account know the browser.
func (a *Accounts) remember(
	ctx context.Context, w http.ResponseWriter, r *http.Request, name string,
) error {
	browser := rand.Text()
	if c, err := r.Cookie(knownName(r)); err == nil && len(c.Value) == knownLength {
		browser = c.Value
	}
	if err := a.store.Set(ctx, a.knownKey(browser, name), "1", knownLife); err != nil {
		return err
	}

	http.SetCookie(w, &http.Cookie{
		Name:     knownName(r),
		Value:    browser,
		Path:     "/",
		MaxAge:   int(knownLife.Seconds()),
		Secure:   session.Secure(r),
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	})

	return nil
}
