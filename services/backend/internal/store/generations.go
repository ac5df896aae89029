package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/redis/go-redis/v9"
)

// Begin and Claim return the last messages of a conversation: at most so many, and so many bytes of
// them as they are stored.
const (
	HistoryMessages = 256
	HistoryBytes    = 512 << 10
)

// MaxRetries is how often an answer is begun anew at most: by another instance, or by its own job.
const MaxRetries = 3

// KeyKept is how long the key of a request is known.
const KeyKept = 2 * time.Hour

// Instances of the former version write no fencing tokens. They end an answer whose lease is over,
// so the lease that they read is a long one. They renew their own leases each second.
const (
	formerLease = 30 * time.Second
	formerGrace = 4 * time.Second
)

// Generation is an answer.
type Generation struct {
	ID, Owner, ConversationID string

	// Fence is the fencing token of the answer's writer, which each takeover raises. It is 0 for
	// whoever does not write.
	Fence int64

	// Ended reports whether the last event is stored.
	Ended bool

	// LastEvent is the id of the newest event.
	LastEvent string
}

func (s *Store) keys(g Generation) []string {
	return s.key.ofGeneration(g.Owner, g.ConversationID, g.ID)
}

// Turn is a message and the answer to it that begins.
type Turn struct {
	Owner string

	// Key is the message's idempotency key, or empty.
	Key string

	// ConversationID is empty for a new conversation.
	ConversationID string

	// Title is the conversation's title if it has none yet.
	Title string

	// Model answers, and is the conversation's model from now on.
	Model   string
	Message string

	// Groups are those of the owner, by which ml knows what the owner may ask.
	Groups []string

	// Asked is the model that the request names, or empty. It tells a message that is sent again
	// from another one.
	Asked string

	// Replaces is the end of the conversation that the turn takes the place of, or nil.
	Replaces *Replaced

	// Repeats reports whether Message is the replaced question, and the request has none.
	Repeats bool
}

// digest returns the digest of what the client sent.
func (t Turn) digest() string {
	if t.Replaces == nil {
		return digest(t.ConversationID, t.Asked, t.Message)
	}

	message := t.Message
	if t.Repeats {
		message = ""
	}

	return digest(t.ConversationID, t.Asked, message, t.Replaces.From, t.Replaces.To)
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Begun is a turn that was stored.
type Begun struct {
	Generation

	// Created reports whether the conversation is new.
	Created bool

	// Again reports whether the message was stored before, with the same key. Then nothing else is
	// set than the answer's ids.
	Again bool

	// History holds the last messages before the turn's own, oldest first. Earlier is how many
	// there are before them.
	History []backendapi.Message
	Earlier int

	now      int64    // the time of the change
	previous []string // the conversation's title, model and time of change before
}

// Known returns the answer to a message that was sent before with the same key. A message that is
// asked for so is not taken back any more. It fails with ErrNotFound or ErrKeyReused.
func (s *Store) Known(ctx context.Context, t Turn) (Generation, error) {
	return s.sent(ctx, t.Owner, t.Key, t.digest())
}

// sent returns what the request with the key and the digest has made.
func (s *Store) sent(ctx context.Context, owner, key, digest string) (Generation, error) {
	reply, err := s.run(ctx, s.scripts.known, []string{s.key.message(owner, key)},
		digest).StringSlice()
	if err != nil {
		return Generation{}, fmt.Errorf("look for a request: %w", err)
	}
	return known(owner, reply)
}

// known reads what a script replied about the key of a request.
func known(owner string, reply []string) (Generation, error) {
	if err := refusals[reply[0]]; err != nil {
		return Generation{}, err
	}
	return Generation{Owner: owner, ID: reply[1], ConversationID: reply[2]}, nil
}

// Begin stores the user's message and an empty message of the answer, and takes the answer's lease.
// title is the conversation's title for the start event. It fails with ErrNotFound, ErrBusy,
// ErrChanged, ErrFull, ErrTooMuch, ErrTooMany, ErrKeyReused or ErrStorageFull.
func (s *Store) Begin(ctx context.Context, t Turn, title string) (Begun, error) {
	b := Begun{Created: t.ConversationID == "", Generation: Generation{Owner: t.Owner,
		ConversationID: t.ConversationID, Fence: 1}}
	ids := make([]string, 4)
	for i := range ids {
		var err error
		if ids[i], err = newID(); err != nil {
			return Begun{}, err
		}
	}

	b.ID = ids[0]
	created := "0"
	if b.Created {
		created, b.ConversationID = "1", ids[1]
	} else if !validID(t.ConversationID) {
		return Begun{}, ErrNotFound
	}

	now := storedNow()
	b.now = now.UnixMilli()
	entries := make([][]byte, 3)
	for i, v := range []any{
		backendapi.Message{
			ID: ids[2], Role: "user", Content: t.Message, State: backendapi.MessageComplete,
			CreatedAt: now,
		},
		backendapi.Message{
			ID: ids[3], Role: "assistant", Model: t.Model, State: backendapi.MessageStreaming,
			GenerationID: b.ID, CreatedAt: now,
		},
		backendapi.Start{
			GenerationID: b.ID, ConversationID: b.ConversationID, Title: title, Model: t.Model,
		},
	} {
		var err error
		if entries[i], err = json.Marshal(v); err != nil {
			return Begun{}, fmt.Errorf("begin an answer: %w", err)
		}
	}

	keys, script, sent := s.keys(b.Generation), s.scripts.begin, ""
	if t.Key != "" {
		keys = append(keys, s.key.message(t.Owner, t.Key), s.key.requests(t.Owner))
		script = script.repeated()
		sent = t.digest()
	}

	groups, err := json.Marshal(append([]string{}, t.Groups...))
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err)
	}

	place, from, to := "", "", ""
	if r := t.Replaces; r != nil {
		place, from, to = strconv.Itoa(r.place), r.From, r.To
		for _, g := range r.answers {
			keys = append(keys, s.key.own(b.Owner, g)...)
		}
	}

	err = s.Remember(ctx, b.Generation)
	if errors.Is(err, ErrStorageFull) || err != nil && !s.key.tagged {
		return Begun{}, err
	}

	reply, err := s.run(ctx, script, keys, b.ConversationID, b.Owner, t.Title, t.Model,
		b.now, millis(s.opts.TTL), b.ID, entries[0], entries[1], entries[2],
		millis(s.opts.Lease), millis(formerLease), MaxMessages, created, HistoryMessages,
		HistoryBytes,
		s.opts.MaxBytes, s.opts.MaxConversations, sent, millis(KeyKept), place, from, to,
		millis(replacedKept), groups).StringSlice()
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err) // if it has begun, a sweep finds it
	}

	if reply[0] == "ok" {
		b.previous = reply[1:4]
		if b.Earlier, err = strconv.Atoi(reply[4]); err != nil {
			return Begun{}, fmt.Errorf("begin an answer: %w", err)
		}
		b.History, err = decodeMessages(reply[5:])
		return b, err
	}

	g, err := known(t.Owner, reply)
	if err == nil && g.ID == b.ID {
		// The reply to the first try was lost, and nobody writes the answer: the
		// next sweep takes it over.
		_ = s.Release(ctx, b.Generation) // else when the lease is over
		return Begun{Generation: g, Again: true}, nil
	}

	s.Forget(ctx, b.Generation)
	return Begun{Generation: g, Again: err == nil}, err
}

// Withdraw undoes Begin: nothing of the turn is left, and what it replaced is back. It fails with
// ErrEnded if the answer was stopped before, with ErrAcknowledged if the message was sent again.
func (s *Store) Withdraw(ctx context.Context, b Begun, t Turn) error {
	created := "0"
	if b.Created {
		created = "1"
	}

	keys := s.keys(b.Generation)
	if t.Key != "" {
		keys = append(keys, s.key.message(t.Owner, t.Key), s.key.requests(t.Owner))
	}

	n, err := s.run(ctx, s.scripts.withdraw, keys, b.Fence, b.ConversationID, b.ID, created,
		t.Title, t.Model, b.now, b.previous[0], b.previous[1], b.previous[2],
		millis(s.opts.TTL)).Int()
	if err == nil && n == 2 {
		return ErrAcknowledged
	}
	if err = written("withdraw an answer", n, err); err == nil {
		s.Forget(ctx, b.Generation)
	}

	return err
}

// Append adds text to an answer that is from bytes long. Sending the same again is safe. It fails
// with ErrEnded if the answer has ended, with ErrSuperseded if another writer has taken it over,
// with ErrLost if it is not that long.
func (s *Store) Append(ctx context.Context, g Generation, from int, text string) error {
	return s.append(ctx, g, s.key.text(g.Owner, g.ID), from, text, backendapi.EventDelta, text)
}

// Think is Append for the model's reasoning.
func (s *Store) Think(ctx context.Context, g Generation, from int, text string) error {
	data, err := json.Marshal(backendapi.Delta{Text: text})
	if err != nil {
		return fmt.Errorf("append to an answer: %w", err)
	}
	return s.append(ctx, g, s.key.thinking(g.Owner, g.ID), from, text, backendapi.EventThinking,
		string(data))
}

func (s *Store) append(
	ctx context.Context, g Generation, key string, from int, text, event, data string,
) error {
	keys := []string{s.key.generation(g.Owner, g.ID), s.key.events(g.Owner, g.ID), key}
	n, err := s.run(ctx, s.scripts.append, keys, g.Fence, from, text, event, data,
		millis(s.opts.TTL)).Int()
	if redis.HasErrorPrefix(err, "LOST") {
		return fmt.Errorf("append to an answer: %w: %w", ErrLost, err)
	}
	return written("append to an answer", n, err)
}

// Queue adds an event with the answer's place in the model's queue.
func (s *Store) Queue(ctx context.Context, g Generation, position int) error {
	return s.event(ctx, g, backendapi.EventQueue, backendapi.Queue{Position: position}, "", "")
}

// LeftOut adds an event with the number of messages that the model did not get, which the answer's
// message will have as well.
func (s *Store) LeftOut(ctx context.Context, g Generation, messages int) error {
	return s.event(ctx, g, backendapi.EventHistory, backendapi.History{LeftOut: messages},
		"left_out", strconv.Itoa(messages))
}

// Sources adds an event with the answer's sources, which its message will have as well.
func (s *Store) Sources(ctx context.Context, g Generation, sources backendapi.Sources) error {
	data, err := json.Marshal(sources)
	if err != nil {
		return fmt.Errorf("append to an answer: %w", err)
	}
	return s.event(ctx, g, backendapi.EventSources, sources, "sources", string(data))
}

// event adds an event. The field of the answer gets the value, unless it is empty.
func (s *Store) event(
	ctx context.Context, g Generation, name string, content any, field, value string,
) error {
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("append to an answer: %w", err)
	}
	n, err := s.run(ctx, s.scripts.event, s.key.own(g.Owner, g.ID)[:2], g.Fence, name, data,
		field, value).Int()
	return written("append to an answer", n, err)
}

// Found keeps what was found for an answer, until its end. It is for whoever takes the answer over.
func (s *Store) Found(ctx context.Context, g Generation, found string) error {
	n, err := s.run(ctx, s.scripts.found, s.key.own(g.Owner, g.ID)[:1], g.Fence, found).Int()
	return written("keep what was found for an answer", n, err)
}

// Renew takes the answer's lease anew.
func (s *Store) Renew(ctx context.Context, g Generation) error {
	n, err := s.run(ctx, s.scripts.renew, s.key.own(g.Owner, g.ID)[:1], g.Fence,
		millis(s.opts.Lease), millis(formerLease)).Int()
	return written("renew the lease of an answer", n, err)
}

// Release gives the answer's lease up, so that another writer takes it over at once.
func (s *Store) Release(ctx context.Context, g Generation) error {
	n, err := s.run(ctx, s.scripts.release, s.key.own(g.Owner, g.ID)[:1], g.Fence).Int()
	return written("release an answer", n, err)
}

// Retry notes how often the answer has been begun anew, takeovers included.
func (s *Store) Retry(ctx context.Context, g Generation, retries int) error {
	n, err := s.run(ctx, s.scripts.retry, s.key.own(g.Owner, g.ID)[:1], g.Fence, retries).Int()
	return written("begin an answer anew", n, err)
}

// written returns the error of a write, from what its script returned.
func written(what string, n int, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}

	switch n {
	case 0:
		return ErrEnded
	case -1:
		return ErrSuperseded
	}

	return nil
}

// Ending is how an answer ends.
type Ending struct {
	// Event is EventDone, EventError or EventStopped. Data is its JSON; that of EventError is the
	// Problem's.
	Event string
	Data  []byte

	// State is the state of the message.
	State string

	// Problem is why the answer failed, or nil.
	Problem *problem.Problem
}

// Failed returns the ending of an answer that could not be completed.
func Failed(p *problem.Problem) Ending {
	return Ending{Event: backendapi.EventError, State: backendapi.MessageFailed, Problem: p}
}

// Interrupted returns the problem, of the kind that the type names, of an answer that nobody can go
// on with.
func Interrupted(kind, detail string) *problem.Problem {
	p := problem.Typed(kind, http.StatusServiceUnavailable, "%s", detail)
	p.Title = "Answer interrupted"
	return p
}

// Stopped returns the ending of an answer that a person stopped.
func Stopped() Ending {
	return Ending{
		Event: backendapi.EventStopped, Data: []byte("{}"), State: backendapi.MessageStopped,
	}
}

// End ends an answer, with the text so far. Only the first call has an effect: the others fail with
// ErrEnded, or with ErrNotFound if nothing is left of the answer. It fails with ErrSuperseded if
// the answer has another writer now.
func (s *Store) End(ctx context.Context, g Generation, e Ending) error {
	err := s.end(ctx, g, e, 0)
	if err == nil {
		s.Forget(ctx, g)
	}
	return err
}

// Reap ends an answer that an instance of the former version began and whose writer is gone: its
// lease has expired, and it did not renew it when that was found out. It fails with ErrLeased if
// the writer is there, or may be.
func (s *Store) Reap(ctx context.Context, g Generation) error {
	g.Fence = 0
	return s.end(ctx, g, Failed(Interrupted("/problems/restarted",
		"The backend was restarted while it wrote this answer. What came so far is kept: "+
			"send the message again.")), formerGrace)
}

func (s *Store) end(
	ctx context.Context, g Generation, e Ending, grace time.Duration,
) (err error) {
	var why []byte
	if e.Problem != nil {
		if why, err = json.Marshal(e.Problem); err != nil {
			return fmt.Errorf("end an answer: %w", err)
		}
		e.Data = why
	}

	fence := ""
	if g.Fence != 0 {
		fence = strconv.FormatInt(g.Fence, 10)
	}

	reply, err := s.run(ctx, s.scripts.end, s.keys(g), g.ConversationID, g.ID, e.Event, e.Data,
		e.State, why, time.Now().UnixMilli(), millis(s.opts.TTL), millis(s.opts.Keep), fence,
		millis(grace), millis(s.opts.Outage)).Text()
	if err != nil {
		return fmt.Errorf("end an answer: %w", err)
	}

	return refusals[reply]
}

// Generation reads an answer of the owner. One whose conversation is gone is not found.
func (s *Store) Generation(ctx context.Context, owner, id string) (Generation, error) {
	if !validID(id) {
		return Generation{}, ErrNotFound
	}

	values, err := s.rdb.HMGet(ctx, s.key.generation(owner, id), "owner", "conversation").Result()
	if err != nil {
		return Generation{}, fmt.Errorf("read an answer: %w", err)
	}

	g := Generation{ID: id, Owner: owner}
	g.ConversationID, _ = values[1].(string)
	if values[0] != owner {
		return Generation{}, ErrNotFound
	}

	keys := append([]string{s.key.conversation(owner, g.ConversationID)}, s.key.own(owner,
		id)[:2]...)
	reply, err := s.run(ctx, s.scripts.generation, keys).StringSlice()
	if err != nil {
		return Generation{}, fmt.Errorf("read an answer: %w", err)
	}
	if reply[0] != owner || reply[2] == "" {
		return Generation{}, ErrNotFound
	}

	g.Ended, g.LastEvent = reply[1] != "running", reply[2]
	return g, nil
}

// CheckEventID returns ErrEventID if no reader of the answer can have seen the event.
func (g Generation) CheckEventID(id string) error {
	ms, seq, err := parseEventID(id)
	if err != nil {
		return err
	}

	lastMS, lastSeq, err := parseEventID(g.LastEvent)
	if err != nil {
		return err
	}
	if ms > lastMS || ms == lastMS && seq > lastSeq {
		return ErrEventID
	}

	return nil
}

// parseEventID reads the id of a Redis stream's entry: milliseconds, a dash, a sequence number.
func parseEventID(id string) (ms, seq uint64, err error) {
	a, b, ok := strings.Cut(id, "-")
	ms, err1 := strconv.ParseUint(a, 10, 64)
	seq, err2 := strconv.ParseUint(b, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, ErrEventID
	}
	return ms, seq, nil
}

// Event is one event of an answer. Data is JSON, of a delta the plain text.
type Event struct {
	ID, Name, Data string
}

// readEvents is how many events are read at once.
const readEvents = 256

// Read returns the events after the one with the id ("0-0" for all), oldest first. When there is
// none it waits for one for up to wait, and returns none when none came. It does not notice the end
// of ctx while it waits.
func (s *Store) Read(
	ctx context.Context, g Generation, after string, wait time.Duration,
) ([]Event, error) {
	streams, err := s.wait.XRead(ctx, &redis.XReadArgs{
		Streams: []string{s.key.events(g.Owner, g.ID), after}, Count: readEvents, Block: wait,
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}

	if err != nil {
		reloadAfter(ctx, s.wait, err)
		return nil, fmt.Errorf("read an answer: %w", err)
	}

	var out []Event
	for _, st := range streams {
		for _, m := range st.Messages {
			e := Event{ID: m.ID}
			e.Name, _ = m.Values["e"].(string)
			e.Data, _ = m.Values["d"].(string)
			out = append(out, e)
		}
	}

	return out, nil
}
