package cli

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestLearnCommands reads and decides by a gate's command, whose line has nothing of what people
// wrote, and prints none of it that a terminal would obey.
func TestLearnCommands(t *testing.T) {
	const handed = `{"submissions":[{"id":"a1","verdict":"down","state":"waiting",` +
		`"submitted_at":"2026-11-26T10:00:00Z","question":"One\u001b[31m red\nline","answer":"x"}]}` +
		"\n"
	var line, input string
	g := func(text, said string, code int) gate {
		p := printing{text: text, said: said, code: code, line: &line, read: &input}
		return gate{p, running.Replica{}, "/gate"}
	}

	all, err := g(handed, "", 0).submissions(t.Context(), "waiting")
	if want := "/gate learn --by=" + operator() + " list waiting"; err != nil || line != want ||
		len(all) != 1 {
		t.Errorf("%v: %q: %+v", err, line, all)
	}

	var out, said strings.Builder
	getenv := func(string) string { return "" }
	a := &App{out: console.New(&out, getenv), err: console.New(&said, getenv)}
	if err := a.printSubmissions(all, false); err != nil ||
		out.String() != "a1  2026-11-26  waiting   down  One[31m red\n" {
		t.Errorf("%v: %q", err, out.String())
	}

	for _, cut := range []string{"", handed[:len(handed)-3]} {
		if _, err := g(cut, "", 0).submissions(t.Context(), ""); err == nil ||
			!strings.Contains(err.Error(), "came in part") {
			t.Errorf("%q was taken for all: %v", cut, err)
		}
	}

	err = g("", "", 0).decide(t.Context(), "a1", `{"accept": true}`)
	if want := "/gate learn --by=" + operator() + " review -"; err != nil || line != want ||
		input != `["a1","{\"accept\": true}"]` {
		t.Errorf("%v: %q reads %q", err, line, input)
	}

	for said, want := range map[string]string{
		"gate: There is no such conversation or answer.":  "There is no such conversation or answer.",
		"gate: usage: gate [healthcheck [URL] | version]": "`codexctl up` brings one that does",
	} {
		if err := g("", said, 1).decide(t.Context(), "a1", "{}"); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", said, err, want)
		}
	}
}

// TestPrintProposal: what people wrote does nothing to the terminal of who reads the difference.
func TestPrintProposal(t *testing.T) {
	var out strings.Builder
	a := &App{out: console.New(&out, func(string) string { return "" })}
	a.printProposal("--- a/Modelfile\n+++ b/Modelfile\n+MESSAGE user \x1b[2Jis \x1b]0;x\atea\u009b31m good?\r\n" +
		"-old\n\n")
	want := "--- a/Modelfile\n+++ b/Modelfile\n+MESSAGE user is tea"
	if got := out.String(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " good?\n-old\n") ||
		strings.ContainsAny(got, "\x1b\a\r\u009b") {
		t.Errorf("it prints %q", got)
	}
}
