package backups

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
)

var update = flag.Bool("update", false, "make a backup of today's format, if testdata has none")

// documentsOf is an archive of documents of the version, which knowledge's own tests restore.
func documentsOf(t *testing.T, data int) []byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf(
		"../../../../services/knowledge/internal/library/testdata/documents-%d.tar", data))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRestoreReleases: a backup of each format that this release takes, made when that was the last
// one, is read and restored. A change that raises a format keeps those in testdata, and adds one by
// -update.
func TestRestoreReleases(t *testing.T) {
	key, err := os.Open("testdata/identity.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	ids, err := age.ParseIdentities(key)
	if err != nil {
		t.Fatal(err)
	}

	taken := map[int]bool{}
	for format := 1; format <= archive.Format; format++ {
		for data := max(1, archive.Data-1); data <= archive.Data; data++ {
			dir := fmt.Sprintf("testdata/format-%d-data-%d", format, data)
			_, err := os.Stat(dir)
			if os.IsNotExist(err) && format == archive.Format && data == archive.Data {
				if !*update {
					t.Fatalf("there is no backup in %s: run this test with -update", dir)
				}
				writeRelease(t, dir, ids[0].(*age.X25519Identity).Recipient())
				err = nil
			}
			if err == nil { // not each pair was ever of one release
				taken[data] = true
				t.Run(dir, func(t *testing.T) { restoreRelease(t, dir, data, ids) })
			}
		}
	}
	for data := max(1, archive.Data-1); data <= archive.Data; data++ {
		if !taken[data] {
			t.Errorf("there is no backup of data %d to restore", data)
		}
	}
}

// restoreRelease restores the backup in the directory.
func restoreRelease(t *testing.T, dir string, data int, ids []age.Identity) {
	b, err := Open(t.Context(), Folder(dir), "", t.TempDir(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Since) != 1 || b.Since[0].Action != auditlog.Erase || b.Since[0].Object != "carol" {
		t.Errorf("erased since are %+v", b.Since)
	}

	if _, err := b.State(t.Context()); !errors.Is(err, ErrNoState) {
		t.Errorf("nothing is kept of its state, and there is one: %v", err)
	}

	parts := map[string][]byte{}
	for _, name := range []string{archive.Redis, archive.Documents, archive.Models} {
		err := b.Part(name, func(content io.Reader) (err error) {
			parts[name], err = io.ReadAll(content)
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.Equal(parts[archive.Documents], documentsOf(t, data)) {
		t.Error("the documents are others")
	}
	var had struct {
		Models []struct{ Name, Digest string }
	}
	if err := json.Unmarshal(parts[archive.Models], &had); err != nil || len(had.Models) != 1 {
		t.Errorf("the models are %s, %v", parts[archive.Models], err)
	}

	folder := later(t)
	put(t, folder, parts[archive.Redis])
	c, _ := start(t, folder)
	if said, err := script(t, Loaded, folder, nil); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if got := c.Get(t.Context(), "conversation:1").Val(); got != "of the backup" {
		t.Errorf("it has %q", got)
	}
	if n := len(recorded(t, c)); n != 5 {
		t.Errorf("it has %d records", n)
	}
}

// writeRelease writes a backup of today's format to the directory.
func writeRelease(t *testing.T, dir string, to age.Recipient) {
	t.Helper()
	begun := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	name := archive.Name(begun)
	var sealed, erasures bytes.Buffer
	w, err := archive.NewWriter(&sealed, []age.Recipient{to})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name    string
		content []byte
	}{
		{archive.Redis, dump(t, chain(5))}, {archive.Documents, documentsOf(t, archive.Data)},
		{archive.Models, []byte(`{"models":[{"name":"codexcontinue","digest":"0123456789abcdef"}]}`)},
	} {
		err := w.Part(part.name, func(to io.Writer) error {
			_, err := to.Write(part.content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	s, err := w.Close(archive.Manifest{Stack: "prod", Begun: begun, Ended: begun.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	s.Recipients = []string{fmt.Sprint(to)}
	summary, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	since := begun.Add(time.Hour)
	err = archive.SealJSON(&erasures, []age.Recipient{to}, []auditlog.Record{{ID: "1", Time: since,
		Action: auditlog.Erase, Outcome: auditlog.Done, Object: "carol"}})
	for file, content := range map[string][]byte{
		archive.File(name): sealed.Bytes(), archive.SummaryFile(name): append(summary, '\n'),
		archive.ErasuresFile(since): erasures.Bytes(),
	} {
		err = errors.Join(err, os.MkdirAll(dir, 0o755),
			os.WriteFile(filepath.Join(dir, file), content, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}
