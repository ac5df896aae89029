package domain_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	want := domain.Texts{
		Title:    "Law & order",
		Greeting: `A "question"?`,
		Prompts:  []string{"Is 1 < 2? ", "Ünïcode"},
		Notice:   "Check it.",
	}
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "\n  \"title\": \"Law & order\",\n") {
		t.Errorf("the title has no line of its own, as a person would read it:\n%s", text)
	}

	got, err := domain.Read(file(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestReadIsStrict(t *testing.T) {
	const texts = `{"title":"T","greeting":"G","prompts":["P"],"notice":"N"}`
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":         {"", "EOF"},
		"an unknown key":  {strings.Replace(texts, `"title"`, `"name"`, 1), `unknown field "name"`},
		"a missing key":   {strings.Replace(texts, `"notice":"N"`, `"notice":""`, 1), "all needed"},
		"an empty prompt": {strings.Replace(texts, `"P"`, `""`, 1), "all needed"},
		"no prompts":      {strings.Replace(texts, `"P"`, "", 1), "all needed"},
		"two of them":     {texts + texts, "something follows"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, tc.text)
			_, err := domain.Read(path)
			if err == nil || !strings.Contains(err.Error(), tc.want) ||
				!strings.HasPrefix(err.Error(), path) {
				t.Errorf("got %v, want it to begin with the file and hold %q", err, tc.want)
			}
		})
	}

	if _, err := domain.Read(filepath.Join(t.TempDir(), "absent")); !os.IsNotExist(err) {
		t.Errorf("an absent file: %v", err)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "domain.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
