package bundle

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
)

// modelFile is the part that says what the base model is made of, weightsDir the folder of its
// files.
const (
	modelFile  = "models/model.json"
	weightsDir = "models/blobs/"
)

// modelText is the content of modelFile.
type modelText struct {
	Name    string            `json:"name"`
	Request api.CreateRequest `json:"request"`
	Blobs   []modelBlob       `json:"blobs"`
}

type modelBlob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// AddModel adds the model, which Ollama gets under that name.
func (d *Draft) AddModel(name string, m models.Model) error {
	text := modelText{Name: name, Request: m.Request}
	from := Part{Source: "model " + name, Licence: "not stated by the model"}
	if m.Request.License != nil {
		from.Licence = "in " + modelFile
	}

	for _, b := range m.Blobs {
		hex, ok := strings.CutPrefix(b.Digest, "sha256:")
		if !ok {
			return fmt.Errorf("model %s: digest %q: is no sha256", name, b.Digest)
		}

		p := from
		p.Name, p.Size, p.SHA256 = weightsDir+hex, b.Size, hex
		d.Add(p, b.Open)
		text.Blobs = append(text.Blobs, modelBlob{b.Digest, b.Size})
	}

	content, err := json.Marshal(text)
	if err != nil {
		return fmt.Errorf("model %s: %w", name, err)
	}
	d.addText(modelFile, content, from.Source, from.Licence)
	return nil
}

// Model returns the model and its name; ok reports whether the bundle has one.
func (r *Reader) Model() (name string, m models.Model, ok bool, err error) {
	if !r.Has(modelFile) {
		return "", m, false, nil
	}

	content, err := r.text(modelFile)
	if err != nil {
		return "", m, false, err
	}

	var text modelText
	if err := json.Unmarshal(content, &text); err != nil {
		return "", m, false, fmt.Errorf("bundle: %s: %w", modelFile, err)
	}

	m.Request = text.Request
	for _, b := range text.Blobs {
		part := weightsDir + strings.TrimPrefix(b.Digest, "sha256:")
		m.Blobs = append(m.Blobs, models.Blob{
			Digest: b.Digest, Size: b.Size,
			Open: func() (io.ReadCloser, error) { return r.Open(part) },
		})
	}

	return text.Name, m, true, nil
}
