// Package vocabulary counts the tokens of a text as a model's tokenizer does, and knows which texts
// are control tokens of that model.
package vocabulary

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/controltoken"
	"github.com/ollama/ollama/tokenizer"
)

// Metadata is what a GGUF file says about its tokenizer, as Ollama shows it.
type Metadata struct {
	Model  string    `json:"tokenizer.ggml.model"`
	Pre    string    `json:"tokenizer.ggml.pre"`
	Tokens []string  `json:"tokenizer.ggml.tokens"`
	Types  []int32   `json:"tokenizer.ggml.token_type"`
	Scores []float32 `json:"tokenizer.ggml.scores"`
	Merges []string  `json:"tokenizer.ggml.merges"`
}

// Vocabulary is that of one model. A nil Vocabulary is unknown: it estimates, and takes what looks
// like a control token of any model for one. It is safe for concurrent use.
type Vocabulary struct {
	// encode is nil where the tokenizer is not supported.
	encode func(string) (int, error)

	// marks replaces each token that the tokenizer finds in the plain text by mark.
	marks *strings.Replacer

	// breaks breaks the control tokens up.
	breaks *strings.Replacer

	seed maphash.Seed
	mu   sync.Mutex

	// counts has the tokens of texts that were counted before: a conversation comes back with each
	// of its turns.
	counts map[uint64]int
}

const (
	// mark stands for one token. It is in no text: JSON's strings come without it from New and
	// Count.
	mark = "\x00"

	// pieceSize bounds in bytes what the tokenizer gets at once, as its time grows faster than the
	// text does.
	pieceSize = 2048

	// maxCounts bounds how many counts are kept.
	maxCounts = 16384

	// fewTokens is fewer than any model has.
	fewTokens = 16
)

// New makes the vocabulary of the metadata. An unsupported tokenizer is no error: its control
// tokens are known, and its tokens are estimated.
func New(m Metadata) (*Vocabulary, error) {
	if len(m.Tokens) < fewTokens || len(m.Types) != len(m.Tokens) {
		return nil, fmt.Errorf("a vocabulary of %d tokens with %d types",
			len(m.Tokens), len(m.Types))
	}

	v := &Vocabulary{seed: maphash.MakeSeed(), counts: map[uint64]int{}}
	var found, control []string
	for i, token := range m.Tokens {
		// One that is a single character cannot be broken up; none is known to be a control token.
		if utf8.RuneCountInString(token) < 2 || strings.Contains(token, mark) {
			continue
		}

		switch m.Types[i] {
		case tokenizer.TOKEN_TYPE_CONTROL:
			found, control = append(found, token), append(control, token)
		case tokenizer.TOKEN_TYPE_USER_DEFINED:
			found = append(found, token)
			// The others are words, such as the HTML tags and the runs of spaces of Gemma.
			if controltoken.Find(token) == token {
				control = append(control, token)
			}
		}
	}

	v.marks = replacer(found, func(string) string { return mark })
	v.breaks = replacer(control, controltoken.BreakUp)

	// What is found in the plain text is taken out before, so there is nothing special left: to
	// look for each of thousands in each text takes longer than all the rest.
	plain := &tokenizer.Vocabulary{
		Values: m.Tokens,
		Types:  make([]int32, len(m.Tokens)),
		Scores: m.Scores,
		Merges: m.Merges,
	}

	for i, t := range m.Types {
		plain.Types[i] = t
		if t == tokenizer.TOKEN_TYPE_CONTROL || t == tokenizer.TOKEN_TYPE_USER_DEFINED {
			plain.Types[i] = tokenizer.TOKEN_TYPE_NORMAL
		}
	}

	switch {
	case m.Model == "gpt2" && len(m.Merges) > 0:
		bpe := tokenizer.NewBytePairEncoding(plain, pretokenizers(m.Pre)...)
		v.encode = lengths(bpe)
	case m.Model == "llama" && len(m.Scores) == len(m.Tokens):
		spm := tokenizer.NewSentencePiece(plain)
		v.encode = lengths(spm)
	}

	return v, nil
}

// lengths makes a function that counts the tokens of a text.
func lengths(t tokenizer.Tokenizer) func(string) (int, error) {
	return func(s string) (int, error) {
		ids, err := t.Encode(s, false)
		return len(ids), err
	}
}

// replacer replaces the longest of the texts that begins at a place.
func replacer(texts []string, by func(string) string) *strings.Replacer {
	slices.SortStableFunc(texts, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, t := range texts {
		pairs = append(pairs, t, by(t))
	}
	return strings.NewReplacer(pairs...)
}

// Exact reports whether Count counts; else it estimates.
func (v *Vocabulary) Exact() bool { return v != nil && v.encode != nil }

// Count returns how many tokens a text is. Texts that are joined may be a few more or fewer than
// they are apart.
func (v *Vocabulary) Count(text string) int { return v.CountTo(text, math.MaxInt) }

// CountTo is Count for a text of which only matters how long it is up to a limit: beyond that it
// counts no further, and returns what the whole has if it goes on like its beginning.
func (v *Vocabulary) CountTo(text string, limit int) int {
	if !v.Exact() {
		return Estimate(text)
	}

	key := maphash.String(v.seed, text)
	v.mu.Lock()
	n, known := v.counts[key]
	v.mu.Unlock()
	if known {
		return n
	}

	n, seen, err := v.count(text, limit)
	if err != nil {
		return Estimate(text)
	}
	if seen < len(text) {
		return max(limit+1, int(float64(n)*float64(len(text))/float64(seen)))
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.counts) >= maxCounts {
		clear(v.counts)
	}

	v.counts[key] = n
	return n
}

// count counts the tokens until they are more than the limit, and returns in how many bytes of the
// text they are.
func (v *Vocabulary) count(text string, limit int) (n, seen int, err error) {
	defer func() {
		if p := recover(); p != nil { // a vocabulary with holes in it
			err = errors.New("the tokenizer failed")
		}
	}()

	marked := v.marks.Replace(strings.ReplaceAll(text, mark, " "))
	left := len(marked)
	for i, part := range strings.Split(marked, mark) {
		if i > 0 {
			n, left = n+1, left-len(mark)
		}

		for part != "" {
			if n > limit {
				return n, len(text) * (len(marked) - left) / len(marked), nil
			}

			piece := part[:border(part)]
			part = part[len(piece):]
			more, err := v.encode(piece)
			if err != nil {
				return 0, 0, err
			}

			n, left = n+more, left-len(piece)
		}
	}

	return n, len(text), nil
}

// border is where the first piece of a text ends: before a space or a line break where there is
// one, as tokens begin there.
func border(text string) int {
	if len(text) <= pieceSize {
		return len(text)
	}
	if at := strings.LastIndexAny(text[:pieceSize], " \n"); at > pieceSize/2 {
		return at
	}

	for at := pieceSize; at > pieceSize-utf8.UTFMax; at-- {
		if utf8.RuneStart(text[at]) {
			return at
		}
	}

	return pieceSize
}

// Estimate returns about how many tokens a text is at most: one for two bytes of ASCII, one for
// each other byte. English has four bytes a token, code three, and what tokenizers know worst, one.
func Estimate(text string) int {
	other := 0
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			other++
		}
	}
	return (len(text)-other+1)/2 + other
}

// Parts of the patterns by which texts are split before their pieces are merged.
const (
	endings = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	rest    = `| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

	// Words of which only the first letters are capitals, or all.
	lower = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	upper = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	slash = `| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// pretokenizers returns the patterns by the name that the GGUF file gives them. They are those that
// Ollama's own models use.
func pretokenizers(name string) []string {
	switch name {
	case "default", "gpt-2", "":
		return nil // the tokenizer's own
	case "qwen2", "deepseek-r1-qwen":
		return []string{endings + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}` + rest}
	case "refact":
		return []string{
			`\p{N}`,
			`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
		}
	case "tekken":
		return []string{lower + `|` + upper + `|\p{N}` + slash}
	case "gpt-4o":
		return []string{lower + endings + `?|` + upper + endings + `?|\p{N}{1,3}` + slash}
	}

	return []string{endings + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}` + rest}
}
