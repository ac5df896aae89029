package generation

import (
	"strings"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// MaxHistory bounds the messages of a conversation that ml is sent, in bytes. It bounds
// requests, not the model's memory: it is several times what the context of the models here holds
// (8192 tokens are some 32 KiB of English), and ml leaves out what the context does not hold.
const MaxHistory = 128 << 10

// history returns what ml is sent: the conversation's messages and the new one, which is
// always there. The oldest are dropped first; none is split, and nothing is left out between
// two that are sent, except answers that failed. An answer that was stopped is sent as far as
// it came: the person stopped it because that was enough, and may refer to it. One that failed
// is not: the person is asked to send the message again, and half an answer to it would be
// taken for a whole one.
func history(earlier []backendapi.Message, message string, budget int) []mlapi.Message {
	first := dropped(earlier, message, budget)
	out := make([]mlapi.Message, 0, len(earlier)-first+1)
	for _, m := range earlier[first:] {
		if sent(m) {
			out = append(out, mlapi.Message{Role: m.Role, Content: m.Content})
		}
	}

	return append(out, mlapi.Message{Role: "user", Content: message})
}

// dropped returns how many of the messages history drops.
func dropped(earlier []backendapi.Message, message string, budget int) int {
	left := budget - len(message)
	first := len(earlier)
	for first > 0 {
		m := earlier[first-1]
		if sent(m) {
			if left -= len(m.Content); left < 0 {
				break
			}
		}
		first--
	}

	return first
}

// sent reports whether ml is sent a message.
func sent(m backendapi.Message) bool {
	return (m.State == backendapi.MessageComplete || m.State == backendapi.MessageStopped) &&
		m.Content != ""
}

// beginsAgain stands in an answer that was interrupted and could not be continued, before it begins
// again. It stays in the text: what was seen is never rewritten.
const beginsAgain = "\n\n---\n\n*The answer was interrupted here and begins again:*\n\n"

// sinceBegun returns the text of an answer since it last began.
func sinceBegun(text string) string {
	if at := strings.LastIndex(text, beginsAgain); at >= 0 {
		return text[at+len(beginsAgain):]
	}
	return text
}

// beginAgain returns what is added to the text so far before the answer begins again: beginsAgain,
// behind the end of a code block that is open.
func beginAgain(text string) string { return CloseCode(text) + beginsAgain }

// CloseCode returns what ends the block of code that is open at the end of a text in
// Markdown, or "" if none is.
func CloseCode(text string) string {
	fence := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		bare := strings.TrimLeft(line, " ")
		if len(line)-len(bare) > 3 {
			continue
		}

		marks := bare[:len(bare)-len(strings.TrimLeft(bare, "`"))]
		if marks == "" {
			marks = bare[:len(bare)-len(strings.TrimLeft(bare, "~"))]
		}

		switch {
		case len(marks) < 3:
		case fence == "" && (marks[0] == '~' || !strings.Contains(bare[len(marks):], "`")):
			fence = marks
		case fence != "" && marks[0] == fence[0] && len(marks) >= len(fence) &&
			strings.TrimSpace(bare[len(marks):]) == "":
			fence = ""
		}
	}

	if fence != "" {
		return "\n" + fence
	}

	return ""
}
