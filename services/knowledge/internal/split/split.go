// Package split cuts a document into passages: parts that are short enough to be put into a prompt,
// and long enough to make sense by themselves.
//
// A passage stays within one heading. Blocks below it that fit together are one passage; a block
// that is longer than a passage is cut between sentences, and a sentence that is longer between
// words.
package split

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/rivo/uniseg"
)

// DefaultSize is how many characters a passage has at most. The test of package measure takes others
// by -size.
const DefaultSize = 1500

// Passage is a part of a document.
type Passage struct {
	// Heading is the path of headings above it, with " > " between them.
	Heading string `json:"heading,omitempty"`

	// Page is where it begins, from 1, in a document that has pages.
	Page int    `json:"page,omitempty"`
	Text string `json:"text"`
}

// maxHeading bounds the path of headings, and maxLevels how many of them it has.
const (
	maxHeading = 300
	maxLevels  = 6
)

// Document returns the passages of a document, none of which has more than size characters. Words
// that are longer are left out: left says how many they are.
func Document(blocks []parse.Block, size int) (passages []Passage, left int) {
	s := splitter{size: size}
	for _, b := range blocks {
		s.block(b)
	}
	s.end()
	return s.passages, s.left
}

// splitter collects blocks into a passage.
type splitter struct {
	size     int
	passages []Passage
	left     int

	headings [maxLevels]string
	text     strings.Builder
	chars    int
	page     int
	last     parse.Kind // of the last block in text

	// header is the first row of the table that the blocks are in: rows mean nothing without it.
	header string
	rows   int
}

func (s *splitter) block(b parse.Block) {
	if b.Kind != parse.Row {
		s.header, s.rows = "", 0
	}

	switch b.Kind {
	case parse.Heading:
		s.end()
		level := min(max(b.Level, 1), maxLevels)
		s.headings[level-1] = b.Text
		for i := level; i < maxLevels; i++ {
			s.headings[i] = ""
		}
		return
	case parse.Item:
		b.Text = "- " + b.Text
	case parse.Row:
		if s.rows++; s.rows == 1 && utf8.RuneCountInString(b.Text) <= s.size/4 {
			s.header = b.Text
		}
	}

	chars := utf8.RuneCountInString(b.Text)
	if s.chars > 0 && (s.chars+2+chars > s.size || s.page != b.Page) {
		s.end()
		s.repeatHeader(b, chars)
	}
	if chars <= s.size {
		s.add(b, b.Text)
		return
	}

	for _, piece := range s.pieces(b.Text) {
		s.end()
		s.add(b, piece)
	}
}

// repeatHeader begins a passage in a table with the table's header, if there is room for it.
func (s *splitter) repeatHeader(b parse.Block, chars int) {
	if b.Kind == parse.Row && s.header != "" && s.rows > 1 &&
		utf8.RuneCountInString(s.header)+2+chars <= s.size {
		s.add(b, s.header)
	}
}

// add adds the text of a block to the passage.
func (s *splitter) add(b parse.Block, text string) {
	if s.chars == 0 {
		s.page = b.Page
	} else {
		separator := "\n\n"
		if b.Kind == s.last && (b.Kind == parse.Item || b.Kind == parse.Row) {
			separator = "\n"
		}
		s.text.WriteString(separator)
		s.chars += len(separator)
	}

	s.text.WriteString(text)
	s.chars += utf8.RuneCountInString(text)
	s.last = b.Kind
}

// end ends the passage.
func (s *splitter) end() {
	if s.chars > 0 {
		s.passages = append(s.passages, Passage{
			Heading: s.path(), Page: s.page, Text: s.text.String(),
		})
	}
	s.text.Reset()
	s.chars = 0
}

// path returns the headings above the passage.
func (s *splitter) path() string {
	var path []string
	for _, h := range s.headings {
		if h != "" {
			path = append(path, h)
		}
	}

	joined := []rune(strings.Join(path, " > "))
	if len(joined) > maxHeading {
		joined = append(joined[:maxHeading-1], '…')
	}
	return string(joined)
}

// pieces returns a text in pieces that are no longer than a passage.
func (s *splitter) pieces(text string) []string {
	var (
		out   []string
		piece strings.Builder
		chars int
	)
	end := func() {
		if t := strings.TrimSpace(piece.String()); t != "" {
			out = append(out, t)
		}
		piece.Reset()
		chars = 0
	}
	add := func(part string, n int) {
		if chars+n > s.size {
			end()
		}
		piece.WriteString(part)
		chars += n
	}

	for rest, state := text, -1; rest != ""; {
		var sentence string
		sentence, rest, state = uniseg.FirstSentenceInString(rest, state)
		n := utf8.RuneCountInString(sentence)
		if n <= s.size {
			add(sentence, n)
			continue
		}

		for words, state := sentence, -1; words != ""; {
			var word string
			word, words, state = nextWord(words, state)
			switch n := utf8.RuneCountInString(word); {
			case n <= s.size:
				add(word, n)
			default:
				s.left++
			}
		}
	}

	end()
	return out
}

// nextWord returns the first word of a text, with what stands between it and the next one, so that
// no mark is cut from its word. Of a script that has no spaces it is one by Unicode's rules.
func nextWord(text string, state int) (word, rest string, newState int) {
	word, rest, state = uniseg.FirstWordInString(text, state)
	for rest != "" {
		next, more, after := uniseg.FirstWordInString(rest, state)
		r, _ := utf8.DecodeRuneInString(next)
		last, _ := utf8.DecodeLastRuneInString(word)
		if unicode.IsSpace(last) && !unicode.IsSpace(r) || isWord(r) && isWord(last) ||
			utf8.RuneCountInString(word) > DefaultSize*4 {
			break
		}
		word, rest, state = word+next, more, after
	}
	return word, rest, state
}

// isWord reports whether a character is of a word. Two such that Unicode's rules part, such as
// ideographs, may be parted.
func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
