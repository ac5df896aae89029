package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// printing is a platform whose command prints a text, says another one and ends with the code.
type printing struct {
	platform
	text, said string
	code       int
	line, read *string // the command that ran last, and what it read
}

func (p printing) Stream(
	_ context.Context, _ running.Replica, command []string, s running.Streams,
) (code int, err error) {
	*p.line = strings.Join(command, " ")
	in, err := io.ReadAll(s.In)
	*p.read = string(in)
	_, _ = io.WriteString(s.Out, p.text)
	_, _ = io.WriteString(s.Err, p.said)
	return p.code, err
}

// TestReadTo writes what a gate reads of somebody to the terminal, or to a file that nobody else
// can read. Of one that fails half-way no file is left, and nothing is read for a file that is
// there.
func TestReadTo(t *testing.T) {
	const text = `{"conversations":[]}` + "\n"
	var out, said strings.Builder
	getenv := func(string) string { return "" }
	a := &App{out: console.New(&out, getenv), err: console.New(&said, getenv)}
	file := filepath.Join(t.TempDir(), "ada.json")
	var input string
	read := func(p printing, to string) (line string, err error) {
		p.line, p.read = &line, &input
		err = a.readTo(t.Context(), gate{p, running.Replica{}, "/gate"}, "ada", "case 4711", to)
		return line, err
	}

	line, err := read(printing{text: text}, "")
	if want := "/gate user --at= --by=" + operator() + " read -"; err != nil ||
		out.String() != text || line != want || input != `["ada","case 4711"]` {
		t.Errorf("%v: printed %q by %q, which read %q", err, &out, line, input)
	}

	for _, cut := range []string{"", `{"conversations":[{"a":1}`, text[:len(text)-2], text + "{"} {
		_, err = read(printing{text: cut}, file)
		if _, left := os.Stat(file); left == nil || err == nil ||
			!strings.Contains(err.Error(), "this is not all") {
			t.Errorf("%q was taken for all: %v, left %v", cut, err, left)
		}
	}

	_, err = read(printing{text: `{"conv`, said: "gate: the backend is away\n", code: 1}, file)
	if _, left := os.Stat(file); left == nil || err == nil ||
		err.Error() != "the backend is away" {
		t.Errorf("half of it: %v, left %v", err, left)
	}

	_, err = read(printing{said: "gate: usage: gate user list\n", code: 1}, file)
	if err == nil || !strings.Contains(err.Error(), "`codexctl up` brings one") {
		t.Errorf("a gate of the version before: %v", err)
	}

	_, err = read(printing{text: text}, file)
	b, bad := os.ReadFile(file)
	info, worse := os.Stat(file)
	if err != nil || bad != nil || worse != nil || string(b) != text || info.Mode() != 0o600 {
		t.Errorf("%v, %v, %v: %q %v", err, bad, worse, b, info)
	}

	if line, err = read(printing{text: text}, file); err == nil || line != "" {
		t.Errorf("a file that is there: %v after %q", err, line)
	}
	if strings.Contains(said.String(), "conversations") {
		t.Errorf("said is %q", &said)
	}
}
