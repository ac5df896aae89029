package images_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

func reference(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	if err := remote.Write(reference(t, ref), img); err != nil {
		t.Fatal(err)
	}
}

func digestOf(t *testing.T, x interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := x.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestPushIndex pushes an image for each platform and the index of both: whoever pulls it gets
// their own.
func TestPushIndex(t *testing.T) {
	ref := peers.Registry(t) + "/team/codexcontinue/ml:0123456789ab"
	whole := images.Image{Ref: ref, Platform: "linux/amd64,linux/arm64"}
	variants := whole.Variants()
	want := map[string]string{}
	for _, x := range variants {
		_, processor, _ := strings.Cut(x.Platform, "/")
		if x.Ref != ref+"-"+processor {
			t.Fatalf("%+v", x)
		}
		img := peers.Image(t, processor)
		push(t, x.Ref, img)
		want[processor] = digestOf(t, img)
	}

	if has, err := images.InRegistry(t.Context(), ref); has || err != nil {
		t.Fatalf("there before it is pushed: %v, %v", has, err)
	}
	if err := images.PushIndex(t.Context(), ref, variants); err != nil {
		t.Fatal(err)
	}
	if has, err := images.InRegistry(t.Context(), ref); !has || err != nil {
		t.Fatalf("not there: %v, %v", has, err)
	}

	for processor, digest := range want {
		img, err := remote.Image(reference(t, ref),
			remote.WithPlatform(v1.Platform{OS: "linux", Architecture: processor}))
		if err != nil {
			t.Fatal(err)
		}
		if got := digestOf(t, img); got != digest {
			t.Errorf("%s gets %s, want %s", processor, got, digest)
		}
	}

	// The same again is the same index: nothing that runs is replaced.
	before, err := images.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.PushIndex(t.Context(), ref, variants); err != nil {
		t.Fatal(err)
	}
	after, err := images.Resolve(t.Context(), ref)
	if err != nil || after.Digest != before.Digest {
		t.Errorf("pushed again it is %s, %v, was %s", after.Digest, err, before.Digest)
	}
}

// TestKeptVariants looks for an image of an earlier release under its own name alone, which may be
// the digest of an index.
func TestKeptVariants(t *testing.T) {
	for _, ref := range []string{
		"codexcontinue/ml:0123456789ab", "codexcontinue/ml@sha256:" + strings.Repeat("0", 64),
	} {
		x := images.Image{Ref: ref, Platform: "linux/amd64,linux/arm64", Kept: true}
		if got := x.Variants(); len(got) != 1 || got[0].Ref != ref {
			t.Errorf("%s: %+v", ref, got)
		}
	}
}

// TestPushIndexRefuses holds that no index says an image is for a platform that it is not for.
func TestPushIndexRefuses(t *testing.T) {
	ref := peers.Registry(t) + "/ml:1"
	x := images.Image{Ref: ref, Platform: "linux/amd64,linux/arm64"}
	for _, v := range x.Variants() {
		push(t, v.Ref, peers.Image(t, "amd64"))
	}

	err := images.PushIndex(t.Context(), ref, x.Variants())
	if err == nil || !strings.Contains(err.Error(), "is for linux/amd64, not for linux/arm64") {
		t.Errorf("got %v", err)
	}
	if has, _ := images.InRegistry(t.Context(), ref); has {
		t.Error("half an index was pushed")
	}
}

// TestResolve asks a registry for an image of one platform, and for one of several, beside which
// stands what no platform runs.
func TestResolve(t *testing.T) {
	at := peers.Registry(t)
	one := peers.Image(t, "arm64")
	push(t, at+"/one:1.0", one)

	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{
			Add:        peers.Image(t, "arm64"),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}},
		},
		mutate.IndexAddendum{
			Add:        peers.Image(t, "amd64"),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
		},
		mutate.IndexAddendum{
			Add:        peers.Image(t, "unknown"),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
		})
	if err := remote.WriteIndex(reference(t, at+"/both:2.0-bookworm"), index); err != nil {
		t.Fatal(err)
	}

	for ref, want := range map[string]stacks.LockedImage{
		at + "/one:1.0": {
			Name: at + "/one", Tag: "1.0",
			Digest: digestOf(t, one), Platforms: []string{"linux/arm64"},
		},
		at + "/both:2.0-bookworm": {
			Name: at + "/both", Tag: "2.0-bookworm",
			Digest: digestOf(t, index), Platforms: []string{"linux/amd64", "linux/arm64"},
		},
	} {
		got, err := images.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", ref, d)
		}
	}

	if _, err := images.Resolve(t.Context(), at+"/gone:1"); err == nil ||
		!strings.Contains(err.Error(), "its registry cannot be asked") {
		t.Errorf("an image that is not there: %v", err)
	}
}

// TestNewer finds the newest tag like the own one, and none of another kind.
func TestNewer(t *testing.T) {
	at, img := peers.Registry(t), peers.Image(t, "amd64")
	for _, tag := range []string{
		"8.2.1-bookworm", "8.2.2-bookworm", "8.10.0-bookworm", "9.0.0-alpine", "9-bookworm",
		"latest", "10.0.0-rc1", "1.14.7", "1.26-bookworm", "1.27-bookworm", "v2.0.0", "0.17.4-slow",
	} {
		push(t, at+"/x:"+tag, img)
	}

	for tag, want := range map[string]string{
		"8.2.1-bookworm":  "8.10.0-bookworm",
		"8.10.0-bookworm": "",
		"1.26-bookworm":   "1.27-bookworm",
		"1.14.7":          "",
		"latest":          "",
	} {
		if got, err := images.Newer(t.Context(), at+"/x:"+tag); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", tag, got, err, want)
		}
	}
}
