package audit

import (
	"context"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
)

const (
	// refusalPause is how long nothing more is recorded of somebody who is refused the same again.
	refusalPause = time.Hour

	// maxRefusals bounds the refusals that are remembered. If there are more, all are forgotten.
	maxRefusals = 4096
)

// refusals remembers which refusals were recorded. The zero value has none.
type refusals struct {
	mu sync.Mutex
	at map[access]time.Time
}

// access is what counts as the same.
type access struct {
	action        auditlog.Action
	actor, object string
	route, why    string
}

// first reports whether the refusal was not recorded in the last hour, and remembers it.
func (r *refusals) first(what access, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.at[what]; ok && now.Sub(last) < refusalPause {
		return false
	}

	if r.at == nil || len(r.at) >= maxRefusals {
		r.at = map[access]time.Time{}
	}
	r.at[what] = now
	return true
}

// Refuse is Note of an act that somebody who is known was refused, of which the person can cause
// many. The same is recorded once in an hour by a process: of one actor and one object, for one
// "route" and "why" of the Detail.
func (r *Recorder) Refuse(ctx context.Context, what auditlog.Record) {
	if r == nil {
		return
	}
	same := access{
		action: what.Action, actor: what.Actor, object: what.Object,
		route: what.Detail["route"], why: what.Detail["why"],
	}
	if r.refusals.first(same, time.Now()) {
		r.Note(ctx, what, auditlog.Refused)
	}
}
