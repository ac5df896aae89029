package apikey

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// newKeys returns keys in a Redis of the test's own. gone are the people who are gone.
func newKeys(t *testing.T, gone map[string]bool) (*Keys, *redis.Client) {
	t.Helper()
	r := redistest.StartAs(t, "gate")
	s, err := store.New(redisclient.Address{URL: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)

	return New(s, 0, func(_ context.Context, owner string) (identity.Person, error) {
		if gone[owner] {
			return identity.Person{}, ErrGone
		}
		return identity.Person{ID: owner, Groups: []string{"staff"}}, nil
	}), r.Client(t)
}

func TestKeys(t *testing.T) {
	gone := map[string]bool{}
	k, client := newKeys(t, gone)
	ctx := t.Context()
	secret, err := k.Make(ctx, "alice", " laptop ", []Scope{Chat, Models}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^cck_[A-Z2-7]{39}$`).MatchString(secret) {
		t.Errorf("the secret is %q", secret)
	}

	p, err := k.Check(ctx, secret, Chat)
	if err != nil || p.ID != "alice" || len(p.Groups) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := k.Check(ctx, secret, Completions); !errors.Is(err, ErrScope) {
		t.Errorf("a scope that it lacks: %v", err)
	}

	list, err := k.List(ctx, "alice")
	if err != nil || len(list) != 1 || list[0].Name != "laptop" || list[0].Expired() ||
		time.Since(list[0].Used) > 2*time.Minute || time.Since(list[0].Made) > time.Minute {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := k.List(ctx, "bob"); err != nil || len(list) != 0 {
		t.Errorf("another's: %+v, %v", list, err)
	}

	// Nothing in Redis is of use to who reads it.
	names, err := client.Keys(ctx, "*").Result()
	if err != nil || len(names) != 3 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "gate:") {
			t.Errorf("%s is not the gate's", name)
		}
	}
	if found := redistest.Find(t, client, secret[4:20]); len(found) > 0 {
		t.Errorf("%q tell of the secret", found)
	}

	other := secret[:len(secret)-1] + "A"
	if other == secret {
		other = secret[:len(secret)-1] + "B"
	}
	for _, wrong := range []string{"", "cck_", other, secret + "A", strings.ToLower(secret),
		newSecret(), list[0].ID} {
		if _, err := k.Check(ctx, wrong, Chat); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}

	gone["alice"] = true
	if _, err := k.Check(ctx, secret, Chat); !errors.Is(err, ErrInvalid) {
		t.Errorf("of a person who is gone: %v", err)
	}
	gone["alice"] = false

	if err := k.Revoke(ctx, "bob", list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Check(ctx, secret, Chat); err != nil {
		t.Errorf("after another revoked it: %v", err)
	}
	if err := k.Revoke(ctx, "alice", list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Check(ctx, secret, Chat); !errors.Is(err, ErrInvalid) {
		t.Errorf("after it was revoked: %v", err)
	}
	if names, err := client.Keys(ctx, "*").Result(); err != nil || len(names) != 0 {
		t.Errorf("what is left: %q, %v", names, err)
	}
}

func TestExpires(t *testing.T) {
	k, _ := newKeys(t, nil)
	secret, err := k.Make(t.Context(), "alice", "x", Scopes, time.Now().Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Check(t.Context(), secret, Chat); !errors.Is(err, ErrInvalid) {
		t.Errorf("an expired key: %v", err)
	}
	if list, err := k.List(t.Context(), "alice"); err != nil || len(list) != 1 ||
		!list[0].Expired() {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestLongest checks that keys end with their time where nobody says who has left.
func TestLongest(t *testing.T) {
	k, _ := newKeys(t, nil)
	ctx := t.Context()
	before, err := k.Make(ctx, "alice", "for ever", Scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}

	k.days = 90
	for name, days := range map[string]int{"never": 0, "late": 91} {
		var expires time.Time
		if days > 0 {
			expires = time.Now().AddDate(0, 0, days)
		}
		if _, err := k.Make(ctx, "alice", name, Scopes, expires); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	secret, err := k.Make(ctx, "alice", "x", Scopes, time.Now().AddDate(0, 0, 90))
	if err != nil {
		t.Fatal(err)
	}

	list, err := k.List(ctx, "alice")
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, key := range list {
		if d := time.Until(key.Expires); d <= 0 || d > 91*24*time.Hour {
			t.Errorf("%s expires in %s", key.Name, d)
		}
	}

	k.days = -1 // as if they were made long ago
	if _, err := k.Check(ctx, before, Chat); !errors.Is(err, ErrInvalid) {
		t.Errorf("one that was to last for ever: %v", err)
	}
	if _, err := k.Check(ctx, secret, Chat); !errors.Is(err, ErrInvalid) {
		t.Errorf("one that was to last longer: %v", err)
	}
}

// TestUnreadableUse checks that a key counts of which it cannot be read when it was used.
func TestUnreadableUse(t *testing.T) {
	k, client := newKeys(t, nil)
	secret, err := k.Make(t.Context(), "alice", "x", Scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.LPush(t.Context(), "gate:key-use:"+hash(secret), "x").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Check(t.Context(), secret, Chat); err != nil {
		t.Error(err)
	}
}

func TestMost(t *testing.T) {
	k, client := newKeys(t, nil)
	for range Most {
		if _, err := k.Make(t.Context(), "alice", "x", Scopes, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Make(t.Context(), "alice", "x", Scopes, time.Time{}); !errors.Is(err,
		ErrRefused) {
		t.Errorf("one more: %v", err)
	}
	bobs, err := k.Make(t.Context(), "bob", "x", Scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}

	if err := k.RevokeAll(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if names, err := client.Keys(t.Context(), "*").Result(); err != nil || len(names) != 2 {
		t.Errorf("what is left: %q, %v", names, err)
	}
	if _, err := k.Check(t.Context(), bobs, Chat); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	k, _ := newKeys(t, nil)
	for name, scopes := range map[string][]Scope{
		" ":                     Scopes,
		strings.Repeat("x", 61): Scopes,
		"none":                  nil,
		"wrong":                 {"everything"},
	} {
		if _, err := k.Make(t.Context(), "alice", name, scopes, time.Time{}); !errors.Is(err,
			ErrRefused) {
			t.Errorf("%q for %q: %v", name, scopes, err)
		}
	}
}

func TestPage(t *testing.T) {
	k, _ := newKeys(t, nil)
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	p, err := pages.New("Site", logger)
	if err != nil {
		t.Fatal(err)
	}

	person := func(w http.ResponseWriter, r *http.Request) (identity.Person, bool) {
		id := r.Header.Get("Person")
		if id == "" {
			http.Error(w, "sign in", http.StatusUnauthorized)
		}
		return identity.Person{ID: id}, id != ""
	}
	tabs := func(identity.Person) []pages.Tab { return []pages.Tab{{Path: Path, Name: "Keys"}} }
	h := k.Page(p, person, tabs, logger)

	ask := func(person string, form url.Values, header ...string) (int, string) {
		t.Helper()
		method, body := http.MethodGet, io.Reader(nil)
		if form != nil {
			method, body = http.MethodPost, strings.NewReader(form.Encode())
		}
		r := httptest.NewRequestWithContext(t.Context(), method, Path, body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Person", person)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}

	fields := url.Values{"name": {"<my> laptop"}, "scope": {"chat", "models"}, "days": {"7"}}
	if status, _ := ask("", fields); status != http.StatusUnauthorized {
		t.Errorf("without a person: %d", status)
	}
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"},
	} {
		if status, body := ask("alice", fields, header...); status != http.StatusForbidden {
			t.Errorf("%q: %d %s", header, status, body)
		}
	}

	status, body := ask("alice", fields, "Sec-Fetch-Site", "same-origin")
	secret := regexp.MustCompile(`cck_[A-Z2-7]{39}`).FindString(body)
	if status != http.StatusOK || secret == "" || !strings.Contains(body, "&lt;my&gt; laptop") ||
		!strings.Contains(body, "For chat, models.") {
		t.Fatalf("%d %s", status, body)
	}
	if _, err := k.Check(t.Context(), secret, Models); err != nil {
		t.Error(err)
	}

	status, body = ask("alice", nil)
	id := regexp.MustCompile(`name="revoke" value="([0-9a-f]{64})"`).FindStringSubmatch(body)
	if status != http.StatusOK || id == nil || strings.Contains(body, secret) {
		t.Fatalf("%d %s", status, body)
	}
	if status, body := ask("bob", nil); status != http.StatusOK || strings.Contains(body, id[1]) {
		t.Errorf("another's page: %d %s", status, body)
	}

	if _, body := ask("alice", nil); !strings.Contains(body, "(empty: never)") {
		t.Errorf("it does not say that a key may last: %s", body)
	}
	k.days = 90
	if _, body := ask("alice", nil); !strings.Contains(body, "(1 to 90)") {
		t.Errorf("it does not say how long a key lasts: %s", body)
	}
	for _, days := range []string{"", "0", "91"} {
		form := url.Values{"name": {"x"}, "scope": {"chat"}, "days": {days}}
		if status, body := ask("alice", form); status != http.StatusBadRequest ||
			!strings.Contains(body, "A key expires after 1 to 90 days.") {
			t.Errorf("%q days: %d %s", days, status, body)
		}
	}
	k.days = 0

	for want, form := range map[string]url.Values{
		"without a name":           {"scope": {"chat"}},
		"that is good for nothing": {"name": {"x"}},
		"or never":                 {"name": {"x"}, "scope": {"chat"}, "days": {"0"}},
	} {
		if status, body := ask("alice", form); status != http.StatusBadRequest ||
			!strings.Contains(body, want) {
			t.Errorf("%v: %d %s", form, status, body)
		}
	}

	if status, _ := ask("bob", url.Values{"revoke": id[1:]}); status != http.StatusSeeOther {
		t.Errorf("another's: %d", status)
	}
	if _, err := k.Check(t.Context(), secret, Models); err != nil {
		t.Errorf("another revoked it: %v", err)
	}
	if status, _ := ask("alice", url.Values{"revoke": id[1:]}); status != http.StatusSeeOther {
		t.Errorf("revoke: %d", status)
	}
	if _, err := k.Check(t.Context(), secret, Models); !errors.Is(err, ErrInvalid) {
		t.Errorf("after it was revoked: %v", err)
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log has the secret:\n%s", &log)
	}
}
