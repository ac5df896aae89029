package parse

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// html reads a page: what a browser without scripts and styles shows of it.
func (d *Document) html(b []byte) error {
	root, err := html.Parse(bytes.NewReader(noMark(b)))
	if err != nil {
		return errTooDeep // the library gives up an element in 512 others, and knows no other error
	}

	r := &reader{d: d}
	if err := r.node(root, 0); err != nil {
		return err
	}
	return r.end()
}

// fragment reads HTML in another document.
func (d *Document) fragment(s string) error { return d.html([]byte(s)) }

// reader collects the text of a page into blocks.
type reader struct {
	d     *Document
	text  strings.Builder
	block Block // that the text is of
	pre   bool
}

// end ends the block.
func (r *reader) end() error {
	r.block.Text = r.text.String()
	r.text.Reset()
	if r.block.Kind == "" {
		r.block.Kind = Paragraph
	}

	err := r.d.add(r.block)
	r.block = Block{}
	return err
}

// within reads the children of an element as a block of its own.
func (r *reader) within(n *html.Node, b Block, depth int) error {
	if err := r.end(); err != nil {
		return err
	}

	r.block = b
	if err := r.children(n, depth); err != nil {
		return err
	}
	return r.end()
}

func (r *reader) children(n *html.Node, depth int) error {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if err := r.node(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) node(n *html.Node, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}

	switch n.Type {
	case html.TextNode:
		if r.pre {
			r.text.WriteString(n.Data)
		} else {
			r.text.WriteString(spaced(n.Data))
		}
		return nil
	case html.ElementNode:
		if isHidden(n) {
			return nil
		}
	case html.DocumentNode:
	default:
		return nil
	}

	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Template, atom.Noscript, atom.Iframe, atom.Object, atom.Svg,
		atom.Nav, atom.Select, atom.Button, atom.Textarea:
		return nil
	case atom.Title:
		r.d.Title = shorten(oneLine(textOf(n)), maxTitle)
		return nil
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		return r.within(n, Block{Kind: Heading, Level: int(n.Data[1] - '0')}, depth)
	case atom.Li, atom.Dt, atom.Dd:
		return r.within(n, Block{Kind: Item}, depth)
	case atom.Pre:
		r.pre = true
		err := r.within(n, Block{Kind: Code}, depth)
		r.pre = false
		return err
	case atom.Tr:
		return r.row(n)
	case atom.Br:
		r.text.WriteString("\n")
		return nil
	case atom.P, atom.Div, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Main,
		atom.Aside, atom.Blockquote, atom.Ul, atom.Ol, atom.Dl, atom.Table, atom.Figure, atom.Form,
		atom.Figcaption, atom.Caption, atom.Address, atom.Hr, atom.Body, atom.Details, atom.Summary:
		b := r.block // a paragraph in an item is of the item
		return r.within(n, Block{Kind: b.Kind, Level: b.Level}, depth)
	}
	return r.children(n, depth)
}

// row reads a row of a table.
func (r *reader) row(n *html.Node) error {
	if err := r.end(); err != nil {
		return err
	}

	var cells []string
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom == atom.Td || c.DataAtom == atom.Th {
			cells = append(cells, oneLine(textOf(c)))
		}
	}
	return r.d.add(Block{Kind: Row, Text: strings.Join(cells, " | ")})
}

// spaced returns text in which line breaks are spaces.
func spaced(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(s)
}

// textOf returns the text in an element, with spaces between its blocks.
func textOf(n *html.Node) string {
	var s strings.Builder
	for c := range n.Descendants() {
		switch {
		case c.Type == html.TextNode && !inHidden(c, n):
			s.WriteString(c.Data)
		case c.Type == html.ElementNode && c.DataAtom != atom.B && c.DataAtom != atom.I &&
			c.DataAtom != atom.A && c.DataAtom != atom.Span && c.DataAtom != atom.Em &&
			c.DataAtom != atom.Strong && c.DataAtom != atom.Sub && c.DataAtom != atom.Sup &&
			c.DataAtom != atom.Code:
			s.WriteString(" ")
		}
	}
	return s.String()
}

// inHidden reports whether something between the node and the element around it is not shown.
func inHidden(n, within *html.Node) bool {
	for p := n.Parent; p != nil && p != within; p = p.Parent {
		if isHidden(p) || p.DataAtom == atom.Script || p.DataAtom == atom.Style {
			return true
		}
	}
	return false
}

// isHidden reports whether an element says of itself that it is not shown.
func isHidden(n *html.Node) bool {
	for _, a := range n.Attr {
		switch a.Key {
		case "hidden":
			return true
		case "style":
			style := strings.ToLower(strings.ReplaceAll(a.Val, " ", ""))
			if strings.Contains(style, "display:none") ||
				strings.Contains(style, "visibility:hidden") {
				return true
			}
		}
	}
	return false
}
