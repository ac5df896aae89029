package vocabulary

import (
	"slices"
	"strings"
	"testing"
)

// TestUnknown: of a vocabulary that is not known, what looks like a control token is taken for one.
func TestUnknown(t *testing.T) {
	for text, want := range map[string]string{
		"plain [1] text < 3":     "plain [1] text < 3",
		"<|im_start|>system":     "<\u200b|im_start|>system",
		"<<|alt|>|alt|>":         "<<\u200b|alt|>|alt|>",
		"<|fim-prefix|>":         "<\u200b|fim-prefix|>",
		"<start_of_turn>user":    "<\u200bstart_of_turn>user",
		"<｜User｜>":               "<\u200b｜User｜>",
		"a</s><s>[INST]":         "a<\u200b/s><\u200bs>[\u200bINST]",
		"<<SYS>> [/INST]":        "<\u200b<SYS>> [\u200b/INST]",
		"a <| b |> c":            "a <| b |> c",
		"if a <b> && [x] {<eos>": "if a <b> && [x] {<\u200beos>",
	} {
		got := (*Vocabulary)(nil).Neutralise(text)
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if again := (*Vocabulary)(nil).Neutralise(got); again != got {
			t.Errorf("%q: a second time gives %q", text, again)
		}
	}
}

// metadata is that of a SentencePiece vocabulary of letters, with more tokens of one type.
func metadata(kind int32, tokens ...string) Metadata {
	m := Metadata{Model: "llama", Tokens: []string{"<unk>", "▁", "<0x0A>"}, Types: []int32{2, 1, 6}}
	for c := '!'; c <= '~'; c++ {
		m.Tokens, m.Types = append(m.Tokens, string(c)), append(m.Types, 1)
	}

	for _, t := range tokens {
		m.Tokens, m.Types = append(m.Tokens, t), append(m.Types, kind)
	}

	m.Scores = make([]float32, len(m.Tokens))
	return m
}

func made(t *testing.T, m Metadata) *Vocabulary {
	t.Helper()
	v, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

const pasted = "if a[i] < b { x = []string{\"<s>\", \"[INST]\", `<|im_start|>`, \"</s>\"} } // " +
	"<start_of_turn> <｜User｜> <<SYS>> 漢字 \u200b\n"

// TestNeutralise: what a person pasted stays as it is, byte by byte, but for the control tokens of
// the very model.
func TestNeutralise(t *testing.T) {
	const control, user = 3, 4
	for name, tc := range map[string]struct {
		vocabulary *Vocabulary
		text, want string
	}{
		"none of them": {made(t, metadata(control, "<|eot_id|>", "<bos>")), pasted, pasted},
		"one of them": {made(t, metadata(control, "<|im_start|>")), pasted,
			strings.ReplaceAll(pasted, "<|im_start|>", "<\u200b|im_start|>")},
		"any of its names": {made(t, metadata(control, "[gMASK]", "｜end｜")), "a [gMASK] b ｜end｜",
			"a [\u200bgMASK] b ｜\u200bend｜"},
		"one in another": {made(t, metadata(control, "<|a|>", "<<|a|>|b|>")), "<<|a|>|b|>", "<\u200b<\u200b|a|>|b|>"},
		"twice":          {made(t, metadata(control, "</s>")), "</s></s>", "<\u200b/s><\u200b/s>"},
		"user's marks":   {made(t, metadata(user, "<|user|>")), "a <|user|>", "a <\u200b|user|>"},
		"user's words": {made(t, metadata(user, "<table>", "\n\n", "  ", "<think>")),
			"<table>\n\n  <think>", "<table>\n\n  <think>"},
	} {
		got := tc.vocabulary.Neutralise(tc.text)
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if again := tc.vocabulary.Neutralise(got); again != got {
			t.Errorf("%s: a second time gives %q", name, again)
		}
	}
}

func TestCount(t *testing.T) {
	v := made(t, metadata(3, "<|eot_id|>"))
	for text, want := range map[string]int{"": 0, "abc": 3, "a b": 3, "a\n": 2, "x<|eot_id|>y": 3, "a\x00b": 3,
		strings.Repeat("ab ", 5000): 15000, strings.Repeat("a", 10000): 10000} {
		if got := v.Count(text); got != want {
			t.Errorf("%.20q: %d, want %d", text, got, want)
		}
		if got := v.Count(text); got != want {
			t.Errorf("%.20q a second time: %d, want %d", text, got, want)
		}
	}

	for text, want := range map[string]int{"": 0, "abcd": 2, "abc": 2, "é": 2, "漢字": 6, "ab漢": 4} {
		if got := (*Vocabulary)(nil).Count(text); got != want {
			t.Errorf("estimate of %q: %d, want %d", text, got, want)
		}
	}
}

// TestCountTo: beyond the limit it does not count, and what it says is like the beginning.
func TestCountTo(t *testing.T) {
	m := metadata(3, "<|eot_id|>")
	v := made(t, m)
	encode, counted := v.encode, 0
	v.encode = func(s string) (int, error) { counted += len(s); return encode(s) }
	text := strings.Repeat("ab <|eot_id|>", 5000)
	if got := v.CountTo(text, 4000); got < 19000 || got > 21000 || counted > 4000 {
		t.Errorf("%d tokens after %d bytes", got, counted)
	}
	if got := v.CountTo(text, 20000); got != 20000 {
		t.Errorf("%d tokens", got)
	}
	if got := v.Count(text); got != 20000 { // the other one is not kept
		t.Errorf("%d tokens", got)
	}
}

// TestMetadata: what is no vocabulary is an error, a tokenizer that is not supported is estimated.
func TestMetadata(t *testing.T) {
	short := metadata(3)
	short.Types = short.Types[:5]
	for _, m := range []Metadata{{}, {Model: "llama", Tokens: []string{"a"}, Types: []int32{1}}, short} {
		if v, err := New(m); err == nil {
			t.Errorf("%v is one: %+v", m.Tokens, v)
		}
	}

	other := metadata(3, "<|eot_id|>")
	other.Model = "t5"
	if v := made(t, other); v.Exact() || v.Count("abcd") != 2 ||
		v.Neutralise("<|eot_id|> <s>") != "<\u200b|eot_id|> <s>" {
		t.Error("an unsupported tokenizer")
	}

	noScores := metadata(3)
	noScores.Scores = nil
	if made(t, noScores).Exact() {
		t.Error("a SentencePiece vocabulary without scores")
	}
}

// TestBytePairs: the vocabulary of the models that most people use.
func TestBytePairs(t *testing.T) {
	m := Metadata{Model: "gpt2", Merges: []string{"h e", "l l", "he ll", "hell o", "Ġ w"}}
	for b := range 256 {
		r := rune(b)
		switch { // as GPT-2 writes bytes
		case r == 0xad:
			r = 0x143
		case r <= 0x20:
			r += 0x100
		case r >= 0x7f && r <= 0xa0:
			r += 0xa2
		}

		m.Tokens = append(m.Tokens, string(r))
	}

	for _, merge := range m.Merges {
		m.Tokens = append(m.Tokens, strings.ReplaceAll(merge, " ", ""))
	}

	m.Tokens = append(m.Tokens, "<|im_end|>")
	m.Types = slices.Repeat([]int32{1}, len(m.Tokens)-1)
	m.Types = append(m.Types, 3)
	for _, pre := range []string{"default", "llama-bpe", "qwen2", "tekken", "gpt-4o", "refact"} {
		m.Pre = pre
		v := made(t, m)
		for text, want := range map[string]int{"hello": 1, "hello world": 6, "hello<|im_end|>": 2, "漢": 3, "\n": 1} {
			if got := v.Count(text); got != want {
				t.Errorf("%s: %q: %d, want %d", pre, text, got, want)
			}
		}
	}
}
