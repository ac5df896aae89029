package archive

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"filippo.io/age"
)

// Read reads a backup, and calls part with the name and the content of each part, in their order.
// What part does not read is read all the same. Whether the content is what was written is known
// only when Read returns without an error: who acts on it reads it twice.
func Read(
	from io.Reader, identities []age.Identity, part func(name string, content io.Reader) error,
) (Manifest, error) {
	plain, err := age.Decrypt(from, identities...)
	if err != nil {
		return Manifest{}, fmt.Errorf("decrypt: %w", err)
	}

	r := &reader{tar: tar.NewReader(plain)}
	if err := r.next(); err != nil {
		return Manifest{}, err
	}

	var parts []Part
	for r.header.Name != manifestName {
		p, err := r.part(part)
		if err != nil {
			return Manifest{}, fmt.Errorf("%s: %w", p.Name, err)
		}
		parts = append(parts, p)
	}

	m, err := r.manifest()
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}

	if len(m.Parts) != len(parts) {
		return Manifest{}, fmt.Errorf("it has %d parts, and its manifest names %d", len(parts),
			len(m.Parts))
	}
	for i, p := range m.Parts {
		if p != parts[i] {
			return Manifest{}, fmt.Errorf("%s: is not what its manifest says", p.Name)
		}
	}

	return m, m.Check()
}

// reader reads the entries of a backup.
type reader struct {
	tar    *tar.Reader
	header *tar.Header // of the entry that is next
}

func (r *reader) next() (err error) {
	r.header, err = r.tar.Next()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	case err != nil:
		return err
	case r.header.Typeflag != tar.TypeReg:
		return fmt.Errorf("%q is no file", r.header.Name)
	}
	return nil
}

// part reads the part that is next.
func (r *reader) part(read func(name string, content io.Reader) error) (Part, error) {
	p := Part{Name: path.Dir(r.header.Name)}
	content := &partReader{r: r, digester: newDigester(io.Discard), name: p.Name}
	if r.header.Name != pieceName(p.Name, 0) {
		return p, fmt.Errorf("%q is not its first piece", r.header.Name)
	}

	err := read(p.Name, content)
	if err == nil {
		_, err = io.Copy(io.Discard, content)
	}

	p.Bytes, p.SHA256 = content.bytes, content.sum()
	return p, err
}

// manifest reads the manifest, and that nothing follows it.
func (r *reader) manifest() (Manifest, error) {
	var m Manifest
	b, err := io.ReadAll(io.LimitReader(r.tar, maxManifest))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}

	switch _, err := r.tar.Next(); {
	case errors.Is(err, io.EOF):
		return m, nil
	case err != nil:
		return m, err
	}
	return m, errors.New("something follows it")
}

// partReader reads the pieces of a part as one.
type partReader struct {
	*digester
	r      *reader
	name   string
	pieces int
	ended  bool
	err    error
}

func (p *partReader) Read(b []byte) (int, error) {
	for !p.ended && p.err == nil {
		n, err := p.r.tar.Read(b)
		_, _ = p.Write(b[:n]) // digests it
		if err != nil && !errors.Is(err, io.EOF) {
			p.err = err
		}
		if errors.Is(err, io.EOF) {
			p.err = p.r.next()
			p.pieces++
			p.ended = p.err == nil && p.r.header.Name != pieceName(p.name, p.pieces)
		}
		if n > 0 {
			return n, nil
		}
	}

	if p.err != nil {
		return 0, p.err
	}
	return 0, io.EOF
}
