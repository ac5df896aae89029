package web_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/redis/go-redis/v9"
)

// TestBrowserUsage: an admin finds the page of what was used from the account, by the keyboard too.
// It fits a phone, in light and in dark, with large numbers and long names.
func TestBrowserUsage(t *testing.T) {
	g := newGated(t, newPaced().play)
	g.change = func(c *gateenv.Config) {
		c.Limits = contract.Limits{RequestsPerDay: 200, TokensPerDay: 5_000_000, RequestsAtOnce: 3}
	}
	at := g.start(time.Hour)
	b := newBrowser(t, 1280, 800)
	b.join(at, "ada", g.code("invite", "ada", "--admin"))
	long := "grace." + strings.Repeat("brewster.murray.hopper", 2)
	other := newBrowser(t, 390, 844)
	other.join(at, long, g.code("invite", long))

	o, err := redis.ParseURL(g.redis)
	if err != nil {
		t.Fatal(err)
	}

	r := redis.NewClient(o)
	defer r.Close()

	sessions, err := r.Keys(t.Context(), "gate:sessions:*").Result()
	if err != nil || len(sessions) != 2 {
		t.Fatal(sessions, err)
	}

	for _, key := range sessions {
		id := strings.TrimPrefix(key, "gate:sessions:")
		fields := []any{}
		for ago := range 30 {
			day := usage.DayOf(time.Now().AddDate(0, 0, -ago))
			fields = append(fields, "q:"+day, 120+ago, "p:"+day, 1_234_567, "a:"+day, 345_678)
		}

		if err := r.HSet(t.Context(), usage.Key(id), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := r.ZAdd(t.Context(), usage.People, redis.Z{Member: id}).Err(); err != nil {
			t.Fatal(err)
		}
	}

	b.do(chromedp.Navigate(at+"/account"), chromedp.Focus(".tabs a[href='/account/usage']"),
		chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/account/usage' && " +
		"document.querySelector('.tabs [aria-current]').innerText === 'Usage'")
	b.wait("document.body.innerText.includes('120 of 200 questions, " +
		"1,580,245 of 5,000,000 tokens.')")
	b.wait("document.body.innerText.includes('" + long + "')")
	other.do(chromedp.Navigate(at + "/account/usage"))
	other.wait("document.body.innerText.includes('120 of 200') && " +
		"!document.body.innerText.includes('Everybody')")
	for _, scheme := range []string{"light", "dark"} {
		for name, x := range map[string]*chromium{"desktop": b, "phone": other} {
			x.do(media("prefers-color-scheme", scheme))
			x.noOverflow()
			x.screenshot(fmt.Sprintf("usage-%s-%s", name, scheme))
		}
	}

	// An admin with a phone.
	b.do(chromedp.EmulateViewport(390, 844), chromedp.Navigate(at+"/account/usage"))
	b.noOverflow()
	b.wait("[...document.querySelectorAll('.figures')].every(x => x.scrollWidth <= x.clientWidth)")
	b.do(script("document.querySelector('section.card:last-of-type').scrollIntoView()"))
	b.screenshot("usage-admin-phone")
}

// TestBrowserUsageOfNobody: where nobody signs in the page tells what the browser is called, on a phone
// too.
func TestBrowserUsageOfNobody(t *testing.T) {
	g := newGated(t, newPaced().play)
	g.change = func(c *gateenv.Config) { c.SignIn = gateenv.None }
	at := g.start(time.Hour)
	for name, x := range map[string]*chromium{
		"desktop": newBrowser(t, 1280, 800), "phone": newBrowser(t, 390, 844),
	} {
		x.do(chromedp.Navigate(at+"/"), chromedp.Navigate(at+"/account/usage"))
		x.wait("/browser:[a-z2-7]{26}/i.test(document.body.innerText)")
		for _, scheme := range []string{"light", "dark"} {
			x.do(media("prefers-color-scheme", scheme))
			x.noOverflow()
			x.screenshot(fmt.Sprintf("usage-nobody-%s-%s", name, scheme))
		}
	}
}
