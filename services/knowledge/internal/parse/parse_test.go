package parse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse/parsetest"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// runner returns a Runner whose child is this test's binary. They share one cache.
func runner() *parse.Runner {
	r := &parse.Runner{
		Program: []string{os.Args[0], child}, Limits: parse.DefaultLimits, Cache: cache(),
	}
	if err := r.Prepare(context.Background()); err != nil {
		panic(err)
	}
	return r
}

var cache = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "pdfium")
	if err != nil {
		panic(err)
	}
	return dir
})

// child is the first argument of this binary as a child. The types that it knows beside those of
// documents do what a document should not make it do.
const child = "child-of-the-test"

func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != child {
		code := m.Run()
		os.RemoveAll(cache())
		os.Exit(code)
	}

	err := parse.Child(parse.Type(os.Args[2]), os.Stdin, os.Stdout, os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	switch os.Args[2] {
	case "confined":
		confined()
	case "memory":
		for all := []byte{1}; len(all) > 0; time.Sleep(time.Millisecond) {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20)...)
		}
	case "loop":
		for start := time.Now(); time.Since(start) < time.Hour; {
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "output":
		for {
			os.Stdout.WriteString(strings.Repeat("x", 1000))
		}
	}
	os.Exit(0)
}

// confined ends with an error if it can read a file, write one, or reach the network.
func confined() {
	_, read := os.ReadFile("/proc/version")
	write := os.WriteFile(filepath.Join(os.TempDir(), "confined"), []byte("x"), 0o600)
	_, dial := net.Dial("tcp", "127.0.0.1:1")
	for _, err := range []error{read, write, dial} {
		if !errors.Is(err, fs.ErrPermission) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// run reads a document in a child process.
func run(t testing.TB, r *parse.Runner, kind parse.Type, content []byte) (*parse.Document, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "document"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return r.Run(t.Context(), kind, f)
}

func heading(level int, text string) parse.Block {
	return parse.Block{Kind: parse.Heading, Level: level, Text: text}
}

func block(kind parse.Kind, text string) parse.Block { return parse.Block{Kind: kind, Text: text} }

const markdown = `---
title: settings
---
# Leaving the ward

See [the *form*](http://example.com/?q=secret) or ![a picture](x.png).
A second line.

- one
- two

  more of two
  1. nested

| Drug | Dose |
|------|------|
| A    | 5 mg |

` + "```\ncode  here\nand here\n```" + `

<div>a <b>block</b> of HTML<script>evil()</script></div>

## Letters
`

const page = `<!DOCTYPE html><html><head><title>A page</title><style>x{}</style></head><body>
<nav>Menu</nav><h1>Leaving</h1><p>A paragraph
of <em>two</em> lines.<br>And a third.</p><p style="Display: None">hidden</p><p hidden>hidden</p>
<ul><li>one</li><li>two<ul><li>nested</li></ul></li></ul>
<table><tr><th>Drug</th><th>Dose</th></tr><tr><td>A<script>x</script></td><td><p>5</p><p>mg</p></td></tr></table>
<pre>code
 here</pre><!-- a comment --><script>evil()</script><iframe src="http://example.com">x</iframe>after</body></html>`

const word = `<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Leaving</w:t></w:r></w:p>
<w:p><w:r><w:t>A </w:t></w:r><w:ins><w:r><w:t xml:space="preserve">new </w:t></w:r></w:ins>
<w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>
<w:r><w:t>text.</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="H2"/></w:pPr><w:r><w:t>Letters</w:t></w:r></w:p>
<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>one</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Drug</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Dose</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p><w:r><w:t>A</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>5</w:t></w:r></w:p><w:p><w:r><w:t>mg</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
<w:p><w:r><w:instrText>HYPERLINK "http://example.com"</w:instrText></w:r><w:r><w:t>the end</w:t></w:r></w:p>`

const bundle = `{"resourceType":"Bundle","type":"collection","entry":[
{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Observation","id":"o1","status":"final",
 "code":{"coding":[{"system":"http://loinc.org","code":"4548-4","display":"Hemoglobin A1c"}]},
 "subject":{"reference":"Patient/p1","display":"Ada Example"},"effectiveDateTime":"2026-03-01",
 "valueQuantity":{"value":7.10,"unit":"%"},
 "referenceRange":[{"low":{"value":4,"unit":"%"},"high":{"value":6,"unit":"%"},"text":"normal"}],
 "note":[{"text":"Fasting."}]}},
{"resource":{"resourceType":"MedicationRequest","status":"active","intent":"order",
 "medicationCodeableConcept":{"text":"Metformin 500 mg"},
 "dosageInstruction":[{"text":"twice a day","timing":{"repeat":{"frequency":2,"period":1,"periodUnit":"d"}}}]}},
{"resource":{"resourceType":"Patient","name":[{"family":"Example","given":["Ada","M."]}],
 "birthDate":"1950-12-10","deceasedBoolean":false}}]}`

func TestTypes(t *testing.T) {
	for _, tt := range []struct {
		kind    parse.Type
		content []byte
		want    parse.Document
	}{
		{parse.Text, []byte("\ufeffone\r\ntwo\r\n\r\n \r\nthree\u200b"),
			parse.Document{Blocks: []parse.Block{
				block(parse.Paragraph, "one\ntwo"), block(parse.Paragraph, "three")}}},
		{parse.Markdown, []byte(markdown), parse.Document{Title: "Leaving the ward",
			Blocks: []parse.Block{
				heading(1, "Leaving the ward"),
				block(parse.Paragraph, "See the form or a picture.\nA second line."),
				block(parse.Item, "one"), block(parse.Item, "two"), block(parse.Item, "more of two"),
				block(parse.Item, "nested"),
				block(parse.Row, "Drug | Dose"), block(parse.Row, "A | 5 mg"),
				block(parse.Code, "code here\nand here"),
				block(parse.Paragraph, "a block of HTML"),
				heading(2, "Letters"),
			}}},
		{parse.HTML, []byte(page), parse.Document{Title: "A page", Blocks: []parse.Block{
			heading(1, "Leaving"),
			block(parse.Paragraph, "A paragraph of two lines.\nAnd a third."),
			block(parse.Item, "one"), block(parse.Item, "two"), block(parse.Item, "nested"),
			block(parse.Row, "Drug | Dose"), block(parse.Row, "A | 5 mg"),
			block(parse.Code, "code\nhere"), block(parse.Paragraph, "after"),
		}}},
		{parse.DOCX, parsetest.DOCX(t, "A letter", word), parse.Document{Title: "A letter",
			Blocks: []parse.Block{
				heading(1, "Leaving"), block(parse.Paragraph, "A new text."), heading(2, "Letters"),
				block(parse.Item, "one"),
				block(parse.Row, "Drug | Dose"), block(parse.Row, "A | 5 mg"),
				block(parse.Paragraph, "the end"),
			}}},
		{parse.PDF, parsetest.PDF("A scan", "Leaving the ward\nwith a letter (two)", "", "The end"),
			parse.Document{Title: "A scan", Blocks: []parse.Block{
				{Kind: parse.Paragraph, Page: 1, Text: "Leaving the ward\nwith a letter (two)"},
				{Kind: parse.Paragraph, Page: 3, Text: "The end"},
			}, Warnings: []string{"Page 2 has no text. It may be a picture."}}},
		{parse.FHIR, []byte(bundle), parse.Document{Blocks: []parse.Block{
			heading(1, "Observation: Hemoglobin A1c (4548-4)"),
			block(parse.Item, "status: final"),
			block(parse.Item, "code: Hemoglobin A1c (4548-4)"),
			block(parse.Item, "subject: Ada Example (Patient/p1)"),
			block(parse.Item, "value: 7.10 %"),
			block(parse.Item, "effective: 2026-03-01"),
			block(parse.Item, "note: Fasting."),
			block(parse.Item, "reference range: 4 % to 6 %"),
			heading(1, "Medication request: Metformin 500 mg"),
			block(parse.Item, "status: active"),
			block(parse.Item, "dosage instruction, text: twice a day"),
			block(parse.Item, "dosage instruction, timing, repeat, frequency: 2"),
			block(parse.Item, "dosage instruction, timing, repeat, period: 1"),
			block(parse.Item, "dosage instruction, timing, repeat, period unit: d"),
			block(parse.Item, "intent: order"),
			block(parse.Item, "medication: Metformin 500 mg"),
			heading(1, "Patient: Ada M. Example"),
			block(parse.Item, "name: Ada M. Example"),
			block(parse.Item, "birth date: 1950-12-10"),
			block(parse.Item, "deceased boolean: false"),
		}}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			got, err := run(t, runner(), tt.kind, tt.content)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&tt.want, got, cmp.AllowUnexported(parse.Document{})); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestTypeOf(t *testing.T) {
	for file, want := range map[string]parse.Type{
		"a.md": parse.Markdown, "A.PDF": parse.PDF, "x.y.docx": parse.DOCX, "b.json": parse.FHIR,
		"a.exe": "", "pdf": "", "": "", "a.doc": "",
	} {
		if got, err := parse.TypeOf(file); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", file, got, err)
		}
	}
}

// TestRefused has documents that are not read. Each is read by a child of its own, with what it
// may use.
func TestRefused(t *testing.T) {
	bomb := strings.Repeat("\x00", 300<<20)
	manyParts := map[string]string{}
	for i := range 6000 {
		manyParts[fmt.Sprint("part", i)] = ""
	}
	deepWord := strings.Repeat("<w:sdt>", 10_000) + strings.Repeat("</w:sdt>", 10_000)
	whole := parsetest.PDF("", "text")
	document := parsetest.DOCX(t, "", word)

	for name, tt := range map[string]struct {
		kind    parse.Type
		content []byte
		status  int
		detail  string
	}{
		"empty":               {parse.Text, nil, 422, "empty"},
		"white space":         {parse.Markdown, []byte(" \n\t\n"), 422, "empty"},
		"no text in HTML":     {parse.HTML, []byte("<!DOCTYPE html><html><script>x</script></html>"), 422, "no text"},
		"PDF named text":      {parse.Text, whole, 415, "none in UTF-8"},
		"binary named text":   {parse.Text, []byte("a\x00b"), 415, "none in UTF-8"},
		"Latin-1":             {parse.Text, []byte("caf\xe9"), 415, "UTF-8"},
		"RTF":                 {parse.Text, []byte(`{\rtf1 text}`), 415, "none in UTF-8"},
		"HTML named Markdown": {parse.Markdown, []byte(page), 415, "name the file .html"},
		"text named HTML":     {parse.HTML, []byte("only text"), 415, "no HTML"},
		"text named PDF":      {parse.PDF, []byte("only text"), 415, "no PDF"},
		"text named DOCX":     {parse.DOCX, []byte("only text"), 415, "no DOCX"},
		"ZIP named DOCX":      {parse.DOCX, parsetest.Zip(t, map[string]string{"a": "b"}), 415, "another archive"},
		"DOC named DOCX":      {parse.DOCX, []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more"), 422, "encrypted"},
		"cut DOCX":            {parse.DOCX, document[:len(document)/2], 422, "broken"},
		"cut PDF":             {parse.PDF, whole[:100], 422, "broken"},
		"encrypted PDF":       {parse.PDF, parsetest.EncryptedPDF("secret"), 422, "encrypted"},
		"pictures":            {parse.PDF, parsetest.PDF("", "", ""), 422, "pictures"},
		"zip bomb":            {parse.DOCX, parsetest.Zip(t, map[string]string{"word/document.xml": bomb}), 422, "expands"},
		"many parts":          {parse.DOCX, parsetest.Zip(t, manyParts), 422, "parts"},
		"broken XML":          {parse.DOCX, parsetest.DOCX(t, "", "<w:p>"), 422, "no XML"},
		"deep DOCX":           {parse.DOCX, parsetest.DOCX(t, "", deepWord), 422, "nested"},
		"deep HTML":           {parse.HTML, []byte("<html>" + strings.Repeat("<div>", 10_000) + "x"), 422, "nested"},
		"deep JSON":           {parse.FHIR, []byte(`{"resourceType":"X","a":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}"), 422, "nested"},
		"deeper JSON":         {parse.FHIR, []byte(`{"resourceType":"X","a":` + strings.Repeat("[", 100_000)), 422, "broken"},
		"deep quotes":         {parse.Markdown, []byte(strings.Repeat(">", 10_000) + " x"), 422, ""},
		"other JSON":          {parse.FHIR, []byte(`{"a":1}`), 415, "FHIR"},
		"a JSON list":         {parse.FHIR, []byte(`[1]`), 415, "no JSON object"},
		"two JSON objects":    {parse.FHIR, []byte(`{"resourceType":"A"}{"resourceType":"B"}`), 422, "broken"},
		"too much text":       {parse.Text, bytes.Repeat([]byte("words and words\n\n"), 1<<20), 422, "MB of text"},
		"entities":            {parse.DOCX, parsetest.Zip(t, map[string]string{"word/document.xml": `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>`}), 422, "no XML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, runner(), tt.kind, tt.content)
			var r *parse.Refusal
			if !errors.As(err, &r) || r.Status != tt.status || !strings.Contains(r.Detail, tt.detail) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBounds has children that take more than a document may.
func TestBounds(t *testing.T) {
	// What the process holds that serves is not the child's.
	held := bytes.Repeat([]byte{1}, 320<<20)
	defer runtime.KeepAlive(held)
	for kind, tt := range map[parse.Type]struct {
		limits parse.Limits
		detail string
	}{
		"memory": {parse.Limits{Memory: 100 << 20, CPU: 50 * time.Second, Wall: time.Minute, Output: 1 << 20}, "MB of memory"},
		"loop":   {parse.Limits{Memory: 300 << 20, CPU: time.Second, Wall: time.Minute, Output: 1 << 20}, "takes too long"},
		"sleep":  {parse.Limits{Memory: 300 << 20, CPU: time.Minute, Wall: time.Second, Output: 1 << 20}, "longer than 1s"},
		"output": {parse.Limits{Memory: 300 << 20, CPU: time.Minute, Wall: time.Minute, Output: 1 << 20}, "MB of text"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			r := runner()
			r.Limits = tt.limits
			_, err := run(t, r, kind, []byte("x"))
			var refusal *parse.Refusal
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Detail, tt.detail) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestConfined has a child try to read a file, to write one, and to reach the network.
func TestConfined(t *testing.T) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0,
		unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 4 {
		t.Skipf("this kernel has no Landlock that knows the network: %d, %v", abi, errno)
	}

	// Its refusal of the type is what it answers if it could do none of it.
	_, err := run(t, runner(), "confined", []byte("x"))
	var r *parse.Refusal
	if !errors.As(err, &r) || r.Status != 415 {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = runner().Run(ctx, "sleep", f)
	var refusal *parse.Refusal
	if err == nil || errors.As(err, &refusal) {
		t.Errorf("got %v", err)
	}
}

// TestUnprepared reads a PDF before PDFium is compiled.
func TestUnprepared(t *testing.T) {
	r := &parse.Runner{Program: []string{os.Args[0], child}, Limits: parse.DefaultLimits}
	d, err := run(t, r, parse.PDF, parsetest.PDF("", "text"))
	if err != nil || d.Blocks[0].Text != "text" {
		t.Errorf("got %v, %v", d, err)
	}
}

func BenchmarkPDF(b *testing.B) {
	content := parsetest.PDF("", strings.Repeat("Some words of a page.\n", 40))
	r := runner()
	for b.Loop() {
		if _, err := run(b, r, parse.PDF, content); err != nil {
			b.Fatal(err)
		}
	}
}
