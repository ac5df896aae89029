// Package parse reads documents: Markdown, text, HTML, DOCX, PDF, and FHIR R4 as JSON. What it
// returns is text in blocks. Nothing in a document is followed or run, no file and no address.
//
// A document comes from anywhere. This package bounds what it nests and expands to, and Run does the
// work in a child process, which bounds memory and time as well.
package parse

import (
	"bytes"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Type is how a document is written.
type Type string

// The types that are read.
const (
	Markdown Type = "markdown"
	Text     Type = "text"
	HTML     Type = "html"
	DOCX     Type = "docx"
	PDF      Type = "pdf"
	FHIR     Type = "fhir"
)

// extensions are the types by the extensions of files.
var extensions = map[string]Type{
	".md": Markdown, ".markdown": Markdown, ".txt": Text, ".html": HTML, ".htm": HTML,
	".docx": DOCX, ".pdf": PDF, ".json": FHIR,
}

// Limits of one document.
const (
	// MaxText is the most text that is taken of a document, in bytes.
	MaxText = 16 << 20

	// MaxBlocks is the most blocks that a document may have.
	MaxBlocks = 200_000

	// maxDepth is how deep lists, elements and objects may be nested in one another.
	maxDepth = 200
)

// Kind is what a block is in its document.
type Kind string

// The kinds of blocks.
const (
	Heading   Kind = "heading"
	Paragraph Kind = "paragraph"
	Item      Kind = "item" // of a list
	Row       Kind = "row"  // of a table
	Code      Kind = "code"
)

// Block is a piece of a document that stands by itself.
type Block struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`

	// Level is that of a heading, from 1.
	Level int `json:"level,omitempty"`

	// Page is where it begins, from 1, in a document that has pages.
	Page int `json:"page,omitempty"`
}

// Document is what was read.
type Document struct {
	// Title is what the document calls itself; it may be empty.
	Title  string  `json:"title,omitempty"`
	Blocks []Block `json:"blocks"`

	// Warnings say what could not be read.
	Warnings []string `json:"warnings,omitempty"`

	size int // of the text so far
}

// Refusal says in a sentence why a document is not read. Status is that of the answer by HTTP.
type Refusal struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Error implements error.
func (r *Refusal) Error() string { return r.Detail }

// broken refuses a document of a type that is read.
func broken(format string, args ...any) *Refusal {
	return &Refusal{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

// otherType refuses a document that is of another type.
func otherType(format string, args ...any) *Refusal {
	return &Refusal{http.StatusUnsupportedMediaType, fmt.Sprintf(format, args...)}
}

var (
	errTooDeep = broken("The document is nested more than %d deep.", maxDepth)
	errTooLong = broken("The document has more than %d MB of text, or more than %d paragraphs.",
		MaxText>>20, MaxBlocks)
)

// TypeOf returns the type that a file's name stands for.
func TypeOf(file string) (Type, error) {
	t, ok := extensions[strings.ToLower(path.Ext(file))]
	if !ok {
		return "", otherType("Only .md, .txt, .html, .docx, .pdf and .json (FHIR) are read.")
	}
	return t, nil
}

// read reads a document of the type. The cache is one of a Runner; it may be empty. An error that is
// no *Refusal is about the machine.
func read(t Type, b []byte, cache string) (*Document, error) {
	if err := agree(t, b); err != nil {
		return nil, err
	}

	d := &Document{}
	var err error
	switch t {
	case Markdown:
		err = d.markdown(b)
	case Text:
		err = d.text(b)
	case HTML:
		err = d.html(b)
	case DOCX:
		err = d.docx(b)
	case PDF:
		err = d.pdf(b, cache)
	case FHIR:
		err = d.fhir(b)
	default:
		err = otherType("The type %q is not read.", string(t))
	}

	if err != nil {
		return nil, err
	}

	if len(d.Blocks) == 0 {
		return nil, broken("The document has no text.")
	}
	return d, nil
}

// The first bytes of what is no text.
var (
	magicPDF = []byte("%PDF-")
	magicZip = []byte("PK\x03\x04")
	magicOLE = []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
)

// agree returns an error unless the content may be of the type that the name stands for.
func agree(t Type, b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return broken("The document is empty.")
	}

	switch t {
	case PDF:
		if !bytes.Contains(b[:min(len(b), 1024)], magicPDF) {
			return otherType("The file is named .pdf, and its content is no PDF.")
		}
		return nil
	case DOCX:
		switch {
		case bytes.HasPrefix(b, magicOLE):
			return broken("The document is encrypted, or in the format of Word before 2007. " +
				"Save it as .docx without a password.")
		case !bytes.HasPrefix(b, magicZip):
			return otherType("The file is named .docx, and its content is no DOCX.")
		}
		return nil
	}

	if !isText(b) {
		return otherType("The file's name stands for text, and its content is none in UTF-8.")
	}

	looksLike := http.DetectContentType(b)
	isHTML := strings.HasPrefix(looksLike, "text/html")
	switch {
	case t == HTML && !isHTML && !bytes.Contains(bytes.ToLower(b), []byte("</")):
		return otherType("The file is named .html, and its content is no HTML.")
	case t == Markdown && isPage(b), t == Text && isPage(b):
		return otherType("The content is HTML: name the file .html.")
	case t == FHIR && bytes.TrimLeft(noMark(b), " \t\r\n")[0] != '{':
		return otherType("The file is named .json, and its content is no JSON object.")
	}
	return nil
}

// isPage reports whether the text begins as a page of HTML does.
func isPage(b []byte) bool {
	head := bytes.ToLower(bytes.TrimSpace(noMark(b[:min(len(b), 512)])))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// isText reports whether the bytes are text in UTF-8.
func isText(b []byte) bool {
	for _, magic := range [][]byte{magicPDF, magicZip, magicOLE, []byte(`{\rtf`)} {
		if bytes.HasPrefix(b, magic) {
			return false
		}
	}
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// noMark returns the text without the byte order mark that may begin it.
func noMark(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\ufeff")) }

// add adds a block, unless it has no text.
func (d *Document) add(b Block) error {
	if b.Kind == Code || b.Kind == Paragraph {
		b.Text = lines(b.Text)
	} else {
		b.Text = oneLine(b.Text)
	}
	if b.Text == "" {
		return nil
	}

	d.size += len(b.Text)
	if d.size > MaxText || len(d.Blocks) >= MaxBlocks {
		return errTooLong
	}

	if d.Title == "" && b.Kind == Heading {
		d.Title = shorten(b.Text, maxTitle)
	}
	d.Blocks = append(d.Blocks, b)
	return nil
}

// maxTitle and maxWarnings bound what is said of a document.
const (
	maxTitle    = 200
	maxWarnings = 20
)

// warn adds a warning.
func (d *Document) warn(format string, args ...any) {
	if len(d.Warnings) < maxWarnings {
		d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
	}
}

// oneLine returns the text with one space for each run of white space, and without what is not to
// be seen.
func oneLine(s string) string { return strings.Join(strings.Fields(visible(s)), " ") }

// lines is like oneLine, and keeps line breaks.
func lines(s string) string {
	var out []string
	for line := range strings.Lines(visible(s)) {
		if line = oneLine(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// hidden are characters that text may have, and that nobody sees.
var hidden = []rune{'\u00ad', '\u200b', '\u200c', '\u200d', '\u2060', '\ufeff', '\ufffe', '\u0002'}

// visible returns the text without control characters, tags, and marks of direction.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || r == '\f' || r == '\v':
			return '\n'
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0, slices.Contains(hidden, r),
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r >= 0xe0000 && r <= 0xe007f:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// shorten returns the first most characters of a text.
func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
