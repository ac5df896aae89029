package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/redis/go-redis/v9"
)

// HistoryMessages is how many of a conversation's last messages Begin returns.
const HistoryMessages = 256

// Generation is an answer.
type Generation struct {
	ID, Owner, ConversationID string
	// Ended says that no further event will come after those that are stored.
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
	// ConversationID is empty for a new conversation.
	ConversationID string
	// Title is the conversation's title if it has none yet.
	Title string
	// Model answers, and is the conversation's model from now on.
	Model   string
	Message string
}

// Begun is a turn that was stored.
type Begun struct {
	Generation
	// Created says that the conversation is new.
	Created bool
	// History holds the last messages before the turn's own, oldest first.
	History []backendapi.Message
}

// Begin stores the user's message and an empty message of the answer, and takes the answer's lease. title is the
// conversation's title for the start event. It fails with ErrNotFound, ErrBusy or ErrFull.
func (s *Store) Begin(ctx context.Context, t Turn, title string) (Begun, error) {
	b := Begun{Created: t.ConversationID == "", Generation: Generation{Owner: t.Owner, ConversationID: t.ConversationID}}
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
	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	user, err := json.Marshal(backendapi.Message{ID: ids[2], Role: "user", Content: t.Message, State: backendapi.MessageComplete, CreatedAt: now})
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err)
	}
	answer, err := json.Marshal(backendapi.Message{ID: ids[3], Role: "assistant", Model: t.Model, State: backendapi.MessageStreaming,
		GenerationID: b.ID, CreatedAt: now})
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err)
	}
	start, err := json.Marshal(backendapi.Start{GenerationID: b.ID, ConversationID: b.ConversationID, Title: title, Model: t.Model})
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err)
	}
	reply, err := s.run(ctx, s.scripts.begin, s.keys(b.Generation)[:5], b.ConversationID, b.Owner, t.Title, t.Model, now.UnixMilli(),
		millis(s.opts.TTL), b.ID, user, answer, start, millis(s.opts.Lease), MaxMessages, HistoryMessages, created).StringSlice()
	if err != nil {
		return Begun{}, fmt.Errorf("begin an answer: %w", err)
	}
	switch reply[0] {
	case "missing":
		return Begun{}, ErrNotFound
	case "busy":
		return Begun{}, ErrBusy
	case "full":
		return Begun{}, ErrFull
	}
	b.History, err = decodeMessages(reply[1:])
	return b, err
}

// Withdraw undoes Begin: nothing of the turn is left. ErrEnded says that the answer was stopped before.
func (s *Store) Withdraw(ctx context.Context, b Begun) error {
	created := "0"
	if b.Created {
		created = "1"
	}
	n, err := s.run(ctx, s.scripts.withdraw, s.keys(b.Generation), b.ConversationID, b.ID, created).Int()
	return written("withdraw an answer", n, err)
}

// Append adds text to an answer that is from bytes long. Sending the same again is safe. ErrEnded says that the answer
// has ended meanwhile, ErrLost that it is not that long.
func (s *Store) Append(ctx context.Context, g Generation, from int, text string) error {
	n, err := s.run(ctx, s.scripts.append, s.keys(g)[3:], text, from, millis(s.opts.TTL)).Int()
	if redis.HasErrorPrefix(err, "LOST") {
		return fmt.Errorf("append to an answer: %w: %w", ErrLost, err)
	}
	return written("append to an answer", n, err)
}

// Queue adds an event that tells the answer's place in the model's queue.
func (s *Store) Queue(ctx context.Context, g Generation, position int) error {
	data, err := json.Marshal(backendapi.Queue{Position: position})
	if err != nil {
		return fmt.Errorf("append to an answer: %w", err)
	}
	n, err := s.run(ctx, s.scripts.queue, s.keys(g)[3:5], data).Int()
	return written("append to an answer", n, err)
}

// Renew takes the answer's lease anew.
func (s *Store) Renew(ctx context.Context, g Generation) error {
	n, err := s.run(ctx, s.scripts.renew, s.keys(g)[3:4], millis(s.opts.Lease)).Int()
	return written("renew the lease of an answer", n, err)
}

func written(what string, n int, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n == 0 {
		return ErrEnded
	}
	return nil
}

// Ending is how an answer ends.
type Ending struct {
	// Event is EventDone, EventError or EventStopped, Data its JSON.
	Event string
	Data  []byte
	// State is the state of the message.
	State string
	// Problem is why it failed, or nil.
	Problem *problem.Problem
}

// Failed is the ending of an answer that could not be completed.
func Failed(p *problem.Problem) (Ending, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return Ending{}, fmt.Errorf("end an answer: %w", err)
	}
	return Ending{Event: backendapi.EventError, Data: data, State: backendapi.MessageFailed, Problem: p}, nil
}

// Stopped is the ending of an answer that a person stopped.
func Stopped() Ending {
	return Ending{Event: backendapi.EventStopped, Data: []byte("{}"), State: backendapi.MessageStopped}
}

// End ends an answer, with the text so far. Only the first call has an effect: the others get ErrEnded, or ErrNotFound
// when nothing is left of the answer.
func (s *Store) End(ctx context.Context, g Generation, e Ending) error {
	_, err := s.end(ctx, g, e, false)
	return err
}

// graceParts is the part of a lease that a writer has to renew one that was found expired: it may have been Redis that
// was away, and the writer comes back with it. A writer tries several times in that time.
const graceParts = 2

// Reap ends an answer whose writer is gone: its lease has expired, and it did not renew it when that was found out.
// leased says that the writer is there, or may be.
func (s *Store) Reap(ctx context.Context, g Generation) (leased bool, err error) {
	e, err := Failed(&problem.Problem{Type: "/problems/restarted", Title: "Answer interrupted", Status: 503,
		Detail: "The backend was restarted while it wrote this answer. What came so far is kept: send the message again."})
	if err != nil {
		return false, err
	}
	return s.end(ctx, g, e, true)
}

func (s *Store) end(ctx context.Context, g Generation, e Ending, onlyExpired bool) (leased bool, err error) {
	var why []byte
	if e.Problem != nil {
		if why, err = json.Marshal(e.Problem); err != nil {
			return false, fmt.Errorf("end an answer: %w", err)
		}
	}
	grace := int64(0)
	if onlyExpired {
		grace = max(1, millis(s.opts.Lease/graceParts))
	}
	reply, err := s.run(ctx, s.scripts.end, s.keys(g), g.ConversationID, g.ID, e.Event, e.Data, e.State, why,
		time.Now().UnixMilli(), millis(s.opts.TTL), millis(s.opts.Keep), grace, millis(s.opts.Outage)).Text()
	if err != nil {
		return false, fmt.Errorf("end an answer: %w", err)
	}
	switch reply {
	case "leased":
		return true, nil
	case "already":
		return false, ErrEnded
	case "missing":
		return false, ErrNotFound
	}
	return false, nil
}

// Generation reads an answer of the owner.
func (s *Store) Generation(ctx context.Context, owner, id string) (Generation, error) {
	if !validID(id) {
		return Generation{}, ErrNotFound
	}
	tx := s.rdb.TxPipeline()
	values := tx.HMGet(ctx, s.key.generation(owner, id), "owner", "conversation", "state")
	last := tx.XRevRangeN(ctx, s.key.events(owner, id), "+", "-", 1)
	if _, err := tx.Exec(ctx); err != nil {
		return Generation{}, fmt.Errorf("read an answer: %w", err)
	}
	v := values.Val()
	if v[0] != owner || len(last.Val()) == 0 {
		return Generation{}, ErrNotFound
	}
	g := Generation{ID: id, Owner: owner, Ended: v[2] != "running", LastEvent: last.Val()[0].ID}
	g.ConversationID, _ = v[1].(string)
	return g, nil
}

// CheckEventID says whether a reader of the answer can have seen the event: ErrEventID if not.
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

// Read returns the events after the one with the id ("0-0" for all), oldest first. When there is none it waits for
// one for up to wait, and returns none when none came. It does not notice the end of ctx while it waits.
func (s *Store) Read(ctx context.Context, g Generation, after string, wait time.Duration) ([]Event, error) {
	streams, err := s.wait.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key.events(g.Owner, g.ID), after}, Count: readEvents, Block: wait}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		look(ctx, s.wait, err)
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
