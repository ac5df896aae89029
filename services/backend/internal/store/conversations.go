package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/redis/go-redis/v9"
)

// MaxMessages is the greatest number of messages of a conversation: reading one stays one
// answer of bounded size.
const MaxMessages = 1000

// Untitled is the title of a conversation that has neither been given one nor a
// message to take it from.
const Untitled = "New conversation"

// Conversation is a conversation as it is stored. Its Title is empty until it has one.
type Conversation struct {
	backendapi.Conversation
	Owner string

	// Generation is the answer being written, or "".
	Generation string
}

// Public returns the conversation as the API shows it.
func (c Conversation) Public() backendapi.Conversation {
	out := c.Conversation
	if out.Title == "" {
		out.Title = Untitled
	}
	return out
}

// Create makes an empty conversation. With the key of a request that made one it returns that one;
// asked is the model that the request names, or empty. It fails with ErrTooMany, ErrKeyReused or
// ErrStorageFull, and with ErrNotFound if the one that was made is deleted.
func (s *Store) Create(
	ctx context.Context, owner, key, title, asked, model string,
) (Conversation, error) {
	id, err := newID()
	if err != nil {
		return Conversation{}, err
	}

	sent := digest("conversation", title, asked)
	if key != "" {
		made, err := s.sent(ctx, owner, key, sent)
		if err == nil {
			return s.Get(ctx, owner, made.ConversationID)
		}
		if !errors.Is(err, ErrNotFound) {
			return Conversation{}, err
		}
	}

	keys, script := s.key.ofConversation(owner, id), s.scripts.create
	if key != "" {
		keys = append(keys, s.key.message(owner, key), s.key.requests(owner))
		script = script.repeated()
	}

	now := storedNow()
	reply, err := s.run(ctx, script, keys, id, owner, title, model, now.UnixMilli(),
		millis(s.opts.TTL), s.opts.MaxConversations, sent, millis(KeyKept)).StringSlice()
	if err != nil {
		return Conversation{}, fmt.Errorf("create a conversation: %w", err)
	}

	if reply[0] != "ok" {
		made, err := known(owner, reply)
		if err != nil {
			return Conversation{}, err
		}
		return s.Get(ctx, owner, made.ConversationID)
	}

	return Conversation{Owner: owner, Conversation: backendapi.Conversation{
		ID: id, Title: title, Model: model, CreatedAt: now, UpdatedAt: now,
	}}, nil
}

var fields = []string{"owner", "title", "model", "created_at", "updated_at", "generation"}

// parse reads what HMGET of fields returned; false when there is no such conversation.
func parse(id string, values []any) (Conversation, bool) {
	text := make([]string, len(fields))
	for i, v := range values {
		text[i], _ = v.(string)
	}

	if text[0] == "" {
		return Conversation{}, false
	}

	return Conversation{Owner: text[0], Generation: text[5], Conversation: backendapi.Conversation{
		ID:        id,
		Title:     text[1],
		Model:     text[2],
		CreatedAt: instant(text[3]),
		UpdatedAt: instant(text[4]),
	}}, true
}

func instant(ms string) time.Time {
	n, _ := strconv.ParseInt(ms, 10, 64) // our own scripts wrote it
	return time.UnixMilli(n).UTC()
}

// Get reads a conversation of the owner.
func (s *Store) Get(ctx context.Context, owner, id string) (Conversation, error) {
	if !validID(id) {
		return Conversation{}, ErrNotFound
	}

	values, err := s.rdb.HMGet(ctx, s.key.conversation(owner, id), fields...).Result()
	if err != nil {
		return Conversation{}, fmt.Errorf("read a conversation: %w", err)
	}

	c, ok := parse(id, values)
	if !ok || c.Owner != owner {
		return Conversation{}, ErrNotFound
	}

	return c, nil
}

// MaxPage bounds a page of a conversation's messages in bytes; one message is always there.
const MaxPage = 1 << 20

// Page is a page of a conversation's messages, oldest first.
type Page struct {
	Messages []backendapi.Message
	// Earlier is the cursor of the messages before these; empty when there are none.
	Earlier string
}

// Detail reads a conversation of the owner with up to limit of its messages, both as of one moment:
// the last ones, or those before the cursor.
func (s *Store) Detail(ctx context.Context, owner, id string, limit int,
	before string) (Conversation, Page, error) {
	if !validID(id) {
		return Conversation{}, Page{}, ErrNotFound
	}

	place := -1
	if before != "" {
		var err error
		if place, err = strconv.Atoi(before); err != nil || place < 1 ||
			strconv.Itoa(place) != before {
			return Conversation{}, Page{}, ErrCursor
		}
	}

	args := []any{place, limit, MaxPage}
	for _, f := range fields {
		args = append(args, f)
	}

	reply, err := s.run(ctx, s.scripts.detail, s.key.ofConversation(owner, id)[:2], args...).Slice()
	if err != nil {
		return Conversation{}, Page{}, fmt.Errorf("read a conversation: %w", err)
	}

	values, _ := reply[0].([]any) // our own script wrote them
	first, _ := reply[1].(int64)
	list, _ := reply[2].([]any)
	c, ok := parse(id, values)
	if !ok || c.Owner != owner {
		return Conversation{}, Page{}, ErrNotFound
	}

	texts := make([]string, len(list))
	for i, m := range list {
		texts[i], _ = m.(string)
	}

	var p Page
	if first > 0 {
		p.Earlier = strconv.FormatInt(first, 10)
	}

	p.Messages, err = decodeMessages(texts)
	return c, p, err
}

func decodeMessages(list []string) ([]backendapi.Message, error) {
	out := make([]backendapi.Message, len(list))
	for i, s := range list {
		if err := json.Unmarshal([]byte(s), &out[i]); err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
	}
	return out, nil
}

// Rename gives a conversation of the owner another title.
func (s *Store) Rename(ctx context.Context, owner, id, title string) (Conversation, error) {
	if !validID(id) {
		return Conversation{}, ErrNotFound
	}

	n, err := s.run(ctx, s.scripts.rename, s.key.ofConversation(owner, id), id, owner, title,
		time.Now().UnixMilli(), millis(s.opts.TTL)).Int()
	if err != nil {
		return Conversation{}, fmt.Errorf("rename a conversation: %w", err)
	}
	if n == 0 {
		return Conversation{}, ErrNotFound
	}

	return s.Get(ctx, owner, id)
}

// Delete deletes a conversation of the owner with the events of its answers, and stops the answer
// being written in it, whose id it returns.
func (s *Store) Delete(ctx context.Context, owner, id string) (generation string, err error) {
	if !validID(id) {
		return "", ErrNotFound
	}

	for {
		// The answers' keys must be named before the script runs: a Cluster wants to know them.
		c, ended, err := s.readable(ctx, owner, id)
		if err != nil {
			return "", err
		}

		keys := s.key.ofGeneration(owner, id, c.Generation)
		for _, g := range ended {
			if g != c.Generation {
				keys = append(keys, s.key.own(owner, g)...)
			}
		}

		reply, err := s.run(ctx, s.scripts.del, keys, id, owner,
			millis(min(s.opts.Keep, deletedKept)), c.Generation).Text()
		if err != nil {
			return "", fmt.Errorf("delete a conversation: %w", err)
		}

		if err := refusals[reply]; err != nil {
			return "", err
		}

		if reply == "deleted" {
			if c.Generation != "" {
				s.Forget(ctx, Generation{ID: c.Generation, Owner: owner, ConversationID: id})
			}
			return c.Generation, nil
		}
		// An answer began or ended in between: look again.
	}
}

// deletedKept is how long the end of an answer is kept that was being written in a conversation
// when it was deleted: for those who read it then.
const deletedKept = time.Minute

// longestAnswer bounds the time from an answer's begin to its end, its waiting and its takeovers
// included.
const longestAnswer = 3 * time.Hour

// oldestEvents returns the time before which no answer began whose events may be there yet.
func (s *Store) oldestEvents() time.Time { return time.Now().Add(-s.opts.Keep - longestAnswer) }

// readable returns a conversation with its answers whose events may be there yet.
func (s *Store) readable(ctx context.Context, owner, id string) (
	c Conversation, generations []string, err error) {
	oldest := s.oldestEvents()
	for before := ""; ; {
		var page Page
		if c, page, err = s.Detail(ctx, owner, id, MaxMessages, before); err != nil {
			return c, nil, err
		}

		for _, m := range page.Messages {
			if m.GenerationID != "" && m.CreatedAt.After(oldest) {
				generations = append(generations, m.GenerationID)
			}
		}

		if before = page.Earlier; before == "" || page.Messages[0].CreatedAt.Before(oldest) {
			return c, generations, nil
		}
	}
}

// position is a place in an owner's list, which is sorted by score and then by id, both descending.
type position struct {
	score int64
	id    string
}

func (p position) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.score, 10) + ":" + p.id))
}

func parseCursor(cursor string) (position, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return position{}, ErrCursor
	}

	score, id, _ := strings.Cut(string(b), ":")
	n, err := strconv.ParseInt(score, 10, 64)
	if err != nil || n < 0 || !validID(id) {
		return position{}, ErrCursor
	}

	return position{n, id}, nil
}

// listBatch is how many entries are read at once beyond those asked for.
const listBatch = 16

// List reads up to limit conversations of the owner, the last changed first, after the cursor that
// the page before ended with ("" for the first page). A conversation that changes meanwhile moves
// to the first page and shows on no later one; no other is left out or shown twice.
func (s *Store) List(
	ctx context.Context, owner string, limit int, cursor string,
) (backendapi.ConversationPage, error) {
	page := backendapi.ConversationPage{Conversations: []backendapi.Conversation{}}
	from := "+inf"
	var after position
	if cursor != "" {
		var err error
		if after, err = parseCursor(cursor); err != nil {
			return page, err
		}
		from = strconv.FormatInt(after.score, 10)
	}

	var expired []any
	defer func() {
		if len(expired) > 0 {
			// if it fails, the next one that lists tries again
			keys := []string{s.key.list(owner), s.key.usage(owner)}
			s.run(ctx, s.scripts.forget, keys, expired...)
		}
	}()

	var last position
	for offset := int64(0); ; {
		entries, err := s.rdb.ZRevRangeByScoreWithScores(ctx, s.key.list(owner), &redis.ZRangeBy{
			Min:    "-inf",
			Max:    from,
			Offset: offset,
			Count:  int64(limit + listBatch),
		}).Result()
		if err != nil {
			return page, fmt.Errorf("list conversations: %w", err)
		}
		if len(entries) == 0 {
			return page, nil
		}

		offset += int64(len(entries))
		var places []position
		for _, e := range entries {
			p := position{int64(e.Score), e.Member.(string)}
			if cursor != "" && p.score == after.score && p.id >= after.id {
				continue // of the page before, changed in the same millisecond as its last one
			}
			places = append(places, p)
		}

		found, gone, err := s.read(ctx, owner, places)
		if err != nil {
			return page, err
		}

		expired = append(expired, gone...)
		for _, c := range found {
			if len(page.Conversations) == limit {
				page.Next = last.cursor()
				return page, nil
			}
			page.Conversations = append(page.Conversations, c.Public())
			last = position{c.UpdatedAt.UnixMilli(), c.ID}
		}
	}
}

// read reads the conversations at the places, without those that are gone or have moved since the
// list was read. Those that have expired it names as gone.
func (s *Store) read(
	ctx context.Context, owner string, places []position,
) (out []Conversation, gone []any, err error) {
	pipe := s.rdb.Pipeline()
	values := make([]*redis.SliceCmd, len(places))
	for i, p := range places {
		values[i] = pipe.HMGet(ctx, s.key.conversation(owner, p.id), fields...)
	}

	if len(places) == 0 {
		return nil, nil, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, fmt.Errorf("list conversations: %w", err)
	}

	for i, p := range places {
		c, ok := parse(p.id, values[i].Val())
		switch {
		case !ok:
			gone = append(gone, p.id)
		case c.Owner == owner && c.UpdatedAt.UnixMilli() == p.score:
			out = append(out, c)
		}
	}

	return out, gone, nil
}
