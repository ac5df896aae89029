package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depottest"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/keep"
)

// bench is a job at a depot, with a clock that the test sets.
type bench struct {
	*Job
	id  *age.X25519Identity
	now time.Time
}

// each calls f with a job at a depot of each kind.
func each(t *testing.T, f func(t *testing.T, b *bench)) {
	for name, open := range map[string]func(testing.TB) depot.Depot{
		"directory": depottest.Directory, "bucket": depottest.Bucket,
	} {
		t.Run(name, func(t *testing.T) { f(t, newBench(t, open(t))) })
	}
}

func newBench(t *testing.T, d depot.Depot) *bench {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{id: id, now: time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)}
	b.Job = New(Options{
		Stack: "prod", Depot: d, Recipients: []string{id.Recipient().String()},
		Keys: []age.Recipient{id.Recipient()}, Keep: keep.Rule{Last: 2},
		Parts: []Part{
			{archive.Redis, func(_ context.Context, to io.Writer) error {
				_, err := io.WriteString(to, strings.Repeat("REDIS", 1000))
				return err
			}},
			{archive.Models, func(_ context.Context, to io.Writer) error {
				_, err := io.WriteString(to, "{}")
				return err
			}},
		},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return b.now },
	})
	return b
}

// create makes a backup, and drops what need not be kept.
func (b *bench) create(t *testing.T) string {
	t.Helper()
	name, _, err := b.Create(t.Context())
	if err := errors.Join(err, b.Prune(t.Context())); err != nil {
		t.Fatal(err)
	}
	return name
}

// read returns a file.
func (b *bench) file(t *testing.T, name string) []byte {
	t.Helper()
	f, err := b.Depot.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// files returns the names of all files.
func (b *bench) names(t *testing.T) []string {
	t.Helper()
	files, err := b.Depot.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// TestCreate makes a backup, which the identity reads, and finds one that was damaged.
func TestCreate(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		name := b.create(t)
		list, err := b.List(t.Context())
		if err != nil || len(list) != 1 || list[0].Name != name || list[0].Stack != "prod" ||
			!slices.Equal(list[0].Recipients, b.Recipients) {
			t.Fatalf("%+v, %v", list, err)
		}

		got := map[string]int{}
		m, err := archive.Read(bytes.NewReader(b.file(t, archive.File(name))), []age.Identity{b.id},
			func(part string, content io.Reader) error {
				n, err := io.Copy(io.Discard, content)
				got[part] = int(n)
				return err
			})
		if err != nil || got[archive.Redis] != 5000 || got[archive.Models] != 2 ||
			!m.Begun.Equal(b.now) {
			t.Errorf("%v, %+v, %v", got, m, err)
		}
		if err := b.Verify(t.Context(), name); err != nil {
			t.Error(err)
		}

		damaged := b.file(t, archive.File(name))
		damaged[len(damaged)/2] ^= 1
		err = b.Depot.Create(t.Context(), archive.File(name), bytes.NewReader(damaged))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(t.Context(), name); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("a damaged one: %v", err)
		}
		missing := archive.Name(b.now.Add(time.Second))
		if err := b.Verify(t.Context(), missing); !errors.Is(err, depot.ErrNotFound) {
			t.Errorf("a missing one: %v", err)
		}
	})
}

// TestFailed: a part that fails half-way, or a context that ends, leaves nothing, and says what it
// was.
func TestFailed(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		broken := errors.New("the connection broke")
		b.Parts[1].Write = func(_ context.Context, to io.Writer) error {
			_, _ = to.Write(bytes.Repeat([]byte("x"), 5<<20))
			return broken
		}
		if _, _, err := b.Create(t.Context()); !errors.Is(err, broken) ||
			!strings.Contains(err.Error(), archive.Models) {
			t.Errorf("got %v", err)
		}

		ctx, stop := context.WithCancel(t.Context())
		b.Parts[1].Write = func(ctx context.Context, to io.Writer) error {
			stop()
			return ctx.Err()
		}
		if _, _, err := b.Create(ctx); err == nil {
			t.Error("it was made though it was stopped")
		}
		if names := b.names(t); len(names) > 0 {
			t.Errorf("it leaves %q", names)
		}
	})
}

// lying is a depot that keeps something else than what was written.
type lying struct{ depot.Depot }

func (l lying) Create(ctx context.Context, name string, content io.Reader) error {
	b, err := io.ReadAll(content)
	if err == nil && len(b) > 300 {
		b[300] ^= 1
	}
	return errors.Join(err, l.Depot.Create(ctx, name, bytes.NewReader(b)))
}

// TestChecked: a backup that was not stored as it was written is no backup.
func TestChecked(t *testing.T) {
	b := newBench(t, lying{depottest.Directory(t)})
	if _, _, err := b.Create(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
	if names := b.names(t); len(names) > 0 {
		t.Errorf("it leaves %q", names)
	}
}

// TestPrune drops backups by the rule, and what none of the others needs.
func TestPrune(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		state := func() string {
			t.Helper()
			if err := b.PutState(ctx, archive.State{Deployment: json.RawMessage("{}")}); err != nil {
				t.Fatal(err)
			}
			return archive.StateFile(b.now)
		}
		half := archive.File(archive.Name(b.now.Add(-time.Minute)))
		oldErasures := archive.ErasuresFile(b.now)
		for _, name := range []string{half, oldErasures, "README.md"} {
			if err := b.Depot.Create(ctx, name, strings.NewReader("x")); err != nil {
				t.Fatal(err)
			}
		}

		state() // of before the state that the oldest backup needs
		var want []string
		for day := range 4 {
			b.now = b.now.Add(time.Hour)
			last := state()
			b.now = b.now.Add(23 * time.Hour)
			name := b.create(t)
			if day >= 2 {
				want = append(want, last, archive.File(name), archive.SummaryFile(name))
			}
		}
		want = append(want, "README.md")
		slices.Sort(want)
		if got := b.names(t); !slices.Equal(got, want) {
			t.Errorf("left are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		last, err := b.Last(ctx)
		if err != nil || !last.Equal(b.now) {
			t.Errorf("the last one is of %s, %v", last, err)
		}
	})
}

// TestPruneCleans: what a process that was killed left of a file that it wrote goes after a day.
func TestPruneCleans(t *testing.T) {
	dir := t.TempDir()
	d, err := depot.NewDirectory(dir, "prod")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, d)
	path := filepath.Join(dir, "prod", ".unfinished-1")
	for age, there := range map[time.Duration]bool{23 * time.Hour: true, 25 * time.Hour: false} {
		at := b.now.Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at),
			b.Prune(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); os.IsNotExist(err) == there {
			t.Errorf("after %s: %v", age, err)
		}
	}
}

// TestHold: a backup that is being restored, and what it needs, is not dropped, by no process, until
// it is released or a week has passed.
func TestHold(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		held := func(name, erasures string) bool {
			t.Helper()
			for range 3 {
				b.now = b.now.Add(time.Hour)
				b.Job = New(b.Options) // as in another process
				b.create(t)
			}
			names, there := b.names(t), true
			for _, file := range []string{archive.File(name), archive.SummaryFile(name), erasures} {
				there = there && slices.Contains(names, file)
			}
			want := 2 * 2 // the rule's
			if there {
				want += 3 + 1
			}
			if len(names) != want {
				t.Errorf("left are %q", names)
			}
			return there
		}
		hold := func() (name, erasures string) {
			t.Helper()
			name, erasures = b.create(t), archive.ErasuresFile(b.now.Add(time.Second))
			if err := errors.Join(b.Depot.Create(ctx, erasures, strings.NewReader("x")),
				b.Hold(ctx, name)); err != nil {
				t.Fatal(err)
			}
			return name, erasures
		}

		name, erasures := hold()
		if !held(name, erasures) {
			t.Error("it is dropped though it is held")
		}
		if err := errors.Join(b.Release(ctx, name), b.Release(ctx, name)); err != nil {
			t.Error(err)
		}
		if held(name, erasures) {
			t.Error("it is there though it was released")
		}

		name, erasures = hold()
		b.now = b.now.Add(holds - 4*time.Hour)
		if !held(name, erasures) {
			t.Error("it is dropped before a week has passed")
		}
		b.now = b.now.Add(4 * time.Hour)
		if held(name, erasures) {
			t.Error("it is there though a week has passed")
		}

		if err := b.Hold(ctx, archive.Name(b.now.Add(time.Minute))); err != nil { // there is none
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Hour)
		b.create(t)
		if names := b.names(t); len(names) != 4 {
			t.Errorf("left are %q", names)
		}

		bad := archive.HoldFile(archive.Name(b.now))
		if err := b.Depot.Create(ctx, bad, strings.NewReader("soon")); err != nil {
			t.Fatal(err)
		}
		if err := b.Prune(ctx); err == nil || !strings.Contains(err.Error(), "backup release backup-") {
			t.Errorf("a hold that says nothing: %v", err)
		}
	})
}

// TestClock: a backup of the future, of a clock that was ahead, neither delays the next ones nor
// takes their places, and what was erased is kept after a file of the future.
func TestClock(t *testing.T) {
	b := newBench(t, depottest.Directory(t))
	log := &records{}
	b.Audit = log
	first := b.create(t)
	now := b.now
	b.now = now.AddDate(1, 0, 0)
	log.add(now, auditlog.Erase, auditlog.Done, "a")
	ahead := b.create(t)

	b.now = now.Add(time.Hour)
	b.Job = New(b.Options)
	if last, err := b.Last(t.Context()); err != nil || !last.Equal(now) {
		t.Errorf("the last one is of %s, %v", last, err)
	}
	log.add(b.now, auditlog.Erase, auditlog.Done, "b")
	second := b.create(t)
	b.now = b.now.Add(time.Hour)
	third := b.create(t)

	got := b.names(t)
	for name, want := range map[string]bool{first: false, second: true, third: true, ahead: true} {
		if slices.Contains(got, archive.SummaryFile(name)) != want {
			t.Errorf("%s is there: %t", name, !want)
		}
	}
	if kept := b.erasures(t); !slices.Equal(kept, []string{"ab", "a"}) {
		t.Errorf("kept are %q", kept)
	}
}

// TestAlone: one of a backup's two files without the other is no backup, takes no place of one, and
// goes after a day.
func TestAlone(t *testing.T) {
	b := newBench(t, depottest.Directory(t))
	first := b.create(t)
	for range 2 {
		b.now = b.now.Add(time.Hour)
		alone := archive.SummaryFile(archive.Name(b.now))
		if err := b.Depot.Create(t.Context(), alone, strings.NewReader("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := b.List(t.Context())
	last, _ := b.Last(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != first || archive.Name(last) != first {
		t.Errorf("there are %+v, %v, the last of %s", list, err, last)
	}

	b.now = b.now.Add(25 * time.Hour)
	if err := b.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if names := b.names(t); len(names) != 2 {
		t.Errorf("left are %q", names)
	}
}

// TestDamaged: a backup that was cut, or whose summary cannot be read, is none: it is not listed, the
// next one is due, and it takes no place of another. It stays as long as one of before it does.
func TestDamaged(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		put := func(name, content string) {
			t.Helper()
			if err := b.Depot.Create(ctx, name, strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
		}
		next := func() string {
			t.Helper()
			b.now = b.now.Add(25 * time.Hour)
			return b.create(t)
		}

		first := b.create(t)
		cut := next()
		put(archive.File(cut), string(b.file(t, archive.File(cut))[:400]))
		bad := next()
		put(archive.SummaryFile(bad), "{")

		list, err := b.List(ctx)
		if err != nil || len(list) != 1 || list[0].Name != first {
			t.Errorf("listed are %+v, %v", list, err)
		}
		if last, err := b.Last(ctx); err != nil || archive.Name(last) != first {
			t.Errorf("the last one is of %s, %v", last, err)
		}

		second := next()
		var want []string
		for _, name := range []string{first, cut, bad, second} {
			want = append(want, archive.SummaryFile(name), archive.File(name))
		}
		if got := b.names(t); !slices.Equal(got, want) {
			t.Errorf("left are %q, want %q", got, want)
		}
		next()
		if got := b.names(t); len(got) != 4 || slices.Contains(got, archive.File(cut)) {
			t.Errorf("in the end there are %q", got)
		}
	})
}

// TestDamagedHeld: a damaged backup that is held stays, with what was erased since it, until it is
// released.
func TestDamagedHeld(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		name := b.create(t)
		erasures := archive.ErasuresFile(b.now.Add(time.Hour))
		if err := errors.Join(
			b.Depot.Create(ctx, archive.SummaryFile(name), strings.NewReader("{")),
			b.Depot.Create(ctx, erasures, strings.NewReader("x")), b.Hold(ctx, name)); err != nil {
			t.Fatal(err)
		}
		files := []string{archive.File(name), archive.SummaryFile(name), archive.HoldFile(name), erasures}
		next := func(want bool) {
			t.Helper()
			for range 3 {
				b.now = b.now.Add(25 * time.Hour)
				b.create(t)
			}
			for _, file := range files {
				if got := b.names(t); slices.Contains(got, file) != want {
					t.Errorf("%s is there: %t", file, !want)
				}
			}
		}

		next(true)
		if err := b.Release(ctx, name); err != nil {
			t.Fatal(err)
		}
		next(false)
	})
}

// deaf is a depot in which a file cannot be read: it cannot be opened, or not to its end.
type deaf struct {
	depot.Depot
	name  string
	opens bool
}

var errDeaf = errors.New("input/output error")

func (d *deaf) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	switch {
	case name != d.name:
		return d.Depot.Open(ctx, name)
	case d.opens:
		return io.NopCloser(io.MultiReader(strings.NewReader("{"), iotest.ErrReader(errDeaf))), nil
	}
	return nil, errDeaf
}

// TestUnreadable: while the summary of a backup cannot be read nothing is dropped, neither that backup
// nor what it needs, and backups are made. It is one again when it can be read.
func TestUnreadable(t *testing.T) {
	for _, opens := range []bool{false, true} {
		d := &deaf{Depot: depottest.Directory(t), opens: opens}
		b := newBench(t, d)
		old := b.create(t)
		erasures := archive.ErasuresFile(b.now)
		err := errors.Join(b.PutState(t.Context(), archive.State{Deployment: json.RawMessage("{}")}),
			d.Create(t.Context(), erasures, strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		kept := b.names(t)

		d.name = archive.SummaryFile(old)
		for range 4 { // more than the rule keeps
			b.now = b.now.Add(25 * time.Hour)
			name, _, err := b.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, archive.File(name), archive.SummaryFile(name))
			err = b.Prune(t.Context())
			if !errors.Is(err, errDeaf) || !strings.Contains(err.Error(), old) {
				t.Errorf("got %v", err)
			}
		}
		slices.Sort(kept)
		if got := b.names(t); !slices.Equal(got, kept) {
			t.Errorf("left are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(kept, "\n"))
		}
		last, err := b.Last(t.Context())
		if list, _ := b.List(t.Context()); err != nil || !last.Equal(b.now) || len(list) != 4 {
			t.Errorf("listed are %d, the last of %s, %v", len(list), last, err)
		}

		d.name = ""
		if err := b.Prune(t.Context()); err != nil {
			t.Error(err)
		}
		if list, err := b.List(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("in the end there are %d, %v", len(list), err)
		}
	}
}

// late is a depot that reports an error of a summary that it has stored all the same.
type late struct{ depot.Depot }

var errLate = errors.New("no answer")

func (l late) Create(ctx context.Context, name string, content io.Reader) error {
	err := l.Depot.Create(ctx, name, content)
	if kind, _, _ := archive.Parse(name); kind == archive.Sum && err == nil {
		return errLate
	}
	return err
}

// TestLate: of a backup that failed no summary is left.
func TestLate(t *testing.T) {
	b := newBench(t, late{depottest.Directory(t)})
	if _, _, err := b.Create(t.Context()); !errors.Is(err, errLate) {
		t.Errorf("got %v", err)
	}
	if names := b.names(t); len(names) > 0 {
		t.Errorf("it leaves %q", names)
	}
}

// records are the records of an audit.
type records struct {
	mu   sync.Mutex
	days []string
	list map[string][]string
	n    int64
	err  error
}

func (r *records) add(at time.Time, action auditlog.Action, outcome auditlog.Outcome, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	day := at.Format(time.DateOnly)
	if r.list == nil {
		r.list = map[string][]string{}
	}
	if !slices.Contains(r.days, day) {
		r.days = append(r.days, day)
	}
	r.n++
	r.list[day] = append(r.list[day], auditlog.Key{}.Seal(auditlog.Record{Number: r.n, Time: at,
		Action: action, Outcome: outcome, ID: id, Object: "who"}))
}

func (r *records) Days(context.Context) ([]string, error) { return r.days, r.err }

func (r *records) Page(_ context.Context, day string, from int64) ([]string, error) {
	all := r.list[day]
	return all[min(int(from), len(all)):min(int(from)+auditlog.PageSize, len(all))], r.err
}

// erasures returns the ids of what is kept of erasures, a word for each file.
func (b *bench) erasures(t *testing.T) (kept []string) {
	t.Helper()
	for _, name := range b.names(t) {
		if kind, _, _ := archive.Parse(name); kind != archive.Gone {
			continue
		}
		var list []auditlog.Record
		err := archive.OpenJSON(bytes.NewReader(b.file(t, name)), []age.Identity{b.id}, &list)
		if err != nil {
			t.Fatal(err)
		}
		word := ""
		for _, r := range list {
			word += r.ID
		}
		kept = append(kept, word)
	}
	return kept
}

// TestErasures keeps what was erased, once, also after a restart, in another Redis, and over days.
func TestErasures(t *testing.T) {
	b := newBench(t, depottest.Directory(t))
	log := &records{}
	b.Audit = log
	write := func(want ...string) {
		t.Helper()
		b.now = b.now.Add(time.Minute)
		if err := b.Erasures(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := b.erasures(t); !slices.Equal(got, want) {
			t.Errorf("kept are %q, want %q", got, want)
		}
	}

	write()
	for i := range 2*auditlog.PageSize + 1 {
		log.add(b.now, auditlog.Question, auditlog.Done, fmt.Sprint(i))
	}
	log.add(b.now, auditlog.Erase, auditlog.Intent, "a")
	write()
	log.add(b.now, auditlog.Erase, auditlog.Done, "a")
	log.add(b.now, auditlog.UserRemoved, auditlog.Done, "b")
	log.add(b.now, auditlog.Erase, auditlog.Refused, "x")
	write("ab")
	write("ab")

	b.now = b.now.Add(24 * time.Hour)
	log.add(b.now, auditlog.KeyRevoked, auditlog.Done, "c")
	write("ab", "c")

	again := New(b.Options) // as after a restart
	b.Job = again
	log.add(b.now, auditlog.Delete, auditlog.Done, "d")
	write("ab", "c", "cd")
	write("ab", "c", "cd")

	*log = records{} // a Redis that lost all
	log.add(b.now, auditlog.Erase, auditlog.Done, "e")
	write("ab", "c", "cd", "e")

	log.err = errors.New("Redis is away")
	if err := b.Erasures(t.Context()); !errors.Is(err, log.err) {
		t.Errorf("got %v", err)
	}
	if _, _, err := b.Create(t.Context()); !errors.Is(err, log.err) {
		t.Errorf("a backup without what was erased before: %v", err)
	}
}
