package backups

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
)

// folder is a folder with files of backups, and the identity for them.
type folder struct {
	t   *testing.T
	dir string
	id  *age.X25519Identity
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &folder{t, t.TempDir(), id}
}

func (f *folder) write(name string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// backup writes a backup with the content of Redis.
func (f *folder) backup(begun time.Time, redis string, change func(*archive.Summary)) string {
	f.t.Helper()
	var b bytes.Buffer
	w, err := archive.NewWriter(&b, []age.Recipient{f.id.Recipient()})
	if err != nil {
		f.t.Fatal(err)
	}
	err = w.Part(archive.Redis, func(to io.Writer) error {
		_, err := io.WriteString(to, redis)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := w.Close(archive.Manifest{Stack: "prod", Begun: begun})
	if err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		change(&s)
	}

	name := archive.Name(begun)
	f.write(archive.File(name), b.Bytes())
	text, err := json.Marshal(s)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(archive.SummaryFile(name), text)
	return name
}

func (f *folder) seal(name string, v any) {
	f.t.Helper()
	var b bytes.Buffer
	if err := archive.SealJSON(&b, []age.Recipient{f.id.Recipient()}, v); err != nil {
		f.t.Fatal(err)
	}
	f.write(name, b.Bytes())
}

func (f *folder) open(name string) (*Backup, error) {
	return Open(f.t.Context(), Folder(f.dir), name, f.t.TempDir(), []age.Identity{f.id})
}

// TestOpen chooses a backup, and what was erased since.
func TestOpen(t *testing.T) {
	f := newFolder(t)
	if _, err := f.open(""); err == nil || !strings.Contains(err.Error(), "there is no backup") {
		t.Errorf("of none: %v", err)
	}

	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	first := f.backup(at, "first", nil)
	last := f.backup(at.Add(time.Hour), "last", nil)
	f.write(archive.File(archive.Name(at.Add(2*time.Hour))), []byte("without a summary"))
	f.seal(archive.ErasuresFile(at.Add(-time.Hour)), []auditlog.Record{{ID: "before", Time: at.Add(-2 * time.Hour)}})
	f.seal(archive.ErasuresFile(at.Add(time.Hour+time.Second)), []auditlog.Record{
		{ID: "between", Time: at.Add(time.Minute)}, {ID: "at once", Time: at.Add(time.Hour - time.Second)},
	})
	f.seal(archive.ErasuresFile(at.Add(3*time.Hour)), []auditlog.Record{{ID: "after", Time: at.Add(2 * time.Hour)}})

	for name, want := range map[string]struct{ content, since string }{
		first: {"first", "between at once after"}, last: {"last", "at once after"},
		"": {"last", "at once after"},
	} {
		b, err := f.open(name)
		if err != nil {
			t.Fatal(err)
		}
		var content []byte
		err = b.Part(archive.Redis, func(r io.Reader) (err error) {
			content, err = io.ReadAll(r)
			return err
		})
		var since []string
		for _, r := range b.Since {
			since = append(since, r.ID)
		}
		if got := strings.Join(since, " "); err != nil || string(content) != want.content ||
			got != want.since {
			t.Errorf("%q: %q, since %s, %v", name, content, got, err)
		}
	}

	if _, err := f.open("backup-x"); err == nil || !strings.Contains(err.Error(), last) {
		t.Errorf("an unknown one: %v", err)
	}
}

// TestOpenAlso: what was erased after the copy of a backup was made is known where it runs.
func TestOpenAlso(t *testing.T) {
	f, own := newFolder(t), newFolder(t)
	own.id = f.id
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	f.backup(at, "x", nil)
	own.backup(at.Add(time.Hour), "not this one", nil)
	add := func(to *folder, id string, after time.Duration) {
		to.seal(archive.ErasuresFile(at.Add(after)), []auditlog.Record{{ID: id, Time: at.Add(after)}})
	}
	add(f, "copied", time.Minute)
	add(own, "before", -time.Hour)
	add(own, "later", time.Hour)

	b, err := Open(t.Context(), Folder(f.dir), "", t.TempDir(), []age.Identity{f.id}, Folder(own.dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"copied later", "copied later last"} {
		var since []string
		for _, r := range b.Since {
			if !slices.Contains(since, r.ID) {
				since = append(since, r.ID)
			}
		}
		if got := strings.Join(since, " "); b.Name != archive.Name(at) || got != want {
			t.Errorf("%s, since %q, want %q", b.Name, got, want)
		}
		add(own, "last", 2*time.Hour)
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenRefused: a damaged backup, one of a newer release and one for others are refused.
func TestOpenRefused(t *testing.T) {
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	for want, change := range map[string]func(f *folder){
		"it is damaged": func(f *folder) {
			f.backup(at, "x", func(s *archive.Summary) { s.SHA256 = strings.Repeat("0", 64) })
		},
		"it is of a newer release": func(f *folder) {
			f.backup(at, "x", func(s *archive.Summary) { s.Data++ })
		},
		"it is too old": func(f *folder) {
			f.backup(at, "x", func(s *archive.Summary) { s.Data = archive.Data - 2 })
		},
		"it is for age1one, age1two": func(f *folder) {
			f.backup(at, "x", func(s *archive.Summary) { s.Recipients = []string{"age1one", "age1two"} })
			f.id = newFolder(f.t).id
		},
		"the recipients were others then": func(f *folder) {
			f.backup(at, "x", nil)
			was := f.id
			f.id = newFolder(f.t).id
			f.seal(archive.ErasuresFile(at.Add(time.Hour)), []auditlog.Record{})
			f.id = was
		},
		"unexpected end of JSON": func(f *folder) {
			f.write(archive.SummaryFile(f.backup(at, "x", nil)), []byte("{"))
		},
		"there is no backup": func(f *folder) { // a summary alone is none
			if err := os.Remove(filepath.Join(f.dir, archive.File(f.backup(at, "x", nil)))); err != nil {
				f.t.Fatal(err)
			}
		},
		"erasures-": func(f *folder) {
			f.backup(at, "x", nil)
			f.write(archive.ErasuresFile(at.Add(time.Hour)), []byte("damaged"))
		},
	} {
		f := newFolder(t)
		change(f)
		if _, err := f.open(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestState returns the state that a backup belongs to.
func TestState(t *testing.T) {
	f := newFolder(t)
	at := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	ids := []age.Identity{f.id}
	if _, err := State(t.Context(), Folder(f.dir), at, ids); err == nil {
		t.Error("there is none, and one was found")
	}
	for i, revision := range []string{"a", "b"} {
		f.seal(archive.StateFile(at.Add(time.Duration(i)*time.Hour)),
			archive.State{Revision: revision, Deployment: json.RawMessage("{}")})
	}
	for after, want := range map[time.Duration]string{
		-time.Hour: "a", 0: "a", time.Minute: "a", time.Hour: "b", 9 * time.Hour: "b",
	} {
		s, err := State(t.Context(), Folder(f.dir), at.Add(after), ids)
		if err != nil || s.Revision != want {
			t.Errorf("after %s: %q, %v", after, s.Revision, err)
		}
	}
}

// TestIdentities: what is no identity is refused, and not shown.
func TestIdentities(t *testing.T) {
	f := newFolder(t)
	if ids, err := Identities("-", strings.NewReader("# mine\n"+f.id.String()+"\n")); len(ids) != 1 {
		t.Errorf("%d identities, %v", len(ids), err)
	}
	damaged := f.id.String()[:len(f.id.String())-1]
	_, err := Identities("-", strings.NewReader(damaged))
	if err == nil || strings.Contains(err.Error(), damaged[16:30]) {
		t.Errorf("got %v", err)
	}
	if _, err := Identities(filepath.Join(f.dir, "none"), nil); err == nil {
		t.Error("a file that is not there is read")
	}
}
