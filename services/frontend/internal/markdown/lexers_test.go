package markdown

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
)

var update = flag.Bool("update", false, "copy the lexers from chroma's module")

// TestLexersAreChromas compares the copies with the module that go.mod names. To add a lexer, make
// an empty file of its name and run with -update.
func TestLexersAreChromas(t *testing.T) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/alecthomas/chroma/v2")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	module := strings.TrimSpace(string(out))
	files, err := os.ReadDir("lexers")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		copied := filepath.Join("lexers", f.Name())
		var want []byte
		switch f.Name() {
		case "COPYING":
			want, err = os.ReadFile(filepath.Join(module, "COPYING"))
		case "go.xml":
			want, err = goLexer()
		default:
			want, err = os.ReadFile(filepath.Join(module, "lexers", "embedded", f.Name()))
			want = indentation.ReplaceAll(want, []byte("<"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(copied, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not chroma's, %v: run with -update", copied, err)
		}
	}
}

// indentation is left out of the copies: it is a fifth of them.
var indentation = regexp.MustCompile(`(?m)^[ \t]+<`)

// goLexer is chroma's lexer of Go, which is code there, as XML. What XML cannot say is lost: that a
// raw string may be a template.
func goLexer() ([]byte, error) {
	lexer := lexers.Get("go").(*chroma.RegexLexer)
	rules := lexer.MustRules().Clone()
	raw := func(r chroma.Rule) bool { return strings.Contains(r.Pattern, "`") }
	i := slices.IndexFunc(rules["root"], raw)
	rules["root"][i] = chroma.Rule{Pattern: "`[^`]*`", Type: chroma.LiteralString}
	copied, err := chroma.NewLexer(lexer.Config(), func() chroma.Rules { return rules })
	if err != nil {
		return nil, err
	}
	out, err := chroma.Marshal(copied)
	return append(indentation.ReplaceAll(out, []byte("<")), '\n'), err
}
