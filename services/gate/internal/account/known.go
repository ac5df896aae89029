package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
)

// knownCookie names a browser in which somebody has signed in before. It signs nobody in: it only
// has the browser's attempts counted apart from those of strangers, who cannot lock it out then.
const knownCookie = "known"

// knownLife is how long a browser stays known without a sign-in.
const knownLife = 180 * 24 * time.Hour

// knownKey returns the name in Redis of what says that the account knows the browser.
func (a *Accounts) knownKey(browser, name string) string {
	return "gate:known:" + a.names.Of("known\x00"+browser, name)
}

// known returns the browser's name if the account with the name knows it, else "".
func (a *Accounts) known(r *http.Request, name string) (string, error) {
	browser := cookie.Get(r, knownCookie, session.Secure(r))
	if browser == "" {
		return "", nil
	}

	value, err := a.store.Get(r.Context(), a.knownKey(browser, name))
	if err != nil || value == "" {
		return "", err
	}

	return browser, nil
}

// remember has the account know the browser.
func (a *Accounts) remember(
	ctx context.Context, w http.ResponseWriter, r *http.Request, name string,
) error {
	browser := cmp.Or(cookie.Get(r, knownCookie, session.Secure(r)), rand.Text())
	if err := a.store.Set(ctx, a.knownKey(browser, name), "1", knownLife); err != nil {
		return err
	}

	cookie.Set(w, knownCookie, browser, knownLife, session.Secure(r))
	return nil
}
