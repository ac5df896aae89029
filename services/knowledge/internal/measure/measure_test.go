// Package measure measures how well and how fast passages are found. The documents are those of a
// clinic that does not exist; the questions were written with them, before anything was tuned, and
// every third of them is held out: nothing may be tuned by those.
//
//	go test ./services/knowledge/internal/measure -v                        by words
//	go test ./services/knowledge/internal/measure -v -args -passages 10000  among others
//	go test ./services/knowledge/internal/measure -v -args \
//	    -ollama http://127.0.0.1:11434 -model nomic-embed-text              and by vectors
package measure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse/parsetest"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
)

var (
	passages = flag.Int("passages", 0, "how many `passages` are there in all, the others made up")
	size     = flag.Int("size", split.DefaultSize, "how many `characters` a passage has at most")
	ollama   = flag.String("ollama", "", "the `URL` of an Ollama that has the model")
	model    = flag.String("model", "", "the `model` that makes vectors")
	random   = flag.Int("random", 0, "vectors of so many `dimensions` that mean nothing, for times")
)

// least is the recall that words alone have to reach on the held out questions. It is a little less
// than what docs/knowledge.md says of them.
const least = 0.80

// question is a question with the file that answers it, and what the passage says that does.
type question struct{ file, answer, text string }

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "parse" {
		if err := parse.Child(parse.Type(os.Args[2]), os.Stdin, os.Stdout, os.Getenv); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// clinic is where the questions about the documents of testdata are.
const clinic = "testdata/questions.tsv"

// questions reads a list of them: a line each, with tabs between a file, an answer and the text.
func questions(t testing.TB, path string) []question {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []question
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 3 {
			t.Fatalf("no question: %q", line)
		}
		out = append(out, question{f[0], f[1], f[2]})
	}
	return out
}

// answered reports whether one of the passages answers the question.
func (q question) answered(passages []knowledgeapi.Passage) bool {
	return slices.ContainsFunc(passages, func(p knowledgeapi.Passage) bool {
		text := strings.Join(strings.Fields(p.Text), " ")
		return p.File == q.file && strings.Contains(text, q.answer)
	})
}

// documents returns the documents by the names of their files. Those that are no text are made of
// a source.
func documents(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/documents/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name, isSource := strings.CutSuffix(filepath.Base(f), ".source")
		switch {
		case isSource && strings.HasSuffix(name, ".pdf"):
			b = parsetest.PDF("", wrapped(string(b)))
		case isSource:
			b = parsetest.DOCX(t, "", wordOf(string(b)))
		}
		out[name] = b
	}
	return out
}

// wrapped returns a text in lines as they fit on a page.
func wrapped(text string) string {
	var out strings.Builder
	column := 0
	for _, word := range strings.Fields(strings.ReplaceAll(text, "#", "")) {
		if column+len(word) > 90 {
			out.WriteString("\n")
			column = 0
		}
		out.WriteString(word + " ")
		column += len(word) + 1
	}
	return out.String()
}

// wordOf returns the body of a document of Word.
func wordOf(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		style := ""
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "## "):
			style, line = "H2", line[3:]
		case strings.HasPrefix(line, "# "):
			style, line = "berschrift1", line[2:]
		}
		fmt.Fprintf(&out, `<w:p><w:pPr><w:pStyle w:val="%s"/></w:pPr><w:r><w:t>%s</w:t></w:r></w:p>`,
			style, line)
	}
	return out.String()
}

// add adds a document, and returns how many passages it has.
func add(t testing.TB, l *library.Library, name string, content []byte) int {
	t.Helper()
	f, err := l.Spool()
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	d, err := l.Add(t.Context(), "all",
		library.Upload{Name: name, Content: f, Bytes: int64(len(content)), SHA256: name})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d.Passages
}

// madeUp returns a document of n passages whose words are those of the documents and others, in no
// order: they are found by the same words, and answer nothing.
func madeUp(r *rand.Rand, words []string, n int) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "# %s %s\n\n", pick(r, words), pick(r, words))
		for range 50 + r.IntN(30) {
			if r.IntN(3) == 0 {
				fmt.Fprintf(&b, "w%x ", r.IntN(50_000))
			} else {
				fmt.Fprintf(&b, "%s ", pick(r, words))
			}
		}
		b.WriteString(".\n\n")
	}
	return b.Bytes()
}

func pick(r *rand.Rand, words []string) string { return words[r.IntN(len(words))] }

// embed returns what makes vectors, nil if nothing does.
func embed(t testing.TB) func(context.Context, string, []string) ([][]float32, error) {
	switch {
	case *random > 0:
		return func(_ context.Context, _ string, texts []string) ([][]float32, error) {
			var out [][]float32
			for _, text := range texts {
				h := fnv.New64()
				io.WriteString(h, text)
				r := rand.New(rand.NewPCG(h.Sum64(), 0))
				v := make([]float32, *random)
				for i := range v {
					v[i] = float32(r.NormFloat64())
				}
				out = append(out, v)
			}
			return out, nil
		}
	case *ollama != "":
		return func(ctx context.Context, model string, texts []string) ([][]float32, error) {
			body, err := json.Marshal(map[string]any{"model": model, "input": texts})
			if err != nil {
				return nil, err
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, *ollama+"/api/embed",
				bytes.NewReader(body))
			if err != nil {
				return nil, err
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			var made struct {
				Embeddings [][]float32
				Error      string
			}
			if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
				return nil, err
			}
			if made.Error != "" {
				t.Logf("Ollama: %s", made.Error)
			}
			return made.Embeddings, nil
		}
	}
	return nil
}

// cpu returns how long this process has worked: what else the machine does is not in it.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory returns how much of the heap is in use, and how much RAM the process holds.
func memory(t testing.TB) (heap, resident int64) {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, pages int64
	fmt.Sscan(string(b), &total, &pages)
	return int64(m.HeapInuse), pages * int64(os.Getpagesize())
}

// reader returns what reads documents, which runs this program as its child.
func reader(t *testing.T) *parse.Runner {
	return &parse.Runner{
		Program: []string{os.Args[0], "parse"}, Limits: parse.DefaultLimits, Cache: t.TempDir(),
	}
}

func TestMeasure(t *testing.T) {
	reads := reader(t)
	if err := reads.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := library.Options{
		Dir: t.TempDir(), Collections: []string{"all"}, Size: *size, Parse: reads.Run,
		Embed: embed(t), Log: slog.New(slog.DiscardHandler),
	}
	if o.Embed != nil {
		o.Model = cmp.Or(*model, "random")
	}
	l := library.New(o)
	if err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	set := documents(t)
	var words []string
	there := 0
	for name, content := range set {
		there += add(t, l, name, content)
		if strings.HasSuffix(name, ".md") {
			words = append(words, strings.Fields(string(content))...)
		}
	}
	t.Logf("%d documents have %d passages", len(set), there)

	begun, worked := time.Now(), cpu()
	r := rand.New(rand.NewPCG(1, 1))
	for n := 0; there < *passages; n++ {
		there += add(t, l, fmt.Sprintf("made-up-%d.md", n), madeUp(r, words, min(1000, *passages-there)))
	}
	t.Logf("%d passages are indexed after %s, %s of CPU", there,
		time.Since(begun).Round(time.Millisecond), (cpu() - worked).Round(time.Millisecond))
	for l.Count().Pending > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	heap, resident := memory(t)
	t.Logf("memory: %d MB of heap, %d MB in RAM", heap>>20, resident>>20)

	for _, m := range []struct {
		name string
		mode library.Mode
	}{
		{"words", library.Mode{Words: true}}, {"vectors", library.Mode{Vectors: true}},
		{"both", library.Both},
	} {
		if m.mode.Vectors && o.Embed == nil {
			continue
		}
		tuned, heldOut, each, work := recall(t, l, m.mode)
		t.Logf("%-8s recall@5 %.3f, held out %.3f; a query takes %s, %s of CPU", m.name, tuned,
			heldOut, each.Round(10*time.Microsecond), work.Round(10*time.Microsecond))
		if m.name == "words" && *passages == 0 && heldOut < least {
			t.Errorf("%.3f of the held out questions are answered, want %.2f", heldOut, least)
		}
	}
}

// recall returns how many of the questions are answered by the first five passages, of those that
// may be used to tune and of the others, and how long a search takes.
func recall(
	t testing.TB, l *library.Library, mode library.Mode,
) (tuned, heldOut float64, each, work time.Duration) {
	t.Helper()
	all := questions(t, clinic)
	var found, asked [2]float64
	begun, worked := time.Now(), cpu()
	for i, q := range all {
		group := 0
		if i%3 == 2 {
			group = 1
		}
		best, _, err := l.Search(t.Context(), []string{"all"}, q.text, 5, mode)
		if err != nil {
			t.Fatal(err)
		}
		asked[group]++
		if q.answered(best) {
			found[group]++
		} else if group == 0 && mode == (library.Mode{Words: true}) && *passages == 0 {
			t.Logf("not found: %s (%s)", q.text, q.file)
		}
	}
	n := time.Duration(len(all))
	return found[0] / asked[0], found[1] / asked[1], time.Since(begun) / n, (cpu() - worked) / n
}

// TestQuestions checks that each question has an answer in its document.
func TestQuestions(t *testing.T) {
	set, all := documents(t), questions(t, clinic)
	if len(all) < 200 || len(set) < 40 {
		t.Errorf("%d questions about %d documents", len(all), len(set))
	}
	for _, q := range all {
		b, err := os.ReadFile("testdata/documents/" + q.file)
		if err != nil {
			b, err = os.ReadFile("testdata/documents/" + q.file + ".source")
		}
		if err != nil || !bytes.Contains(b, []byte(q.answer)) {
			t.Errorf("%s does not say %q: %v", q.file, q.answer, err)
		}
	}
}
