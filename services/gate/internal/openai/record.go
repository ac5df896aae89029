package openai

import (
	"context"
	"net/http"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
)

// begin records that an owner's program asks the model.
func (s *service) begin(r *http.Request, owner, model string) (*audit.Act, error) {
	question := session.Record(r, auditlog.Question, owner)
	question.Model, question.Bytes = model, int(max(0, r.ContentLength))
	return s.Audit.Begin(r.Context(), question)
}

// refuse records that a key of somebody's was refused. A text that is nobody's key is not recorded:
// anybody can send many.
func (s *service) refuse(r *http.Request, refusal *apikey.Refusal) {
	record := session.Record(r, auditlog.Access, refusal.Owner)
	record.Object = s.Audit.Name(apikey.Kind, refusal.Key)
	record.Detail = map[string]string{"route": r.Pattern, "why": refusal.Why}
	s.Audit.Refuse(r.Context(), record)
}

// end records how the answer ended, of which so many bytes came. done is nil if it is not complete.
func end(ctx context.Context, act *audit.Act, bytes int, done *mlapi.Done, err error) {
	if act == nil {
		return
	}

	r := &act.Record
	r.Action, r.Bytes = auditlog.Answer, bytes
	if done != nil {
		r.Digest, r.PromptTokens, r.Tokens = done.Digest, done.PromptTokens, done.Tokens
	}

	switch {
	case err == nil:
		act.End(auditlog.Done)
	case ctx.Err() != nil:
		act.End(auditlog.Stopped)
	case asFault(err, "").Status < http.StatusInternalServerError:
		act.End(auditlog.Refused)
	default:
		act.End(auditlog.Failed)
	}
}
