package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
	"golang.org/x/mod/sumdb/note"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// keys are a new pair of keys.
func keys(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	by, err := ReadSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadVerifier(public)
	if err != nil {
		t.Fatal(err)
	}

	return by, key
}

// weights are those of the draft's model.
var weights = bytes.Repeat([]byte("weights "), 9000)

// draft is a bundle of a program, a compressed part, and two models of the same weights.
func draft(t *testing.T) *Draft {
	t.Helper()
	d := &Draft{Dir: t.TempDir(), Manifest: Manifest{
		Stack: "prod", Platform: "linux/amd64", Made: time.Unix(1_800_000_000, 0).UTC(),
	}}

	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}

	digest := sha256.Sum256(weights)
	name := "sha256:" + hex.EncodeToString(digest[:])
	tiny := models.Model{
		Request: api.CreateRequest{Files: map[string]string{"model.gguf": name}},
		Blobs: []models.Blob{{
			Digest: name, Size: int64(len(weights)),
			Open: func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(weights)), nil
			},
		}},
	}
	err := errors.Join(
		d.AddFile(t.Context(), Part{Name: "bin/program"}, program),
		d.AddProgram(t.Context(), Part{Name: "program.gz"}, program),
		d.AddModel(BaseModel, "tiny:latest", tiny),
		d.AddModel(EmbeddingModel, "embed:latest", tiny),
	)
	if err != nil {
		t.Fatal(err)
	}

	return d
}

func quiet(string, int64, int64) {}

// written is the draft as a file, and the key that checks it.
func written(t *testing.T) (string, note.Verifier) {
	t.Helper()
	by, key := keys(t)
	file := filepath.Join(t.TempDir(), "a.bundle")
	if err := draft(t).Write(t.Context(), file, by, quiet); err != nil {
		t.Fatal(err)
	}
	return file, key
}

// check opens the bundle and reads all of it.
func check(ctx context.Context, file string, key note.Verifier) error {
	r, err := Open(file, key)
	if err != nil {
		return err
	}
	defer r.Close()

	return r.Verify(ctx, quiet)
}

func TestRoundTrip(t *testing.T) {
	file, key := written(t)
	r, err := Open(file, key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var last string
	err = r.Verify(t.Context(), func(what string, done, total int64) {
		last = fmt.Sprint(what, " ", done == total)
	})
	if err != nil || last != "checking the bundle true" {
		t.Errorf("verify: %v, at last %q", err, last)
	}
	if r.Stack != "prod" || r.Format != format {
		t.Errorf("the manifest is %+v", r.Manifest)
	}

	to := filepath.Join(t.TempDir(), "folder", "program")
	for range 2 {
		if err := r.Install("program.gz", to); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(to)
	info, statErr := os.Stat(to)
	if err != nil || statErr != nil || string(text) != "#!/bin/sh\n" || info.Mode().Perm() != 0o755 {
		t.Errorf("installed %q %v, %v, %v", text, info.Mode(), err, statErr)
	}

	for part, want := range map[string]string{
		BaseModel: "tiny:latest", EmbeddingModel: "embed:latest",
	} {
		name, m, ok, err := r.Model(part)
		if err != nil || !ok || name != want || len(m.Blobs) != 1 {
			t.Fatalf("%s: model %q %+v, %v, %v", part, name, m, ok, err)
		}
		if m.Request.Files["model.gguf"] != m.Blobs[0].Digest {
			t.Errorf("%s: the request names %v", part, m.Request.Files)
		}

		f, err := m.Blobs[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, weights) {
			t.Errorf("%s: %d bytes of weights, %v", part, len(got), err)
		}
	}

	stored := func(p Part) bool { return strings.HasPrefix(p.Name, weightsDir) }
	if i := slices.IndexFunc(r.Parts, stored); slices.ContainsFunc(r.Parts[i+1:], stored) {
		t.Errorf("the bundle has the same weights twice: %+v", r.Parts)
	}
}

// TestEveryByte changes the archive at many places: wherever something is that is used, that is
// found out.
func TestEveryByte(t *testing.T) {
	file, key := written(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	changed := filepath.Join(t.TempDir(), "changed")
	for name, at := range places(t, whole) {
		text := bytes.Clone(whole)
		text[at] ^= 1
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), changed, key); err == nil {
			t.Errorf("%s, byte %d: the change is not found", name, at)
		}
	}
}

// places returns where the archive has the first, a middle and the last byte of each entry.
func places(t *testing.T, whole []byte) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	f := bytes.NewReader(whole)
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}

		at := f.Size() - int64(f.Len())
		out["the first of "+h.Name] = at
		out["one of "+h.Name] = at + h.Size/2
		out["the last of "+h.Name] = at + h.Size - 1
	}
}

func TestCutOff(t *testing.T) {
	file, key := written(t)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}

	// Without the zeroes at the end, which say nothing, all parts are still there.
	for size := info.Size() - 2048; size > 0; size -= 997 {
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), file, key); err == nil {
			t.Fatalf("%d of %d bytes pass for a bundle", size, info.Size())
		}
	}
}

func TestAnotherKey(t *testing.T) {
	file, _ := written(t)
	_, other := keys(t)
	err := check(t.Context(), file, other)
	if err == nil || !strings.Contains(err.Error(), "is not signed by the key") {
		t.Errorf("with another key: %v", err)
	}
}

// signed writes an archive with that manifest, signed, and those entries.
func signed(t *testing.T, m Manifest, entries ...*tar.Header) (string, note.Verifier) {
	t.Helper()
	by, key := keys(t)
	note, err := m.sign(by)
	if err != nil {
		t.Fatal(err)
	}

	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: manifestName, Size: int64(len(note))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(note); err != nil {
		t.Fatal(err)
	}
	for _, h := range entries {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "a.bundle")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, key
}

// TestForm is about archives that are signed and yet are not in order.
func TestForm(t *testing.T) {
	empty := strings.Repeat("0", 64)
	with := func(parts ...Part) Manifest {
		return Manifest{Format: format, Stack: "prod", Parts: parts}
	}
	one := with(Part{Name: "a", SHA256: empty, Size: 1})

	for name, c := range map[string]struct {
		manifest Manifest
		entries  []*tar.Header
		want     string
	}{
		"another format": {Manifest{Format: 2, Stack: "prod"}, nil, "has the format 2"},
		"no stack":       {Manifest{Format: format}, nil, "names no stack"},
		"up": {with(Part{Name: "../a", SHA256: empty}), nil,
			`"../a" is no name of a part`},
		"absolute": {with(Part{Name: "/a", SHA256: empty}), nil,
			`"/a" is no name of a part`},
		"no checksum": {with(Part{Name: "a"}), nil, "a has no size and checksum"},
		"named twice": {with(one.Parts[0], one.Parts[0]), nil, "a is there twice"},
		"missing":     {one, nil, "a is missing: the file is not whole"},
		"of no manifest": {one, []*tar.Header{{Name: "b", Size: 1}},
			`has "b", which its manifest does not name`},
		"twice": {one, []*tar.Header{{Name: "a", Size: 1}, {Name: "a", Size: 1}},
			"has a twice"},
		"of another size": {one, []*tar.Header{{Name: "a", Size: 2}},
			"a is not what its manifest says"},
		"a link": {with(Part{Name: "a", SHA256: empty}),
			[]*tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}},
			"a is not what its manifest says"},
	} {
		t.Run(name, func(t *testing.T) {
			file, key := signed(t, c.manifest, c.entries...)
			err := check(t.Context(), file, key)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}

	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, key := keys(t)
	if err := check(t.Context(), file, key); err == nil ||
		!strings.Contains(err.Error(), "is no bundle") {
		t.Errorf("a text: %v", err)
	}
}

// TestNothingIsLeft checks that a bundle that was not written to its end is not there at all.
func TestNothingIsLeft(t *testing.T) {
	by, _ := keys(t)
	none := func(t *testing.T, dir string) {
		t.Helper()
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != 0 {
			t.Errorf("left: %v, %v", list, err)
		}
	}

	t.Run("after an interrupt", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := draft(t).Write(ctx, filepath.Join(dir, "a"), by, func(string, int64, int64) {
			cancel()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		none(t, dir)
	})

	t.Run("of a file that changed", func(t *testing.T) {
		dir, d := t.TempDir(), draft(t)
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.AddFile(t.Context(), Part{Name: "file"}, file); err != nil {
			t.Fatal(err)
		}

		for text, want := range map[string]string{
			"behind": "has another checksum", "aft": "ends after 3 bytes of 6", "afterwards": "is longer",
		} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := d.Write(t.Context(), filepath.Join(dir, "a"), by, quiet)
			if err == nil || !strings.Contains(err.Error(), "file: "+want) {
				t.Errorf("%q: %v", text, err)
			}
			none(t, dir)
		}
	})

	t.Run("on a full disk", func(t *testing.T) {
		dir := peers.SmallDisk(t, 16<<10)
		err := draft(t).Write(t.Context(), filepath.Join(dir, "a"), by, quiet)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		none(t, dir)
	})

	t.Run("of a program on a full disk", func(t *testing.T) {
		file, key := written(t)
		r, err := Open(file, key)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()

		dir := peers.SmallDisk(t, 16<<10)
		defer peers.Fill(t, dir)()
		err = r.Install("program.gz", filepath.Join(dir, "program"))
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "program")); err == nil {
			t.Error("half a program is there")
		}
	})

	t.Run("over another file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := draft(t).Write(t.Context(), file, by, quiet)
		text, readErr := os.ReadFile(file)
		if err == nil || !strings.Contains(err.Error(), "is there") || string(text) != "mine" {
			t.Errorf("got %v, and the file holds %q, %v", err, text, readErr)
		}
	})
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		err  func() error
		want string
	}{
		"no signer": {func() error { _, err := ReadSigner(file); return err },
			"is no key that signs"},
		"no file": {func() error { _, err := ReadSigner(filepath.Join(dir, "none")); return err },
			"no such file"},
		"no verifier": {func() error { _, err := ReadVerifier(file); return err },
			"holds no public key"},
		"neither": {func() error { _, err := ReadVerifier("nonsense"); return err },
			"neither a public key nor a file"},
	} {
		if err := c.err(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}

	private, public, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadVerifier(file); err == nil || strings.Contains(err.Error(), private) {
		t.Errorf("the private key as a public one: %v", err)
	}
	if err := os.WriteFile(file, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadVerifier(file); err != nil {
		t.Errorf("a file with the public key: %v", err)
	}
}
