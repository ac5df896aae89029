package parse

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Limits of the archive that a DOCX is.
const (
	maxEntries  = 5_000
	maxExpanded = 256 << 20
	maxPart     = 128 << 20 // of the parts that are read
)

// docx reads the text of a document of Word 2007 or later.
func (d *Document) docx(b []byte) error {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return broken("The document is broken: it is cut, or no archive.")
	}
	if len(z.File) > maxEntries {
		return broken("The document has more than %d parts.", maxEntries)
	}

	var expanded uint64
	for _, f := range z.File {
		if f.Flags&1 != 0 {
			return broken("The document is encrypted. Save it without a password.")
		}
		if expanded += f.UncompressedSize64; expanded > maxExpanded {
			return broken("The document expands to more than %d MB.", maxExpanded>>20)
		}
	}

	styles, err := part(z, "word/styles.xml")
	if err != nil {
		return err
	}
	levels, err := headingStyles(styles)
	if err != nil {
		return err
	}

	body, err := part(z, "word/document.xml")
	if err != nil {
		return err
	}
	if body == nil {
		return otherType("The file is named .docx, and its content is another archive.")
	}

	core, err := part(z, "docProps/core.xml")
	if err != nil {
		return err
	}
	var properties struct {
		Title string `xml:"title"`
	}
	if core != nil && xml.Unmarshal(core, &properties) == nil {
		d.Title = shorten(oneLine(properties.Title), maxTitle)
	}

	if err := d.wordText(body, levels); err != nil {
		return err
	}
	notes, err := part(z, "word/footnotes.xml")
	if err != nil || notes == nil {
		return err
	}
	return d.wordText(notes, levels)
}

// part returns what an entry of the archive holds, nil if there is none.
func part(z *zip.Reader, name string) ([]byte, error) {
	f, err := z.Open(name)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPart+1))
	switch {
	case err != nil:
		return nil, broken("The document is broken: the part %s cannot be read.", name)
	case len(b) > maxPart:
		return nil, broken("The document expands to more than %d MB.", maxPart>>20)
	}
	return b, nil
}

// headingStyles returns the levels of the styles that are headings, by their ids.
func headingStyles(b []byte) (map[string]int, error) {
	levels := map[string]int{}
	id := ""
	err := elements(b, func(e xml.StartElement) {
		switch e.Name.Local {
		case "style":
			id = attribute(e, "styleId")
		case "name":
			name := strings.ToLower(attribute(e, "val"))
			if n, ok := strings.CutPrefix(name, "heading "); ok && id != "" {
				levels[id], _ = strconv.Atoi(n)
			} else if name == "title" {
				levels[id] = 1
			}
		case "outlineLvl":
			if n, err := strconv.Atoi(attribute(e, "val")); err == nil && n < 9 && id != "" {
				levels[id] = n + 1
			}
		}
	}, nil, nil)
	return levels, err
}

// wordText adds the paragraphs and tables of a part.
func (d *Document) wordText(b []byte, levels map[string]int) error {
	var (
		text    strings.Builder
		block   = Block{Kind: Paragraph}
		cells   []string // of the row, if it is in one
		cell    strings.Builder
		tables  int // how many it is in
		skipped int // how deep it is in what is not shown
		run     bool
		failed  error
	)
	start := func(e xml.StartElement) {
		switch e.Name.Local {
		case "del", "moveFrom", "instrText", "pict", "drawing", "Fallback":
			skipped++
		case "tbl":
			tables++
		case "p":
			text.Reset()
			block = Block{Kind: Paragraph}
		case "pStyle":
			if level := levels[attribute(e, "val")]; level > 0 {
				block.Kind, block.Level = Heading, level
			}
		case "numPr":
			if block.Kind == Paragraph {
				block.Kind = Item
			}
		case "r":
			run = true
		case "vanish", "webHidden":
			if value := attribute(e, "val"); value != "0" && value != "false" {
				run = false // a run that is hidden
			}
		case "tab":
			text.WriteString(" ")
		case "br", "cr":
			text.WriteString("\n")
		}
	}
	end := func(name string) {
		switch name {
		case "del", "moveFrom", "instrText", "pict", "drawing", "Fallback":
			skipped--
		case "tbl":
			tables--
		case "p":
			if tables > 0 {
				cell.WriteString(text.String() + " ")
				return
			}
			block.Text = text.String()
			failed = errors.Join(failed, d.add(block))
		case "tc":
			if tables == 1 {
				cells = append(cells, oneLine(cell.String()))
				cell.Reset()
			}
		case "tr":
			if tables == 1 {
				failed = errors.Join(failed,
					d.add(Block{Kind: Row, Text: strings.Join(cells, " | ")}))
				cells = nil
			}
		}
	}
	inText := func(path []string, s string) {
		if skipped == 0 && run && path[len(path)-1] == "t" {
			text.WriteString(s)
		}
	}

	if err := elements(b, start, end, inText); err != nil {
		return err
	}
	return failed
}

// elements calls the functions for each element of XML, its end and its text. Nested too deep it is
// an error. The standard library knows no entity that a document defines.
func elements(
	b []byte, start func(xml.StartElement), end func(string), text func([]string, string),
) error {
	dec := xml.NewDecoder(bytes.NewReader(b))
	var path []string
	for {
		t, err := dec.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return broken("The document is broken: a part of it is no XML.")
		}

		switch t := t.(type) {
		case xml.StartElement:
			if path = append(path, t.Name.Local); len(path) > maxDepth {
				return errTooDeep
			}
			start(t)
		case xml.EndElement:
			path = path[:len(path)-1]
			if end != nil {
				end(t.Name.Local)
			}
		case xml.CharData:
			if text != nil && len(path) > 0 {
				text(path, string(t))
			}
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
