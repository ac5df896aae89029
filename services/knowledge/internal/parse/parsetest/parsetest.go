// Package parsetest makes documents for tests.
package parsetest

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// PDF returns a PDF with a page for each text, whose lines are in Helvetica. An empty text is a page
// without one.
func PDF(title string, pages ...string) []byte {
	return pdf(title, "", pages)
}

// EncryptedPDF is PDF of a document that wants a password.
func EncryptedPDF(pages ...string) []byte {
	key := strings.Repeat("58", 32)
	return pdf("", "<< /Filter /Standard /V 1 /R 2 /P -4 /O <"+key+"> /U <"+key+"> >>", pages)
}

func pdf(title, encrypt string, pages []string) []byte {
	var kids []string
	var objects []string // from number 4 on
	for _, text := range pages {
		var content strings.Builder
		content.WriteString("BT /F1 11 Tf 14 TL 50 780 Td\n")
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(line)
			fmt.Fprintf(&content, "(%s) Tj T*\n", line)
		}
		content.WriteString("ET\n")
		n := 4 + len(objects)
		kids = append(kids, fmt.Sprintf("%d 0 R", n))
		objects = append(objects,
			fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "+
				"/Resources << /Font << /F1 3 0 R >> >> >>", n+1),
			fmt.Sprintf("<< /Length %d >>\nstream\n%sendstream", content.Len(), content.String()))
	}

	all := append([]string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		fmt.Sprintf("<< /Type /Pages /Count %d /Kids [%s] >>", len(pages), strings.Join(kids, " ")),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
	}, objects...)
	all = append(all, fmt.Sprintf("<< /Title (%s) >>", title))
	trailer := fmt.Sprintf("/Root 1 0 R /Info %d 0 R /ID [<00> <00>]", len(all))
	if encrypt != "" {
		all = append(all, encrypt)
		trailer += fmt.Sprintf(" /Encrypt %d 0 R", len(all))
	}

	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	var offsets []int
	for i, o := range all {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(all)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer << /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n", len(all)+1, trailer, start)
	return b.Bytes()
}

// DOCX returns a document of Word with the body, in the XML of word/document.xml.
func DOCX(t testing.TB, title, body string) []byte {
	t.Helper()
	const w = `xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"`
	return Zip(t, map[string]string{
		"[Content_Types].xml": `<Types xmlns="http://schemas.openxmlformats.org/package/2006/` +
			`content-types"/>`,
		"word/document.xml": "<w:document " + w + "><w:body>" + body + "</w:body></w:document>",
		"word/styles.xml": "<w:styles " + w + `><w:style w:styleId="berschrift1">` +
			`<w:name w:val="heading 1"/></w:style><w:style w:styleId="H2"><w:name w:val="Own"/>` +
			`<w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style></w:styles>`,
		"docProps/core.xml": `<cp:coreProperties xmlns:cp="x" xmlns:dc="y"><dc:title>` + title +
			`</dc:title></cp:coreProperties>`,
	})
}

// Zip returns an archive with the files.
func Zip(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
