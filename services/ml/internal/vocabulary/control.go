package vocabulary

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern matches what models take as control tokens. In the order of the alternatives: ChatML,
// Llama 3, Phi, Qwen and most others; DeepSeek's with full-width bars; Gemma; Llama 2 and other
// SentencePiece models; Mistral.
var pattern = regexp.MustCompile(
	`<\|[^<>|\s]{1,64}\|>|<｜[^<>｜\s]{1,64}｜>|` +
		`</?(?:start|end)_of_\w{1,32}>|</?s>|<</?SYS>>|<(?:bos|eos|pad|unk)>|` +
		`\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|THINK)\]`,
)

// Neutralise breaks the model's control tokens in a person's text with a zero-width space after
// their first character: people read the same, the tokenizer does not see a control token. Ollama
// parses them wherever they stand in the prompt, so a person could end the system's turn and begin
// one of their own. Text without them stays as it is, byte by byte.
func (v *Vocabulary) Neutralise(text string) string {
	if v == nil {
		if !strings.ContainsAny(text, "<[") {
			return text
		}
		return pattern.ReplaceAllStringFunc(text, breakUp)
	}

	for { // one token may be inside another
		out := v.breaks.Replace(text)
		if out == text {
			return out
		}
		text = out
	}
}

func breakUp(token string) string {
	_, n := utf8.DecodeRuneInString(token)
	return token[:n] + "\u200b" + token[n:]
}
