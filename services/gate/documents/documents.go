// Package documents is how codexctl hands documents to the command `gate knowledge`, and what that
// says of them.
//
// `gate knowledge add` reads a tar archive, each regular file of which is a document, and prints a
// Result for each as a line of JSON, in the order of the archive. One run takes any number of them.
// With --turns it also says of each that waits for others that it does, on lines before its own.
package documents

import (
	"archive/tar"
	"fmt"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
)

// MaxSize is the greatest size of a document in bytes.
const MaxSize = knowledgeapi.MaxDocument

// What `gate knowledge list` prints, as JSON.
type (
	Collections = knowledgeapi.Collections // without the name of a collection
	Documents   = knowledgeapi.Documents   // with one

	Collection = knowledgeapi.Collection
	Document   = knowledgeapi.Document
)

// Outcome is what became of a document.
type Outcome string

// The outcomes.
const (
	Added    Outcome = "added"
	Replaced Outcome = "replaced"
	Failed   Outcome = "failed"

	// These are said of one of which nothing has become yet, and only with --turns: it waits until
	// others are read, or does so no more.
	Waits   Outcome = "waits"
	Reading Outcome = "reading"
)

// Result is what became of one document.
type Result struct {
	File    string  `json:"file"`
	Outcome Outcome `json:"outcome"`

	// Warnings say what of the document could not be read.
	Warnings []string `json:"warnings,omitempty"`

	// Problem says why it failed. Nothing of the document is there then, and what was there of the
	// same name still is.
	Problem string `json:"problem,omitempty"`
}

// Write adds a document to the archive.
func Write(w *tar.Writer, file string, content []byte) error {
	err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: file, Size: int64(len(content)), Mode: 0o600,
		ModTime: time.Unix(0, 0), // when it was changed is nobody's business
	})
	if err == nil {
		_, err = w.Write(content)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}

	return w.Flush()
}
