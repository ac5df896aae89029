package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// twoImages are two that have a layer in common, and the archive that `docker save` makes of them.
func twoImages(t *testing.T) (archive string, list map[string]v1.Image) {
	t.Helper()
	base, err := random.Image(5000, 2)
	if err != nil {
		t.Fatal(err)
	}

	more, err := random.Layer(3000, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	other, err := mutate.AppendLayers(base, more)
	if err != nil {
		t.Fatal(err)
	}
	base, err = mutate.Config(base, v1.Config{Labels: map[string]string{
		licenceLabel: "MIT", sourceLabel: "https://example.org/base",
	}})
	if err != nil {
		t.Fatal(err)
	}

	list = map[string]v1.Image{"codexcontinue/ml:0123456789ab": base, "redis:8": other}
	refs := map[name.Reference]v1.Image{}
	for ref, img := range list {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		refs[tag] = img
	}

	archive = filepath.Join(t.TempDir(), "images.tar")
	if err := tarball.MultiRefWriteToFile(archive, refs); err != nil {
		t.Fatal(err)
	}
	return archive, list
}

// withImages is a bundle of the images, opened.
func withImages(t *testing.T, archive string, refs []string) *Reader {
	t.Helper()
	d := draft(t)
	if err := d.AddImages(t.Context(), archive, refs, quiet); err != nil {
		t.Fatal(err)
	}

	by, key := keys(t)
	file := filepath.Join(t.TempDir(), "a.bundle")
	if err := d.Write(t.Context(), file, by, quiet); err != nil {
		t.Fatal(err)
	}

	r, err := Open(file, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestImages(t *testing.T) {
	archive, want := twoImages(t)
	refs := []string{"codexcontinue/ml:0123456789ab", "redis:8"}
	r := withImages(t, archive, refs)
	list, err := r.Images()
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}

	for i, x := range list {
		if x.Ref != refs[i] {
			t.Errorf("image %d is %s, want %s", i, x.Ref, refs[i])
		}
		same(t, x.Ref, x.Image, want[x.Ref])
	}

	blobs, labelled := 0, false
	for _, p := range r.Parts {
		if strings.HasPrefix(p.Name, "images/blobs/sha256/") {
			blobs++
		}
		labelled = labelled || p.Licence == "MIT" &&
			p.Source == "image codexcontinue/ml:0123456789ab, https://example.org/base"
	}
	if blobs != 3+2+2 { // layers, configurations, manifests
		t.Errorf("%d blobs: a layer that both have is there twice", blobs)
	}
	if !labelled {
		t.Errorf("no part has the licence that its image states: %+v", r.Parts)
	}

	t.Run("as an engine loads them", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "images.tar")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(SaveImages(list, f), f.Close()); err != nil {
			t.Fatal(err)
		}

		for _, ref := range refs {
			tag, err := name.NewTag(ref)
			if err != nil {
				t.Fatal(err)
			}
			img, err := tarball.ImageFromPath(file, &tag)
			if err != nil {
				t.Fatal(err)
			}
			same(t, ref, img, want[ref])
		}
	})

	t.Run("as a registry has them", func(t *testing.T) {
		s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		defer s.Close()
		ref := strings.TrimPrefix(s.URL, "http://") + "/team/redis:8"
		for range 2 {
			if err := Push(t.Context(), ref, list[1].Image); err != nil {
				t.Fatal(err)
			}
		}

		at, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(at)
		if err != nil {
			t.Fatal(err)
		}
		same(t, ref, img, want["redis:8"])

		s.Close()
		err = Push(t.Context(), ref, list[1].Image)
		if err == nil || !strings.Contains(err.Error(), "cannot be pushed") {
			t.Errorf("without a registry: %v", err)
		}
	})
}

// same compares the configuration, whose digest is an engine's ID of the image, and what is in the
// layers.
func same(t *testing.T, ref string, got, want v1.Image) {
	t.Helper()
	a, err := got.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	b, err := want.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("%s has the ID %s, want %s", ref, a, b)
	}

	x, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	y, err := want.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(x) != len(y) {
		t.Fatalf("%s has %d layers, want %d", ref, len(x), len(y))
	}
	for i := range x {
		if !bytes.Equal(content(t, x[i]), content(t, y[i])) {
			t.Errorf("%s: layer %d has another content", ref, i)
		}
	}
}

func content(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestSavedByAnOldEngine reads an archive as Docker 20.10 saves it, in which a layer that two
// images have is a link to the other's.
func TestSavedByAnOldEngine(t *testing.T) {
	archive, want := twoImages(t)
	old := filepath.Join(t.TempDir(), "old.tar")
	rewrite(t, archive, old)
	refs := []string{"codexcontinue/ml:0123456789ab", "redis:8"}
	list, err := withImages(t, old, refs).Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		same(t, x.Ref, x.Image, want[x.Ref])
	}
}

// rewrite copies an archive of images with its first layer below another name, and a link to it.
func rewrite(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	linked := false
	for entries := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}

		if !linked && strings.HasSuffix(h.Name, ".tar.gz") {
			linked = true
			link := &tar.Header{
				Name: h.Name, Typeflag: tar.TypeSymlink, Linkname: "first/layer.tar",
			}
			if err := w.WriteHeader(link); err != nil {
				t.Fatal(err)
			}
			h.Name = "first/layer.tar"
		}

		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, entries); err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !linked {
		t.Fatal("the archive has no layer")
	}
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestImageWithoutATag(t *testing.T) {
	archive, _ := twoImages(t)
	for ref, want := range map[string]string{
		"redis@sha256:" + strings.Repeat("0", 64): "a bundle has images that have a tag",
		"caddy:2": "caddy:2",
	} {
		err := draft(t).AddImages(t.Context(), archive, []string{ref}, quiet)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", ref, err, want)
		}
	}
}
