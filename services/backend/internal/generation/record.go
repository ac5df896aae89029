package generation

import (
	"context"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// outcomes are those of answers, by their states. An answer that is left to another instance has no
// outcome yet, and one that was refused is a question that was.
var outcomes = map[string]auditlog.Outcome{
	backendapi.MessageComplete: auditlog.Done,
	backendapi.MessageStopped:  auditlog.Stopped,
	backendapi.MessageFailed:   auditlog.Failed,
}

// record records the end of an answer. done is nil if it is not complete.
func (m *Manager) record(
	ctx context.Context, g store.Generation, state, model string, bytes int, done *mlapi.Done,
) {
	outcome, over := outcomes[state]
	if !over {
		return
	}

	r := auditlog.Record{
		Action: auditlog.Answer,
		Actor:  g.Owner,
		Object: m.Audit.Name("conversation", g.ConversationID),
		Model:  model,
		Bytes:  bytes,
	}
	if done != nil {
		r.Digest, r.PromptTokens, r.Tokens = done.Digest, done.PromptTokens, done.Tokens
	}

	m.Audit.Note(ctx, r, outcome)
}
