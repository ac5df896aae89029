package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgetest"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// newLibrary returns a site behind gates whose stack has knowledge.
func newLibrary(t *testing.T) (*gated, *knowledgetest.Documents) {
	t.Helper()
	g := newGated(t, newPaced().play)
	k := knowledgetest.NewDocuments(t, contract.Redis{URL: g.redis},
		knowledgeapi.Collection{Name: "handbook"},
		knowledgeapi.Collection{Name: "ward-notes", Groups: []string{"nurses", "physicians"}})
	k.Embedding = "all-minilm"
	g.change = func(c *gateenv.Config) { c.KnowledgeURL = k.URL }
	return g, k
}

// localFiles makes files in a new folder, of pairs of a name and what is in it, and returns their
// paths.
func localFiles(t *testing.T, pairs ...string) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, pairs[i])
		if err := os.WriteFile(path, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// noScripts has the browser run no scripts of pages.
func noScripts() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled,
			emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

const uploadStatus = "document.getElementById('upload-status').textContent"

// TestBrowserDocuments: an admin finds the page from the account, adds several files by the keyboard,
// sees what became of each, replaces one after a question, and removes one after another.
func TestBrowserDocuments(t *testing.T) {
	g, k := newLibrary(t)
	at := g.start(time.Hour)
	b := newBrowser(t, 1280, 800)
	for _, status := range []string{"415", "422"} {
		b.expect(status)
	}
	b.join(at, "ada", g.code("invite", "ada", "--admin"))

	b.do(chromedp.Navigate(at+"/account"), chromedp.Focus(".tabs a[href='/documents']"),
		chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/documents' && " +
		"document.querySelector('.tabs [aria-current]').innerText === 'Documents'")
	b.do(chromedp.Focus("a[href='/documents/handbook']"), chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/documents/handbook' && " +
		"document.body.innerText.includes('There is no document yet.')")

	long := strings.Repeat("standing-orders-of-the-night-shift-", 4) + ".pdf"
	paths := localFiles(t, "leave.md", "# Leave", "locked.pdf", "Encrypted", "scan.pdf", "Picture",
		"setup.exe", "MZ", "empty.md", "", long, strings.Repeat("x", 3<<20))
	k.State = knowledgeapi.StateIndexing
	b.do(chromedp.SetUploadFiles("#upload input[type=file]", paths),
		chromedp.Focus("#upload .primary"), chromedp.KeyEvent("\r"))
	b.wait(uploadStatus + " === '3 added, 3 failed'")
	for name, says := range map[string]string{
		"leave.md": "added", "locked.pdf": "It is encrypted: save it without a password.",
		"scan.pdf":  "added. Page 2 is a picture, of which no word is found.",
		"setup.exe": "This kind of file is not read.", "empty.md": "It is empty.", long: "added",
	} {
		b.wait(fmt.Sprintf("[...document.querySelectorAll('#uploads li')].some(x => "+
			"x.innerText.trim() === '%s %s')", name, says))
	}
	b.wait("document.querySelectorAll('#documents article').length === 3 && " +
		"document.body.innerText.includes('by ada.')")
	if got := k.Files("handbook"); !slices.Equal(got, []string{"leave.md", "scan.pdf", long}) {
		t.Fatalf("there are %q", got)
	}

	// The page follows what goes on without a click.
	b.wait("document.querySelectorAll('#documents [data-state=indexing]').length === 3")
	b.noOverflow()
	b.screenshot("documents-added")

	// A name that is taken is asked about. To cancel changes nothing.
	again := localFiles(t, "leave.md", "# Leave, new", "other.md", "# Other")
	choose := func(answer string) {
		t.Helper()
		b.do(chromedp.SetUploadFiles("#upload input[type=file]", again),
			chromedp.Click("#upload .primary"))
		b.wait("document.getElementById('replace-dialog').open && " +
			"document.getElementById('replace-names').innerText.trim() === 'leave.md'")
		if answer == "replace" {
			b.screenshot("documents-replace")
		}
		b.do(chromedp.Click("#replace-dialog button[value=" + answer + "]"))
	}
	before := k.Puts()
	choose("cancel")
	b.wait("!document.getElementById('replace-dialog').open")
	if n := k.Puts(); n != before {
		t.Errorf("%d files were sent after Cancel", n-before)
	}

	b.do(chromedp.Navigate(at + "/documents/handbook"))
	choose("replace")
	b.wait(uploadStatus + " === '2 added'")
	b.wait("[...document.querySelectorAll('#uploads li')].some(x => " +
		"x.innerText.trim() === 'leave.md replaced')")

	b.do(chromedp.Focus("[data-file='other.md'] a"), chromedp.KeyEvent("\r"))
	b.wait("location.pathname === '/documents/handbook/remove' && " +
		"document.body.innerText.includes('other.md goes from handbook')")
	b.noOverflow()
	b.screenshot("documents-remove")
	b.do(chromedp.Focus("button.danger"), chromedp.KeyEvent("\r"))
	b.wait("document.body.innerText.includes('The document has been removed.') && " +
		"!document.body.innerText.includes('other.md')")
	if slices.Contains(k.Files("handbook"), "other.md") {
		t.Error("the document is there still")
	}

	// Members are not shown the way, and get no further by the address.
	other := newBrowser(t, 390, 844)
	other.expect("403")
	other.join(at, "bob", g.code("invite", "bob"))
	other.do(chromedp.Navigate(at + "/account"))
	other.wait("document.body.innerText.includes('bob') && " +
		"!document.body.innerText.includes('Documents')")
	other.do(chromedp.Navigate(at + "/documents/handbook"))
	other.wait("document.body.innerText.includes('This page is for admins.')")
}

// TestBrowserDocumentsStop: what is stopped, or ends in the middle, is not there; a service that is
// away ends the run.
func TestBrowserDocumentsStop(t *testing.T) {
	g, k := newLibrary(t)
	at := g.start(time.Hour)
	b := newBrowser(t, 1280, 800)
	b.expect("503")
	b.expect("507")
	b.join(at, "ada", g.code("invite", "ada", "--admin"))
	paths := localFiles(t, "a.md", "one", "b.md", "two", "c.md", "three")

	k.Wait("b.md", true)
	held := make(chan struct{})
	k.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || r.PathValue("file") != "b.md" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body) // only then it is noticed that the client goes away
		<-r.Context().Done()
		close(held)
		return true
	})
	b.do(chromedp.Navigate(at+"/documents/handbook"),
		chromedp.SetUploadFiles("#upload input[type=file]", paths),
		chromedp.Click("#upload .primary"))
	row := "document.querySelectorAll('#uploads li')[1].innerText.includes"
	b.wait(row + "('waits until others are read')")
	k.Wait("b.md", false)
	b.wait(row + "('is being read')")
	b.screenshot("documents-sending")
	b.do(chromedp.Click("#stop-upload"))
	b.wait(uploadStatus + " === '1 added, 2 not sent'")
	<-held
	if got := k.Files("handbook"); !slices.Equal(got, []string{"a.md"}) {
		t.Errorf("there are %q", got)
	}

	k.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		problem.Write(w, r, problem.New(http.StatusInsufficientStorage, "There is no space left."))
		return true
	})
	before := k.Puts()
	b.do(chromedp.SetUploadFiles("#upload input[type=file]", paths[1:]),
		chromedp.Click("#upload .primary"))
	b.wait(uploadStatus + " === '0 added, 1 failed, 1 not sent' && " +
		"document.getElementById('uploads').innerText.includes('There is no space left.')")
	if n := k.Puts() - before; n != 0 {
		t.Errorf("%d documents came through", n)
	}
}

// TestBrowserDocumentsWithoutScripts: the form works without scripts, at a phone's width, and names
// what failed.
func TestBrowserDocumentsWithoutScripts(t *testing.T) {
	g, k := newLibrary(t)
	at := g.start(time.Hour)
	b := newBrowser(t, 390, 844)
	b.expect("422")
	b.join(at, "ada", g.code("invite", "ada", "--admin"))
	paths := localFiles(t, "a.md", "one", "locked.pdf", "Encrypted")
	b.do(noScripts(), chromedp.Navigate(at+"/documents/ward-notes"),
		chromedp.SetUploadFiles("#upload input[type=file]", paths),
		chromedp.Click("#upload .primary"))
	b.wait("document.body.innerText.includes('What became of your files') && " +
		"document.body.innerText.includes('It is encrypted: save it without a password.')")
	if got := k.Files("ward-notes"); !slices.Equal(got, []string{"a.md"}) {
		t.Errorf("there are %q", got)
	}
	b.noOverflow()
	b.screenshot("documents-no-scripts")
}

// TestScreenshotsDocuments saves pictures of the pages, as TestScreenshots does.
func TestScreenshotsDocuments(t *testing.T) {
	if os.Getenv("CODEXCONTINUE_SCREENSHOTS") == "" {
		t.Skip("CODEXCONTINUE_SCREENSHOTS is not set: no pictures are taken")
	}

	g, k := newLibrary(t)
	at := g.start(time.Hour)
	paths := localFiles(t, "Discharge letters.md", "# Discharge", "locked.pdf", "Encrypted",
		"Hygiene plan 2026.pdf", "Picture"+strings.Repeat("x", 2<<20), "setup.exe", "MZ")
	for i, size := range []struct {
		name string
		w, h int
	}{{"desktop", 1280, 800}, {"phone", 390, 844}} {
		for j, scheme := range []string{"light", "dark"} {
			b := newBrowser(t, size.w, size.h)
			b.expect("415")
			b.expect("422")
			shot := func(name string) {
				b.noOverflow()
				b.screenshot(fmt.Sprintf("documents-%s-%s-%s", name, size.name, scheme))
			}
			name := fmt.Sprintf("ada%d%d", i, j)
			b.do(media("prefers-color-scheme", scheme))
			b.join(at, name, g.code("invite", name, "--admin"))
			b.do(chromedp.Navigate(at + "/documents"))
			shot("collections")
			k.State = knowledgeapi.StateIndexing
			b.do(chromedp.Navigate(at+"/documents/handbook"),
				script("document.querySelector('#upload input[name=replace]').checked = true"),
				chromedp.SetUploadFiles("#upload input[type=file]", paths),
				chromedp.Click("#upload .primary"))
			b.wait(uploadStatus + " === '2 added, 2 failed'")
			b.wait("document.querySelectorAll('#documents article').length === 2")
			shot("uploaded")
			b.do(script("document.getElementById('documents').scrollIntoView()"))
			shot("list")
			b.do(chromedp.Click("#documents article:first-child a"))
			b.wait("document.querySelector('button.danger') !== null")
			shot("remove")
		}
	}
}
