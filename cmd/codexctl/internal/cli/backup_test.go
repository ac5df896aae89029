package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
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
	if _, err := a.describeModel(t.Context(), on, stack, b); err == nil {
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

// TestKeepWeights sends the files that a state has no room for, each content once, and none that is
// there. What cannot be sent is said, and left.
func TestKeepWeights(t *testing.T) {
	content := map[string]string{"one": "1", "same": "1", "two": "2", "there": "3", "gone": ""}
	sums, sources := map[string]string{}, fstest.MapFS{}
	m := &archive.Model{Files: []archive.ModelFile{{Path: "Modelfile", SHA256: "small"}}}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		sums[name] = fmt.Sprintf("%x", sha256.Sum256([]byte(content[name])))
		if content[name] != "" {
			sources[name] = &fstest.MapFile{Data: []byte(content[name])}
		}
		m.Files = append(m.Files, archive.ModelFile{Path: name, Bytes: 1, SHA256: sums[name],
			Left: true})
	}

	a, p, said, _, _, _ := restored(t)
	p.fails = "backup weights " + sums["two"]
	p.missing = []string{sums["one"], sums["two"], sums["gone"]}
	k := keeper{p, running.Replica{Name: "backup", Service: stacks.Backup}, "/backup", a.say}
	a.keepWeights(t.Context(), sources, m, k)

	beside := map[string]bool{}
	for _, f := range m.Files {
		beside[f.Path] = f.Beside
	}
	want := map[string]bool{"Modelfile": false, "one": true, "same": true, "two": false, "there": true,
		"gone": false}
	if !maps.Equal(beside, want) {
		t.Errorf("kept are %v", beside)
	}
	if got := p.read["backup weights "+sums["one"]]; got != "1" {
		t.Errorf("sent is %q", got)
	}
	if len(*p.done) != 3 || strings.Contains((*p.done)[0], "small") {
		t.Errorf("done is %q", *p.done)
	}
	for _, line := range []string{"keeping one (1B)", "two is not kept with the backups: it broke",
		"gone is not kept with the backups: "} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("it does not say %q:\n%s", line, said)
		}
	}

	// A service of a release before knows nothing of it.
	p.fails = "backup missing"
	for i := range m.Files {
		m.Files[i].Beside = false
	}
	a.keepWeights(t.Context(), sources, m, k)
	if m.Files[1].Beside || !strings.Contains(said.String(), "weights are not kept with the backups: it broke") {
		t.Errorf("%+v, it says\n%s", m.Files[1], said)
	}
}

// TestBackupStateWeights writes the weights beside a state, and fails where they are not there, with all
// else written.
func TestBackupStateWeights(t *testing.T) {
	a, p, said, _, _, _ := restored(t)
	const text, weights = "FROM ./w.gguf\n", "weights"
	sources := fstest.MapFS{"modelfiles/prod/Modelfile": {Data: []byte(text)},
		"modelfiles/prod/w.gguf": {Data: []byte(weights)}}
	made, err := modelfiles.Load(sources, "modelfiles/prod/Modelfile", "")
	if err != nil {
		t.Fatal(err)
	}
	state := archive.State{Time: begun, Settings: "a: b\n", Deployment: json.RawMessage("{}"),
		Model: &archive.Model{Name: "codexcontinue", Modelfile: "modelfiles/prod/Modelfile",
			Digest: made.Digest, Files: []archive.ModelFile{
				{Path: "modelfiles/prod/Modelfile", Bytes: int64(len(text)),
					SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text))), Content: []byte(text)},
				{Path: "modelfiles/prod/w.gguf", Bytes: int64(len(weights)), SHA256: made.Sums["w.gguf"],
					Left: true, Beside: true},
			}}}
	write := func(name string, seal func(io.Writer) error) {
		t.Helper()
		f, err := os.Create(filepath.Join(p.dir, name))
		if err == nil {
			err = errors.Join(seal(f), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(archive.StateFile(begun), func(to io.Writer) error {
		return archive.SealJSON(to, []age.Recipient{p.to}, state)
	})

	o := stateOptions{identity: p.identity, from: p.dir}
	folder := filepath.Join(t.TempDir(), "found")
	err = a.backupState(t.Context(), "prod", folder, o)
	if err == nil || !strings.Contains(err.Error(), "modelfiles/prod/w.gguf: ") {
		t.Errorf("got %v", err)
	}
	got, err := os.ReadFile(filepath.Join(folder, "modelfiles/prod/Modelfile"))
	if err != nil || string(got) != text {
		t.Errorf("the Modelfile is %q, %v", got, err)
	}

	write(archive.WeightsFile(made.Sums["w.gguf"]), func(to io.Writer) error {
		_, err := archive.SealWeights(to, []age.Recipient{p.to}, made.Sums["w.gguf"],
			strings.NewReader(weights))
		return err
	})
	folder = filepath.Join(t.TempDir(), "found")
	if err := a.backupState(t.Context(), "prod", folder, o); err != nil {
		t.Fatal(err)
	}
	got, err = os.ReadFile(filepath.Join(folder, "modelfiles/prod/w.gguf"))
	if err != nil || string(got) != weights {
		t.Errorf("the weights are %q, %v", got, err)
	}
	if strings.Contains(said.String(), "was not kept") {
		t.Errorf("it says\n%s", said)
	}
}
