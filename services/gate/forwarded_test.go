package main

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
)

// Addresses of two containers of an engine's network.
const theEdge, another = "127.0.0.3", "127.0.0.2"

// behindEdge says where the edge is.
func behindEdge(c *gateenv.Config) { c.EdgeHost = theEdge }

// by has the visitor's requests come from the container at the address.
func (v *visitor) by(container string) *visitor {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(container)}}
	transport := &http.Transport{DialContext: from.DialContext}
	v.client.Transport = transport
	v.town.t.Cleanup(transport.CloseIdleConnections)
	return v
}

// TestSpoofed: what another container than the edge says of a request's address, scheme and host is
// not believed, and does not keep the request from being answered.
func TestSpoofed(t *testing.T) {
	town := newTown(t, auditing, behindEdge)
	for i, name := range []string{"ada", "bob"} {
		v := town.visitor(fmt.Sprint("192.0.2.", i+1)).by(theEdge)
		v.join(name, town.code("invite "+name))
	}

	const plain, secure = "codexcontinue_session", "__Host-codexcontinue_session"
	t.Run("headers", func(t *testing.T) {
		for i, tt := range []struct {
			container string
			headers   []string

			// What the audit and the frontend are told, and the cookie that the browser gets.
			address, said, cookie string
		}{
			{theEdge, []string{"X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https",
				"X-Forwarded-Host", "a.example"}, "192.0.2.7", "192.0.2.7 https a.example", secure},
			{theEdge, []string{"X-Forwarded-For", "2001:db8::7"}, "2001:db8::7", "2001:db8::7  ",
				plain},
			{another, []string{"X-Forwarded-For", "192.0.2.8"}, another, "  ", plain},
			{another, []string{"X-Forwarded-For", "192.0.2.8, " + theEdge}, another, "  ", plain},
			{another, []string{"X-Forwarded-For", "", "X-Forwarded-Proto", "https"}, another, "  ",
				plain},
			{another, []string{"X-Forwarded-For", "192.0.2.8", "X-Forwarded-Host", "evil.example"},
				another, "  ", plain},
		} {
			t.Run(fmt.Sprint(tt.container, tt.headers), func(t *testing.T) {
				t.Parallel()
				v := town.visitor("").by(tt.container)
				resp, body := v.do(http.MethodPost, "/sign-in",
					form("name", "ada", "password", password), tt.headers...)
				at := slices.IndexFunc(resp.Cookies(), func(c *http.Cookie) bool {
					return c.Name == tt.cookie
				})
				if resp.StatusCode != http.StatusSeeOther || at < 0 {
					t.Fatalf("%s %s, cookies %v, want %s", resp.Status, body, resp.Cookies(), tt.cookie)
				}

				v.client.Jar = nil // it keeps no cookie of TLS for plain HTTP
				path := fmt.Sprint("/c/", i)
				resp, body = v.get(path, append(tt.headers, "Cookie",
					tt.cookie+"="+resp.Cookies()[at].Value)...)
				if resp.StatusCode != http.StatusOK || body != "the page" {
					t.Fatalf("%s %s", resp.Status, body)
				}

				got := town.frontend.at(t, path)
				person, _ := identity.Peek(got.Header.Get("Authorization"))
				said := fmt.Sprintf("%s %s %s", got.Header.Get("X-Forwarded-For"),
					got.Header.Get("X-Forwarded-Proto"), got.Header.Get("X-Forwarded-Host"))
				if said != tt.said || person.Address != tt.address {
					t.Errorf("the frontend is told %q, and of a person at %s", said, person.Address)
				}
			})
		}
	})

	t.Run("guesses", func(t *testing.T) {
		var refused, taken atomic.Int64
		var guesses sync.WaitGroup
		for i := range 12 {
			v := town.visitor(fmt.Sprintf("192.0.2.%d", 100+i)).by(another)
			guesses.Go(func() {
				status := v.signIn("bob", "not the password")
				for status == http.StatusServiceUnavailable { // two at once, on a busy machine
					status = v.signIn("bob", "not the password")
				}
				switch status {
				case http.StatusTooManyRequests:
					refused.Add(1)
				case http.StatusUnprocessableEntity:
					taken.Add(1)
				default:
					t.Errorf("a guess: %d", status)
				}
			})
		}

		guesses.Wait()
		if refused.Load() == 0 || taken.Load() == 0 {
			t.Errorf("of 12 guesses in the names of 12 addresses %d are taken, %d refused",
				taken.Load(), refused.Load())
		}

		claimed := town.visitor("192.0.2.100").by(theEdge)
		if status := claimed.signIn("bob", "not the password"); status != 422 {
			t.Errorf("somebody at an address that another container claimed: %d", status)
		}
	})

	text, _ := town.records()
	found := map[string]int{}
	for _, m := range regexp.MustCompile(`"sign-in".*"address":"([^"]+)"`).FindAllStringSubmatch(
		text, -1) {
		found[m[1]]++
	}
	if found[another] == 0 || found["192.0.2.7"] == 0 || found["2001:db8::7"] == 0 ||
		found["192.0.2.8"] > 0 || found["192.0.2.101"] > 0 {
		t.Errorf("recorded are %v:\n%s", found, text)
	}

	if err := town.stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(town.log.String(), "X-Forwarded headers are ignored") {
		t.Error("the log does not say that they are ignored")
	}
}

// TestSpoofedHost: where nobody signs in, another container's word for the host that somebody typed
// neither opens the page nor closes it.
func TestSpoofedHost(t *testing.T) {
	town := newTown(t, behindEdge, func(c *gateenv.Config) { c.SignIn = gateenv.None })
	for _, tt := range []struct {
		container, host, typed string
		want                   int
	}{
		{theEdge, "localhost", "localhost", 200},
		{theEdge, "localhost", "evil.example", 421},
		{another, "localhost", "evil.example", 200},
		{another, "evil.example", "localhost", 421},
	} {
		v := town.visitor("192.0.2.1").by(tt.container)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, town.base+"/", nil)
		if err != nil {
			t.Fatal(err)
		}

		req.Host = tt.host
		req.Header.Set("X-Forwarded-Host", tt.typed)
		resp, err := v.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}

		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%+v: %s", tt, resp.Status)
		}
	}
}
