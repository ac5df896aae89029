package markdown

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// Stream renders an answer while it is being written. A block that another one follows can no longer
// change, nor a code block whose fence is closed: it is parsed, rendered and sent once, and forgotten.
// Only the last block, still open, is rendered anew, and code in it has no colours before its fence is
// closed.
//
// A document is read line by line: complete lines decide which blocks are closed, so what an unfinished line will turn
// out to be ("-" may become a list, a rule or a heading's underline) never changes a block that was given out as final.
// The one thing that reaches back is a link reference defined after its use; Finish corrects that.
type Stream struct {
	r      *Renderer
	src    []byte
	base   int      // src[base:] is not yet final
	seen   int      // complete lines up to here were looked at for closed blocks
	sent   []string // the blocks as the reader has them
	closed int      // sent[:closed] are final
	refs   []parser.Reference
	held   string // a carriage return that may be half of a line break
}

// Update says how to change the blocks that the reader has: keep the first From, of block From keep the first Keep
// UTF-16 code units (as JavaScript counts) and put HTML[0] behind them, then go on with the rest of HTML as new blocks.
type Update struct {
	From int      `json:"from"`
	Keep int      `json:"keep,omitempty"`
	HTML []string `json:"html"`
}

// NewStream starts an answer.
func (r *Renderer) NewStream() *Stream { return &Stream{r: r} }

// Write adds text. It renders nothing.
func (s *Stream) Write(delta string) {
	delta = s.held + delta
	s.held = ""
	if strings.HasSuffix(delta, "\r") {
		delta, s.held = delta[:len(delta)-1], "\r"
	}
	s.src = append(s.src, clean(delta)...)
}

// Text is the Markdown so far.
func (s *Stream) Text() string { return string(s.src) }

// OpenSize is the size of the HTML that an update has to make anew, in bytes.
func (s *Stream) OpenSize() int {
	n := 0
	for _, b := range s.sent[s.closed:] {
		n += len(b)
	}
	return n
}

// Update renders what has changed since the last one. ok is false when nothing has.
func (s *Stream) Update() (u Update, ok bool) {
	first := s.closed
	blocks := s.close()
	next := s.closed + len(blocks)
	tail := s.src[s.base:]
	doc := s.parse(tail, s.context())
	s.r.code.colour(doc, tail, false)
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		blocks = append(blocks, s.r.block(s.r.answer, tail, n))
	}
	u, ok = s.diff(first, blocks)
	s.closed = next
	return u, ok
}

// Snapshot renders all that there is, for a reader that has nothing.
func (s *Stream) Snapshot() Update {
	s.Update()
	return Update{HTML: append([]string{}, s.sent...)}
}

// Finish renders the whole document as Blocks does and gives the difference to what the reader has.
func (s *Stream) Finish() (u Update, ok bool) {
	u, ok = s.diff(0, s.r.Blocks(string(s.src)))
	s.closed, s.base = len(s.sent), len(s.src)
	return u, ok
}

// close renders the blocks that the complete lines close, and moves base behind them.
func (s *Stream) close() []string {
	end := s.base + bytes.LastIndexByte(s.src[s.base:], '\n') + 1
	if end <= s.seen || end == s.base {
		return nil
	}
	s.seen = end
	complete := s.src[s.base:end]
	ctx := s.context()
	doc := s.parse(complete, ctx)
	open, n := openBlock(doc, complete)
	if n == 0 {
		return nil
	}
	s.r.code.colour(doc, complete, false)
	var out []string
	for b := doc.FirstChild(); b != open; b = b.NextSibling() {
		out = append(out, s.r.block(s.r.answer, complete, b))
	}
	if len(ctx.References()) > len(s.refs) {
		// Not the ones of the open block: a title may follow on the next line.
		ctx = s.context()
		s.parse(complete[:n], ctx)
		s.refs = ctx.References()
	}
	s.base += n
	return out
}

// openBlock returns the first block that may still change and where it begins: nil and the end when
// the last one is a code block whose fence is closed.
func openBlock(doc ast.Node, complete []byte) (ast.Node, int) {
	last := doc.LastChild()
	if code, ok := last.(*ast.FencedCodeBlock); ok && ended(code, complete) {
		return nil, len(complete)
	}
	// A paragraph whose later lines became a table stays open with it: both have the paragraph's position.
	for last != nil && last.PreviousSibling() != nil && last.Pos() <= last.PreviousSibling().Pos() {
		last = last.PreviousSibling()
	}
	if last == nil || last == doc.FirstChild() {
		return last, 0
	}
	return last, bytes.LastIndexByte(complete[:last.Pos()], '\n') + 1
}

// context knows the link references of the closed blocks.
func (s *Stream) context() parser.Context {
	ctx := s.r.context()
	for _, ref := range s.refs {
		ctx.AddReference(ref)
	}
	return ctx
}

func (s *Stream) parse(part []byte, ctx parser.Context) ast.Node {
	return s.r.answer.Parser().Parse(text.NewReader(part), parser.WithContext(ctx))
}

// diff makes blocks the ones that the reader has from first on.
func (s *Stream) diff(first int, blocks []string) (Update, bool) {
	same := 0
	for first+same < len(s.sent) && same < len(blocks) && s.sent[first+same] == blocks[same] {
		same++
	}
	from, rest := first+same, blocks[same:]
	if len(rest) == 0 && from == len(s.sent) {
		return Update{}, false
	}
	u := Update{From: from, HTML: append([]string{}, rest...)}
	if from < len(s.sent) && len(rest) > 0 {
		var n int
		n, u.Keep = commonPrefix(s.sent[from], rest[0])
		u.HTML[0] = rest[0][n:]
	}
	s.sent = append(s.sent[:from], rest...)
	return u, true
}

// commonPrefix is the length of what a and b begin with, in bytes and in UTF-16 code units.
func commonPrefix(a, b string) (n, units int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	for _, r := range b[:n] {
		units++
		if r > 0xFFFF {
			units++
		}
	}
	return n, units
}
