package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// chromium is a headless Chromium with a profile of its own. It collects what its console prints.
type chromium struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	console  []string
	expected []string
}

// lifetime bounds one browser, so that a page that hangs fails its test instead of the whole run.
const lifetime = 3 * time.Minute

// newBrowser starts Chromium with a window of the given size.
func newBrowser(t *testing.T, width, height int) *chromium {
	t.Helper()
	path := peers.Find(t, "chromium", "chromium", "chromium-browser", "google-chrome")
	opts := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	opts = append(opts, chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.WindowSize(width, height),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.UserDataDir(peers.Folder(t, "chromium-")),
		chromedp.WSURLReadTimeout(time.Minute))

	bounded, cancelAll := context.WithTimeout(context.Background(), lifetime)
	alloc, cancelAlloc := chromedp.NewExecAllocator(bounded, opts...)
	ctx, cancel := chromedp.NewContext(alloc)
	b := &chromium{t: t, ctx: ctx}
	t.Cleanup(func() {
		cancel() // without the lock, which the listener may need for a last line
		cancelAlloc()
		cancelAll()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, line := range b.console {
			if !slices.ContainsFunc(b.expected, func(want string) bool {
				return strings.Contains(line, want)
			}) {
				t.Errorf("console: %s", line)
			}
		}
	})

	// The browser runs as long as the context of its first action.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"),
		chromedp.EmulateViewport(int64(width), int64(height))); err != nil {
		t.Fatalf("browser: %v", err)
	}

	go b.listen()
	return b
}

func (b *chromium) listen() {
	for m, err := range chromedp.Console(b.ctx) {
		if err != nil {
			return // the browser is gone
		}

		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
			b.mu.Lock()
			b.console = append(b.console,
				fmt.Sprintf("%s: %s (%s:%d)", m.Type, m.Text, m.URL, m.Line))
			b.mu.Unlock()
		}
	}
}

// expect allows a line with the text in the console, as the browser logs every failed request.
func (b *chromium) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, text)
}

const patience = 20 * time.Second

func (b *chromium) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// value returns the value of a JavaScript expression.
func value[T any](b *chromium, expr string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expr, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("browser: %s: %v", expr, err)
	}

	return v
}

// wait waits until a JavaScript expression is true.
func (b *chromium) wait(expr string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expr+")"))
		cancel()
		if err == nil && ok {
			return
		}

		if time.Now().After(deadline) {
			b.screenshot("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
			text := value[string](b, "document.body.innerText")
			b.t.Fatalf("browser: not within %s: %s (%v); the page says:\n%s",
				patience, expr, err, text)
		}

		time.Sleep(20 * time.Millisecond)
	}
}

// screenshot saves a picture in the folder of CODEXCONTINUE_SCREENSHOTS, if that is set.
func (b *chromium) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("CODEXCONTINUE_SCREENSHOTS")
	if dir == "" {
		return
	}

	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("screenshot: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// media emulates a preference of the system, such as prefers-color-scheme: dark, and
// one for little motion.
func media(feature, value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: feature, Value: value}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
		return err
	})
}

// noOverflow fails the test if the page is wider than the window.
func (b *chromium) noOverflow() {
	b.t.Helper()
	if w := value[[]float64](b,
		"[document.scrollingElement.scrollWidth, innerWidth, "+
			"document.getElementById('scroll')?.scrollWidth ?? 0, "+
			"document.getElementById('scroll')?.clientWidth ?? 0]"); w[0] > w[1] || w[2] > w[3] {
		b.t.Errorf("the page is wider than the window: %v", w)
	}
}

func (b *chromium) ask(message string) {
	b.t.Helper()
	// without scripts, Enter is a new line
	b.wait("document.documentElement.classList.contains('js')")
	b.do(chromedp.WaitEnabled("#message"), chromedp.SendKeys("#message", message),
		chromedp.WaitEnabled("#send"), chromedp.SendKeys("#message", "\r"))
}

// script runs JavaScript for its effect.
func script(code string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[any](code+"; null"))
		return err
	})
}

// ownerOf returns the browser's id, which its scripts cannot see.
func ownerOf(t *testing.T, b *chromium) string {
	t.Helper()
	owner := ""
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		res, err := cdp.Call(ctx, target, network.GetCookies, network.GetCookiesParams{})
		if err != nil {
			return err
		}

		for _, c := range res.Cookies {
			if c.Name == ownerCookie {
				owner = c.Value
			}
		}

		return nil
	}))

	if owner == "" {
		t.Fatal("the browser has no owner cookie")
	}

	return owner
}
