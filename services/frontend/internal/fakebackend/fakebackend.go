// Package fakebackend is a backend for the tests of the web UI. It speaks
// services/internal/backendapi, keeps conversations in memory and plays answers that the
// test writes and paces.
package fakebackend

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// Backend is the fake; New returns one.
type Backend struct {
	mu            sync.Mutex
	conversations map[string]*conversation
	generations   map[string]*Answer
	next          int
	now           time.Time
	models        mlapi.Models
	status        backendapi.Status
	fail          map[string]*problem.Problem
	headers       []http.Header
	cut           int
	lose          int
	pageSize      int
	partial       bool
	submissions   []submission
	keys          map[string]backendapi.Generation // by owner and key
	passages      map[string]knowledgeapi.Passage

	// Play writes the answer of a message; it runs in a goroutine of its own.
	Play func(message string, a *Answer)
}

type conversation struct {
	owner string
	backendapi.ConversationDetail
}

// New returns a backend whose model is ready. Its clock starts at now and moves a
// second with each message.
func New(now time.Time, play func(message string, a *Answer)) *Backend {
	build := mlapi.Build{Name: "codexcontinue", State: mlapi.BuildReady}
	return &Backend{
		conversations: map[string]*conversation{},
		generations:   map[string]*Answer{},
		keys:          map[string]backendapi.Generation{},
		fail:          map[string]*problem.Problem{},
		passages:      map[string]knowledgeapi.Passage{},
		now:           now,
		Play:          play,
		models: mlapi.Models{Build: build, Models: []mlapi.ModelInfo{
			{Name: "codexcontinue", ParameterSize: "8B", Default: true},
			{Name: "llama3", ParameterSize: "8B"}}},
		status: backendapi.Status{
			Status: backendapi.StatusReady,
			Model:  build,
			Services: []backendapi.ServiceStatus{
				{Name: "backend", Status: backendapi.StatusReady, LatencyMS: 0.1},
				{Name: "redis", Status: backendapi.StatusReady, LatencyMS: 0.4},
				{Name: "ml", Status: backendapi.StatusReady, LatencyMS: 1.2},
				{Name: "ollama", Status: backendapi.StatusReady, LatencyMS: 2.5}},
		},
	}
}

// Fail makes the requests of a pattern, such as "POST /api/chat", fail with p, or
// succeed again if p is nil.
func (b *Backend) Fail(pattern string, p *problem.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail[pattern] = p
}

// Build sets the state of the model and the models that are listed.
func (b *Backend) Build(build mlapi.Build, models ...mlapi.ModelInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.models = mlapi.Models{Build: build, Models: models}
	b.status.Model = build
}

// SetStatus sets the response of GET /api/status.
func (b *Backend) SetStatus(s backendapi.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = s
}

// CutStreams ends each of the next n event streams after its second event.
func (b *Backend) CutStreams(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = n
}

// LoseReplies makes the next n messages be stored and their connections
// dropped instead of answered.
func (b *Backend) LoseReplies(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lose = n
}

// PageSize makes conversations be read in pages of n messages.
func (b *Backend) PageSize(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pageSize = n
}

// Partial makes searches say that they ended for want of time.
func (b *Backend) Partial() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partial = true
}

// Questions returns the messages that people sent, of all conversations.
func (b *Backend) Questions() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, c := range b.conversations {
		for _, m := range c.Messages {
			if m.Role == "user" {
				all = append(all, m.Content)
			}
		}
	}

	return all
}

// Headers returns the headers of all requests so far.
func (b *Backend) Headers() []http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.headers)
}

// Add stores a conversation.
func (b *Backend) Add(owner string, d backendapi.ConversationDetail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conversations[d.ID] = &conversation{owner, d}
}

// AddPassage stores a passage that everybody may read.
func (b *Backend) AddPassage(p knowledgeapi.Passage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passages[p.ID] = p
}

// RemovePassage removes the passage with the id.
func (b *Backend) RemovePassage(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.passages, id)
}

// Answer is an answer being written. Only the Play function may call its methods, except Stopped.
type Answer struct {
	b      *Backend
	id     string
	c      *conversation
	events []sse.Event
	more   chan struct{} // closed and replaced when events grow
	over   bool
	stop   chan struct{}
}

// Stopped returns a channel that is closed when someone stops the answer.
func (a *Answer) Stopped() <-chan struct{} { return a.stop }

// Text adds text to the answer.
func (a *Answer) Text(s string) {
	a.b.mu.Lock()
	a.message().Content += s
	a.b.mu.Unlock()
	a.emit(backendapi.EventDelta, backendapi.Delta{Text: s})
}

// Think adds to the reasoning.
func (a *Answer) Think(s string) {
	a.b.mu.Lock()
	a.message().Thinking += s
	a.b.mu.Unlock()
	a.emit(backendapi.EventThinking, backendapi.Delta{Text: s})
}

// LeftOut sends how many of the oldest messages the model did not get.
func (a *Answer) LeftOut(n int) {
	a.b.mu.Lock()
	a.message().LeftOut = n
	a.b.mu.Unlock()
	a.emit(backendapi.EventHistory, backendapi.History{LeftOut: n})
}

// Sources sends the answer's sources.
func (a *Answer) Sources(s backendapi.Sources) {
	a.b.mu.Lock()
	a.message().Sources = &s
	a.b.mu.Unlock()
	a.emit(backendapi.EventSources, s)
}

// Queue sends the answer's place among those that wait: 1 is next.
func (a *Answer) Queue(n int) { a.emit(backendapi.EventQueue, backendapi.Queue{Position: n}) }

// Done ends the answer.
func (a *Answer) Done() {
	a.finish(backendapi.MessageComplete, nil, backendapi.EventDone, mlapi.Done{
		Model:  "codexcontinue",
		Reason: "stop",
	})
}

// Error ends the answer with a problem.
func (a *Answer) Error(p *problem.Problem) {
	a.finish(backendapi.MessageFailed, p, backendapi.EventError, p)
}

func (a *Answer) finish(state string, p *problem.Problem, event string, data any) {
	a.b.mu.Lock()
	if a.over {
		a.b.mu.Unlock()
		return
	}

	a.over = true
	m := a.message()
	m.State, m.Error = state, p
	a.b.mu.Unlock()
	a.emit(event, data)
}

func (a *Answer) message() *backendapi.Message {
	for i := range a.c.Messages {
		if a.c.Messages[i].GenerationID == a.id {
			return &a.c.Messages[i]
		}
	}
	panic("fakebackend: an answer without a message")
}

func (a *Answer) emit(name string, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}

	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.events = append(a.events, sse.Event{
		ID:   fmt.Sprintf("1700000000000-%d", len(a.events)+1),
		Name: name,
		Data: string(raw),
	})

	close(a.more)
	a.more = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /health": func(w http.ResponseWriter, _ *http.Request) {
			wire.WriteJSON(w, http.StatusOK, wire.Readiness{Status: "ok"})
		},
		"POST /api/chat":                     b.chat,
		"GET /api/generations/{id}/events":   b.events,
		"DELETE /api/generations/{id}":       b.stop,
		"GET /api/conversations":             b.list,
		"DELETE /api/conversations":          b.removeAll,
		"GET /api/conversations/export":      b.exportAll,
		"GET /api/conversations/{id}":        b.read,
		"GET /api/conversations/{id}/export": b.read,
		"PATCH /api/conversations/{id}":      b.rename,
		"DELETE /api/conversations/{id}":     b.remove,
		"GET /api/passages/{id}":             b.passage,
		"GET /api/models": func(w http.ResponseWriter, _ *http.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			wire.WriteJSON(w, http.StatusOK, b.models)
		},
		"GET /api/status": func(w http.ResponseWriter, _ *http.Request) {
			b.mu.Lock()
			defer b.mu.Unlock()
			wire.WriteJSON(w, http.StatusOK, b.status)
		},
	} {
		mux.HandleFunc(pattern, h)
	}
	for pattern, h := range b.learning() {
		mux.HandleFunc(pattern, h)
	}

	_, pattern := mux.Handler(r)
	b.mu.Lock()
	b.headers = append(b.headers, r.Header.Clone())
	p := b.fail[pattern]
	b.mu.Unlock()
	if p != nil {
		problem.Write(w, r, p)
		return
	}

	mux.ServeHTTP(w, r)
}

// ownerOf returns who the request is from: the person whom the token names, or
// what is there instead.
func ownerOf(r *http.Request) string {
	if p, ok := identity.Peek(r.Header.Get("Authorization")); ok {
		return p.ID
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// own returns a conversation of the request's owner, or nil. The caller holds the lock.
func (b *Backend) own(r *http.Request, id string) *conversation {
	if c := b.conversations[id]; c != nil && c.owner == ownerOf(r) {
		return c
	}
	return nil
}

// exportAll exports in JSON alone.
func (b *Backend) exportAll(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := backendapi.All{Conversations: []backendapi.ConversationDetail{}}
	for id := range b.conversations {
		if c := b.own(r, id); c != nil {
			all.Conversations = append(all.Conversations, c.ConversationDetail)
		}
	}
	wire.WriteJSON(w, http.StatusOK, all)
}

func (b *Backend) removeAll(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.conversations {
		if b.own(r, id) != nil {
			delete(b.conversations, id)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *Backend) chat(w http.ResponseWriter, r *http.Request) {
	var req backendapi.ChatRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		problem.Write(w, r, problem.New(http.StatusBadRequest, "%v", err))
		return
	}

	b.mu.Lock()
	key := r.Header.Get(wire.KeyHeader)
	if key != "" {
		key = ownerOf(r) + " " + key
	}

	if g, ok := b.keys[key]; ok {
		b.mu.Unlock()
		wire.WriteJSON(w, http.StatusAccepted, g)
		return
	}

	b.next++
	n := strconv.Itoa(b.next)
	b.now = b.now.Add(time.Second)
	c := b.own(r, req.ConversationID)
	switch {
	case c == nil && req.ConversationID != "":
		b.mu.Unlock()
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such conversation"))
		return
	case c == nil:
		c = &conversation{owner: ownerOf(r)}
		c.ID, c.Title, c.CreatedAt = "c"+n, title(req.Message), b.now
		b.conversations[c.ID] = c
	}

	for _, m := range c.Messages {
		if m.State == backendapi.MessageStreaming {
			b.mu.Unlock()
			problem.Write(w, r, problem.New(http.StatusConflict, "an answer is being written"))
			return
		}
	}

	if req.Replaces != nil && !c.replace(&req) {
		b.mu.Unlock()
		problem.Write(w, r,
			problem.Typed(backendapi.TypeChanged, http.StatusConflict, "it has changed"))
		return
	}

	c.UpdatedAt, c.Model = b.now, req.Model
	a := &Answer{b: b, id: "g" + n, c: c, more: make(chan struct{}), stop: make(chan struct{})}
	b.generations[a.id] = a
	c.Messages = append(c.Messages,
		backendapi.Message{
			ID:        "q" + n,
			Role:      "user",
			Content:   req.Message,
			State:     backendapi.MessageComplete,
			CreatedAt: b.now,
		},
		backendapi.Message{
			ID:           "a" + n,
			Role:         "assistant",
			State:        backendapi.MessageStreaming,
			GenerationID: a.id,
			Model:        req.Model,
			CreatedAt:    b.now,
		})
	if key != "" {
		b.keys[key] = backendapi.Generation{ID: a.id, ConversationID: c.ID}
	}

	lost := b.lose > 0
	if lost {
		b.lose--
	}

	b.mu.Unlock()
	a.emit(backendapi.EventStart, backendapi.Start{
		GenerationID:   a.id,
		ConversationID: c.ID,
		Title:          c.Title,
		Model:          req.Model,
	})

	go b.Play(req.Message, a)
	if lost {
		panic(http.ErrAbortHandler)
	}

	wire.WriteJSON(w, http.StatusAccepted, backendapi.Generation{ID: a.id, ConversationID: c.ID})
}

// replace drops the messages that the request takes the place of, and gives it their first question
// if it has none. It reports whether they are there.
func (c *conversation) replace(req *backendapi.ChatRequest) bool {
	first := slices.IndexFunc(c.Messages, func(m backendapi.Message) bool {
		return m.GenerationID == req.Replaces.From
	}) - 1
	if first < 0 || c.Messages[len(c.Messages)-1].GenerationID != req.Replaces.To {
		return false
	}

	if req.Message == "" {
		req.Message = c.Messages[first].Content
	}
	c.Messages = c.Messages[:first:first]
	return true
}

func title(message string) string {
	if r := []rune(message); len(r) > 48 {
		return string(r[:48]) + "…"
	}
	return message
}

func (b *Backend) events(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	a := b.generations[r.PathValue("id")]
	if a == nil || a.c.owner != ownerOf(r) {
		b.mu.Unlock()
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such answer"))
		return
	}

	cut := b.cut > 0
	if cut {
		b.cut--
	}

	b.mu.Unlock()
	out, err := sse.NewWriter(w, time.Second)
	if err != nil {
		return
	}

	i := 0
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		b.mu.Lock()
		i = 1 + slices.IndexFunc(a.events, func(e sse.Event) bool { return e.ID == last })
		b.mu.Unlock()
	}

	for sent := 0; ; {
		b.mu.Lock()
		events, more, over := slices.Clone(a.events[min(i, len(a.events)):]), a.more, a.over
		b.mu.Unlock()
		for _, e := range events {
			if out.Send(e) != nil {
				return
			}
			if sent++; cut && sent == 2 {
				return
			}
		}

		i += len(events)
		if over && len(events) > 0 && backendapi.Final(last(events).Name) {
			return
		}

		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

func last(e []sse.Event) sse.Event { return e[len(e)-1] }

func (b *Backend) stop(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	a := b.generations[r.PathValue("id")]
	b.mu.Unlock()
	if a == nil || a.c.owner != ownerOf(r) {
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such answer"))
		return
	}

	b.mu.Lock()
	over := a.over
	if !over {
		select {
		case <-a.stop:
		default:
			close(a.stop)
		}
	}

	b.mu.Unlock()
	if !over {
		a.finish(backendapi.MessageStopped, nil, backendapi.EventStopped, struct{}{})
	}

	w.WriteHeader(http.StatusNoContent)
}

func (b *Backend) list(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := backendapi.ConversationPage{Conversations: []backendapi.Conversation{}}
	for _, c := range b.conversations {
		found := c.Conversation
		if c.owner == ownerOf(r) && c.find(r.URL.Query().Get("q"), &found) {
			p.Conversations = append(p.Conversations, found)
		}
	}

	slices.SortFunc(p.Conversations, func(x, y backendapi.Conversation) int {
		return y.UpdatedAt.Compare(x.UpdatedAt)
	})
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil {
		limit = 20
	}

	p.Conversations = p.Conversations[min(from, len(p.Conversations)):]
	if len(p.Conversations) > limit {
		p.Conversations, p.Next = p.Conversations[:limit], strconv.Itoa(from+limit)
	}

	p.Partial = b.partial && p.Next != ""
	wire.WriteJSON(w, http.StatusOK, p)
}

// find reports whether the text occurs in the conversation, and fills in where.
func (c *conversation) find(text string, into *backendapi.Conversation) bool {
	if text == "" {
		return true
	}

	mark := func(in string) []backendapi.Piece {
		before, after, found := strings.Cut(in, text)
		if !found {
			return nil
		}
		return []backendapi.Piece{{Text: before}, {Text: text, Hit: true}, {Text: after}}
	}

	into.Found = &backendapi.Found{Title: mark(c.Title)}
	found := into.Found.Title != nil
	if !found {
		into.Found.Title = []backendapi.Piece{{Text: c.Title}}
	}
	for _, m := range c.Messages {
		if excerpt := mark(m.Content); excerpt != nil {
			into.Found.Excerpt, found = excerpt, true
		}
	}
	return found
}

// one calls f with the conversation of the path, or answers 404.
func (b *Backend) one(w http.ResponseWriter, r *http.Request, f func(c *conversation)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.own(r, r.PathValue("id"))
	if c == nil {
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such conversation"))
		return
	}

	f(c)
}

func (b *Backend) read(w http.ResponseWriter, r *http.Request) {
	b.one(w, r, func(c *conversation) {
		d := c.ConversationDetail
		if before, err := strconv.Atoi(r.URL.Query().Get("before")); err == nil {
			d.Messages = d.Messages[:min(before, len(d.Messages))]
		}
		if n := len(d.Messages) - b.pageSize; b.pageSize > 0 && n > 0 {
			d.Messages, d.Earlier = d.Messages[n:], strconv.Itoa(n)
		}

		wire.WriteJSON(w, http.StatusOK, d)
	})
}

func (b *Backend) passage(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.passages[r.PathValue("id")]
	if !ok {
		problem.Write(w, r, problem.New(http.StatusNotFound, "no such passage"))
		return
	}

	wire.WriteJSON(w, http.StatusOK, p)
}

func (b *Backend) rename(w http.ResponseWriter, r *http.Request) {
	var req backendapi.Rename
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		problem.Write(w, r, problem.New(http.StatusBadRequest, "%v", err))
		return
	}

	b.one(w, r, func(c *conversation) {
		c.Title = req.Title
		wire.WriteJSON(w, http.StatusOK, c.Conversation)
	})
}

func (b *Backend) remove(w http.ResponseWriter, r *http.Request) {
	b.one(w, r, func(c *conversation) {
		delete(b.conversations, c.ID)
		w.WriteHeader(http.StatusNoContent)
	})
}
