// Package job makes backups of a stack, checks them, and drops those that need not be kept.
//
// A backup is there when its summary is, which is written last. A process that ends meanwhile leaves
// a file without one, which Prune removes a day later.
package job

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/keep"
)

// Options are what a Job works with.
type Options struct {
	Stack      string
	Depot      depot.Depot
	Recipients []string
	Keys       []age.Recipient // those of Recipients
	Keep       keep.Rule

	// Parts are what a backup has, in this order.
	Parts []Part

	// Audit reads who did what; it is nil where that is not recorded.
	Audit Audit

	Log *slog.Logger
	Now func() time.Time
}

// Part writes a part of a backup.
type Part struct {
	Name  string
	Write func(ctx context.Context, to io.Writer) error
}

// Job makes backups.
type Job struct {
	Options

	mu sync.Mutex // is held while a backup is written, or dropped

	erasing sync.Mutex // is held while erasures are written, which wait for no backup
	seen    journal
}

// New returns a job.
func New(o Options) *Job { return &Job{Options: o} }

// Create makes a backup, and reads it again. The erasures of before come first: a backup is never
// without those that it needs.
func (j *Job) Create(ctx context.Context) (name string, s archive.Summary, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.Erasures(ctx); err != nil {
		return "", s, err
	}

	begun := j.Now().UTC().Truncate(time.Millisecond)
	name = archive.Name(begun)
	if s, err = j.write(ctx, name, begun); err != nil {
		return "", s, j.failed(name, err)
	}

	if err := j.compare(ctx, archive.File(name), s.Bytes, s.SHA256); err != nil {
		return "", s, j.failed(name, err)
	}

	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = j.Depot.Create(ctx, archive.SummaryFile(name), strings.NewReader(string(b)+"\n"))
	}
	if err != nil {
		return "", s, j.failed(name, err)
	}

	j.Log.InfoContext(ctx, "backup", "name", name, "bytes", s.Bytes,
		"took", s.Ended.Sub(s.Begun).Round(time.Millisecond).String())
	return name, s, nil
}

// failed removes what there is of a backup, and returns the error.
func (j *Job) failed(name string, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The summary goes first: who wrote it may not know that it is there.
	for _, file := range []string{archive.SummaryFile(name), archive.File(name)} {
		if left := j.Depot.Remove(ctx, file); left != nil {
			err = fmt.Errorf("%w; it is left half-made: %w", err, left)
		}
	}
	return fmt.Errorf("backup %s: %w", name, err)
}

// write writes the backup's file.
func (j *Job) write(
	ctx context.Context, name string, begun time.Time,
) (s archive.Summary, err error) {
	err = j.piped(ctx, archive.File(name), func(to io.Writer) (err error) {
		s, err = j.fill(ctx, to, begun)
		return err
	})
	return s, err
}

// piped writes a file with what write writes.
func (j *Job) piped(ctx context.Context, file string, write func(to io.Writer) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(w)
		_ = w.CloseWithError(err)
		done <- err
	}()

	err := j.Depot.Create(ctx, file, r)
	_ = r.CloseWithError(err) // what is not read any more is not made any more
	if cause := <-done; cause != nil && !errors.Is(cause, io.ErrClosedPipe) {
		err = cause
	}
	return err
}

func (j *Job) fill(ctx context.Context, to io.Writer, begun time.Time) (archive.Summary, error) {
	w, err := archive.NewWriter(to, j.Keys)
	if err != nil {
		return archive.Summary{}, err
	}

	for _, p := range j.Parts {
		err := w.Part(p.Name, func(to io.Writer) error { return p.Write(ctx, to) })
		if err != nil {
			return archive.Summary{}, err
		}
	}

	ended := j.Now().UTC().Truncate(time.Millisecond)
	s, err := w.Close(archive.Manifest{Stack: j.Stack, Begun: begun, Ended: ended})
	s.Recipients = j.Recipients
	return s, err
}

// compare reads a file, which must be what was written, of so many bytes with the SHA-256.
func (j *Job) compare(ctx context.Context, file string, bytes int64, sha string) error {
	f, err := j.Depot.Open(ctx, file)
	if err != nil {
		return err
	}
	defer f.Close()

	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("read it again: %w", err)
	}

	if got := hex.EncodeToString(sum.Sum(nil)); n != bytes || got != sha {
		return fmt.Errorf("it is damaged: it has %d bytes with the SHA-256 %s, and was written with "+
			"%d and %s", n, got, bytes, sha)
	}
	return nil
}

// Verify reads a backup and the weights of its model, and compares them with their summaries.
func (j *Job) Verify(ctx context.Context, name string) error {
	s, err := j.summary(ctx, name)
	if err == nil {
		err = j.compare(ctx, archive.File(name), s.Bytes, s.SHA256)
	}
	if err == nil {
		err = j.verifyWeights(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("backup %s: %w", name, err)
	}
	return nil
}

// Backup is a backup that is there.
type Backup struct {
	Name string `json:"name"`
	archive.Summary
}

// List returns the backups, the last one first.
func (j *Job) List(ctx context.Context) ([]Backup, error) {
	files, err := j.files(ctx)
	if err != nil {
		return nil, err
	}

	list := []Backup{}
	for f, r := range j.readings(ctx, files) {
		if r.err == nil {
			list = append(list, Backup{f.stem, r.Summary})
		}
	}
	return list, ctx.Err()
}

// Last returns when the last backup was begun; zero if there is none. One of the future, as of a
// clock that was ahead, does not count: none would be due until then.
func (j *Job) Last(ctx context.Context) (time.Time, error) {
	files, err := j.files(ctx)
	if err != nil {
		return time.Time{}, err
	}
	for f, r := range j.readings(ctx, slices.DeleteFunc(files, j.future)) {
		if r.err == nil {
			return f.at, nil
		}
	}
	return time.Time{}, ctx.Err()
}

// future reports whether the file is of a time that has not come yet.
func (j *Job) future(f file) bool { return f.at.After(j.Now().Add(Overlap)) }

// maxSummary bounds a summary in bytes.
const maxSummary = 64 << 10

// errDamaged reports that what was read of a backup is not what was written. Any other error says
// nothing of the backup: it could not be read, this time or from here.
var errDamaged = errors.New("it is damaged")

func (j *Job) summary(ctx context.Context, name string) (s archive.Summary, err error) {
	err = j.readSummary(ctx, archive.SummaryFile(name), &s)
	return s, err
}

// readSummary reads a file with a summary.
func (j *Job) readSummary(ctx context.Context, file string, into any) error {
	f, err := j.Depot.Open(ctx, file)
	if err != nil {
		return err
	}
	defer f.Close()

	b, err := io.ReadAll(io.LimitReader(f, maxSummary))
	if err != nil {
		return fmt.Errorf("its summary: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("its summary: %w: %w", errDamaged, err)
	}
	return nil
}

// file is a file of the depot.
type file struct {
	name, stem string
	kind       archive.Kind
	at         time.Time
	size       int64
}

// files returns the files that this package writes, the last one first.
func (j *Job) files(ctx context.Context) ([]file, error) {
	all, err := j.Depot.List(ctx)
	if err != nil {
		return nil, err
	}

	var list []file
	for _, f := range all {
		kind, stem, at := archive.Parse(f.Name)
		if kind != archive.Other {
			list = append(list, file{f.Name, stem, kind, at, f.Size})
		}
	}
	slices.SortFunc(list, func(a, b file) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name))
	})
	return list, nil
}

// pairs returns the summaries' files of the backups that have both of theirs, and the sizes of the
// others by the backups' names.
func pairs(files []file) (sums []file, sizes map[string]int64) {
	sizes = map[string]int64{}
	for _, f := range files {
		if f.kind == archive.Sealed {
			sizes[f.stem] = f.size
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool {
		_, sealed := sizes[f.stem]
		return f.kind != archive.Sum || !sealed
	}), sizes
}

// reading is what is known of a backup that has both of its files.
type reading struct {
	archive.Summary
	err error // why the summary could not be read, which does not mean that the backup is damaged
}

// readings returns what is known of the backups that have both of their files, in the files' order. One
// whose summary is no JSON, or whose archive has another size than that says, is none.
func (j *Job) readings(ctx context.Context, files []file) iter.Seq2[file, reading] {
	return func(yield func(file, reading) bool) {
		sums, sizes := pairs(files)
		for _, f := range sums {
			s, err := j.summary(ctx, f.stem)
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, depot.ErrNotFound) {
				continue // it has just been dropped
			}
			if size := sizes[f.stem]; err == nil && size != s.Bytes {
				err = fmt.Errorf("%w: its file has %d bytes, and was written with %d", errDamaged, size,
					s.Bytes)
			}
			if errors.Is(err, errDamaged) {
				j.Log.WarnContext(ctx, "a backup is damaged", "name", f.stem, "error", err)
				continue
			}
			if err != nil {
				j.Log.WarnContext(ctx, "a backup cannot be read", "name", f.stem, "error", err)
			}
			if !yield(f, reading{s, err}) {
				return
			}
		}
	}
}

// halfMade is how long one of a backup's two files stays without the other, or an upload that has not
// ended: another process may be writing it.
const halfMade = 24 * time.Hour

// Clean removes what processes that have ended left unfinished.
func (j *Job) Clean(ctx context.Context) error {
	if err := j.Depot.Clean(ctx, j.Now().Add(-halfMade)); err != nil {
		return fmt.Errorf("remove what was left unfinished: %w", err)
	}
	return nil
}

// Prune drops what need not be kept, and does Clean. Backups that are held stay, and so do those of
// the future, which take no other's place. It drops nothing while one cannot be read.
func (j *Job) Prune(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.prune(ctx), j.Clean(ctx))
}

func (j *Job) prune(ctx context.Context) error {
	files, err := j.files(ctx)
	if err != nil {
		return err
	}
	held, err := j.held(ctx, files)
	if err != nil {
		return err
	}

	var all []file
	var unread []error
	there := map[string]bool{}
	for f, r := range j.readings(ctx, files) {
		all = append(all, f)
		there[f.stem] = true
		if r.err != nil {
			unread = append(unread, fmt.Errorf("%s: %w", f.stem, r.err))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}

	// What a backup that cannot be read is good for nobody knows, nor what it needs of the others.
	if len(unread) > 0 {
		return fmt.Errorf("nothing is dropped while a backup cannot be read: let the service read its "+
			"files, or remove both: %w", errors.Join(unread...))
	}

	all = slices.DeleteFunc(all, j.future)
	times := make([]time.Time, len(all))
	for i, f := range all {
		times[i] = f.at
	}
	oldest := j.Now()
	for i, stays := range j.Keep.Keeps(times) {
		if stays || held[all[i].stem] {
			oldest = all[i].at
			continue
		}
		// The summary goes first: what is left without one is half-made.
		for _, name := range []string{
			archive.SummaryFile(all[i].stem), archive.File(all[i].stem),
		} {
			if err := j.Depot.Remove(ctx, name); err != nil {
				return err
			}
		}
		j.Log.InfoContext(ctx, "backup dropped", "name", all[i].stem)
	}

	return j.pruneOthers(ctx, files, there, held, oldest)
}

// pruneOthers drops what no backup since the oldest one needs: erasures of before it, and states but
// for the last one of before it, with the weights that only they need. A backup that is damaged stays
// as long as one of before it, as somebody may want what is left of it, and while it is held. there
// are the backups that were whole, and held those that are held.
func (j *Job) pruneOthers(
	ctx context.Context, files []file, there, held map[string]bool, oldest time.Time,
) error {
	damaged := map[string]bool{}
	sums, _ := pairs(files)
	for _, f := range sums {
		damaged[f.stem] = !there[f.stem]
		if damaged[f.stem] && held[f.stem] && f.at.Before(oldest) {
			oldest = f.at
		}
	}

	stateKept, states := false, map[time.Time]bool{}
	for _, f := range files {
		before := f.at.Before(oldest)
		drop := false
		switch f.kind {
		case archive.Sealed, archive.Sum:
			drop = !there[f.stem] && !held[f.stem] && j.Now().Sub(f.at) > halfMade &&
				(before || !damaged[f.stem])
		case archive.Gone:
			drop = f.at.Before(oldest.Add(-Overlap))
		case archive.Settings:
			drop = before && stateKept
			stateKept = stateKept || before
			states[f.at] = !drop
		case archive.Hold:
			drop = !held[f.stem] || !there[f.stem] && !damaged[f.stem]
		}
		if !drop {
			continue
		}
		if err := j.Depot.Remove(ctx, f.name); err != nil {
			return err
		}
	}
	return j.pruneWeights(ctx, states)
}

// PutState keeps what the program that provisions knows of the stack. The weights that are said to be
// beside it have to be there.
func (j *Job) PutState(ctx context.Context, s archive.State) error {
	s.Time = j.Now().UTC().Truncate(time.Millisecond)
	if err := j.needWeights(ctx, s); err != nil {
		return err
	}
	return j.seal(ctx, archive.StateFile(s.Time), s)
}

// seal writes a file with the value, for the recipients.
func (j *Job) seal(ctx context.Context, name string, value any) error {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(archive.SealJSON(w, j.Keys, value)) }()
	err := j.Depot.Create(ctx, name, r)
	_ = r.CloseWithError(err)
	return err
}
