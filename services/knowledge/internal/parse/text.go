package parse

import (
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	mdtext "github.com/yuin/goldmark/text"
)

// text reads plain text: paragraphs are between empty lines.
func (d *Document) text(b []byte) error {
	var paragraph strings.Builder
	end := func() error {
		err := d.add(Block{Kind: Paragraph, Text: paragraph.String()})
		paragraph.Reset()
		return err
	}

	for line := range strings.Lines(strings.ReplaceAll(string(noMark(b)), "\r\n", "\n")) {
		if strings.TrimSpace(line) != "" {
			paragraph.WriteString(line)
			continue
		}
		if err := end(); err != nil {
			return err
		}
	}
	return end()
}

// markdown reads Markdown with GitHub's tables.
func (d *Document) markdown(b []byte) error {
	source := frontMatter(noMark(b))
	md := goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough))
	root := md.Parser().Parse(mdtext.NewReader(source))
	depth := 0
	return ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			depth--
			return ast.WalkContinue, nil
		}
		if depth++; depth > maxDepth {
			return ast.WalkStop, errTooDeep
		}

		var block Block
		switch n := n.(type) {
		case *ast.Heading:
			block = Block{Kind: Heading, Level: n.Level, Text: inline(n, source)}
		case *ast.Paragraph, *ast.TextBlock:
			block = Block{Kind: Paragraph, Text: inline(n, source)}
			if n.Parent().Kind() == ast.KindListItem {
				block.Kind = Item
			}
		case *ast.FencedCodeBlock, *ast.CodeBlock:
			block = Block{Kind: Code, Text: raw(n, source)}
		case *east.TableRow, *east.TableHeader:
			var cells []string
			for c := n.FirstChild(); c != nil; c = c.NextSibling() {
				cells = append(cells, oneLine(inline(c, source)))
			}
			block = Block{Kind: Row, Text: strings.Join(cells, " | ")}
		case *ast.HTMLBlock:
			return ast.WalkSkipChildren, d.fragment(raw(n, source))
		default:
			return ast.WalkContinue, nil
		}

		return ast.WalkSkipChildren, d.add(block)
	})
}

// frontMatter returns Markdown without the settings in YAML that may begin it.
func frontMatter(b []byte) []byte {
	s := string(b)
	if !strings.HasPrefix(s, "---\n") {
		return b
	}
	_, rest, ok := strings.Cut(s[4:], "\n---\n")
	if !ok {
		return b
	}
	return []byte(rest)
}

// raw returns the lines of a block.
func raw(n ast.Node, source []byte) string {
	var s strings.Builder
	for i := range n.Lines().Len() {
		line := n.Lines().At(i)
		s.Write(line.Value(source))
	}
	return s.String()
}

// inline returns the text of what a block holds: of a link what is to be seen, and of a picture
// what stands for it.
func inline(n ast.Node, source []byte) string {
	var s strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			s.Write(n.Segment.Value(source))
			if n.SoftLineBreak() || n.HardLineBreak() {
				s.WriteString("\n")
			}
		case *ast.String:
			s.Write(n.Value)
		case *ast.AutoLink:
			s.Write(n.Label(source))
		}
		return ast.WalkContinue, nil
	})
	return s.String()
}
