// Package controltoken knows what models take as control tokens, such as the one that ends a turn.
// Ollama parses them wherever they stand in a prompt, so a text with one could end its turn and
// begin another, such as the system's.
package controltoken

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// pattern matches control tokens. In the order of the alternatives: ChatML, Llama 3, Phi, Qwen and
// most others; DeepSeek's with full-width bars; Gemma; Llama 2 and other SentencePiece models;
// Mistral.
var pattern = regexp.MustCompile(
	`<\|[^<>|\s]{1,64}\|>|<｜[^<>｜\s]{1,64}｜>|` +
		`</?(?:start|end)_of_\w{1,32}>|</?s>|<</?SYS>>|<(?:bos|eos|pad|unk)>|` +
		`\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|THINK)\]`,
)

// Find returns the first control token of any model in the text; "" if there is none.
func Find(text string) string { return pattern.FindString(text) }

// Break returns the text with each control token of any model broken, as BreakUp does.
func Break(text string) string {
	if !strings.ContainsAny(text, "<[") {
		return text
	}
	return pattern.ReplaceAllStringFunc(text, BreakUp)
}

// BreakUp returns the token with a zero-width space after its first character: people read the same,
// the tokenizer does not see a control token.
func BreakUp(token string) string {
	_, n := utf8.DecodeRuneInString(token)
	return token[:n] + "\u200b" + token[n:]
}
