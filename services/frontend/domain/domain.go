// Package domain holds what people see of a domain of use. A person writes it in
// modelfiles/<domain>/domain.yaml, which package stacks reads and checks; the frontend gets it as
// a file of JSON.
package domain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Texts are what people see of a domain.
type Texts struct {
	// Title is what the site calls itself.
	Title string `json:"title"`

	// Greeting is above an empty conversation; Prompts, below it, are examples that fit the domain.
	Greeting string   `json:"greeting"`
	Prompts  []string `json:"prompts"`

	// Notice is always below the composer.
	Notice string `json:"notice"`

	// Safety reports whether the model's prompt is there for people's safety: nobody asks without it.
	Safety bool `json:"-"`
}

// Encode returns the file of the texts. It has one text a line, so that a comparison of two files
// shows which of them changed.
func (t Texts) Encode() (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(t); err != nil {
		return "", err
	}
	return out.String(), nil
}

// Read reads a file that Encode made.
func Read(name string) (Texts, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return Texts{}, err
	}

	var t Texts
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return Texts{}, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Texts{}, fmt.Errorf("%s: something follows the texts", name)
	}

	if t.Title == "" || t.Greeting == "" || t.Notice == "" ||
		len(t.Prompts) == 0 || slices.Contains(t.Prompts, "") {
		return Texts{}, fmt.Errorf("%s: a title, a greeting, prompts and a notice are all needed", name)
	}
	return t, nil
}
