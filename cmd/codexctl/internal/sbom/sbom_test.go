package sbom_test

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/sbom"
)

const status = `Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
Description: GNU C Library
 shared: libraries

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13
`

// image makes an image of two layers, of which the second removes a file of the first.
func image(t *testing.T, program []byte) v1.Image {
	t.Helper()
	img := empty.Image
	for _, files := range []map[string][]byte{
		{
			"backend":             program,
			"old/tool":            program,
			"var/lib/dpkg/status": []byte(status),
			"etc/passwd":          []byte("root"),
			"lib/libc.so":         []byte("\x7fELF and no program"),
		},
		{"old/.wh.tool": nil},
	} {
		var text bytes.Buffer
		w := tar.NewWriter(&text)
		for name, content := range files {
			h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}

		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(text.Bytes())), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// build compiles a program of this repository, as an image has it.
func build(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "egress")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file,
		"github.com/codexcontinue/codexcontinue/services/egress")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestOf reads the list of an image back: it has the program that is there, with every module that
// the compiler says, the installed packages, and what the image is built from.
func TestOf(t *testing.T) {
	program := build(t)
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}

	const ref = "codexcontinue/egress:0123456789ab"
	x := sbom.Image{
		Image: image(t, program), Ref: ref, Platform: "linux/amd64",
		Bases: []string{"golang:1.26.8-bookworm"},
	}
	var first, second bytes.Buffer
	for _, to := range []*bytes.Buffer{&first, &second} {
		bom, err := sbom.Of(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := sbom.Write(to, bom); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image has two lists")
	}

	var bom cyclonedx.BOM
	err = cyclonedx.NewBOMDecoder(&first, cyclonedx.BOMFileFormatJSON).Decode(&bom)
	if err != nil {
		t.Fatal(err)
	}
	if c := bom.Metadata.Component; c.Name != "codexcontinue/egress" || c.Version != "0123456789ab" {
		t.Errorf("lists %s %s", c.Name, c.Version)
	}

	has := map[string]bool{}
	for _, c := range *bom.Components {
		if has[c.BOMRef] {
			t.Errorf("%s is there twice", c.BOMRef)
		}
		has[c.BOMRef] = true
	}

	want := []string{
		"golang:1.26.8-bookworm", ref + "/backend",
		"pkg:deb/libc6@2.36-9%2Bdeb12u10?arch=amd64", "pkg:deb/zlib1g@1%3A1.2.13?arch=amd64",
		"pkg:golang/stdlib@" + info.GoVersion[len("go"):],
	}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	for _, name := range want {
		if !has[name] {
			t.Errorf("%s is missing", name)
		}
		delete(has, name)
	}
	for name := range has {
		t.Errorf("%s is not in the image", name)
	}

	for _, d := range *bom.Dependencies {
		if d.Ref == ref+"/backend" && len(*d.Dependencies) != len(info.Deps)+1 {
			t.Errorf("the program needs %d modules, want %d", len(*d.Dependencies), len(info.Deps)+1)
		}
		if d.Ref == ref && !slices.Contains(*d.Dependencies, ref+"/backend") {
			t.Error("the image does not need its program")
		}
	}
}
