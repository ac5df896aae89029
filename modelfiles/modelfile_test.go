package modelfiles_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/google/go-cmp/cmp"
)

const text = "FROM llama3\nPARAMETER temperature 0.7\nSYSTEM \"Be brief.\"\n"

func load(t *testing.T, files map[string]string, base string) modelfiles.Model {
	t.Helper()
	m, err := try(files, base)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func try(files map[string]string, base string) (modelfiles.Model, error) {
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return modelfiles.Load(fsys, "m/Modelfile", base)
}

func only(modelfile string) map[string]string { return map[string]string{"m/Modelfile": modelfile} }

func TestDigestFollowsWhatTheModelIsMadeOf(t *testing.T) {
	plain := load(t, only(text), "")
	if len(plain.Digest) != 64 || plain.Base != "llama3" || len(plain.Files) != 0 {
		t.Errorf("got %+v", plain)
	}

	withAdapter := map[string]string{
		"m/Modelfile": text + "ADAPTER ./lora.gguf\n",
		"m/lora.gguf": "weights",
	}

	for name, other := range map[string]modelfiles.Model{
		"system":          load(t, only(strings.Replace(text, "brief", "kind", 1)), ""),
		"parameter":       load(t, only(strings.Replace(text, "0.7", "0.8", 1)), ""),
		"base":            load(t, only(text), "tiny"),
		"FROM":            load(t, only(strings.Replace(text, "llama3", "tiny", 1)), ""),
		"adapter":         load(t, withAdapter, ""),
		"one more":        load(t, only(text+"PARAMETER stop x\n"), ""),
		"moved linebreak": load(t, only("FROM llama3\nPARAMETER temperature 0.7\nSYSTEM \"Be \nbrief.\"\n"), ""),
	} {
		if other.Digest == plain.Digest {
			t.Errorf("another %s has the same digest", name)
		}
	}

	for name, same := range map[string]map[string]string{
		"comment":      only("# a note\n" + text),
		"blank lines":  only(strings.ReplaceAll(text, "\n", "\n\n")),
		"unnamed file": {"m/Modelfile": text, "m/README": "x"},
	} {
		if load(t, same, "").Digest != plain.Digest {
			t.Errorf("a %s changes the digest", name)
		}
	}

	if load(t, only(text), "tiny").Digest != load(t, only(strings.Replace(text, "llama3", "tiny", 1)), "").Digest {
		t.Error("a base and the same FROM are two digests: they make one model")
	}

	before := load(t, withAdapter, "").Digest
	withAdapter["m/lora.gguf"] = "other weights"
	if load(t, withAdapter, "").Digest == before {
		t.Error("other weights have the same digest")
	}
}

func TestFiles(t *testing.T) {
	files := map[string]string{
		"m/Modelfile":       "FROM base/model.gguf\nADAPTER ./b.gguf\nADAPTER a.gguf\n",
		"m/base/model.gguf": "1",
		"m/a.gguf":          "2",
		"m/b.gguf":          "3",
	}

	m := load(t, files, "")
	if d := cmp.Diff([]string{"a.gguf", "b.gguf", "base/model.gguf"}, m.Files); d != "" {
		t.Error(d)
	}

	m = load(t, files, "tiny")
	if d := cmp.Diff([]string{"a.gguf", "b.gguf"}, m.Files); d != "" || m.Base != "tiny" ||
		m.Parsed.Commands[0].Args != "tiny" {
		t.Errorf("with a base: %s\n%+v", d, m)
	}
	for _, name := range m.Files {
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(files["m/"+name]))); m.Sums[name] != sum {
			t.Errorf("%s has %q, want %s", name, m.Sums[name], sum)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		files      map[string]string
		base, want string
	}{
		"missing":         {map[string]string{}, "", "m/Modelfile: there is no such Modelfile"},
		"no FROM":         {only("SYSTEM hello\n"), "", "m/Modelfile: "},
		"unknown command": {only("FROM x\nCOPY a b\n"), "", "m/Modelfile: "},
		"absolute": {only("FROM /etc/passwd\n"), "",
			"m/Modelfile: FROM /etc/passwd: the path leads out of the Modelfile's folder"},
		"parent": {map[string]string{"m/Modelfile": "FROM ../secret.gguf\n", "secret.gguf": ""},
			"", "leads out of the Modelfile's folder"},
		"hidden parent": {map[string]string{"m/Modelfile": "FROM ./a/../../secret.gguf\n", "secret.gguf": ""},
			"", "leads out of the Modelfile's folder"},
		"home": {only("FROM ~/model.gguf\n"), "", "leads out of the Modelfile's folder"},
		"missing file": {only("FROM ./model.gguf\n"), "",
			"FROM ./model.gguf: there is no such file in the Modelfile's folder"},
		"missing adapter": {only("FROM x\nADAPTER lora.gguf\n"), "", "ADAPTER lora.gguf: there is no such file"},
		"folder":          {map[string]string{"m/Modelfile": "FROM .\n"}, "", "FROM .: this is not a file"},
		"folder of a name": {map[string]string{"m/Modelfile": "FROM llama3\n", "m/llama3/x": ""},
			"", "FROM llama3: this is not a file"},
		"base outside": {only(text), "../x.gguf", "leads out of the Modelfile's folder"},
		"two FROM, a base": {map[string]string{
			"m/Modelfile": "FROM a.gguf\nFROM b.gguf\n",
			"m/a.gguf":    "",
			"m/b.gguf":    "",
		},
			"tiny", "it has 2 FROM"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := try(tc.files, tc.base)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v\nwant %s", m, err, tc.want)
			}
		})
	}
}

// TestRefusesLinks checks that a link is refused although its path is in the folder.
func TestRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"secret/weights.gguf": "x",
		"m/Modelfile":         "FROM ./weights.gguf\n",
		"n/Modelfile":         "FROM ./secret/weights.gguf\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	for link, target := range map[string]string{"m/weights.gguf": "../secret/weights.gguf", "n/secret": "../secret"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip("no symbolic links here: ", err)
		}
	}

	for _, folder := range []string{"m", "n"} {
		if _, err := modelfiles.Load(os.DirFS(dir), folder+"/Modelfile", ""); err == nil ||
			!strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("%s: got %v", folder, err)
		}
	}
}

// TestShipped checks that the repository's own Modelfiles keep the base's template, which knows its
// tools, and fit the stack.
func TestShipped(t *testing.T) {
	for _, name := range []string{"codexcontinue", "healthcare"} {
		m, err := modelfiles.Load(os.DirFS("."), name+"/Modelfile", "")
		if err != nil {
			t.Fatal(err)
		}

		args := map[string]string{}
		for _, c := range m.Parsed.Commands {
			args[c.Name] = c.Args
		}

		if m.Base != "llama3" || args["num_ctx"] != "8192" || args["top_p"] != "0.9" ||
			args["top_k"] != "40" || args["system"] == "" {
			t.Errorf("%s: %+v", name, args)
		}

		if _, ok := args["template"]; ok {
			t.Errorf("%s has a TEMPLATE: it can remove tool calling", name)
		}
	}
}
