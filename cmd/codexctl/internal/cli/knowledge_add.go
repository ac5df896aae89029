package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/gate/documents"
)

// localFile is a file of this machine that is to be a document.
type localFile struct{ name, path string }

// localFiles returns the files of the paths, and of the folders among them.
func localFiles(paths []string) ([]localFile, error) {
	var list []localFile
	at := map[string]string{} // paths by the name
	add := func(path string) error {
		name := filepath.Base(path)
		if other, ok := at[name]; ok && other != path {
			return fmt.Errorf("%s and %s have the same name, by which the document is known: rename "+
				"one, or add them to different collections", other, path)
		} else if ok {
			return nil
		}

		at[name] = path
		list = append(list, localFile{name, path})
		return nil
	}

	for _, root := range paths {
		root = filepath.Clean(root)
		info, err := os.Stat(root)
		switch {
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			err = add(root)
		case info.IsDir():
			err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				hidden := path != root && strings.HasPrefix(d.Name(), ".")
				switch {
				case err != nil:
					return err
				case hidden && d.IsDir():
					return fs.SkipDir
				case hidden || !d.Type().IsRegular():
					return nil
				}
				return add(path)
			})
		default:
			err = fmt.Errorf("%s: is neither a file nor a folder", root)
		}

		if err != nil {
			return nil, err
		}
	}

	if len(list) == 0 {
		return nil, fmt.Errorf("there is no file in %s", strings.Join(paths, ", "))
	}

	return list, nil
}

// errTooLarge reports that a file is larger than a document may be.
var errTooLarge = fmt.Errorf("is larger than %d MiB", documents.MaxSize>>20)

// read returns what is in the file.
func (f localFile) read() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if info.Size() > documents.MaxSize {
		return nil, errTooLarge
	}

	b, err := os.ReadFile(f.path)
	if err == nil && len(b) > documents.MaxSize { // it grows
		err = errTooLarge
	}

	return b, err
}

// addDocuments adds the files of the paths to the collection.
func (a *App) addDocuments(
	ctx context.Context, name, collection string, paths []string,
) error {
	files, err := localFiles(paths)
	if err != nil {
		return err
	}

	return a.withLibrarian(ctx, name, func(l librarian) error {
		var there documents.Documents
		if err := l.askJSON(ctx, &there, "list", collection); err != nil {
			return err
		}

		x := &addition{
			app: a, show: &modelProgress{out: a.err, now: a.now}, files: files,
			digests: map[string]string{},
		}
		for _, d := range there.Documents {
			x.digests[d.File] = d.SHA256
		}

		err := x.run(ctx, l, collection)
		a.out.Printf("%s", x.summary())
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted: run it again to go on")
		case err != nil:
			return err
		case x.failed > 0:
			return errReported
		}

		return nil
	})
}

// addition is a run of `codexctl knowledge add`.
type addition struct {
	app   *App
	files []localFile

	// digests are those of the documents that are there, by name.
	digests map[string]string

	// mu guards what follows: files are read while others are answered.
	mu   sync.Mutex
	show *modelProgress

	added, replaced, unchanged, failed int
}

// run sends the files, and tells what becomes of each as soon as that is known.
func (x *addition) run(ctx context.Context, l librarian, collection string) error {
	in, out := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		out.CloseWithError(x.send(out))
	}()

	words := l.words("add", collection)
	if x.app.err.Terminal {
		words = append(words, "--turns") // for who watches
	}
	err := l.stream(ctx, in, &resultLines{each: x.tell}, words...)
	in.CloseWithError(io.ErrClosedPipe) // it may have ended before it has read everything
	<-sent
	x.show.clear()
	switch {
	case x.left() == 0:
		return nil // of those that failed it is told already
	case err == nil:
		return errors.New("the gate has not answered for all files: run it again to go on")
	}

	return l.explained(err)
}

// left is how many files nothing has become of.
func (x *addition) left() int {
	return len(x.files) - x.added - x.replaced - x.unchanged - x.failed
}

// send writes the files as an archive, but for those that are there already.
func (x *addition) send(w io.Writer) error {
	archive := tar.NewWriter(w)
	for i, f := range x.files {
		content, err := f.read()
		sum := sha256.Sum256(content)
		switch {
		case err != nil:
			x.tell(documents.Result{
				File: f.path, Outcome: documents.Failed, Problem: err.Error(),
			})
			continue
		case x.digests[f.name] == hex.EncodeToString(sum[:]):
			x.mu.Lock()
			x.unchanged++
			x.mu.Unlock()
			continue
		}

		x.sending(i, f)
		if err := documents.Write(archive, f.name, content); err != nil {
			return err
		}
	}

	return archive.Close()
}

// sending tells somebody who watches which file is on its way.
func (x *addition) sending(i int, f localFile) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.app.err.Terminal {
		x.show.tell(fmt.Sprintf("%d of %d: %s", i+1, len(x.files), console.Plain(f.name)), 0, 0)
	}
}

// tell tells what became of a document, or that it waits for others.
func (x *addition) tell(r documents.Result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := console.Plain(r.File)
	switch r.Outcome {
	case documents.Waits:
		x.show.tell(name+": waits until others are read", 0, 0)
		return
	case documents.Reading:
		x.show.tell(name+": is being read", 0, 0)
		return
	}

	x.show.clear()
	switch r.Outcome {
	case documents.Failed:
		x.failed++
		x.app.err.Printf("%s%s: %s", x.app.err.Paint(console.Red, "error: "), name,
			console.Plain(r.Problem))
		return
	case documents.Replaced:
		x.replaced++
	default:
		x.added++
	}

	x.app.out.Printf("%s %s", r.Outcome, name)
	for _, warning := range r.Warnings {
		x.app.out.Hanging("  ", console.Plain(warning))
	}
}

// summary says how many files became what.
func (x *addition) summary() string {
	parts := []string{fmt.Sprintf("%d added", x.added)}
	for _, p := range []struct {
		n    int
		what string
	}{
		{x.replaced, "replaced"}, {x.unchanged, "there already"}, {x.failed, "failed"},
		{x.left(), "not sent"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}

	return strings.Join(parts, ", ")
}

// resultLines reads what `gate knowledge add` prints.
type resultLines struct {
	each func(documents.Result)
	rest []byte // of a line that has not ended
}

func (r *resultLines) Write(b []byte) (int, error) {
	r.rest = append(r.rest, b...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}

		r.rest = rest
		var result documents.Result
		if err := json.Unmarshal(line, &result); err != nil {
			return 0, fmt.Errorf("the gate says something else than a result: %w", err)
		}
		r.each(result)
	}
}
