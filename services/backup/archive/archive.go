// Package archive is the form of a backup: a tar archive that is encrypted with age to recipients,
// and beside it a summary in the clear. What makes one cannot read it again: it has no identity.
//
// Of a part, such as what Redis holds, nobody knows the size before its end, and none is held in
// memory whole. So a part is a folder of the archive with pieces, 00000000 and so on, of which the
// last one is shorter. The manifest comes last, with the size and the SHA-256 of each part:
//
//	age -d -i KEY NAME.tar.age | tar -x && cat redis/* > dump.rdb
package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"
)

const (
	// Format is the version of what this package writes.
	Format = 1

	// Data is the version of what services store, in Redis and in the files of documents. A change
	// that the release before it cannot read raises it, with the DataFormat of the service. A
	// release restores what has its own version, or the one before.
	Data = 1
)

// The parts of a backup.
const (
	Redis     = "redis"     // an RDB file
	Documents = "documents" // a tar archive, see package library of knowledge
	Models    = "models"    // JSON: which models Ollama has
)

// pieceSize is the size of a piece in bytes. So much of a part is held in memory.
const pieceSize = 4 << 20

// manifestName is the name of the archive's last entry.
const manifestName = "manifest.json"

// maxManifest bounds the manifest in bytes.
const maxManifest = 1 << 20

// Manifest says what a backup has.
type Manifest struct {
	Format int    `json:"format"`
	Data   int    `json:"data"`
	Stack  string `json:"stack"`

	// Begun is a moment of which all that was stored before it is in the backup. Ended is when it
	// was written.
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`

	Parts []Part `json:"parts"`
}

// Part is a part of a backup.
type Part struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Part returns the part of the name, and whether there is one.
func (m Manifest) Part(name string) (Part, bool) {
	for _, p := range m.Parts {
		if p.Name == name {
			return p, true
		}
	}
	return Part{}, false
}

// Check returns an error if this release cannot restore the backup.
func (m Manifest) Check() error { return check(m.Format, m.Data, Format, Data) }

// check is Check for a release of the versions that follow.
func check(format, data, ourFormat, ourData int) error {
	switch {
	case format > ourFormat || data > ourData:
		return fmt.Errorf("it is of a newer release (format %d, data %d), and this one reads "+
			"format %d, data %d: restore it with the release that made it, or a later one", format,
			data, ourFormat, ourData)
	case format < 1 || data < ourData-1:
		return fmt.Errorf("it is too old (format %d, data %d): this release takes data of version "+
			"%d and the one before; restore it with a release between, bring that one up to date",
			format, data, ourData)
	}
	return nil
}

// Summary is what is known of a backup without an identity.
type Summary struct {
	Format     int       `json:"format"`
	Data       int       `json:"data"`
	Stack      string    `json:"stack"`
	Begun      time.Time `json:"begun"`
	Ended      time.Time `json:"ended"`
	Recipients []string  `json:"recipients"`

	// Bytes and SHA256 are those of the encrypted archive.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Check returns an error if this release cannot restore the backup.
func (s Summary) Check() error { return check(s.Format, s.Data, Format, Data) }

// Writer writes a backup.
type Writer struct {
	out    *digester
	sealed io.WriteCloser
	tar    *tar.Writer
	parts  []Part
}

// NewWriter returns a writer of a backup that the identities of the recipients can read.
func NewWriter(to io.Writer, recipients []age.Recipient) (*Writer, error) {
	out := newDigester(to)
	sealed, err := age.Encrypt(out, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return &Writer{out: out, sealed: sealed, tar: tar.NewWriter(sealed)}, nil
}

// Part adds a part, which is what write writes.
func (w *Writer) Part(name string, write func(io.Writer) error) error {
	p := &partWriter{w: w, digester: newDigester(io.Discard), name: name}
	if err := write(p); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := p.flush(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}

	w.parts = append(w.parts, Part{Name: name, Bytes: p.bytes, SHA256: p.sum()})
	return nil
}

// Close ends the backup, of which the manifest says what it is, but for the parts.
func (w *Writer) Close(m Manifest) (Summary, error) {
	m.Format, m.Data, m.Parts = Format, Data, w.parts
	b, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = w.entry(manifestName, append(b, '\n'))
	}
	if err == nil {
		err = w.tar.Close()
	}
	if err == nil {
		err = w.sealed.Close()
	}
	if err != nil {
		return Summary{}, err
	}

	return Summary{
		Format: m.Format, Data: m.Data, Stack: m.Stack, Begun: m.Begun, Ended: m.Ended,
		Bytes: w.out.bytes, SHA256: w.out.sum(),
	}, nil
}

func (w *Writer) entry(name string, content []byte) error {
	err := w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600,
	})
	if err == nil {
		_, err = w.tar.Write(content)
	}
	return err
}

// partWriter writes the pieces of a part.
type partWriter struct {
	*digester // of the part
	w         *Writer
	name      string
	piece     bytes.Buffer
	pieces    int
}

func (p *partWriter) Write(b []byte) (int, error) {
	n, _ := p.digester.Write(b) // it goes nowhere
	for left := b; len(left) > 0; {
		first := left[:min(len(left), pieceSize-p.piece.Len())]
		left = left[len(first):]
		p.piece.Write(first)
		if p.piece.Len() == pieceSize {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush writes the piece that has begun. A part without content has one that is empty.
func (p *partWriter) flush() error {
	if p.piece.Len() == 0 && p.pieces > 0 {
		return nil
	}

	err := p.w.entry(pieceName(p.name, p.pieces), p.piece.Bytes())
	p.pieces++
	p.piece.Reset()
	return err
}

func pieceName(part string, n int) string { return fmt.Sprintf("%s/%08d", part, n) }

// digester counts and digests what goes through it.
type digester struct {
	to    io.Writer
	hash  hash.Hash
	bytes int64
}

func newDigester(to io.Writer) *digester { return &digester{to: to, hash: sha256.New()} }

func (d *digester) Write(b []byte) (int, error) {
	n, err := d.to.Write(b)
	d.hash.Write(b[:n])
	d.bytes += int64(n)
	return n, err
}

func (d *digester) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }

// errCut reports that the end of a backup is missing.
var errCut = errors.New("it is cut: its end is missing")
