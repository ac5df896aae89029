package stacks_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/frontend/frontendenv"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// texts is a file of texts without a fault.
const texts = `title: Law
greeting: "What is the case?"
prompts:
  - "Summarise this contract: "
  - 42
notice: >-
  No legal
  advice.
`

// TestTexts holds that the frontend finds the texts of the domain where its contract says.
func TestTexts(t *testing.T) {
	s, err := withTexts(texts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}

	f := s.Service(stacks.Frontend)
	if len(f.Files) != 1 || f.Files[0].Path != f.Contract.(*frontendenv.Config).DomainFile {
		t.Fatalf("the frontend reads %q and has %+v",
			f.Contract.(*frontendenv.Config).DomainFile, f.Files)
	}

	file := filepath.Join(t.TempDir(), "domain.json")
	if err := os.WriteFile(file, []byte(f.Files[0].Content), 0o644); err != nil {
		t.Fatal(err)
	}

	got, err := domain.Read(file)
	if err != nil {
		t.Fatal(err)
	}

	want := domain.Texts{
		Title:    "Law",
		Greeting: "What is the case?",
		Prompts:  []string{"Summarise this contract: ", "42"},
		Notice:   "No legal advice.",
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestTextsRefuse holds that each problem of a file of texts is told with its line.
func TestTextsRefuse(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(texts, old) {
			t.Fatalf("the texts do not hold %q", old)
		}
		return strings.Replace(texts, old, new, 1)
	}

	for name, tc := range map[string]struct {
		text string
		want []string // without the file's name before each
	}{
		"nothing":         {"", []string{": must hold the keys greeting, notice, prompts, title"}},
		"a list":          {"- a", []string{": must hold the keys greeting, notice, prompts, title"}},
		"no YAML":         {"title: [", []string{": yaml: line 1: "}},
		"two documents":   {texts + "---\ntitle: x\n", []string{": must be one document"}},
		"safety in words": {texts + "safety: maybe\n", []string{":9: safety: must be true or false"}},
		"an unknown key":  {texts + "Tilte: x\n", []string{":9: Tilte: unknown key: did you mean title?"}},
		"a key twice":     {texts + "title: x\n", []string{":9: title: is there twice"}},
		"a missing key":   {change("title: Law\n", ""), []string{":1: title: is missing"}},
		"an empty key":    {change("Law", ""), []string{":1: title: is empty"}},
		"a blank key":     {change("Law", `" "`), []string{":1: title: is empty"}},
		"a null":          {change("Law", "null"), []string{":1: title: is empty"}},
		"no text":         {change("Law", "[Law]"), []string{":1: title: must be text"}},
		"a title of 61": {change("Law", strings.Repeat("ü", 61)),
			[]string{":1: title: is of 61 characters: use at most 60"}},
		"a long greeting": {change("What is", strings.Repeat("a", 120)),
			[]string{":2: greeting: is of 130 characters: use at most 120"}},
		"a long prompt": {change("42", strings.Repeat("a", 201)),
			[]string{":5: prompts.1: is of 201 characters: use at most 200"}},
		"a long notice": {change("No legal", strings.Repeat("a", 300)),
			[]string{":6: notice: is of 308 characters: use at most 300"}},
		"two lines": {change(">-", "|"), []string{":6: notice: must be one line of text"}},
		"no list": {change("\n  - \"Summarise this contract: \"\n  - 42", " x"),
			[]string{":3: prompts: must be a list of examples, one or more"}},
		"an empty list": {change("\n  - \"Summarise this contract: \"\n  - 42", " []"),
			[]string{":3: prompts: must be a list of examples, one or more"}},
		"an empty prompt": {change("42", `""`), []string{":5: prompts.1: is empty"}},
		"7 prompts": {change("42", "a\n  - b\n  - c\n  - d\n  - e\n  - f"),
			[]string{":4: prompts: 7 examples are too many: leave 6 at most"}},
		"all at once": {"title:\nnotise: x\ngreeting: {a: b}\n",
			[]string{":1: title: is empty", ":2: notise: unknown key: did you mean notice?",
				":3: greeting: must be text", ":1: notice: is missing", ":1: prompts: is missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := withTexts(tc.text)
			if err == nil {
				t.Fatal("the texts were taken")
			}

			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tc.want) {
				t.Fatalf("got %d problems, want %d:\n%v", len(got), len(tc.want), err)
			}

			for i, want := range tc.want {
				if !strings.HasPrefix(got[i], "modelfiles/codexcontinue/domain.yaml"+want) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
			}
		})
	}

	// The longest texts are taken.
	longest := change("Law", strings.Repeat("ü", 60))
	if _, err := withTexts(longest); err != nil {
		t.Error(err)
	}
}

// TestSafety holds that nobody goes around a prompt that is there for people's safety: where the
// domain that people see says so, or the model's own, or the stack is safeguarded, programs have no
// completions without the prompt, and nobody asks another model unless the settings name it.
func TestSafety(t *testing.T) {
	own := func(name string) contract.Models { return contract.Models{name: {}} }
	const others = `{"models": {"codexcontinue-healthcare": "everybody", "llama3": ["research"]}}`
	const open = `{"models": {"codexcontinue": "everybody", "llama3": "everybody"}}`
	for name, tt := range map[string]struct {
		overlay     string
		plain       map[string]string
		raw         bool
		safeguarded bool
		ml, gate    contract.Models
	}{
		"prod":  {overlay: "prod", raw: true},
		"legal": {overlay: "legal", ml: own("codexcontinue-legal")},
		"healthcare": {
			overlay: "healthcare", safeguarded: true, ml: own("codexcontinue-healthcare"),
		},
		"a model's own name": {
			overlay: "healthcare", plain: map[string]string{"model": `{"name": "ward"}`},
			safeguarded: true, ml: own("ward"),
		},
		"healthcare as another domain": {
			overlay: "healthcare", plain: map[string]string{"domain": "codexcontinue"},
			safeguarded: true, ml: own("codexcontinue-healthcare"),
		},
		"legal as another domain": {
			overlay: "legal", plain: map[string]string{"domain": "codexcontinue"},
			ml: own("codexcontinue-legal"),
		},
		"prod as healthcare": {
			overlay: "prod", plain: map[string]string{"domain": "healthcare"},
			safeguarded: true, ml: own("codexcontinue"),
		},
		"prod with a model for safety": {
			overlay: "prod", plain: map[string]string{"model": `{"modelfile": ` +
				`"modelfiles/legal/Modelfile"}`},
			ml: own("codexcontinue"),
		},
		"others on purpose": {
			overlay: "healthcare", plain: map[string]string{"limits": others}, safeguarded: true,
			ml:   contract.Models{"codexcontinue-healthcare": {}, "llama3": {"research"}},
			gate: contract.Models{"codexcontinue-healthcare": {}, "llama3": {"research"}},
		},
		"others on purpose, where nobody signs in": {
			overlay: "prod", plain: map[string]string{"limits": open, "domain": "legal"},
			ml: contract.Models{"codexcontinue": {}, "llama3": {}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := stacks.DecodeSettings(tt.plain, nil)
			if err != nil {
				t.Fatal(err)
			}
			v.AssumeSecrets = true

			s := load(t, tt.overlay, v)
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			if s.Safeguarded != tt.safeguarded {
				t.Errorf("safeguarded is %t", s.Safeguarded)
			}

			ml := s.Service(stacks.ML).Contract.(*mlenv.Config)
			gate := s.Service(stacks.Gate).Contract.(*gateenv.Config)
			if gate.RawCompletions != tt.raw {
				t.Errorf("raw completions are %t", gate.RawCompletions)
			}
			for _, d := range []string{cmp.Diff(tt.ml, ml.Models), cmp.Diff(tt.gate, gate.Models)} {
				if d != "" {
					t.Errorf("models (-want +got):\n%s", d)
				}
			}
		})
	}
}

// withTexts is a stack of a checkout whose domain has these texts.
func withTexts(text string) (stacks.Stack, error) {
	return stacks.Load("dev", stacks.Settings{Target: stacks.Docker},
		stacks.Checkout{FS: fstest.MapFS{
			"modelfiles/codexcontinue/Modelfile":   {Data: []byte("FROM x\n")},
			"modelfiles/codexcontinue/domain.yaml": {Data: []byte(text)},
		}})
}
