package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// showsNotice puts the notice of maintenance up, which status shows and people at the site read until
// it is taken down.
func showsNotice(t *testing.T, c *checkout, stack, site string) {
	t.Helper()
	// Each gate looks for itself within a second.
	shows := func(status int, want string) {
		t.Helper()
		var said string
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", "text/html")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}

			retry := resp.Header.Get("Retry-After")
			if resp.StatusCode == status && strings.Contains(string(body), want) {
				if (retry != "") != (status == http.StatusServiceUnavailable) {
					t.Errorf("%d with Retry-After %q", status, retry)
				}
				return
			}
			said = resp.Status + " " + tail(string(body), 10)
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("the page is not %d with %q: %s", status, want, said)
	}

	shown := func() bool {
		return strings.Contains(c.must(t, time.Minute, "bin/codexctl", "status", "--json", stack),
			`"message": "New disks."`)
	}
	c.must(t, time.Minute, "bin/codexctl", "maintenance", "on", stack, "--message", "New disks.")
	if !shown() {
		t.Error("status does not show the maintenance")
	}
	shows(http.StatusServiceUnavailable, "New disks.")
	c.must(t, time.Minute, "bin/codexctl", "maintenance", "off", stack)
	if shown() {
		t.Error("status shows the maintenance that is over")
	}
	shows(http.StatusOK, "<html")
}

// closes checks that people and programs are told of a maintenance, also by an edge and gates that
// were restarted, that the health checks go on, and that no preview shows it.
func closes(t *testing.T, c *checkout, stack, url string) {
	t.Helper()
	get := func(path, accept string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()

		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, resp.Header.Get("Retry-After") + " " + string(body)
	}
	// Each gate looks for itself: all do so when many answers in a row are the same.
	becomes := func(status int, want string) {
		t.Helper()
		var code int
		var body string
		row := 0
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if code, body = get("/", "text/html"); code == status && strings.Contains(body, want) {
				if row++; row == 20 {
					return
				}
				continue
			}
			row = 0
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("the page is %d, want %d with %q: %s", code, status, want, body)
	}

	c.must(t, time.Minute, "bin/codexctl", "maintenance", "on", stack, "--message", "New disks.")
	becomes(http.StatusServiceUnavailable, "New disks.")
	noChanges(t, c, stack)
	for _, service := range []string{stacks.Edge, stacks.Gate} {
		c.must(t, 5*time.Minute, "bin/codexctl", "restart", "-s", stack, service)
	}
	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	becomes(http.StatusServiceUnavailable, "New disks.")

	if code, body := get("/v1/models", "*/*"); code != http.StatusServiceUnavailable ||
		!strings.HasPrefix(body, "30 ") || !strings.Contains(body, `"code":"maintenance"`) {
		t.Errorf("a program gets %d, %s", code, body)
	}
	for _, path := range []string{"/edge/health", "/api/status"} {
		if code, body := get(path, "*/*"); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}

	c.must(t, time.Minute, "bin/codexctl", "maintenance", "off", stack)
	becomes(http.StatusOK, "<html")
	showsNotice(t, c, stack, url)
}
