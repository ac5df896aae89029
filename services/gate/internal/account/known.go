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

// knownOf returns the name in Redis of the index of the browsers that the account of the person
// with the id knows, by which all are forgotten.
func knownOf(id string) string { return "gate:known-of:" + id }

// remember has the account know the browser.
func (a *Accounts) remember(
	ctx context.Context, w http.ResponseWriter, r *http.Request, account *Account,
) error {
	browser := cmp.Or(cookie.Get(r, knownCookie, session.Secure(r)), rand.Text())
	key, index := a.knownKey(browser, account.Name), knownOf(a.names.Of(Issuer, account.Subject))
	if err := a.store.AddToIndex(ctx, index, key, time.Now().Add(knownLife)); err != nil {
		return err
	}
	if err := a.store.Set(ctx, key, "1", knownLife); err != nil {
		return err
	}

	cookie.Set(w, knownCookie, browser, knownLife, session.Secure(r))
	return nil
}

// forgetBrowsers has the account of the person with the id know no browser.
func (a *Accounts) forgetBrowsers(ctx context.Context, id string) error {
	known, err := a.store.Index(ctx, knownOf(id))
	if err != nil {
		return err
	}

	for _, key := range append(known, knownOf(id)) { // the index goes last
		if _, err := a.store.Delete(ctx, key); err != nil {
			return err
		}
	}

	return nil
}
