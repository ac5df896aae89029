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
	shown := func() bool {
		return strings.Contains(c.must(t, time.Minute, "bin/codexctl", "status", "--json", stack),
			`"message": "New disks."`)
	}
	c.must(t, time.Minute, "bin/codexctl", "maintenance", "on", stack, "--message", "New disks.")
	if !shown() {
		t.Error("status does not show the maintenance")
	}
	becomes(t, site, http.StatusServiceUnavailable, "New disks.")
	c.must(t, time.Minute, "bin/codexctl", "maintenance", "off", stack)
	if shown() {
		t.Error("status shows the maintenance that is over")
	}
	becomes(t, site, http.StatusOK, "<html")
}

// closes checks that people and programs are told of a maintenance, also by an edge and gates that
// were restarted, that the health checks go on, and that no preview shows it.
func closes(t *testing.T, c *checkout, stack, url string) {
	t.Helper()
	c.must(t, time.Minute, "bin/codexctl", "maintenance", "on", stack, "--message", "New disks.")
	becomes(t, url, http.StatusServiceUnavailable, "New disks.")
	noChanges(t, c, stack)
	for _, service := range []string{stacks.Edge, stacks.Gate} {
		c.must(t, 5*time.Minute, "bin/codexctl", "restart", "-s", stack, service)
	}
	c.must(t, 10*time.Minute, "bin/codexctl", "up", stack)
	becomes(t, url, http.StatusServiceUnavailable, "New disks.")

	if code, retry, body := answerFrom(t, url+"/v1/models", "*/*"); code != http.StatusServiceUnavailable ||
		retry != "30" || !strings.Contains(body, `"code":"maintenance"`) {
		t.Errorf("a program gets %d, %s", code, body)
	}
	for _, path := range []string{"/edge/health", "/api/status"} {
		if code, _, body := answerFrom(t, url+path, "*/*"); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}

	c.must(t, time.Minute, "bin/codexctl", "maintenance", "off", stack)
	becomes(t, url, http.StatusOK, "<html")
	showsNotice(t, c, stack, url)
}

// becomes waits until the page of the site has the status and the text, and fails the test if that does
// not come. Each gate looks for itself: all do so when many answers in a row are the same.
func becomes(t *testing.T, site string, status int, want string) {
	t.Helper()
	var code int
	var retry, body string
	row := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		code, retry, body = answerFrom(t, site+"/", "text/html")
		if code == status && strings.Contains(body, want) {
			if (retry != "") != (status == http.StatusServiceUnavailable) {
				t.Errorf("%d with Retry-After %q", status, retry)
				return
			}
			if row++; row == 20 {
				return
			}
			continue
		}
		row = 0
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("the page is %d, want %d with %q: %s", code, status, want, tail(body, 10))
}

// answerFrom gets the URL, and returns the status, Retry-After, and the body. Where there is no answer the
// status is 0 and the body says why.
func answerFrom(t *testing.T, url, accept string) (status int, retry, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err.Error()
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(b)
}
