package backups

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
)

const modelfile = "modelfiles/prod/Modelfile"

// sources writes the files of a model, and returns where they are, and the model's stack.
func sources(t *testing.T, text string, files map[string]int64) (string, stacks.Stack) {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "modelfiles", "prod")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"Modelfile": text, "evals.yaml": "cases: []\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range files {
		at := filepath.Join(folder, name)
		if err := os.WriteFile(at, []byte("weights of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(at, size); err != nil {
			t.Fatal(err)
		}
	}

	m, err := modelfiles.Load(os.DirFS(dir), modelfile, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	return dir, stacks.Stack{Model: stacks.Model{
		Name: "codexcontinue", Modelfile: modelfile, Base: "tiny", Digest: m.Digest, Evals: "some",
		Weights: m.Sums,
	}}
}

// read returns the model of the sources.
func read(t *testing.T, dir string, stack stacks.Stack) *archive.Model {
	t.Helper()
	m, err := ReadModel(os.DirFS(dir), stack)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestModel brings back all that a model is made of, on a machine that has none of it.
func TestModel(t *testing.T) {
	dir, stack := sources(t, "FROM other\nADAPTER ./a.gguf\nSYSTEM be kind\n",
		map[string]int64{"a.gguf": 5 << 20, "unused.gguf": 10})
	m := read(t, dir, stack)

	back := t.TempDir()
	if err := WriteModel(back, m); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Modelfile", "evals.yaml", "a.gguf"} {
		want, err := os.ReadFile(filepath.Join(dir, "modelfiles/prod", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(back, "modelfiles/prod", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another one, %v", name, err)
		}
	}
	if list, err := os.ReadDir(filepath.Join(back, "modelfiles/prod")); len(list) != 3 {
		t.Errorf("there are %v, %v", list, err)
	}
	made, err := modelfiles.Load(os.DirFS(back), m.Modelfile, m.Base)
	if err != nil || made.Digest != stack.Model.Digest {
		t.Errorf("it makes %s, %v", made.Digest, err)
	}

	if err := WriteModel(back, m); err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("files are written over: %v", err)
	}
}

// TestModelTooLarge names the files that are not kept, by what they have to be.
func TestModelTooLarge(t *testing.T) {
	dir, stack := sources(t, "FROM other\nADAPTER ./a.gguf\nADAPTER ./b.gguf\nADAPTER ./c.gguf\n",
		map[string]int64{"a.gguf": 5 << 20, "b.gguf": 5 << 20, "c.gguf": 1 << 20})
	m := read(t, dir, stack)

	var got []string
	for _, f := range m.Files {
		got = append(got, fmt.Sprint(filepath.Base(f.Path), f.Bytes>>20, f.Left, len(f.Content) > 0))
		if len(f.SHA256) != 64 {
			t.Errorf("%s: the SHA-256 is %q", f.Path, f.SHA256)
		}
	}
	want := []string{"Modelfile0 false true", "a.gguf5 false true", "b.gguf5 true false",
		"c.gguf1 false true", "evals.yaml0 false true"}
	if !slices.Equal(got, want) {
		t.Errorf("the files are %q, want %q", got, want)
	}

	back := t.TempDir()
	if err := WriteModel(back, m); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(back, "modelfiles/prod/b.gguf")); !os.IsNotExist(err) {
		t.Errorf("b.gguf: %v", err)
	}
}

// TestModelDamaged: what is not what was read, or leads out of the folder, is refused.
func TestModelDamaged(t *testing.T) {
	for want, change := range map[string]func(m *archive.Model){
		"it is damaged: it has 1 bytes": func(m *archive.Model) { m.Files[0].Content = []byte("x") },
		"this is no path below the sources": func(m *archive.Model) {
			m.Files[0].Path = "../Modelfile"
		},
		"its files make":             func(m *archive.Model) { m.Digest = "0123" },
		"there is no such Modelfile": func(m *archive.Model) { m.Files = m.Files[1:] },
	} {
		dir, stack := sources(t, "FROM other\n", nil)
		m := read(t, dir, stack)
		change(m)
		if err := CheckModel(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestModelChanged: sources that have changed since the stack was loaded are none of its.
func TestModelChanged(t *testing.T) {
	dir, stack := sources(t, "FROM other\n", nil)
	err := os.WriteFile(filepath.Join(dir, modelfile), []byte("FROM other\nSYSTEM hm\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadModel(os.DirFS(dir), stack); err == nil {
		t.Error("it was read")
	}
}

// TestModelWeights brings back what a state has no room for, and says what cannot be.
func TestModelWeights(t *testing.T) {
	dir, stack := sources(t, "FROM other\nADAPTER ./a.gguf\nADAPTER ./b.gguf\n",
		map[string]int64{"b.gguf": MaxModel + 1, "a.gguf": MaxModel + 2})
	large := map[string][]byte{}
	for name := range stack.Model.Weights {
		content, err := os.ReadFile(filepath.Join(dir, "modelfiles/prod", name))
		if err != nil {
			t.Fatal(err)
		}
		large[name] = content
	}

	m := read(t, dir, stack)
	f := newFolder(t)
	for i := range m.Files {
		x := &m.Files[i]
		content, ok := large[filepath.Base(x.Path)]
		if !ok {
			continue
		}
		if !x.Left || x.Bytes != int64(len(content)) {
			t.Errorf("%s: %d bytes, left %t", x.Path, x.Bytes, x.Left)
		}
		x.Beside = true
		var b bytes.Buffer
		_, err := archive.SealWeights(&b, []age.Recipient{f.id.Recipient()}, x.SHA256,
			bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		f.write(archive.WeightsFile(x.SHA256), b.Bytes())
	}

	ids := []age.Identity{f.id}
	back := t.TempDir()
	if err := errors.Join(CheckModel(m), WriteModel(back, m),
		WriteWeights(t.Context(), Folder(f.dir), back, m, ids)); err != nil {
		t.Fatal(err)
	}
	for name, want := range large {
		got, err := os.ReadFile(filepath.Join(back, "modelfiles/prod", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another one, %v", name, err)
		}
	}

	begun := time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)
	f.seal(archive.StateFile(begun.Add(-time.Hour)),
		archive.State{Time: begun.Add(-time.Hour), Deployment: []byte("{}"), Model: m})
	f.backup(begun, "REDIS", nil)
	b, err := Open(t.Context(), Folder(f.dir), "", t.TempDir(), ids)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.VerifyWeights(t.Context(), s.Model); err != nil {
		t.Error(err)
	}

	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	err = Weights(t.Context(), Folder(f.dir), stack.Model.Weights["a.gguf"], []age.Identity{other},
		io.Discard)
	if err == nil || !strings.Contains(err.Error(), "weights are for today's recipients") {
		t.Errorf("weights for others: %v", err)
	}

	adapter := archive.WeightsFile(stack.Model.Weights["a.gguf"])
	f.write(adapter, []byte("damaged"))
	back = t.TempDir()
	if err := WriteModel(back, m); err != nil {
		t.Fatal(err)
	}
	err = WriteWeights(t.Context(), Folder(f.dir), back, m, ids)
	if err == nil || !strings.Contains(err.Error(), "a.gguf: decrypt") {
		t.Errorf("damaged weights: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(back, "modelfiles/prod/*.gguf"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "b.gguf" {
		t.Errorf("written are %q, %v", left, err)
	}
	if err := b.VerifyWeights(t.Context(), m); err == nil || !strings.Contains(err.Error(), "a.gguf") {
		t.Errorf("a check of damaged weights: %v", err)
	}

	// Where all are there, they have to make the model that was.
	m.Files = slices.DeleteFunc(m.Files, func(x archive.ModelFile) bool {
		return strings.HasSuffix(x.Path, "a.gguf")
	})
	back = t.TempDir()
	err = errors.Join(WriteModel(back, m), WriteWeights(t.Context(), Folder(f.dir), back, m, ids))
	if err == nil || !strings.Contains(err.Error(), "there is no such file") {
		t.Errorf("a model without its adapter: %v", err)
	}
}

// TestModelReadOnce takes the SHA-256 of a large file that the stack has, and reads none again. One
// that is small is read, and has to be the stack's.
func TestModelReadOnce(t *testing.T) {
	dir, stack := sources(t, "FROM other\nADAPTER ./a.gguf\nADAPTER ./b.gguf\n",
		map[string]int64{"b.gguf": MaxModel + 1, "a.gguf": 10})
	// What is there now has another SHA-256: where it is sent, the service refuses it.
	err := os.WriteFile(filepath.Join(dir, "modelfiles/prod/b.gguf"), make([]byte, MaxModel+1), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(read(t, dir, stack).Files, func(f archive.ModelFile) bool { return !f.Left })
	if len(left) != 1 || left[0].SHA256 != stack.Model.Weights["b.gguf"] {
		t.Errorf("left are %+v", left)
	}

	err = os.WriteFile(filepath.Join(dir, "modelfiles/prod/a.gguf"), []byte("another"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadModel(os.DirFS(dir), stack); err == nil ||
		!strings.Contains(err.Error(), "a.gguf: it has changed") {
		t.Errorf("got %v", err)
	}
}
