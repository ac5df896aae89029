package backups

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"filippo.io/age"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// MaxModel is how much of a model's files a state has, in bytes: the Modelfile and adapters, as a
// rule, and no weights. The service holds a state in memory, and so does who reads it (maxRecords).
const MaxModel = 8 << 20

// ReadModel reads what the stack's own model is made of in the sources. A file that is too large is
// Left, and not read again: the stack knows the SHA-256. The files have to be those of which the
// stack was loaded.
func ReadModel(sources fs.FS, stack stacks.Stack) (*archive.Model, error) {
	m := stack.Model
	files, known := m.Sources(), map[string]string{}
	for name, sum := range m.Weights {
		known[path.Join(path.Dir(m.Modelfile), name)] = sum
	}

	out := &archive.Model{Name: m.Name, Modelfile: m.Modelfile, Base: m.Base, Digest: m.Digest}
	sizes, order := make([]int64, len(files)), make([]int, len(files))
	for i, name := range files {
		info, err := fs.Stat(sources, name)
		if err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
		sizes[i], order[i] = info.Size(), i
	}
	// The small ones first: the evals are not left out for an adapter.
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(sizes[i], sizes[j]) })

	out.Files = make([]archive.ModelFile, len(files))
	left := int64(MaxModel)
	for _, i := range order {
		name, sum := files[i], known[files[i]]
		if sizes[i] > left && sum != "" {
			out.Files[i] = archive.ModelFile{Path: name, Bytes: sizes[i], SHA256: sum, Left: true}
			continue
		}

		f, err := readModelFile(sources, name, left)
		if err == nil && sum != "" && f.SHA256 != sum {
			err = fmt.Errorf("%s: it has changed since it was read", name)
		}
		if err != nil {
			return nil, fmt.Errorf("model: %w", err)
		}
		left -= int64(len(f.Content))
		out.Files[i] = f
	}
	return out, CheckModel(out)
}

// readModelFile reads a file, and its content if it has no more bytes than most.
func readModelFile(sources fs.FS, name string, most int64) (archive.ModelFile, error) {
	file := archive.ModelFile{Path: name}
	f, err := sources.Open(name)
	if err != nil {
		return file, err
	}
	defer f.Close()

	sum := sha256.New()
	file.Content, err = io.ReadAll(io.LimitReader(io.TeeReader(f, sum), most+1))
	if err != nil {
		return file, fmt.Errorf("%s: %w", name, err)
	}
	file.Bytes = int64(len(file.Content))
	if file.Bytes > most {
		rest, err := io.Copy(sum, f)
		if err != nil {
			return file, fmt.Errorf("%s: %w", name, err)
		}
		file.Bytes, file.Left, file.Content = file.Bytes+rest, true, nil
	}
	file.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return file, nil
}

// CheckModel returns an error unless the model's files are what was read, and make the model as
// far as they are there.
func CheckModel(m *archive.Model) (err error) {
	dir, err := os.MkdirTemp("", "codexctl-model-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return WriteModel(dir, m)
}

// WriteModel writes the model's files to their paths below the folder, which has none of them, and
// checks them as CheckModel.
func WriteModel(folder string, m *archive.Model) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()

	for _, f := range m.Files {
		if err := writeModelFile(root, f); err != nil {
			return fmt.Errorf("model: %s: %w", f.Path, err)
		}
	}

	if slices.ContainsFunc(m.Files, func(f archive.ModelFile) bool { return f.Left }) {
		return nil // what they make nobody knows without the others
	}
	return checkMade(root, m)
}

// WriteWeights writes the files that are beside the state, below the folder in which WriteModel has
// written the others, and checks them, and what they make. What cannot be written is the error, and
// keeps none of the others away.
func WriteWeights(
	ctx context.Context, from Source, folder string, m *archive.Model, ids []age.Identity,
) error {
	if !slices.ContainsFunc(m.Files, func(f archive.ModelFile) bool { return f.Beside }) {
		return nil // WriteModel has checked it
	}

	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()

	var errs []error
	whole := true
	for _, f := range m.Files {
		whole = whole && f.Left == f.Beside
		if !f.Beside {
			continue
		}
		if err := writeWeights(ctx, from, root, f, ids); err != nil {
			errs = append(errs, fmt.Errorf("model: %s: %w", f.Path, err))
		}
	}
	if len(errs) > 0 || !whole {
		return errors.Join(errs...)
	}
	return checkMade(root, m)
}

func writeWeights(
	ctx context.Context, from Source, root *os.Root, f archive.ModelFile, ids []age.Identity,
) error {
	w, err := create(root, f.Path)
	if err != nil {
		return err
	}
	err = errors.Join(Weights(ctx, from, f.SHA256, ids, w), w.Close())
	if err != nil {
		return errors.Join(err, root.Remove(f.Path))
	}
	return nil
}

// Weights writes the weights of the SHA-256. Whether they are these is known only when it returns
// without an error.
func Weights(
	ctx context.Context, from Source, sum string, ids []age.Identity, to io.Writer,
) error {
	if err := archive.CheckSum(sum); err != nil {
		return err
	}

	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(from.Fetch(ctx, archive.WeightsFile(sum), w)) }()
	err := archive.OpenWeights(to, ids, sum, r)
	_ = r.CloseWithError(err)
	if other := new(age.NoIdentityMatchError); errors.As(err, &other) {
		return fmt.Errorf("%w: weights are for today's recipients, those of older backups as well: put "+
			"the identity of one into the same file", err)
	}
	return err
}

// checkMade returns an error unless the files below the root make the model.
func checkMade(root *os.Root, m *archive.Model) error {
	made, err := modelfiles.Load(root.FS(), m.Modelfile, m.Base)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if made.Digest != m.Digest {
		return fmt.Errorf("model: its files make %s, and it was %s", made.Digest, m.Digest)
	}
	return nil
}

func writeModelFile(root *os.Root, f archive.ModelFile) error {
	sum := sha256.Sum256(f.Content)
	switch {
	case f.Left:
		return nil
	case int64(len(f.Content)) != f.Bytes || hex.EncodeToString(sum[:]) != f.SHA256:
		return fmt.Errorf("it is damaged: it has %d bytes with the SHA-256 %x, and %d with %s were read",
			len(f.Content), sum, f.Bytes, f.SHA256)
	}

	w, err := create(root, f.Path)
	if err != nil {
		return err
	}
	_, err = w.Write(f.Content)
	return errors.Join(err, w.Close())
}

// create makes a file of the model, which is not there, and the folders in which it lies.
func create(root *os.Root, name string) (*os.File, error) {
	if !fs.ValidPath(name) {
		return nil, errors.New("this is no path below the sources")
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// State returns what was last known of the stack before the backup, as function State. Its model,
// if it has one, was checked.
func (b *Backup) State(ctx context.Context) (archive.State, error) {
	s, err := State(ctx, b.sources[0], b.Manifest.Begun, b.identities)
	if err == nil && s.Model != nil {
		err = CheckModel(s.Model)
	}
	return s, err
}

// VerifyWeights reads the weights that are beside the state with the model, and returns an error
// unless all are what was kept.
func (b *Backup) VerifyWeights(ctx context.Context, m *archive.Model) error {
	for _, f := range m.Files {
		if !f.Beside {
			continue
		}
		if err := Weights(ctx, b.sources[0], f.SHA256, b.identities, io.Discard); err != nil {
			return fmt.Errorf("%s: %s: %w", b.Name, f.Path, err)
		}
	}
	return nil
}
