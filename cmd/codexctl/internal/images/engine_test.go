package images_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

var (
	anID    = "sha256:" + strings.Repeat("a", 64)
	another = "sha256:" + strings.Repeat("b", 64)
	digest  = "sha256:" + strings.Repeat("d", 64)
)

// engineWith is an engine with the images, by their references; those that were loaded by hand have
// no digests.
func engineWith(t *testing.T, list map[string]map[string]any) *engine.Engine {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		_, ref, _ := strings.Cut(r.URL.Path, "/images/")
		ref, err := url.PathUnescape(strings.TrimSuffix(ref, "/json"))
		switch x, ok := list[ref]; {
		case err != nil, strings.HasSuffix(r.URL.Path, "/_ping"):
		case ok:
			json.NewEncoder(w).Encode(x)
		default:
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"message":"no such image"}`))
		}
	}))
	t.Cleanup(s.Close)

	host := engine.Host{URL: "tcp://" + strings.TrimPrefix(s.URL, "http://")}
	eng, err := engine.Connect(t.Context(), host, "prod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	return eng
}

func loaded(id string, digests ...string) map[string]any {
	return map[string]any{"Id": id, "Os": "linux", "Architecture": "amd64", "RepoDigests": digests}
}

// TestCheck holds what `up` refuses: an image that is not the one of the lock file, or of which
// nothing says that it is.
func TestCheck(t *testing.T) {
	eng := engineWith(t, map[string]map[string]any{
		"redis:8":  loaded(anID),
		"caddy:2":  loaded(another, "caddy@"+digest),
		"golang:1": loaded(anID, "mirror.example.com/golang@"+digest),
	})

	for name, c := range map[string]struct {
		image images.Image
		want  string
	}{
		"its ID":     {images.Image{Ref: "redis:8", ID: anID}, ""},
		"another ID": {images.Image{Ref: "redis:8", ID: another}, "redis:8: is " + anID + " on the engine"},
		"an ID, and no image": {images.Image{Ref: "gone:1", ID: anID},
			"gone:1: is not on the engine, and images.lock.yaml knows it by its ID alone"},
		"a digest":              {images.Image{Ref: "caddy:2@" + digest}, ""},
		"a digest to be pulled": {images.Image{Ref: "gone:1@" + digest}, ""},
		"another digest":        {images.Image{Ref: "caddy:2@" + another}, ""}, // pulled again
		"a digest, and loaded by hand": {images.Image{Ref: "redis:8@" + digest},
			"redis:8: was loaded into the engine by hand"},
		"a digest of another name": {images.Image{Ref: "golang:1@" + digest},
			"golang:1: was loaded into the engine by hand"},
		"nothing known": {images.Image{Ref: "redis:8"}, ""},
	} {
		err := images.Check(t.Context(), eng, c.image)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}

	// Of what the engine has already nothing is built, whatever its base is.
	build := &stacks.Build{
		Args:    map[string]string{"GO_IMAGE": "gone:1"},
		BaseIDs: map[string]string{"gone:1": anID},
	}
	list := []images.Image{{Ref: "caddy:2", Build: build}}
	if err := images.CheckAll(t.Context(), eng, list); err != nil {
		t.Error(err)
	}
	list[0].Ref = "codexcontinue/x:1"
	if err := images.CheckAll(t.Context(), eng, list); err == nil ||
		!strings.Contains(err.Error(), "gone:1: is not on the engine") {
		t.Errorf("a build without its base: %v", err)
	}

	// What an earlier release left is not built, so that its base is nothing to complain of.
	list[0].Kept = true
	if err := images.CheckAll(t.Context(), eng, list); err != nil {
		t.Errorf("an image of an earlier release: %v", err)
	}
}

// TestOnEngine locks an image by the digest that the engine pulled it by, or by its ID, and never
// by a digest of another name.
func TestOnEngine(t *testing.T) {
	eng := engineWith(t, map[string]map[string]any{
		"redis:8":  loaded(anID),
		"caddy:2":  loaded(another, "caddy@"+digest),
		"golang:1": loaded(anID, "mirror.example.com/golang@"+digest),
	})
	for ref, want := range map[string]stacks.LockedImage{
		"redis:8":  {Name: "redis", Tag: "8", IDs: map[string]string{"linux/amd64": anID}},
		"caddy:2":  {Name: "caddy", Tag: "2", Digest: digest},
		"golang:1": {Name: "golang", Tag: "1", IDs: map[string]string{"linux/amd64": anID}},
	} {
		got, err := images.OnEngine(t.Context(), eng, ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", ref, d)
		}
	}

	if _, err := images.OnEngine(t.Context(), eng, "gone:1"); err == nil ||
		!strings.Contains(err.Error(), "gone:1: is not on the engine") {
		t.Errorf("an image that is not there: %v", err)
	}
}
