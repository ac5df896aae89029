// Package tinymodel writes a language model of 600 KB that a real Ollama loads and runs on a
// processor, so that tests exercise the real thing: loading, streaming, stopping,
// cancelling, embedding.
//
// It is a llama of one layer whose weights are computed, not learned. The residual stream has two
// halves. The first holds "the class of the last token": the output matrix maps each class to the
// one token that follows, so the model is a chain of words. The second holds a random code per
// token: attention with zero queries and keys averages it over the prompt, which makes an embedding
// that depends on the text. Any prompt leads to the class "prompt", and so to Answer.
//
// The file is the same on every machine and in every run.
package tinymodel

import (
	"fmt"
	"io"
	"math"
	"math/rand"
	"strings"
)

// Name is the name that tests give the model in Ollama.
const Name = "tiny"

// Tokens that, as the very last token of a prompt, select another answer. Put one at
// the end of a template.
const (
	AltToken  = "<|alt|>"  // answers AltAnswer
	LoopToken = "<|loop|>" // repeats LoopWords until num_predict or a cancelled request ends it
)

// What the model says. The temperature does not matter: every other token is more
// than 100 logits behind.
const (
	Answer = "Hello! I am tiny test model running on real Ollama; every answer from me is " +
		"always these same twenty fixed words, then stop."
	AltAnswer = "Second version speaking: template was changed and rebuilt successfully."
	LoopWords = " again and again but"
)

// Words that are one token together: the vocabulary merger joins neighbouring one-character pieces
// whenever the two-character result is a token, so every token has three characters or more.
var answerTokens = strings.NewReplacer("I am", "I_am", "from me", "from_me", "is always",
	"is_always", "again and", "again_and", "again but", "again_but")

// Dimensions of the model.
const (
	dim     = 128 // the residual stream: classes, then text code
	split   = 64  // where the text code begins
	head    = 64  // the one attention head
	ffn     = 32  // the feed-forward layer, all zero
	context = 8192
)

// Token types of a SentencePiece vocabulary.
const (
	typeNormal  int32 = 1
	typeUnknown int32 = 2
	typeControl int32 = 3
	typeUnused  int32 = 5
	typeByte    int32 = 6
)

// Ids of the tokens that the tokenizer must know.
const (
	unknownID uint32 = iota
	beginID
	endID
)

// Write writes the model in GGUF format. It fails only where w does.
func Write(w io.Writer) error { return write(w, newVocabulary()) }

// WriteContinuing writes a model that says the same, and goes on from a part of it that ends the
// prompt: its tokenizer finds the words in a text, as it has a token for each word's every
// beginning, where the other one finds letters.
func WriteContinuing(w io.Writer) error { return write(w, newContinuingVocabulary()) }

// WriteCalling writes a model that says the same, and more if its prompt asks for it: see
// CallingModelfile.
func WriteCalling(w io.Writer) error { return write(w, newCallingVocabulary()) }

func write(w io.Writer, v *vocabulary) error {
	if err := writeGGUF(w, v.metadata(), v.tensors()); err != nil {
		return fmt.Errorf("tinymodel: write GGUF: %w", err)
	}
	return nil
}

// Modelfile returns a Modelfile that makes a model from the GGUF file, or the model, named from.
// The prompt ends in end: empty, AltToken or LoopToken.
func Modelfile(from, end string) string {
	return "FROM " + from + "\n" + `TEMPLATE """{{ if .System }}[SYS]{{ .System }}[/SYS]
{{ end }}{{ range .Messages }}[{{ .Role }}] {{ .Content }}
{{ end }}[assistant]` + end + `"""
`
}

// CallingModelfile returns a Modelfile that makes a model from a GGUF file of WriteCalling. Given
// tools it answers with Call, and with Answer when it has the call's result; between a text and its
// suffix it writes Filling.
func CallingModelfile(from string) string {
	return "FROM " + from + "\n" + `TEMPLATE """{{ if .Suffix }}[before]{{ .Prompt }}[after]` +
		`{{ .Suffix }}[middle]` + fillToken + `{{ else }}{{ if .System }}[SYS]{{ .System }}[/SYS]
{{ end }}{{ range .Tools }}[tool] {{ . }}
{{ end }}{{ $last := "" }}{{ range .Messages }}{{ $last = .Role }}[{{ .Role }}] {{ .Content }}` +
		`{{ if .ToolCalls }}{{ range .ToolCalls }}` +
		`{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}` +
		`{{ end }}{{ end }}
{{ end }}[assistant]{{ if and .Tools (ne $last "tool") }}` + callToken + `{{ end }}{{ end }}"""
`
}

// CallingContext is the longest context of a model of WriteCalling in tokens: the prompt of an agent
// fits, of which each letter is one.
const CallingContext = 131072

// What a model of WriteCalling says, and the tokens that select it.
const (
	Call    = `{"name": "glob", "arguments": {"pattern": "*"}}`
	Filling = "return first + second"

	callToken = "<|call|>"
	fillToken = "<|fill|>"
)

// vocabulary is the list of tokens and the chain that they form.
type vocabulary struct {
	tokens []string
	types  []int32
	class  []int // class of each token: which of the first half's dimensions it lights up
	next   []int // token that follows each class; -1 for none

	// context is the longest one in tokens.
	context uint32
}

func newVocabulary() *vocabulary { return makeVocabulary(false, false) }

func newContinuingVocabulary() *vocabulary { return makeVocabulary(true, false) }

func newCallingVocabulary() *vocabulary { return makeVocabulary(false, true) }

func makeVocabulary(continuing, calling bool) *vocabulary {
	v := &vocabulary{context: context}
	prompt, alt, loop := v.addClass(), v.addClass(), v.addClass()
	v.add("<unk>", typeUnknown, prompt)
	v.add("<s>", typeControl, prompt)
	v.add("</s>", typeControl, prompt)
	v.add(AltToken, typeControl, alt)
	v.add(LoopToken, typeControl, loop)
	for b := range 256 {
		v.add(fmt.Sprintf("<0x%02X>", b), typeByte, prompt)
	}

	v.add("▁", typeNormal, prompt)
	for c := '!'; c <= '~'; c++ { // one token per printable ASCII character
		v.add(string(c), typeNormal, prompt)
	}

	if continuing {
		v.addBeginnings(prompt, Answer)
	}

	if calling {
		v.context = CallingContext
		for _, x := range []struct{ token, text string }{{callToken, Call}, {fillToken, Filling}} {
			class := v.addClass()
			v.add(x.token, typeControl, class)
			v.addSentence(class, x.text, false)
		}
	}

	v.addSentence(prompt, Answer, false)
	v.addSentence(alt, AltAnswer, false)
	v.addSentence(loop, LoopWords, true)
	for len(v.tokens)%32 != 0 { // whole rows for vectorised kernels
		v.add(fmt.Sprintf("<unused%d>", len(v.tokens)), typeUnused, prompt)
	}

	return v
}

func (v *vocabulary) add(text string, kind int32, class int) (id int) {
	v.tokens, v.types, v.class = append(v.tokens, text), append(v.types, kind), append(v.class,
		class)
	return len(v.tokens) - 1
}

func (v *vocabulary) addClass() int {
	v.next = append(v.next, -1)
	return len(v.next) - 1
}

// addSentence makes text follow the class start, and the end token, or the sentence
// again, follow the text.
func (v *vocabulary) addSentence(start int, text string, again bool) {
	last, first := start, -1
	for i, word := range strings.Fields(answerTokens.Replace(text)) {
		word = strings.ReplaceAll(word, "_", "▁")
		if i > 0 || again {
			word = "▁" + word // SentencePiece writes a space as U+2581
		}

		class := v.addClass()
		id := v.add(word, typeNormal, class)
		if first < 0 {
			first = id
		}

		v.next[last], last = id, class
	}

	v.next[last] = int(endID)
	if again {
		v.next[last] = first
	}
}

// addBeginnings adds a token for each beginning of the text's words that is longer than a letter
// and shorter than the word: the tokenizer joins two pieces only to what is a token.
func (v *vocabulary) addBeginnings(class int, text string) {
	words, seen := map[string]bool{}, map[string]bool{}
	split := strings.Fields(answerTokens.Replace(text))
	for i, word := range split {
		split[i] = strings.ReplaceAll(word, "_", "▁")
		if i > 0 {
			split[i] = "▁" + split[i]
		}
		words[split[i]] = true
	}

	for _, word := range split {
		letters := []rune(word)
		for n := 2; n < len(letters); n++ {
			if beginning := string(letters[:n]); !words[beginning] && !seen[beginning] {
				seen[beginning] = true
				v.add(beginning, typeNormal, class)
			}
		}
	}
}

// metadata is what a GGUF file says about a llama and its tokenizer.
func (v *vocabulary) metadata() map[string]any {
	scores := make([]float32, len(v.tokens))
	for i := range scores {
		scores[i] = -float32(i)
	}

	return map[string]any{
		"general.architecture":                   "llama",
		"general.name":                           "tiny-bigram",
		"general.file_type":                      uint32(0), // all tensors are F32
		"general.alignment":                      uint32(alignment),
		"llama.context_length":                   v.context,
		"llama.embedding_length":                 uint32(dim),
		"llama.block_count":                      uint32(1),
		"llama.feed_forward_length":              uint32(ffn),
		"llama.attention.head_count":             uint32(1),
		"llama.attention.head_count_kv":          uint32(1),
		"llama.attention.key_length":             uint32(head),
		"llama.attention.value_length":           uint32(head),
		"llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"llama.rope.dimension_count":             uint32(head),
		"llama.rope.freq_base":                   float32(10000),
		"llama.vocab_size":                       uint32(len(v.tokens)),
		"tokenizer.ggml.model":                   "llama",
		"tokenizer.ggml.pre":                     "default",
		"tokenizer.ggml.tokens":                  v.tokens,
		"tokenizer.ggml.scores":                  scores,
		"tokenizer.ggml.token_type":              v.types,
		"tokenizer.ggml.unknown_token_id":        unknownID,
		"tokenizer.ggml.bos_token_id":            beginID,
		"tokenizer.ggml.eos_token_id":            endID,
		"tokenizer.ggml.add_bos_token":           true,
		"tokenizer.ggml.add_eos_token":           false,
		"tokenizer.ggml.add_space_prefix":        false,
	}
}

// tensors are the weights, in the order of their names. A row of a matrix makes one output.
func (v *vocabulary) tensors() []tensor {
	n := len(v.tokens)
	embedding, output := make([]float32, n*dim), make([]float32, n*dim)
	// this source's numbers are fixed by Go 1's compatibility promise
	random := rand.New(rand.NewSource(1))
	for id := range n {
		row := embedding[id*dim : (id+1)*dim]
		row[v.class[id]] = 0.7
		if v.types[id] == typeControl {
			continue
		}

		code, norm := row[split:], 0.0
		for j := range code {
			code[j] = float32(random.NormFloat64())
			norm += float64(code[j]) * float64(code[j])
		}

		for j := range code {
			code[j] *= float32(0.5 / math.Sqrt(norm))
		}
	}

	for class, id := range v.next {
		if id >= 0 {
			// a logit of about 16*sqrt(128)*0.6, against 0 for every other token
			output[id*dim+class] = 16
		}
	}

	value, attention := make([]float32, dim*head), make([]float32, head*dim)
	for j := range head {
		value[j*dim+split+j] = 0.3
		attention[(split+j)*head+j] = 1
	}

	return []tensor{
		{"blk.0.attn_k.weight", []uint64{dim, head}, make([]float32, dim*head)},
		{"blk.0.attn_norm.weight", []uint64{dim}, ones(dim)},
		{"blk.0.attn_output.weight", []uint64{head, dim}, attention},
		{"blk.0.attn_q.weight", []uint64{dim, head}, make([]float32, dim*head)},
		{"blk.0.attn_v.weight", []uint64{dim, head}, value},
		{"blk.0.ffn_down.weight", []uint64{ffn, dim}, make([]float32, ffn*dim)},
		{"blk.0.ffn_gate.weight", []uint64{dim, ffn}, make([]float32, dim*ffn)},
		{"blk.0.ffn_norm.weight", []uint64{dim}, ones(dim)},
		{"blk.0.ffn_up.weight", []uint64{dim, ffn}, make([]float32, dim*ffn)},
		{"output.weight", []uint64{dim, uint64(n)}, output},
		{"output_norm.weight", []uint64{dim}, ones(dim)},
		{"token_embd.weight", []uint64{dim, uint64(n)}, embedding},
	}
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}
