package generation

import (
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// MaxHistory bounds what the model is sent of a conversation, in bytes of its messages. It is several times what the
// context of the models here holds (8192 tokens are some 32 KiB of English), so it bounds requests, not memory of the
// model: Ollama cuts to the context itself.
const MaxHistory = 128 << 10

// history is what the model is sent: the conversation's complete messages and the new one, which is always there. The
// oldest are dropped first; none is split, and nothing is left out between two that are sent, except answers that were
// stopped or failed.
func history(earlier []backendapi.Message, message string, budget int) []mlapi.Message {
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
	out := make([]mlapi.Message, 0, len(earlier)-first+1)
	for _, m := range earlier[first:] {
		if sent(m) {
			out = append(out, mlapi.Message{Role: m.Role, Content: m.Content})
		}
	}
	return append(out, mlapi.Message{Role: "user", Content: message})
}

func sent(m backendapi.Message) bool {
	return m.State == backendapi.MessageComplete && m.Content != ""
}
