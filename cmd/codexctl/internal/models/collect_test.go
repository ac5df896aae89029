package models

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCollect takes a model out of the folder of one Ollama, file by file, and puts it into another.
func TestCollect(t *testing.T) {
	first := start(t)
	m, _, err := Open(t.Context(), gguf(t, whole), "tiny", quiet)
	if err != nil {
		t.Fatal(err)
	}
	m.Request.System = "Be brief."
	if err := first.Put(t.Context(), "llama3:latest", m, quiet); err != nil {
		t.Fatal(err)
	}

	read := func(_ context.Context, path string, w io.Writer) error {
		content, err := os.ReadFile(filepath.Join(first.store, path))
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	dir := t.TempDir()
	var progress told
	if err := Collect(t.Context(), "llama3", dir, read, progress.tell); err != nil {
		t.Fatal(err)
	}
	if !progress.what["reading"] {
		t.Errorf("it told %v", progress.what)
	}

	got, err := FromFolder(os.DirFS(dir), dir, "llama3")
	if err != nil {
		t.Fatal(err)
	}
	second := start(t)
	if err := second.Put(t.Context(), "llama3:latest", got, quiet); err != nil {
		t.Fatal(err)
	}
	if got, want := second.show(t, "llama3"), first.show(t, "llama3"); got != want {
		t.Errorf("it is %s, want %s", got, want)
	}

	// What ends early is no model.
	half := func(ctx context.Context, path string, w io.Writer) error {
		if strings.HasPrefix(path, "blobs/") {
			_, err := io.WriteString(w, "half")
			return err
		}
		return read(ctx, path, w)
	}
	err = Collect(t.Context(), "llama3", t.TempDir(), half, quiet)
	if err == nil || !strings.Contains(err.Error(), "did not come whole") {
		t.Errorf("half of a file: %v", err)
	}
	if err := Collect(t.Context(), "other", t.TempDir(), read, quiet); err == nil {
		t.Error("a model that it has not is collected")
	}
}
