// Package backups reads backups on the operator's machine, which alone has an identity for it, and
// prepares what a restore puts into a stack.
package backups

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
)

// Source is where the files of a stack's backups are read: its service backup, or a Folder.
type Source interface {
	// Files returns the names of all files.
	Files(ctx context.Context) ([]string, error)

	// Fetch writes a file.
	Fetch(ctx context.Context, file string, to io.Writer) error
}

// Folder is a copy of the files on this machine.
type Folder string

// Files implements Source.
func (f Folder) Files(context.Context) ([]string, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Fetch implements Source.
func (f Folder) Fetch(_ context.Context, file string, to io.Writer) error {
	r, err := os.Open(filepath.Join(string(f), file))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(to, r)
	return err
}

// Identities reads the identities of a file, "-" being in.
func Identities(file string, in io.Reader) ([]age.Identity, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}

	ids, err := age.ParseIdentities(in)
	if err != nil {
		// The error of age may show what it has read.
		return nil, fmt.Errorf("%s: has no identity of age, AGE-SECRET-KEY-1...: one that a "+
			"passphrase protects is given as `age -d FILE | codexctl ... --identity -`", file)
	}
	return ids, nil
}

// overlap is how far clocks may be apart; see package job of the service backup.
const overlap = 2 * time.Minute

// Backup is a backup on this machine, which has been read and checked.
type Backup struct {
	Name     string
	Summary  archive.Summary
	Manifest archive.Manifest

	// Since is what was erased after it was begun, and so much before as clocks may be apart.
	Since []auditlog.Record

	path       string // of its encrypted file
	sources    []Source
	identities []age.Identity
}

// Open fetches the backup of the name, or the last one if it is empty, into the directory, and checks
// all of it: it is encrypted still. What was erased since is also read of the other sources.
func Open(
	ctx context.Context, from Source, name, dir string, ids []age.Identity, also ...Source,
) (*Backup, error) {
	files, err := from.Files(ctx)
	if err != nil {
		return nil, err
	}

	b := &Backup{path: filepath.Join(dir, "backup.tar.age"),
		sources: append([]Source{from}, also...), identities: ids}
	if b.Name, err = Choose(files, name); err != nil {
		return nil, err
	}
	if b.Summary, err = summary(ctx, from, b.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	if err := b.Summary.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	if err := b.fetch(ctx, from); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}

	b.Manifest, err = b.read(func(string, io.Reader) error { return nil })
	if other := new(age.NoIdentityMatchError); errors.As(err, &other) {
		return nil, fmt.Errorf("%s: %w: it is for %s: give the identity of one of these (`age-keygen -y "+
			"FILE` prints whose it is)", b.Name, err, strings.Join(b.Summary.Recipients, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	return b, b.Refresh(ctx)
}

// Refresh adds to Since what was erased after Open. An act may be there twice.
func (b *Backup) Refresh(ctx context.Context) error {
	for _, from := range b.sources {
		list, err := erased(ctx, from, b.Manifest.Begun.Add(-overlap), b.identities)
		if err != nil {
			return err
		}
		b.Since = append(b.Since, list...)
	}
	return nil
}

// Choose returns the name of the backup, or that of the last one if it is empty.
func Choose(files []string, name string) (string, error) {
	var whole []string
	for _, f := range files {
		kind, stem, _ := archive.Parse(f)
		if kind == archive.Sum && slices.Contains(files, archive.File(stem)) {
			whole = append(whole, stem)
		}
	}
	slices.Sort(whole)

	switch {
	case len(whole) == 0:
		return "", errors.New("there is no backup")
	case name == "":
		return whole[len(whole)-1], nil
	case !slices.Contains(whole, name):
		return "", fmt.Errorf("there is no backup %q: the last ones are %s", name,
			strings.Join(whole[max(0, len(whole)-5):], ", "))
	}
	return name, nil
}

// bounded keeps what is written, up to a number of bytes.
type bounded struct {
	b    []byte
	most int
}

func (w *bounded) Write(b []byte) (int, error) {
	if len(w.b)+len(b) > w.most {
		return 0, fmt.Errorf("it is longer than %d bytes", w.most)
	}
	w.b = append(w.b, b...)
	return len(b), nil
}

// Bounds of what is held in memory, in bytes.
const (
	maxSummary = 64 << 10
	maxRecords = 64 << 20
)

func summary(ctx context.Context, from Source, name string) (s archive.Summary, err error) {
	w := &bounded{most: maxSummary}
	if err = from.Fetch(ctx, archive.SummaryFile(name), w); err == nil {
		err = json.Unmarshal(w.b, &s)
	}
	return s, err
}

// fetch writes the backup's file, and compares it with the summary.
func (b *Backup) fetch(ctx context.Context, from Source) error {
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}

	sum := sha256.New()
	err = from.Fetch(ctx, archive.File(b.Name), io.MultiWriter(f, sum))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.Summary.SHA256 {
		return fmt.Errorf("it is damaged: its SHA-256 is %s, and %s was written", got, b.Summary.SHA256)
	}
	return nil
}

// read reads the backup's file.
func (b *Backup) read(part func(name string, content io.Reader) error) (archive.Manifest, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return archive.Manifest{}, err
	}
	defer f.Close()
	return archive.Read(f, b.identities, part)
}

// Part calls f with the content of the part.
func (b *Backup) Part(name string, f func(io.Reader) error) error {
	var failed error
	_, err := b.read(func(n string, content io.Reader) error {
		if n == name {
			failed = f(content)
		}
		return failed
	})
	return cmp.Or(failed, err)
}

// erased returns what was erased since the time. An act may be there twice.
func erased(
	ctx context.Context, from Source, since time.Time, ids []age.Identity,
) ([]auditlog.Record, error) {
	files, err := from.Files(ctx)
	if err != nil {
		return nil, err
	}

	var all []auditlog.Record
	for _, file := range files {
		kind, _, at := archive.Parse(file)
		if kind != archive.Gone || at.Before(since) {
			continue
		}

		var list []auditlog.Record
		if err := openJSON(ctx, from, file, ids, &list); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, r := range list {
			if !r.Time.Before(since) {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

func openJSON(
	ctx context.Context, from Source, file string, ids []age.Identity, into any,
) error {
	w := &bounded{most: maxRecords}
	if err := from.Fetch(ctx, file, w); err != nil {
		return err
	}
	return explainIdentity(archive.OpenJSON(strings.NewReader(string(w.b)), ids, into))
}

// explainIdentity returns the error of a file that was written for other recipients with what to do.
func explainIdentity(err error) error {
	if other := new(age.NoIdentityMatchError); errors.As(err, &other) {
		return fmt.Errorf("%w: the recipients were others then: put their identity into the same file", err)
	}
	return err
}

// ErrNoState is returned where no state is kept with the backups.
var ErrNoState = errors.New(
	"no state is kept: `codexctl up` and `codexctl backup create` keep it")

// State returns what was last known of the stack before the time, or the first that is known of it
// if that is nothing.
func State(
	ctx context.Context, from Source, before time.Time, ids []age.Identity,
) (s archive.State, err error) {
	files, err := from.Files(ctx)
	if err != nil {
		return s, err
	}

	var states []string
	for _, f := range files {
		if kind, _, _ := archive.Parse(f); kind == archive.Settings {
			states = append(states, f)
		}
	}
	if len(states) == 0 {
		return s, ErrNoState
	}

	slices.Sort(states)
	chosen := states[0]
	for _, f := range states {
		if _, _, at := archive.Parse(f); !at.After(before) {
			chosen = f
		}
	}
	return s, openJSON(ctx, from, chosen, ids, &s)
}
