package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// keepModel keeps a state of so long after the backup, whose model has the text as its Modelfile,
// and returns the model's digest.
func (p *restoring) keepModel(t *testing.T, text string, after time.Duration) (digest string) {
	t.Helper()
	const name = "modelfiles/prod/Modelfile"
	dir := t.TempDir()
	at := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755),
		os.WriteFile(at, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	made, err := modelfiles.Load(os.DirFS(dir), name, "")
	if err != nil {
		t.Fatal(err)
	}

	sum := sha256.Sum256([]byte(text))
	state := archive.State{
		Time: begun.Add(after), Settings: "a: b\n", Deployment: json.RawMessage("{}"),
		Model: &archive.Model{
			Name: "codexcontinue", Modelfile: name, Digest: made.Digest,
			Files: []archive.ModelFile{{
				Path: name, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:]),
				Content: []byte(text),
			}},
		},
	}
	f, err := os.Create(filepath.Join(p.dir, archive.StateFile(state.Time)))
	if err == nil {
		err = errors.Join(archive.SealJSON(f, []age.Recipient{p.to}, state), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return made.Digest
}

// TestRestoreModel says of what the model was made at the backup, and what to do where the sources
// make another one. They are left alone.
func TestRestoreModel(t *testing.T) {
	for name, same := range map[string]bool{"as here": true, "another": false} {
		a, p, said, on, stack, b := restored(t)
		digest := p.keepModel(t, "FROM tiny\nSYSTEM was\n", -time.Hour)
		later := p.keepModel(t, "FROM tiny\nSYSTEM is\n", time.Hour)
		stack.Model = stacks.Model{
			Name: "codexcontinue", Modelfile: "modelfiles/prod/Modelfile", Digest: later,
		}
		if same {
			stack.Model.Digest = digest
		}
		k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
		if err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true}); err != nil {
			t.Fatal(err)
		}

		text := strings.Join(strings.Fields(said.String()), " ")
		if !strings.Contains(text, "model codexcontinue:"+version(digest)+", as kept 2026-11-26T02") ||
			!strings.Contains(text, "modelfiles/prod/Modelfile 21B") {
			t.Errorf("%s: it says nothing of the model:\n%s", name, said)
		}
		hint := "the sources here make codexcontinue:" + version(later) +
			" of modelfiles/prod/Modelfile: a restore leaves them alone. `codexctl backup state prod " +
			"FOLDER --at " + b.Name
		if strings.Contains(text, hint) == same {
			t.Errorf("%s: it says\n%s", name, said)
		}
	}
}

// TestRestoreModelDamaged: a state that is damaged keeps nobody from what people have stored.
func TestRestoreModelDamaged(t *testing.T) {
	a, p, said, on, stack, b := restored(t)
	at := filepath.Join(p.dir, archive.StateFile(begun))
	if err := os.WriteFile(at, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	err := a.restoreBackup(t.Context(), on, stack, k, b, restoreOptions{yes: true})
	if err != nil || !strings.Contains(said.String(), "what was kept of the stack's state: ") {
		t.Errorf("%v, it says\n%s", err, said)
	}
	if err := a.describeModel(t.Context(), on, stack, b); err == nil {
		t.Error("a check finds nothing wrong")
	}
}

// TestBackupState writes what was kept last, or at a backup, to a new folder.
func TestBackupState(t *testing.T) {
	a, p, said, _, _, b := restored(t)
	p.keepModel(t, "FROM tiny\nSYSTEM was\n", -time.Hour)
	p.keepModel(t, "FROM tiny\nSYSTEM is\n", time.Hour)
	o := stateOptions{identity: p.identity, from: p.dir}
	for at, want := range map[string]string{"": "SYSTEM is", b.Name: "SYSTEM was"} {
		o.at = at
		folder := filepath.Join(t.TempDir(), "found")
		if err := a.backupState(t.Context(), "prod", folder, o); err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{
			"modelfiles/prod/Modelfile": want, "Pulumi.prod.yaml": "a: b", "state.json": "{}",
		} {
			got, err := os.ReadFile(filepath.Join(folder, file))
			if err != nil || !strings.Contains(string(got), want) {
				t.Errorf("at %q: %s has %q, %v", at, file, got, err)
			}
		}
		if !strings.Contains(said.String(), "is in "+filepath.Join(folder, "modelfiles/prod")) {
			t.Errorf("it says\n%s", said)
		}
	}

	o.at = "yesterday"
	if err := a.backupState(t.Context(), "prod", t.TempDir(), o); err == nil ||
		!strings.Contains(err.Error(), `--at: "yesterday" is no name of a backup`) {
		t.Errorf("got %v", err)
	}
}
