package models

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/types/model"

	"github.com/codexcontinue/codexcontinue/modelfiles"
)

// maxText bounds the parts of a model that are no weights, in bytes.
const maxText = 4 << 20

// digestForm is the form of a digest that names a file.
var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// manifest says what a model consists of.
type manifest struct {
	Config layer   `json:"config"`
	Layers []layer `json:"layers"`
}

type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// blobPath returns where a folder of models has the content of that digest.
func blobPath(digest string) (string, error) {
	if !digestForm.MatchString(digest) {
		return "", fmt.Errorf("digest %q: is no sha256", digest)
	}
	return path.Join("blobs", strings.Replace(digest, ":", "-", 1)), nil
}

// ManifestPath returns the path, with slashes, of the file by which a folder of models has the model
// of that name.
func ManifestPath(name string) (string, error) {
	n := model.ParseName(name)
	if !n.IsValid() {
		return "", fmt.Errorf("model %q: is no name of a model", name)
	}
	return manifestPath(n), nil
}

// manifestPath returns where a folder of models has what a model consists of.
func manifestPath(n model.Name) string {
	return path.Join("manifests", filepath.ToSlash(n.Filepath()))
}

// FromFolder returns the model of that name in a folder of models, as Ollama keeps them: with
// manifests and blobs. The folder may also be one that has it in models. What it is called in
// errors is the source.
func FromFolder(fsys fs.FS, source, name string) (Model, error) {
	n := model.ParseName(name)
	if !n.IsValid() {
		return Model{}, fmt.Errorf("model %q: is no name of a model", name)
	}

	fail := func(err error) (Model, error) {
		return Model{}, fmt.Errorf("model %s of %s: %w", name, source, err)
	}
	for _, dir := range []string{".", "models"} {
		at, err := fs.Sub(fsys, dir)
		if err != nil {
			return fail(err)
		}

		text, err := readText(at, manifestPath(n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fail(err)
		}

		m, err := read(at, text)
		if err != nil {
			return fail(err)
		}

		return m, nil
	}

	there := namesIn(fsys)
	if len(there) == 0 {
		return Model{}, fmt.Errorf("model: %s: is no folder of models, with manifests and blobs, "+
			"as Ollama keeps them in ~/.ollama/models", source)
	}

	return Model{}, fmt.Errorf("model: %s has no %s: it has %s", source, name,
		strings.Join(there, ", "))
}

// namesIn returns the names of the models in the folder, sorted.
func namesIn(fsys fs.FS) []string {
	var files, out []string
	if a, ok := fsys.(*archive); ok {
		files = a.names()
	} else {
		for _, root := range []string{"manifests", "models/manifests"} {
			_ = fs.WalkDir(fsys, root, func(name string, _ fs.DirEntry, _ error) error {
				files = append(files, name)
				return nil
			})
		}
	}

	for _, name := range files {
		_, name, ok := strings.Cut("/"+name, "/manifests/")
		if n := model.ParseNameFromFilepath(filepath.FromSlash(name)); ok && n.IsValid() {
			out = append(out, n.DisplayShortest())
		}
	}

	slices.Sort(out)
	return out
}

// read returns the model of a manifest in the folder.
func read(fsys fs.FS, text []byte) (Model, error) {
	var list manifest
	if err := json.Unmarshal(text, &list); err != nil {
		return Model{}, fmt.Errorf("its manifest: %w", err)
	}

	m := Model{Request: api.CreateRequest{
		Files:    map[string]string{},
		Adapters: map[string]string{},
	}}

	if err := m.configure(fsys, list.Config); err != nil {
		return Model{}, err
	}

	var licenses []string
	for i, l := range list.Layers {
		kind, ok := strings.CutPrefix(l.MediaType, "application/vnd.ollama.image.")
		if !ok {
			return Model{}, fmt.Errorf("a part of the type %q cannot be put into Ollama",
				l.MediaType)
		}

		var err error
		file := fmt.Sprintf("%d.gguf", i)
		switch kind {
		case "model", "projector":
			m.Request.Files[file] = l.Digest
			err = m.weights(fsys, l, kind == "model")
		case "adapter":
			m.Request.Adapters[file] = l.Digest
			err = m.weights(fsys, l, false)
		case "template":
			err = intoText(fsys, l, &m.Request.Template)
		case "system":
			err = intoText(fsys, l, &m.Request.System)
		case "license":
			text := ""
			err = intoText(fsys, l, &text)
			licenses = append(licenses, text)
		case "params":
			err = intoJSON(fsys, l, &m.Request.Parameters)
		case "messages":
			err = intoJSON(fsys, l, &m.Request.Messages)
		default:
			err = fmt.Errorf("a part of the type %q cannot be put into Ollama", l.MediaType)
		}

		if err != nil {
			return Model{}, err
		}
	}

	if len(m.Request.Adapters) == 0 {
		m.Request.Adapters = nil // Ollama takes an empty list for a mistake
	}
	if len(licenses) > 0 {
		m.Request.License = licenses
	}
	if len(m.Request.Files) == 0 {
		return Model{}, errors.New("it has no weights")
	}

	return m, nil
}

// configure takes over what the config of a model says of its use.
func (m *Model) configure(fsys fs.FS, l layer) error {
	var c model.ConfigV2
	if err := intoJSON(fsys, l, &c); err != nil {
		return err
	}
	if c.RemoteHost != "" {
		return fmt.Errorf("it runs at %s, not here", c.RemoteHost)
	}

	m.Request.Renderer, m.Request.Parser, m.Request.Requires = c.Renderer, c.Parser, c.Requires
	return nil
}

// weights adds a file of weights, which is checked if it has to be loadable by itself.
func (m *Model) weights(fsys fs.FS, l layer, check bool) error {
	at, err := blobPath(l.Digest)
	if err != nil {
		return err
	}

	f, err := fsys.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()

	w, ok := f.(modelfiles.Weights)
	if !ok || !modelfiles.IsGGUF(w) {
		return fmt.Errorf("%s: is no GGUF file", at)
	}

	if check {
		if err := modelfiles.CheckWeights(w); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}

	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != l.Size {
		return fmt.Errorf("%s: has %d bytes, and should have %d", at, info.Size(), l.Size)
	}

	open := func() (io.ReadCloser, error) { return fsys.Open(at) }
	m.Blobs = append(m.Blobs, Blob{Digest: l.Digest, Size: l.Size, Open: open})
	return nil
}

// readText reads a file that is no weights.
func readText(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%s: is larger than %d bytes", name, maxText)
	}

	return text, err
}

// intoText reads a part of the model that is a text, which is what its digest says.
func intoText(fsys fs.FS, l layer, to *string) error {
	at, err := blobPath(l.Digest)
	if err != nil {
		return err
	}

	text, err := readText(fsys, at)
	if err != nil {
		return err
	}

	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(text)); got != l.Digest {
		return fmt.Errorf("%s: has the digest %.19s", at, got)
	}

	*to = string(text)
	return nil
}

func intoJSON(fsys fs.FS, l layer, to any) error {
	var text string
	if err := intoText(fsys, l, &text); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("%.19s: %w", l.Digest, err)
	}

	return nil
}
