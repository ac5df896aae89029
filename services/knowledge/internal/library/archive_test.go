package library_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
)

// names returns the names of the documents of a collection.
func names(t *testing.T, l *library.Library, collection string) string {
	t.Helper()
	list, err := l.Documents(collection)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		out = append(out, d.File)
	}
	return strings.Join(out, " ")
}

// sum returns the SHA-256 of the archive.
func sum(archive []byte) string {
	sum := sha256.Sum256(archive)
	return hex.EncodeToString(sum[:])
}

// TestArchive: an archive's documents take the place of others when the library is opened again,
// and are found by their words.
func TestArchive(t *testing.T) {
	from := open(t, t.TempDir(), nil)
	add(t, from, "a", "fire.txt", "In case of fire leave by the stairs.")
	add(t, from, "b", "water.txt", "In case of water climb.")
	var b bytes.Buffer
	if err := from.Archive(t.Context(), &b); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	to := open(t, dir, nil)
	add(t, to, "a", "other.txt", "Something else with a zebra.")
	for range 2 { // the second takes the place of the first
		if n, err := to.Restore(t.Context(), bytes.NewReader(b.Bytes()), sum(b.Bytes())); n != 2 || err != nil {
			t.Fatalf("%d documents, %v", n, err)
		}
	}
	if got := names(t, to, "a"); got != "other.txt" {
		t.Errorf("before it is opened again there is %s", got)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}

	to = open(t, dir, nil)
	if got := names(t, to, "a") + " " + names(t, to, "b"); got != "fire.txt water.txt" {
		t.Errorf("there is %s", got)
	}
	for query, want := range map[string]int{"stairs": 1, "zebra": 0} {
		if found := texts(t, to, query, library.Both, "a", "b"); len(found) != want {
			t.Errorf("%q finds %q", query, found)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "restored")); err == nil {
		t.Error("what was restored is still there")
	}
}

// TestRestoreReleases restores archives of documents that earlier releases have made: that of the
// version of backups' data (services/backup/archive) and of the one before.
func TestRestoreReleases(t *testing.T) {
	for data := max(1, archive.Data-1); data <= archive.Data; data++ {
		b, err := os.ReadFile(fmt.Sprintf("testdata/documents-%d.tar", data))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		l := open(t, dir, nil)
		n, err := l.Restore(t.Context(), bytes.NewReader(b), sum(b))
		if err := errors.Join(err, l.Close()); n != 2 || err != nil {
			t.Fatalf("version %d: %d documents, %v", data, n, err)
		}
		l = open(t, dir, nil)
		if got := names(t, l, "a") + " " + names(t, l, "b"); got != "fire.txt water.txt" {
			t.Errorf("version %d: there is %s", data, got)
		}
		if found := texts(t, l, "stairs", library.Both, "a", "b"); len(found) != 1 {
			t.Errorf("version %d: found are %q", data, found)
		}
	}
}

// TestRestoreRefused: what is no archive of documents changes nothing.
func TestRestoreRefused(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, nil)
	add(t, l, "a", "fire.txt", "In case of fire leave by the stairs.")
	var good bytes.Buffer
	if err := l.Archive(t.Context(), &good); err != nil {
		t.Fatal(err)
	}

	one := func(name, content string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content))})
		_, _ = io.WriteString(w, content)
		_ = w.Close()
		return b.Bytes()
	}
	key := strings.Repeat("0", 32)
	for name, archive := range map[string][]byte{
		"cut":              good.Bytes()[:700],
		"noise":            bytes.Repeat([]byte("x"), 2000),
		"a path":           one("../"+key, ""),
		"a folder":         one("a/b/"+key, ""),
		"another key":      one("a/"+strings.Repeat("g", 32), ""),
		"no document":      one("a/"+key, "hello\n"),
		"half a document":  one("a/"+key, `{"file":"x","passages":2}`+"\n{}\n"),
		"another's name":   one("a/"+key, `{"file":"x","passages":0}`+"\n"),
		"another's folder": one("A/"+key, `{"file":"x","passages":0}`+"\n"),
		"an absolute path": one("/a/"+key, ""),
	} {
		_, err := l.Restore(t.Context(), bytes.NewReader(archive), sum(archive))
		if !errors.Is(err, library.ErrArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// These are archives, with fewer documents.
	for name, archive := range map[string][]byte{
		"cut before the first one": nil, "cut before the end": good.Bytes()[:good.Len()-1024],
	} {
		_, err := l.Restore(t.Context(), bytes.NewReader(archive), sum(good.Bytes()))
		if !errors.Is(err, library.ErrArchive) || !strings.Contains(err.Error(), "it was cut") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := filepath.Glob(filepath.Join(dir, "restored*")); len(entries) > 0 || err != nil {
		t.Errorf("it leaves %q, %v", entries, err)
	}
}

// TestRestoreEnded: of a restore that ended before the restart nothing comes back later, and a start
// that crashed while it took one goes on with it.
func TestRestoreEnded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, nil)
	add(t, l, "a", "fire.txt", "In case of fire leave by the stairs.")
	var b bytes.Buffer
	if err := l.Archive(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	add(t, l, "a", "later.txt", "In case of doubt stay.")

	restored := filepath.Join(dir, "restored")
	old := time.Now().Add(-2 * time.Hour)
	again := func(change func() error) {
		t.Helper()
		if _, err := l.Restore(t.Context(), bytes.NewReader(b.Bytes()), sum(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Close(), os.Chtimes(restored, old, old), change()); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, nil)
		if left, err := filepath.Glob(restored + "*"); len(left) > 0 || err != nil {
			t.Errorf("it leaves %q, %v", left, err)
		}
	}

	again(func() error { return nil })
	if got := names(t, l, "a"); got != "fire.txt later.txt" {
		t.Errorf("after a restore that ended there is %s", got)
	}
	again(func() error { return os.Rename(restored, restored+"-taken") })
	if got := names(t, l, "a"); got != "fire.txt" {
		t.Errorf("after a crash there is %s", got)
	}

	if err := errors.Join(l.Close(), os.MkdirAll(filepath.Join(restored+".tmp", "a"), 0o700)); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, nil)
	if left, err := filepath.Glob(restored + "*"); len(left) > 0 || err != nil {
		t.Errorf("a crash while an archive was received leaves %q, %v", left, err)
	}
}
