package bundle

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ollama/ollama/api"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
)

// The parts that say what a model is made of.
const (
	BaseModel      = "models/model.json"
	EmbeddingModel = "models/embedding.json"
)

// weightsDir is the folder of the models' files.
const weightsDir = "models/blobs/"

// modelText is the content of a part that says what a model is made of.
type modelText struct {
	Name    string            `json:"name"`
	Request api.CreateRequest `json:"request"`
	Blobs   []modelBlob       `json:"blobs"`
}

type modelBlob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// AddModel adds the model as the part, which Ollama gets under that name. What models have in common
// is in the bundle once.
func (d *Draft) AddModel(part, name string, m models.Model) error {
	text := modelText{Name: name, Request: m.Request}
	from := Part{Source: "model " + name, Licence: "not stated by the model"}
	if m.Request.License != nil {
		from.Licence = "in " + part
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
	d.addText(part, content, from.Source, from.Licence)
	return nil
}

// Model returns the model of the part and its name; ok reports whether the bundle has it.
func (r *Reader) Model(part string) (name string, m models.Model, ok bool, err error) {
	if !r.Has(part) {
		return "", m, false, nil
	}

	content, err := r.text(part)
	if err != nil {
		return "", m, false, err
	}

	var text modelText
	if err := json.Unmarshal(content, &text); err != nil {
		return "", m, false, fmt.Errorf("bundle: %s: %w", part, err)
	}

	m.Request = text.Request
	for _, b := range text.Blobs {
		weights := weightsDir + strings.TrimPrefix(b.Digest, "sha256:")
		m.Blobs = append(m.Blobs, models.Blob{
			Digest: b.Digest, Size: b.Size,
			Open: func() (io.ReadCloser, error) { return r.Open(weights) },
		})
	}

	return text.Name, m, true, nil
}
