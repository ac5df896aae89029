// Package meter counts what people use of the models, and holds them to their limits of a day. Each
// question of the chat page and of the API passes through ml, so it is counted here.
//
// The counts lie in Redis (see package usage) and are changed by one script, which counts a
// question and looks at the limits at once: however many ml there are, and however many questions
// at once, no more are admitted than may be. While Redis does not answer, the limits of a day do
// not hold and nothing is counted: as with the queue, questions are answered all the same.
package meter

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/usage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
)

// patience is how long Redis has for an answer, as in package queue.
const patience = 500 * time.Millisecond

var (
	//go:embed meter.lua
	meterSource string

	//go:embed people.lua
	peopleSource string
)

// Meter counts what people use.
type Meter struct {
	redis         *redis.Client
	count, people *redis.Script
	limits        contract.Limits
	log           *slog.Logger

	// spent are those whom the day spentOn refused a question here.
	mu      sync.Mutex
	spent   map[string]bool
	spentOn string

	// Tests set these.
	now      func() time.Time
	patience time.Duration
}

// New returns a meter that counts in the Redis.
func New(r *redis.Client, l contract.Limits, log *slog.Logger) *Meter {
	return &Meter{
		redis: r, limits: l, log: log, now: time.Now, patience: patience,
		count: redis.NewScript(meterSource), people: redis.NewScript(peopleSource),
	}
}

// LimitError refuses a question of a person who has used what a day may have.
type LimitError struct {
	// Limit is that number, of tokens if Tokens is set, else of questions.
	Limit  int64
	Tokens bool

	// RetryAfter is how long the day lasts, in whole seconds, one at least.
	RetryAfter time.Duration
}

// Error implements error.
func (e *LimitError) Error() string {
	what := "questions"
	if e.Tokens {
		what = "tokens"
	}
	return fmt.Sprintf("the day's %d %s are used up", e.Limit, what)
}

// Question is a question that is being answered. Nothing is counted for a nil one.
type Question struct {
	m              *Meter
	owner, id, run string
	day            time.Time

	// counted reports whether the question is counted already.
	counted bool

	// known reports whether the next two are known.
	known             bool
	questions, tokens int64 // of the day
}

// Begin counts a question, or refuses it with a *LimitError. The id is that of the question,
// however often it is asked; one without is a question of its own. Whoever has no name is not
// counted. The question is returned with an error, too: its Show says why.
func (m *Meter) Begin(ctx context.Context, owner, id string) (*Question, error) {
	if m == nil || owner == "" {
		return nil, nil
	}

	q := &Question{m: m, owner: owner, run: rand.Text(), day: m.now()}
	q.id = hash(cmp.Or(id, q.run))
	if m.limits.RequestsPerDay == 0 && m.limits.TokensPerDay == 0 {
		return q, nil // End counts it, which is early enough
	}

	reply, err := q.tell(ctx, "ask", m.limits.RequestsPerDay, m.limits.TokensPerDay)
	if err != nil {
		return q, nil
	}

	q.counted, q.known = reply[0] == 1, true
	q.questions, q.tokens = int64(reply[1]), int64(reply[2])
	if q.counted {
		return q, nil
	}

	m.spend(owner, q.day)
	e := &LimitError{Limit: m.limits.RequestsPerDay, RetryAfter: usage.Left(q.day)}
	if n := m.limits.TokensPerDay; n > 0 && q.tokens >= n {
		e.Limit, e.Tokens = n, true
	}

	return q, e
}

// spend keeps that nothing is left of the day for somebody.
func (m *Meter) spend(owner string, day time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on := usage.DayOf(day); m.spentOn != on {
		m.spentOn, m.spent = on, map[string]bool{}
	}
	m.spent[owner] = true
}

// Spent reports whether somebody was refused a question here today, and will be refused the next
// most likely.
func (m *Meter) Spent(owner string) bool {
	if m == nil {
		return false
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spentOn == usage.DayOf(m.now()) && m.spent[owner]
}

// Show says in the headers of a response how much of the day is left, in the words of OpenAI's.
func (q *Question) Show(h http.Header) {
	if q == nil || !q.known {
		return
	}

	reset := usage.Left(q.day).String()
	for _, x := range []struct {
		what        string
		limit, used int64
	}{
		{"requests", q.m.limits.RequestsPerDay, q.questions},
		{"tokens", q.m.limits.TokensPerDay, q.tokens},
	} {
		if x.limit > 0 {
			h.Set("X-Ratelimit-Limit-"+x.what, strconv.FormatInt(x.limit, 10))
			h.Set("X-Ratelimit-Remaining-"+x.what, strconv.FormatInt(max(0, x.limit-x.used), 10))
			h.Set("X-Ratelimit-Reset-"+x.what, reset)
		}
	}
}

// End counts the tokens of a question that has been answered, as a whole or in part.
func (q *Question) End(ctx context.Context, prompt, answer int) {
	if q != nil {
		_, _ = q.tell(ctx, "count", int64(prompt), int64(answer)) // it is logged
	}
}

// Undo takes a question back of which nothing was answered.
func (q *Question) Undo(ctx context.Context) {
	if q != nil && q.counted {
		_, _ = q.tell(ctx, "undo", 0, 0) // it is logged
	}
}

// tell tells Redis what becomes of the question. It does so also for somebody who is gone.
func (q *Question) tell(ctx context.Context, what string, a, b int64) ([]int, error) {
	m := q.m
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.patience)
	defer cancel()
	oldest := q.day.AddDate(0, 0, 1-usage.Kept)
	reply, err := m.redis.Run(ctx, m.count, []string{usage.Key(q.owner)}, what,
		usage.DayOf(q.day), usage.DayOf(oldest), q.id, q.run,
		strconv.FormatInt(a, 10), strconv.FormatInt(b, 10))
	if err == nil && len(reply) != 4 {
		err = fmt.Errorf("the script returned %d numbers", len(reply))
	}

	if err == nil && reply[3] == 1 {
		_, err = m.redis.Run(ctx, m.people, []string{usage.People}, q.owner,
			number(q.day), number(oldest.AddDate(0, 0, -1)))
	}

	if err != nil {
		m.log.WarnContext(ctx, "the use of the models is not counted", "error", err)
	}

	return reply, err
}

// number returns the number of a day.
func number(t time.Time) string { return strconv.FormatInt(t.Unix()/int64(24*60*60), 10) }

// hash returns what stands for a question's id in Redis: of one length, and without spaces.
func hash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}
