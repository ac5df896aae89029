package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestLockFile fills a lock file from a registry, is told when a tag moves and when there is a newer
// one, and leaves the file as it is if one image cannot be asked for.
func TestLockFile(t *testing.T) {
	at, root := peers.Registry(t), t.TempDir()
	refs := []string{at + "/caddy:2.11.9", at + "/redis:8.2.1-bookworm"}
	want := map[string]string{}
	for _, ref := range refs {
		want[ref] = peers.PushImage(t, ref, "amd64")
	}

	none := func(string) string { return "" }
	var out, said bytes.Buffer
	a := &App{out: console.New(&out, none), err: console.New(&said, none)}
	read := func() stacks.Lock {
		t.Helper()
		l, err := stacks.ReadLock(os.DirFS(root))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	outdated := func() (string, bool) {
		t.Helper()
		out.Reset()
		err := a.outdated(t.Context(), read(), refs)
		var code exitError
		if err != nil && (!errors.As(err, &code) || code.code != 2) {
			t.Fatal(err)
		}
		return out.String(), err != nil
	}
	update := func(refs []string) error {
		said.Reset()
		return a.writeLock(t.Context(), root, read(), refs, images.Resolve)
	}

	if table, found := outdated(); !found || strings.Count(table, "unknown") != 2 {
		t.Errorf("before the first update (%v):\n%s", found, table)
	}
	if err := update(refs); err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		if x, _ := read().Find(ref); x.Digest != want[ref] ||
			!slices.Equal(x.Platforms, []string{"linux/amd64"}) {
			t.Errorf("%s is locked as %+v, want %s", ref, x, want[ref])
		}
	}
	if table, found := outdated(); found {
		t.Errorf("right after an update:\n%s", table)
	}

	moved := peers.PushImage(t, refs[0], "amd64")
	peers.PushImage(t, at+"/redis:8.4.0-bookworm", "amd64")
	table, found := outdated()
	if !found || !strings.Contains(table, abbreviated(moved)) ||
		!strings.Contains(table, "8.4.0-bookworm") {
		t.Errorf("after a tag has moved (%v):\n%s", found, table)
	}

	before, err := os.ReadFile(filepath.Join(root, stacks.LockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := update(append(slices.Clone(refs), at+"/gone:1")); err == nil {
		t.Error("an image that is not there is locked")
	}
	if after, _ := os.ReadFile(filepath.Join(root, stacks.LockFile)); !bytes.Equal(before, after) {
		t.Errorf("a failed update has written:\n%s", after)
	}

	if err := update(refs); err != nil {
		t.Fatal(err)
	}
	if x, _ := read().Find(refs[0]); x.Digest != moved {
		t.Errorf("%s is locked as %s, want %s", refs[0], x.Digest, moved)
	}
	if text := said.String(); !strings.Contains(text, "1 of 2 images changed") ||
		!strings.Contains(text, abbreviated(want[refs[0]])) {
		t.Errorf("said:\n%s", text)
	}
	if list, err := os.ReadDir(root); err != nil || len(list) != 1 {
		t.Errorf("%d files are left, %v", len(list), err)
	}
}

// TestLockByEngine keeps what the engine cannot tell: the other platforms of a digest, and the IDs of
// an image on them.
func TestLockByEngine(t *testing.T) {
	root := t.TempDir()
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	both := []string{"linux/amd64", "linux/arm64"}
	was := func(tag, digest string, ids map[string]string) stacks.LockedImage {
		x := stacks.LockedImage{Name: "x", Tag: tag, Digest: digest, IDs: ids}
		if digest != "" {
			x.Platforms = both
		}
		return x
	}
	ids := func(amd64 string) map[string]string {
		return map[string]string{"linux/amd64": digest(amd64), "linux/arm64": digest("c")}
	}
	old := stacks.Lock{Images: []stacks.LockedImage{
		was("same", digest("a"), nil), was("moved", digest("a"), nil), was("other-id", "", ids("a")),
		was("same-id", "", ids("a")), was("loaded", digest("a"), nil),
	}}
	amd64 := map[string]string{"linux/amd64": digest("b")}
	onEngine := map[string]stacks.LockedImage{
		"same":     {Digest: digest("a")},
		"moved":    {Digest: digest("b")},
		"other-id": {IDs: amd64},
		"same-id":  {IDs: map[string]string{"linux/amd64": digest("a")}},
		"loaded":   {IDs: amd64},
	}

	var said bytes.Buffer
	a := &App{err: console.New(&said, func(string) string { return "" })}
	refs := []string{"x:same", "x:moved", "x:other-id", "x:same-id", "x:loaded"}
	resolve := func(_ context.Context, ref string) (stacks.LockedImage, error) {
		_, tag, _ := strings.Cut(ref, ":")
		x := onEngine[tag]
		x.Name, x.Tag = "x", tag
		return x, nil
	}
	if err := a.writeLock(t.Context(), root, old, refs, resolve); err != nil {
		t.Fatal(err)
	}

	lock, err := stacks.ReadLock(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []stacks.LockedImage{
		was("same", digest("a"), nil), {Name: "x", Tag: "moved", Digest: digest("b")},
		was("other-id", "", ids("b")), was("same-id", "", ids("a")),
		{Name: "x", Tag: "loaded", IDs: amd64},
	} {
		if got, _ := lock.Find(want.Ref()); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if text := said.String(); !strings.Contains(text, "3 of 5 images changed") ||
		!strings.Contains(text, "x:other-id: ID bbbbbbbbbbbb, cccccccccccc, was ID aaaaaaaaaaaa, c") {
		t.Errorf("said:\n%s", text)
	}
}

// TestOutdatedBesides shows what is known of the others where one registry does not answer.
func TestOutdatedBesides(t *testing.T) {
	at := peers.Registry(t)
	digest := peers.PushImage(t, at+"/redis:8.2.1", "amd64")
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	silent := strings.TrimPrefix(gone.URL, "http://") + "/caddy:2.11.9"

	var out bytes.Buffer
	a := &App{out: console.New(&out, func(string) string { return "" })}
	err := a.outdated(t.Context(), stacks.Lock{}, []string{silent, at + "/redis:8.2.1"})
	if err == nil || !strings.Contains(err.Error(), silent) {
		t.Errorf("the error is %v", err)
	}
	if text := out.String(); !strings.Contains(text, "cannot be asked") ||
		!strings.Contains(text, abbreviated(digest)) {
		t.Errorf("the table:\n%s", text)
	}
}

// TestUpstream holds that every upstream image of the shipped stacks is asked for, on both targets,
// whatever the lock file says.
func TestUpstream(t *testing.T) {
	_, _, refs, err := (&App{dir: "../../../.."}).upstream()
	if err != nil {
		t.Fatal(err)
	}

	want := []string{
		stacks.CaddyImage, stacks.CoreDNSImage, stacks.GoImage, stacks.OllamaImage,
		stacks.RedisImage,
	}
	if !slices.Equal(refs, want) {
		t.Errorf("got %q, want %q", refs, want)
	}
}

// TestUpstreamRolledBack takes the references from the sources, whatever earlier release a stack has
// gone back to.
func TestUpstreamRolledBack(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "modelfiles"), os.DirFS("../../../../modelfiles")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Pulumi.yaml": "name: codexcontinue\nruntime: go\n",
		"Pulumi.prod.yaml": "config:\n  codexcontinue:rollback:\n    to: 1\n    images: {redis: " +
			"\"redis:8.2.0@sha256:" + strings.Repeat("0", 64) + "\"}\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	refs, err := upstreamOf(root, "prod")
	if err != nil || !slices.Contains(refs, stacks.RedisImage) ||
		slices.ContainsFunc(refs, func(ref string) bool { return strings.Contains(ref, "8.2.0") }) {
		t.Errorf("got %q, %v", refs, err)
	}
}
