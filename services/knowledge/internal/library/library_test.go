package library_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
)

const patience = 30 * time.Second

// model is a model for vectors that counts words. Two with other names make other vectors.
type model struct {
	mu    sync.Mutex
	err   error // of every question, if it is not nil
	asked map[string]int
	most  int // characters of a text; 0 is any number
	calls atomic.Int64
}

func (m *model) embed(_ context.Context, name string, texts []string) ([][]float32, error) {
	m.calls.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}

	var out [][]float32
	for _, text := range texts {
		if m.most > 0 && len(text) > m.most {
			return nil, problem.New(http.StatusRequestEntityTooLarge, "too long")
		}
		v := make([]float32, 64)
		for _, word := range strings.Fields(strings.ToLower(text)) {
			h := fnv.New32()
			io.WriteString(h, name+strings.Trim(word, ".,?"))
			v[h.Sum32()%64]++
		}
		out = append(out, v)
	}
	if m.asked == nil {
		m.asked = map[string]int{}
	}
	m.asked[name] += len(texts)
	return out, nil
}

func (m *model) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// parseText reads a text, of which each line is a paragraph.
func parseText(_ context.Context, _ parse.Type, f *os.File) (*parse.Document, error) {
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	d := &parse.Document{}
	for line := range strings.Lines(string(b)) {
		d.Blocks = append(d.Blocks, parse.Block{Kind: parse.Heading, Text: "H", Level: 1},
			parse.Block{Kind: parse.Paragraph, Text: strings.TrimSpace(line)})
	}
	return d, nil
}

func open(t testing.TB, dir string, change func(*library.Options)) *library.Library {
	t.Helper()
	o := library.Options{
		Dir: dir, Collections: []string{"a", "b"}, Size: 500, Parse: parseText,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	l := library.New(o)
	if err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func with(m *model, name string) func(*library.Options) {
	return func(o *library.Options) { o.Model, o.Embed = name, m.embed }
}

func add(t testing.TB, l *library.Library, collection, file, text string) knowledgeapi.Document {
	t.Helper()
	d, err := tryAdd(l, collection, file, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func tryAdd(l *library.Library, collection, file, text string) (knowledgeapi.Document, error) {
	return addIn(context.Background(), l, collection, file, text)
}

func addIn(
	ctx context.Context, l *library.Library, collection, file, text string,
) (knowledgeapi.Document, error) {
	f, err := l.Spool()
	if err != nil {
		return knowledgeapi.Document{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	io.WriteString(f, text)
	f.Seek(0, io.SeekStart)
	return l.Add(ctx, collection, library.Upload{
		Name: file, Content: f, Bytes: int64(len(text)),
		SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text))), By: "somebody",
	})
}

// texts returns the texts of what a search finds.
func texts(t testing.TB, l *library.Library, question string, mode library.Mode, in ...string) []string {
	t.Helper()
	found, _, err := l.Search(t.Context(), in, question, 10, mode)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range found {
		out = append(out, p.Text)
	}
	return out
}

// untilIndexed waits until all vectors are made.
func untilIndexed(t testing.TB, l *library.Library) {
	t.Helper()
	until(t, "all vectors are made", func() bool { return l.Count().Pending == 0 })
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// holding returns the files below dir that have the text.
func holding(t testing.TB, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // it was removed in the meantime
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(text)) {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDocuments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, nil)
	d := add(t, l, "a", "one.md", "the first passage\nthe second passage\nthe third passage")
	if d.Passages != 3 || d.File != "one.md" || d.Title != "one.md" || d.Type != "markdown" ||
		d.AddedBy != "somebody" || d.State != knowledgeapi.StateIndexed || d.Added.IsZero() {
		t.Errorf("got %+v", d)
	}
	add(t, l, "b", "one.md", "the passage of the other collection")

	if got := texts(t, l, "second", library.Both, "a"); !slices.Equal(got, []string{"the second passage"}) {
		t.Errorf("found %q", got)
	}
	if got := texts(t, l, "other", library.Both, "a"); len(got) != 0 {
		t.Errorf("found %q in another collection", got)
	}
	if got := texts(t, l, "passage", library.Both, "a", "b"); len(got) != 4 {
		t.Errorf("found %q", got)
	}

	found, alone, err := l.Search(t.Context(), []string{"a"}, "second", 1, library.Both)
	if err != nil || !alone {
		t.Errorf("words alone: %v, %v", alone, err)
	}
	p, err := l.Passage([]string{"a"}, found[0].ID)
	if err != nil || p.Before != "the first passage" || p.After != "the third passage" ||
		p.Text != "the second passage" || p.Heading != "H" || p.Collection != "a" {
		t.Errorf("%v: got %+v", err, p)
	}
	if _, err := l.Passage([]string{"b"}, found[0].ID); !errors.Is(err, library.ErrNotFound) {
		t.Errorf("a passage of another collection: %v", err)
	}

	// The same again changes nothing, another content replaces it.
	if again := add(t, l, "a", "one.md", "the first passage\nthe second passage\nthe third passage"); again.ID != d.ID {
		t.Errorf("got %+v", again)
	}
	other := add(t, l, "a", "one.md", "something else")
	if other.ID == d.ID || other.Passages != 1 {
		t.Errorf("got %+v", other)
	}
	if got := texts(t, l, "second", library.Both, "a"); len(got) != 0 {
		t.Errorf("found %q, which was replaced", got)
	}
	if _, err := l.Passage([]string{"a"}, found[0].ID); !errors.Is(err, library.ErrNotFound) {
		t.Errorf("a passage that was replaced: %v", err)
	}

	list := func(l *library.Library) []knowledgeapi.Document {
		docs, err := l.Documents("a")
		if err != nil {
			t.Fatal(err)
		}
		return docs
	}
	before := list(l)
	if len(before) != 1 || before[0].ID != other.ID {
		t.Errorf("got %+v", before)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	l = open(t, dir, nil)
	if after := list(l); len(after) != 1 || after[0].ID != other.ID || after[0].Bytes != 14 {
		t.Errorf("got %+v", after)
	}
	if got := texts(t, l, "else", library.Both, "a"); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	if err := l.Remove(t.Context(), "a", other.ID); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), "a", other.ID); !errors.Is(err, library.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got := texts(t, l, "else", library.Both, "a"); len(got) != 0 || len(list(l)) != 0 {
		t.Errorf("found %q", got)
	}
}

// TestPurge looks for a phrase in all files after its document was removed, and replaced.
func TestPurge(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, with(&model{}, "m"))
	for i := range 5 {
		add(t, l, "a", fmt.Sprint(i, ".md"), "an ordinary text")
	}

	const phrase = "zyx wvuts rqponml"
	for how, gone := range map[string]func(id string){
		"removed": func(id string) {
			if err := l.Remove(t.Context(), "a", id); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(string) { add(t, l, "a", "secret.md", "nothing") },
	} {
		d := add(t, l, "a", "secret.md", "before "+phrase+" after")
		untilIndexed(t, l)
		if len(holding(t, dir, phrase)) == 0 || len(holding(t, dir, d.ID)) == 0 {
			t.Fatal("it is not found while it is there: the test shows nothing")
		}
		gone(d.ID)
		until(t, "a purge is over", func() bool {
			_, err := os.Stat(filepath.Join(dir, "collections", "a", "purge"))
			return errors.Is(err, fs.ErrNotExist)
		})
		for _, text := range []string{phrase, "wvuts", "rqponml"} {
			if files := holding(t, dir, text); len(files) > 0 {
				t.Errorf("%s: %q is still in %q", how, text, files)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "collections", "a", "vectors", d.ID)); err == nil {
			t.Errorf("%s: its vectors are still there", how)
		}
	}
}

func TestVectors(t *testing.T) {
	dir, m := t.TempDir(), &model{}
	l := open(t, dir, with(m, "first"))
	m.fail(errors.New("ml is away"))
	d := add(t, l, "a", "one.md", "alpha beta gamma\ndelta epsilon zeta")
	if d.State != knowledgeapi.StateIndexing {
		t.Errorf("got %+v", d)
	}
	if got := texts(t, l, "alpha", library.Both, "a"); len(got) != 1 {
		t.Errorf("while ml is away %q is found", got)
	}

	m.fail(nil)
	untilIndexed(t, l)
	onlyVectors := library.Mode{Vectors: true}
	if got := texts(t, l, "beta alpha", onlyVectors, "a"); len(got) == 0 || got[0] != "alpha beta gamma" {
		t.Errorf("found %q", got)
	}
	if _, alone, _ := l.Search(t.Context(), []string{"a"}, "alpha", 5, library.Both); alone {
		t.Error("words alone answer")
	}
	m.fail(errors.New("ml is away"))
	if found, alone, err := l.Search(t.Context(), []string{"a"}, "alpha", 5, library.Both); err != nil ||
		!alone || len(found) != 1 {
		t.Errorf("while ml is away: %v %v %v", found, alone, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// Another model makes other vectors, and those of the first answer until they are there.
	m.fail(nil)
	second := make(chan struct{})
	l = open(t, dir, func(o *library.Options) {
		o.Model = "second"
		o.Embed = func(ctx context.Context, name string, texts []string) ([][]float32, error) {
			if name == "second" {
				select {
				case <-second:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return m.embed(ctx, name, texts)
		}
	})
	if l.Count().Pending != 2 {
		t.Errorf("%d passages wait for the new model", l.Count().Pending)
	}
	if got := texts(t, l, "zeta epsilon", onlyVectors, "a"); len(got) == 0 || got[0] != "delta epsilon zeta" {
		t.Errorf("with the old vectors %q is found", got)
	}
	close(second)
	untilIndexed(t, l)
	m.mu.Lock()
	before := m.asked["first"]
	m.mu.Unlock()
	if got := texts(t, l, "zeta epsilon", onlyVectors, "a"); len(got) == 0 || got[0] != "delta epsilon zeta" {
		t.Errorf("with the new vectors %q is found", got)
	}
	m.mu.Lock()
	if m.asked["first"] != before {
		t.Error("the first model is still asked")
	}
	asked := m.asked["second"]
	m.mu.Unlock()

	if err := l.Reindex("a"); err != nil {
		t.Fatal(err)
	}
	untilIndexed(t, l)
	m.mu.Lock()
	if m.asked["second"] != asked+2 {
		t.Errorf("%d texts were asked for, before %d", m.asked["second"], asked)
	}
	asked = m.asked["second"]
	m.mu.Unlock()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	// What is there is not made again, and without a model it goes.
	l = open(t, dir, with(m, "second"))
	if l.Count().Pending != 0 {
		t.Error("vectors are lost")
	}
	l.Close()
	m.mu.Lock()
	if m.asked["second"] != asked {
		t.Errorf("%d texts were asked for, before %d", m.asked["second"], asked)
	}
	m.mu.Unlock()
	open(t, dir, nil)
	if files := holding(t, filepath.Join(dir, "collections", "a", "vectors"), ""); len(files) != 0 {
		t.Errorf("left are %q", files)
	}
}

func TestModelErrors(t *testing.T) {
	m := &model{}
	l := open(t, t.TempDir(), with(m, "m"))
	m.fail(problem.New(http.StatusNotFound, "There is no such model."))
	add(t, l, "a", "one.md", "text")
	until(t, "the document says what is wrong", func() bool {
		d, _ := l.Documents("a")
		return d[0].State == knowledgeapi.StateFailed &&
			strings.Contains(d[0].Problem, "There is no such model.")
	})
	m.fail(nil)
	untilIndexed(t, l)
	if d, _ := l.Documents("a"); d[0].State != knowledgeapi.StateIndexed || d[0].Problem != "" {
		t.Errorf("got %+v", d)
	}

	// Of a passage that is too long the beginning counts.
	m.mu.Lock()
	m.most = 100
	m.mu.Unlock()
	add(t, l, "a", "two.md", strings.Repeat("long ", 80)+"\nshort")
	untilIndexed(t, l)

	m.mu.Lock()
	m.most = 1
	m.mu.Unlock()
	add(t, l, "a", "three.md", "text")
	until(t, "the document says what is wrong", func() bool {
		d, _ := l.Documents("a")
		return d[1].File == "three.md" && d[1].State == knowledgeapi.StateFailed
	})
}

// TestRepair loses what is made of documents, and leaves what a crash may.
func TestRepair(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, nil)
	add(t, l, "a", "one.md", "alpha")
	gone := add(t, l, "a", "two.md", "omega")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	in := filepath.Join(dir, "collections", "a")
	documents, err := filepath.Glob(filepath.Join(in, "documents", "*"))
	if err != nil || len(documents) != 2 {
		t.Fatal(documents, err)
	}
	for _, f := range documents {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte("omega")) {
			os.Remove(f) // it was removed, and nothing else was done
		}
	}
	for _, f := range []string{"documents/x.tmp", "vectors/y.tmp", "vectors/" + gone.ID} {
		if err := os.WriteFile(filepath.Join(in, f), []byte("omega"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "spool", "z"), []byte("omega"), 0o600)

	l = open(t, dir, nil)
	if got := texts(t, l, "omega", library.Both, "a"); len(got) != 0 {
		t.Errorf("found %q", got)
	}
	until(t, "a purge is over", func() bool {
		_, err := os.Stat(filepath.Join(in, "purge"))
		return errors.Is(err, fs.ErrNotExist)
	})
	if files := holding(t, dir, "omega"); len(files) != 0 {
		t.Errorf("left is %q", files)
	}
	if got := texts(t, l, "alpha", library.Both, "a"); len(got) != 1 {
		t.Errorf("found %q", got)
	}
	l.Close()

	if err := os.RemoveAll(filepath.Join(in, "words")); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, nil)
	if got := texts(t, l, "alpha", library.Both, "a"); len(got) != 1 {
		t.Errorf("after the index is lost %q is found", got)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, nil)
	other := library.New(library.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := other.Open(ctx); err == nil || !strings.Contains(err.Error(), "another process has it") {
		t.Errorf("got %v", err)
	}
	if other.Ready(t.Context()) == nil {
		t.Error("it is ready")
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
}

func TestBusy(t *testing.T) {
	reading, goOn := make(chan struct{}), make(chan struct{})
	l := open(t, t.TempDir(), func(o *library.Options) {
		o.Parse = func(ctx context.Context, kind parse.Type, f *os.File) (*parse.Document, error) {
			reading <- struct{}{}
			<-goOn
			return parseText(ctx, kind, f)
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := tryAdd(l, "a", "one.md", "text"); err != nil {
			t.Error(err)
		}
	})
	<-reading
	if _, err := tryAdd(l, "a", "one.md", "other"); !errors.Is(err, library.ErrBusy) {
		t.Errorf("got %v", err)
	}
	close(goOn)
	wg.Wait()

	if _, err := tryAdd(l, "c", "one.md", "text"); !errors.Is(err, library.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	var r *parse.Refusal
	if _, err := tryAdd(l, "a", "one.exe", "text"); !errors.As(err, &r) {
		t.Errorf("got %v", err)
	}
}

// TestTurns: one document is read at a time, those that wait say so, and one that is given up does not
// hold up the others.
func TestTurns(t *testing.T) {
	read, goOn := make(chan struct{}), make(chan struct{})
	l := open(t, t.TempDir(), func(o *library.Options) {
		o.Parse = func(ctx context.Context, kind parse.Type, f *os.File) (*parse.Document, error) {
			read <- struct{}{}
			<-goOn
			return parseText(ctx, kind, f)
		}
	})
	waits := func(file string) bool {
		is, err := l.Waits("a", file)
		if err != nil {
			t.Error(err)
		}
		return is
	}
	type done struct {
		file string
		err  error
	}
	ended := make(chan done, 4)
	begin := func(ctx context.Context, file string) {
		go func() {
			_, err := addIn(ctx, l, "a", file, "text of "+file)
			ended <- done{file, err}
		}()
	}

	begin(t.Context(), "one.md")
	<-read
	if waits("one.md") {
		t.Error("what is being read waits")
	}

	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	for _, file := range []string{"two.md", "three.md"} {
		in := t.Context()
		if file == "two.md" {
			in = ctx
		}
		begin(in, file)
		until(t, file+" waits", func() bool { return waits(file) })
	}

	giveUp()
	if d := <-ended; d.file != "two.md" || !errors.Is(d.err, context.Canceled) || waits("two.md") {
		t.Errorf("%s ends with %v", d.file, d.err)
	}

	for _, file := range []string{"one.md", "three.md"} {
		if file != "one.md" {
			<-read
		}
		goOn <- struct{}{}
		if d := <-ended; d.file != file || d.err != nil || waits(file) {
			t.Errorf("%s ends with %v, want %s", d.file, d.err, file)
		}
	}

	if list, err := l.Documents("a"); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := l.Waits("c", "one.md"); !errors.Is(err, library.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestAtOnce adds, removes and searches at once, with vectors.
func TestAtOnce(t *testing.T) {
	l := open(t, t.TempDir(), with(&model{}, "m"))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 6 {
				file := fmt.Sprintf("%d.md", w)
				d, err := tryAdd(l, "a", file, fmt.Sprintf("text of writer %d\nround number%d", w, i))
				if err != nil {
					t.Error(err)
					return
				}
				found, _, err := l.Search(t.Context(), []string{"a", "b"}, fmt.Sprint("number", i), 20, library.Both)
				if err != nil || !slices.ContainsFunc(found, func(p knowledgeapi.Passage) bool {
					return p.DocumentID == d.ID && p.Text == fmt.Sprint("round number", i)
				}) {
					t.Errorf("%v: found %+v", err, found)
				}
				if i%3 == 2 {
					if err := l.Remove(t.Context(), "a", d.ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := l.Count().Documents; n != 0 {
		t.Errorf("%d documents are left", n)
	}
}
