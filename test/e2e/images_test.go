package e2e

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestImages locks the upstream images by what a registry says of their tags, and then by what the
// engine has, into which they were loaded by hand. It brings no stack up that has others.
func TestImages(t *testing.T) {
	enabled(t)
	t.Parallel()
	const stack = "e2e-images"
	at := peers.Registry(t)
	c := newCheckout(t)
	c.remove(t, stack)
	processor := strings.TrimSpace(c.must(t, time.Minute, "docker", "version", "-f",
		"{{.Server.Arch}}"))
	c.settings(t, stack, "overlay: prod\nportOffset: 34000\nplatform: linux/"+processor)
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", "what-is-in-the-images")

	upstream := []string{
		stacks.CaddyImage, stacks.CoreDNSImage, stacks.GoImage, stacks.OllamaImage,
		stacks.RedisImage,
	}
	digests := map[string]string{}
	for _, ref := range upstream {
		digests[ref] = peers.PushImage(t, inRegistry(t, at, ref), processor)
	}
	online := c.with(inPlaceOf(t, name.DefaultRegistry,
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: at}))...)
	outdated := func(want int, says string) {
		t.Helper()
		out, said, err := online.run(t, time.Minute, "bin/codexctl", "images", "outdated")
		code := 0
		if ended, ok := errors.AsType[*exec.ExitError](err); ok {
			code = ended.ExitCode()
		}
		if code != want || !strings.Contains(out, says) {
			t.Fatalf("outdated ends with %d, want %d with %q:\n%s\n%s", code, want, says, out, said)
		}
	}

	outdated(2, "unknown")
	online.must(t, time.Minute, "bin/codexctl", "images", "update")
	for _, ref := range upstream {
		if x := c.locked(t, ref); x.Digest != digests[ref] {
			t.Errorf("%s is locked as %+v, want %s", ref, x, digests[ref])
		}
	}
	outdated(0, "")
	peers.PushImage(t, inRegistry(t, at, "redis:8.4.0-bookworm"), processor)
	outdated(2, "8.4.0-bookworm")

	// Those of test/images have no digest. What an engine pulled has one, of another image here.
	if c.imageOf(t, stacks.RedisImage).RepoDigests == nil {
		c.refused(t, stack, time.Minute,
			stacks.RedisImage+": was loaded into the engine by hand, and has no digest")
		c.noneLeft(t, stack, "an image that is not the registry's")
	}

	c.must(t, time.Minute, "bin/codexctl", "images", "update", "--engine")
	for _, ref := range upstream {
		has := c.imageOf(t, ref)
		if has.RepoDigests != nil {
			continue
		}
		if x := c.locked(t, ref); x.Digest != "" ||
			!maps.Equal(x.IDs, map[string]string{"linux/" + processor: has.ID}) {
			t.Errorf("%s is locked as %+v, want its ID %s", ref, x, has.ID)
		}
	}

	if id := c.locked(t, stacks.RedisImage).IDs["linux/"+processor]; id != "" {
		edit(t, c, stacks.LockFile, id, "sha256:"+strings.Repeat("0", 64))
		c.refused(t, stack, time.Minute, stacks.RedisImage+": is "+id+" on the engine")
		c.noneLeft(t, stack, "an image of another ID")
	}
}

// inRegistry returns the reference of an image of the default registry at another one.
func inRegistry(t *testing.T, at, ref string) string {
	t.Helper()
	r, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	return at + "/" + r.RepositoryStr() + ":" + r.TagStr()
}

// locked returns what the checkout's lock file says of an image.
func (c *checkout) locked(t *testing.T, ref string) stacks.LockedImage {
	t.Helper()
	l, err := stacks.ReadLock(os.DirFS(c.dir))
	if err != nil {
		t.Fatal(err)
	}
	x, _ := l.Find(ref)
	return x
}

// engineImage is what the engine says of an image.
type engineImage struct {
	ID          string `json:"Id"`
	RepoDigests []string
}

// imageOf returns the image that the engine has under the reference. It has no digests but those of
// that name.
func (c *checkout) imageOf(t *testing.T, ref string) engineImage {
	t.Helper()
	var list []engineImage
	out := c.must(t, time.Minute, "docker", "image", "inspect", ref)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v: %s", err, out)
	}

	of, _ := stacks.SplitTag(ref)
	x := list[0]
	x.RepoDigests = slices.DeleteFunc(x.RepoDigests, func(d string) bool {
		return !strings.HasPrefix(d, of+"@")
	})
	if len(x.RepoDigests) == 0 {
		x.RepoDigests = nil
	}
	return x
}

// prunes removes from the engine the images to which nobody goes back. Those of the last two releases
// stay: those of both are there before.
func (l *loaded) prunes() {
	t := l.t
	t.Helper()
	var updates []struct {
		Release struct{ Images map[string]string }
	}
	said := l.must(t, time.Minute, "bin/codexctl", "history", "--json", "-n", "100", l.stack)
	if err := json.Unmarshal([]byte(said), &updates); err != nil || len(updates) < 2 {
		t.Fatalf("%v, the history is\n%s", err, said)
	}

	now := slices.Sorted(maps.Values(updates[0].Release.Images))
	var gone []string
	for _, u := range updates {
		for _, ref := range u.Release.Images {
			if !slices.Contains(now, ref) {
				gone = append(gone, ref)
			}
		}
	}
	slices.Sort(gone)
	gone = slices.Compact(gone)

	prune := func(keep string) []string {
		t.Helper()
		return strings.Fields(l.must(t, time.Minute, "bin/codexctl", "images", "prune", "--keep", keep,
			"--yes", l.stack))
	}
	if removed := prune("2"); len(removed) > 0 {
		t.Errorf("with two releases kept %q went", removed)
	}
	if removed := prune("1"); len(removed) == 0 || !slices.Equal(removed, gone) {
		t.Errorf("with one release kept %q went, want %q", removed, gone)
	}

	for there, list := range map[bool][]string{true: now, false: gone} {
		for _, ref := range list {
			_, _, err := l.checkout.run(t, time.Minute, "docker", "image", "inspect", ref)
			if (err == nil) != there {
				t.Errorf("%s: there %t, want %t", ref, err == nil, there)
			}
		}
	}
	noChanges(t, l.checkout, l.stack)
}
