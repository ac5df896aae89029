package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// browser is one person's headless Chromium: one profile, so cookies stay.
type browser struct{ ctx context.Context }

func newBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	path := peers.Find(t, "chromium", "chromium")
	opts := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	opts = append(opts, chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(1280, 800),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.UserDataDir(peers.Folder(t, "chromium-")))
	opts = append(opts, more...)

	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() { cancel(); cancelAlloc() })
	return &browser{ctx: ctx}
}

func (b *browser) run(
	t *testing.T, timeout time.Duration, actions ...chromedp.Action[chromedp.Void],
) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		err := chromedp.Do(b.ctx, actions...)
		// Each container that another test starts changes the machine's addresses. A navigation has
		// failed then. It is the first of the actions wherever there is one, so that nothing was done.
		for range 5 {
			if err == nil || !strings.Contains(err.Error(), "net::ERR_NETWORK_CHANGED") {
				break
			}
			err = chromedp.Do(b.ctx, actions...)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			b.screenshot(t, "failed")
			t.Fatalf("browser: %v", err)
		}
	case <-time.After(timeout):
		b.screenshot(t, "failed")
		t.Fatalf("browser: nothing after %s", timeout)
	}
}

// screenshot keeps a picture under CODEXCONTINUE_SCREENSHOTS, when that is set.
func (b *browser) screenshot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("CODEXCONTINUE_SCREENSHOTS")
	if dir == "" {
		return
	}

	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Logf("screenshot: %v", err)
		return
	}

	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Log(err)
	}
}

// waitFor polls a JavaScript expression until it is true.
func (b *browser) waitFor(t *testing.T, timeout time.Duration, what, expr string) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf("!!(%s)", expr)))
		cancel()
		if err == nil && ok {
			return
		}

		if time.Now().After(deadline) {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			b.screenshot(t, "failed")
			t.Fatalf("browser: %s did not happen within %s (%v); the page says:\n%s",
				what, timeout, err, text)
		}

		time.Sleep(50 * time.Millisecond)
	}
}

// send opens the page and sends a message on it, as soon as it can be sent. The page's script turns
// off the button of an empty box, and the key Enter sends from then on.
func (b *browser) send(t *testing.T, page, message string) {
	t.Helper()
	const box = "textarea[name=message]"
	b.run(t, time.Minute, chromedp.Navigate(page), chromedp.WaitVisible(box))
	b.waitFor(t, time.Minute, "the script", "document.getElementById('send').disabled")
	b.run(t, time.Minute, chromedp.SendKeys(box, message))
	b.waitFor(t, time.Minute, "a message that can be sent",
		"!document.getElementById('send').disabled")
	b.run(t, time.Minute, chromedp.SendKeys(box, "\n"))
}

func js(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(s) + "'"
}
