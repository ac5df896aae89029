package cli

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/google/go-cmp/cmp"
)

// gateRuns is a platform whose gates run commands by a function.
type gateRuns struct {
	platform
	run func(command []string, s running.Streams) (code int, err error)
}

func (g gateRuns) Stream(
	_ context.Context, _ running.Replica, command []string, s running.Streams,
) (int, error) {
	return g.run(command, s)
}

// newAddition returns an addition of the files, with what it prints.
func newAddition(files []localFile, digests map[string]string) (*addition, *strings.Builder) {
	var out strings.Builder
	none := func(string) string { return "" }
	a := &App{now: time.Now, out: console.New(&out, none), err: console.New(&out, none)}
	return &addition{
		app: a, files: files, digests: digests,
		show: &modelProgress{out: a.err, now: time.Now},
	}, &out
}

// write makes files in a new folder, of pairs of a path and what is in it.
func write(t *testing.T, pairs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLocalFiles: of a folder all files are taken that people see in it. Two of the same name would
// be one document.
func TestLocalFiles(t *testing.T) {
	dir := write(t, "a.md", "a", "sub/b.pdf", "b", ".git/config", "x", ".hidden", "x", "c/d/e.txt", "e")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}

	list, err := localFiles([]string{dir, filepath.Join(dir, "sub", "b.pdf"), dir + "/./a.md"})
	var names []string
	for _, f := range list {
		names = append(names, f.name)
	}
	if err != nil || !slices.Equal(names, []string{"a.md", "e.txt", "b.pdf"}) {
		t.Errorf("%q, %v", names, err)
	}

	twice := write(t, "x/a.md", "1", "y/a.md", "2")
	for want, paths := range map[string][]string{
		"have the same name":             {twice},
		"no such file":                   {dir, "/nonexistent/x.md"},
		"there is no file in ":           {t.TempDir()},
		"is neither a file nor a folder": {"/dev/null"},
	} {
		if list, err := localFiles(paths); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", paths, list, err, want)
		}
	}
}

// TestAddDocuments: what is there with the same bytes is not sent, each failure is named, and the
// others are added.
func TestAddDocuments(t *testing.T) {
	dir := write(t, "a.md", "one", "b.md", "two", "c.exe", "MZ", "d.md", "four", "e.md", "five")
	big := filepath.Join(dir, "large.pdf")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, documents.MaxSize+1); err != nil {
		t.Fatal(err)
	}

	files, err := localFiles([]string{dir})
	if err != nil {
		t.Fatal(err)
	}

	x, out := newAddition(files, map[string]string{
		"a.md": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", // of "one"
		"b.md": strings.Repeat("0", 64),
		"d.md": "", // of a knowledge that does not say it
	})
	var got []string
	l := librarian{gate{program: "/gate", platform: gateRuns{run: func(
		command []string, s running.Streams,
	) (int, error) {
		if line := strings.Join(command, " "); !strings.HasPrefix(line, "/gate knowledge --by=") ||
			!strings.HasSuffix(line, " add wards") {
			t.Errorf("it ran %s", line)
		}

		for r := tar.NewReader(s.In); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				_, _ = io.WriteString(s.Err, "gate: 1 of 4 documents were not added\n")
				return 1, nil
			}
			if err != nil {
				return 0, err
			}

			b, err := io.ReadAll(r)
			if err != nil {
				return 0, err
			}

			got = append(got, h.Name+" "+string(b))
			result := documents.Result{File: h.Name, Outcome: documents.Added}
			switch h.Name {
			case "b.md":
				result.Outcome = documents.Replaced
			case "c.exe":
				result.Outcome, result.Problem = documents.Failed, "This kind\x1b[31m is not read."
			case "e.md":
				result.Warnings = []string{"Page 2 is a picture."}
			}

			line, _ := json.Marshal(result)
			for _, part := range []string{string(line[:5]), string(line[5:]) + "\n"} {
				if _, err := io.WriteString(s.Out, part); err != nil {
					return 0, err
				}
			}
		}
	}}}, "prod"}

	if err := x.run(t.Context(), l, "wards"); err != nil {
		t.Errorf("run: %v", err)
	}
	if want := []string{"b.md two", "c.exe MZ", "d.md four", "e.md five"}; !slices.Equal(got, want) {
		t.Errorf("the gate got %q", got)
	}

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	slices.Sort(lines) // those of files that are not sent come when they are read
	want := []string{
		"  Page 2 is a picture.", "added d.md", "added e.md",
		"error: " + big + ": is larger than 64 MiB", "error: c.exe: This kind is not read.",
		"replaced b.md",
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("it says otherwise (-want +got):\n%s", d)
	}
	if got := x.summary(); got != "2 added, 1 replaced, 1 there already, 2 failed" {
		t.Errorf("the summary is %s", got)
	}
}

// TestAddManyDocuments: a thousand files go by one run, and one that ends in the middle says how far
// it came.
func TestAddManyDocuments(t *testing.T) {
	var pairs []string
	for i := range 1000 {
		pairs = append(pairs, fmt.Sprintf("%03d.md", i), strings.Repeat("x", 1000))
	}

	files, err := localFiles([]string{write(t, pairs...)})
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		end        int
		said       string
		want, line string
	}{
		{1000, "", "", "1000 added"},
		{300, "gate: 300.md: There is no space left.\n", "300.md: There is no space left.",
			"300 added, 700 not sent"},
		{2, "", "has not answered for all files", "2 added, 998 not sent"},
		{0, "gate: The documents cannot be reached at the moment. (dial)\n",
			"`codexctl status prod` says how knowledge is", "0 added, 1000 not sent"},
		{0, "gate: usage: gate [healthcheck [URL]]\n", "`codexctl up prod`", "0 added, 1000 not sent"},
	} {
		runs := 0
		x, _ := newAddition(files, nil)
		l := librarian{gate{platform: gateRuns{run: func(
			_ []string, s running.Streams,
		) (int, error) {
			runs++
			r := tar.NewReader(s.In)
			for range c.end {
				h, err := r.Next()
				if err != nil {
					return 0, err
				}
				line, _ := json.Marshal(documents.Result{File: h.Name, Outcome: documents.Added})
				if _, err := s.Out.Write(append(line, '\n')); err != nil {
					return 0, err
				}
			}

			if c.said != "" {
				_, _ = io.WriteString(s.Err, c.said)
				return 1, nil
			}
			return 0, nil
		}}}, "prod"}

		err := x.run(t.Context(), l, "wards")
		if c.want == "" && err != nil ||
			c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("ended after %d: %v, want %s", c.end, err, c.want)
		}
		if got := x.summary(); got != c.line || runs != 1 {
			t.Errorf("ended after %d: %s in %d runs", c.end, got, runs)
		}
	}
}

// TestAdditionWaits: who watches is told that a document waits for others, which is no outcome.
func TestAdditionWaits(t *testing.T) {
	files, err := localFiles([]string{write(t, "a.md", "one")})
	if err != nil {
		t.Fatal(err)
	}

	x, out := newAddition(files, nil)
	x.app.err.Terminal = true
	old := "gate: usage: gate knowledge list [COLLECTION]          print them\n"
	for _, said := range []string{"", old} {
		l := librarian{gate{platform: gateRuns{run: func(
			command []string, s running.Streams,
		) (int, error) {
			if line := strings.Join(command, " "); !strings.HasSuffix(line, " add wards --turns") {
				t.Errorf("it ran %s", line)
			}
			if said != "" {
				_, _ = io.WriteString(s.Err, said)
				return 1, nil
			}

			if _, err := io.Copy(io.Discard, s.In); err != nil {
				return 0, err
			}
			for _, o := range []documents.Outcome{
				documents.Waits, documents.Reading, documents.Added,
			} {
				line, _ := json.Marshal(documents.Result{File: "a.md", Outcome: o})
				if _, err := s.Out.Write(append(line, '\n')); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}}}, "prod"}

		err := x.run(t.Context(), l, "wards")
		if said == "" && err != nil {
			t.Error(err)
		}
		if said != "" && (err == nil || !strings.Contains(err.Error(), "`codexctl up prod`")) {
			t.Errorf("an older gate: %v", err)
		}
		if said == "" {
			if got := x.summary(); got != "1 added" {
				t.Errorf("the summary is %s", got)
			}
			x.added = 0
		}
	}

	for _, want := range []string{"a.md: waits until others are read", "a.md: is being read"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nobody is told that %s: %q", want, out)
		}
	}
}

// TestRemoveDocuments: the names of documents are on no command line, which others can see.
func TestRemoveDocuments(t *testing.T) {
	for _, c := range []struct {
		said, want string
		code       int
	}{
		{"", "", 0},
		{"gate: wards has no \"a.md\", and nothing was removed\n", "wards has no \"a.md\"", 1},
		{"gate: wards has no \"-\", and nothing was removed\n", "`codexctl up prod`", 1}, // an older one
	} {
		x, out := newAddition(nil, nil)
		var line, read string
		l := librarian{gate{program: "/gate", platform: printing{
			text: "removed Smith, \x1b[31mJohn.pdf\n", said: c.said, code: c.code, line: &line, read: &read,
		}}, "prod"}

		err := x.app.removeDocuments(t.Context(), l, "wards", []string{"Smith, John.pdf", "a.md"})
		if c.want == "" && err != nil ||
			c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %s", c.said, err, c.want)
		}
		if want := "/gate knowledge --by=" + operator() + " remove wards -"; line != want ||
			read != `["Smith, John.pdf","a.md"]` || out.String() != "removed Smith, John.pdf\n" {
			t.Errorf("it ran %s, which read %s, and printed %q", line, read, out)
		}
	}
}

// TestResultLines: what is no result ends the run.
func TestResultLines(t *testing.T) {
	r := &resultLines{each: func(documents.Result) { t.Error("there is none") }}
	if _, err := r.Write([]byte("half of a line")); err != nil {
		t.Error(err)
	}
	if _, err := r.Write([]byte(" and its end\n")); err == nil {
		t.Error("it takes what is no result")
	}
}

// TestDocumentTables: the tables hold what people look for, and nothing that a name could do to a
// terminal.
func TestDocumentTables(t *testing.T) {
	x, out := newAddition(nil, nil)
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	x.app.now = func() time.Time { return at.Add(5 * time.Hour) }
	x.app.printCollections(documents.Collections{Embedding: "all-minilm",
		Collections: []documents.Collection{
			{Name: "handbook", Documents: 2, Passages: 30, Bytes: 2048, Pending: 4},
			{Name: "wards", Groups: []string{"nurses", "doctors"}},
		}})
	x.app.printDocuments(documents.Documents{Documents: []documents.Document{
		{File: "a\x1b[31m.md", Type: "markdown", Bytes: 7, Passages: 1, Added: at, AddedBy: "ada",
			State: "indexed", Warnings: []string{"Page 2 is a picture."}},
		{File: "b.pdf", Type: "pdf", Bytes: 1 << 20, Added: at, State: "failed", Problem: "ml is away"},
	}})

	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"COLLECTION FOR DOCUMENTS PASSAGES SIZE",
		"handbook everybody 2 30 2Ki 4 passages without their vector",
		"wards nurses, doctors 0 0 0B", "vectors by all-minilm",
		"NAME TYPE SIZE PASSAGES ADDED BY STATE",
		"a.md markdown 7B 1 5h ada indexed, Page 2 is a picture.",
		"b.pdf pdf 1Mi 0 5h failed: ml is away",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("they are otherwise (-want +got):\n%s", d)
	}
}
