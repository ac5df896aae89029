package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/google/go-cmp/cmp"
)

func TestAnswerIsStreamedAndKept(t *testing.T) {
	i, ml, _ := stack(t)
	requests := make(chan mlapi.ChatRequest, 1)
	ids := make(chan string, 1)
	ml.Chat(func(s *mltest.Stream) {
		requests <- s.Request
		ids <- s.HTTP.Header.Get(wire.RequestIDHeader)
		if owner := s.HTTP.Header.Get(wire.OwnerHeader); owner != "alice" {
			t.Errorf("ml, which is fair between owners, got the owner %q", owner)
		}

		s.Send(mlapi.Chunk{Queue: 2})
		s.Text("Hel")
		s.Text("lo, \"wörld\" 🎉\n</script>")
		s.Done()
	})

	resp := i.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"},
		alice.with("Accept", "text/event-stream").with(wire.RequestIDHeader, "trace-1"))
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != sse.ContentType {
		t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}

	r := &reader{t: t, resp: resp, events: sse.NewReader(resp.Body)}
	first := r.next()
	var start backendapi.Start
	if err := json.Unmarshal([]byte(first.Data), &start); err != nil ||
		first.Name != backendapi.EventStart {
		t.Fatalf("first event %+v: %v", first, err)
	}

	if start.Title != "Hi" || start.Model != "codexcontinue" {
		t.Errorf("start: %+v", start)
	}
	if e := r.next(); e.Name != backendapi.EventQueue || e.Data != `{"position":2}` {
		t.Errorf("second event: %+v, want the queue position", e)
	}

	text, last, _ := r.rest()
	const want = "Hello, \"wörld\" 🎉\n</script>"
	if text != want {
		t.Errorf("text %q, want %q", text, want)
	}

	var done mlapi.Done
	if err := json.Unmarshal([]byte(last.Data),
		&done); err != nil || last.Name != backendapi.EventDone || done.Tokens != 5 {
		t.Errorf("last event %+v: %v", last, err)
	}

	if d := cmp.Diff([]mlapi.Message{{Role: "user", Content: "Hi"}},
		soon(t, "ml's request", requests).Messages); d != "" {
		t.Errorf("ml was sent (-want +got):\n%s", d)
	}

	if id := soon(t, "the request's id", ids); id != "trace-1" {
		t.Errorf("ml got the request id %q", id)
	}

	d := i.detail(alice, start.ConversationID)
	if len(d.Messages) != 2 {
		t.Fatalf("messages: %+v", d.Messages)
	}

	if m := d.Messages[0]; m.Role != "user" || m.Content != "Hi" ||
		m.State != backendapi.MessageComplete {
		t.Errorf("user's message: %+v", m)
	}

	m := d.Messages[1]
	if m.Role != "assistant" || m.Content != want || m.State != backendapi.MessageComplete ||
		m.GenerationID != start.GenerationID || m.Model != "codexcontinue" {
		t.Errorf("answer: %+v", m)
	}

	// The next turn sends what was said; only complete messages, and the model
	// that the request names.
	ml.Chat(func(s *mltest.Stream) {
		requests <- s.Request
		s.Text("Half")
		s.Send(mlapi.Chunk{Error: problem.New(http.StatusInternalServerError, "out of memory")})
	})

	g := i.send(alice, start.ConversationID, "More")
	if req := soon(t, "ml's request",
		requests); len(req.Messages) != 3 || req.Messages[1].Content != want ||
		req.Messages[2].Content != "More" {
		t.Errorf("ml was sent %+v", req)
	}

	text, last, _ = i.follow(alice, g.ID, "").rest()
	var p problem.Problem
	if err := json.Unmarshal([]byte(last.Data),
		&p); err != nil || last.Name != backendapi.EventError || p.Detail != "out of memory" ||
		text != "Half" || p.RequestID == "" {
		t.Errorf("%q, %+v: %v", text, last, err)
	}

	d = i.detail(alice, start.ConversationID)
	if m := d.Messages[3]; m.State != backendapi.MessageFailed || m.Content != "Half" ||
		m.Error == nil || m.Error.Detail != "out of memory" {
		t.Errorf("failed answer: %+v", m)
	}

	ml.Chat(func(s *mltest.Stream) { requests <- s.Request; s.Text("ok"); s.Done() })
	var g2 backendapi.Generation
	i.want(http.StatusAccepted, &g2, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{
			ConversationID: start.ConversationID, Message: "Again", Model: "other:7b",
		},
		alice)

	req := soon(t, "ml's request", requests)
	if len(req.Messages) != 4 || req.Messages[2].Content != "More" ||
		req.Messages[3].Content != "Again" || req.Model != "other:7b" {
		t.Errorf("ml was sent %+v", req)
	}

	i.follow(alice, g2.ID, "").rest()
	if d := i.detail(alice, start.ConversationID); d.Model != "other:7b" {
		t.Errorf("the conversation's model is %q", d.Model)
	}
}

// Every way in which ml can end a stream wrongly is an error event, and the text so far is kept.
func TestCutStreams(t *testing.T) {
	i, ml, _ := stack(t)
	for name, end := range map[string]func(*mltest.Stream){
		"ends without done": func(*mltest.Stream) {},
		"connection breaks": func(s *mltest.Stream) { s.Cut() },
		"line breaks off":   func(s *mltest.Stream) { s.Raw(`{"text":"x`) },
		"not JSON":          func(s *mltest.Stream) { s.Raw("<html>\n") },
		"line without bound": func(s *mltest.Stream) {
			s.Raw(`{"text":"` + strings.Repeat("x", 2<<20))
		},
		"answer too long": func(s *mltest.Stream) {
			for range 9 {
				s.Text(strings.Repeat("y", 64<<10))
			}
			s.Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := i.in(t)
			ml.Chat(func(s *mltest.Stream) { s.Text("so far"); end(s) })
			g := i.send(alice, "", "Hi")
			text, last, _ := i.follow(alice, g.ID, "").rest()
			var p problem.Problem
			if err := json.Unmarshal([]byte(last.Data),
				&p); err != nil || last.Name != backendapi.EventError ||
				p.Status != http.StatusBadGateway {
				t.Fatalf("last event %+v: %v", last, err)
			}

			m := i.detail(alice, g.ConversationID).Messages[1]
			if !strings.HasPrefix(text, "so far") || m.Content != text ||
				m.State != backendapi.MessageFailed {
				t.Errorf("events have %d bytes, the message is %s with %d",
					len(text), m.State, len(m.Content))
			}
		})
	}
}

func TestRefusedByModelLeavesNoTrace(t *testing.T) {
	i, ml, redis := stack(t)
	full := &problem.Problem{
		Type:          "/problems/queue-full",
		Title:         "Queue full",
		Status:        http.StatusTooManyRequests,
		Detail:        "busy",
		QueuePosition: 9,
		RetryAfter:    7,
	}

	ml.Chat(func(s *mltest.Stream) { s.Refuse(full) })
	h := alice.with("Accept", sse.ContentType)
	p := i.refused(http.StatusTooManyRequests, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "Hi"}, h)
	if p.QueuePosition != 9 || p.RetryAfter != 7 || p.Type != "/problems/queue-full" {
		t.Errorf("problem %+v", p)
	}

	resp := i.do(http.MethodPost, "/api/chat", backendapi.ChatRequest{Message: "Hi"}, h)
	if got := resp.Header.Get("Retry-After"); got != "7" {
		t.Errorf("Retry-After %q", got)
	}

	io.Copy(io.Discard, resp.Body)
	if keys := redis.Client(t).Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("keys are left: %v", keys)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("one"); s.Done() })
	g := i.send(alice, "", "First")
	i.follow(alice, g.ID, "").rest()
	before := i.detail(alice, g.ConversationID)
	ml.Chat(func(s *mltest.Stream) { s.Refuse(problem.New(http.StatusNotFound, "no such model")) })
	i.refused(http.StatusNotFound, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "Second"}, alice)
	if d := cmp.Diff(before.Messages, i.detail(alice, g.ConversationID).Messages); d != "" {
		t.Errorf("messages changed (-before +after):\n%s", d)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("two"); s.Done() })
	// the conversation is free again
	i.follow(alice, i.send(alice, g.ConversationID, "Second").ID, "").rest()
}

// A reader that resumes anywhere gets each later piece once, whether it comes while the
// answer is written or after.
func TestResume(t *testing.T) {
	i, ml, _ := stack(t)
	const tokens = 200
	var want strings.Builder
	for n := range tokens {
		fmt.Fprintf(&want, "<%d>", n)
	}

	goOn := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		for n := range tokens {
			if n == tokens/2 {
				<-goOn
			}
			s.Text(fmt.Sprintf("<%d>", n))
		}
		s.Done()
	})

	g := i.send(alice, "", "Count")
	live := i.follow(alice, g.ID, "")
	var ids []string
	prefix := map[string]string{} // the text up to an event
	text := ""
	for !strings.Contains(text, fmt.Sprintf("<%d>", tokens/2-1)) {
		e := live.next()
		if e.Name == backendapi.EventDelta {
			text += delta(t, e)
		}
		ids, prefix[e.ID] = append(ids, e.ID), text
	}

	var wg sync.WaitGroup
	for _, id := range ids { // all wait for the second half now
		r := i.follow(alice, g.ID, id)
		wg.Go(func() {
			rest, last, _ := r.rest()
			if got := prefix[id] + rest; got != want.String() || last.Name != backendapi.EventDone {
				t.Errorf("resumed after %s: %q, %s", id, got, last.Name)
			}
		})
	}

	close(goOn)
	rest, last, more := live.rest()
	if got := text + rest; got != want.String() || last.Name != backendapi.EventDone {
		t.Errorf("read live: %q, %s", got, last.Name)
	}

	wg.Wait()
	for _, id := range ids {
		if rest, last, _ := i.follow(alice, g.ID,
			id).rest(); prefix[id]+rest != want.String() || last.Name != backendapi.EventDone {
			t.Errorf("resumed after the end after %s: %q", id, prefix[id]+rest)
		}
	}

	end := more[len(more)-1]
	i.want(http.StatusNoContent, nil, http.MethodGet, "/api/generations/"+g.ID+"/events", nil,
		alice.with("Last-Event-ID", end))
	if all, last, n := i.follow(alice, g.ID, "").rest(); all != want.String() || last.ID != end ||
		len(n) > 5 {
		t.Errorf("a late reader got %d events up to %s", len(n), last.ID)
	}

	if m := i.detail(alice, g.ConversationID).Messages[1]; m.Content != want.String() {
		t.Errorf("stored: %q", m.Content)
	}

	for _, id := range []string{
		"x", "1", "1-", "-1", "1-2-3", "-1-0", "18446744073709551616-0", "99999999999999-0", "$",
		"+",
	} {
		i.refused(http.StatusBadRequest, http.MethodGet, "/api/generations/"+g.ID+"/events", nil,
			alice.with("Last-Event-ID", id))
	}
}

// Of two messages sent at once one gets the conversation.
func TestOneAnswerAtATime(t *testing.T) {
	i, ml, redis := stack(t)
	other := newInstance(t, redis.URL, ml.URL, options{})
	ml.Chat(func(s *mltest.Stream) { s.Text("first"); s.Done() })
	g := i.send(alice, "", "Hi")
	i.follow(alice, g.ID, "").rest()
	release := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) { s.Open(); <-release; s.Text("second"); s.Done() })
	const n = 8
	codes, started := make(chan int, n), make(chan backendapi.Generation, n)
	for k := range n {
		at := []*instance{i, other}[k%2]
		go func() {
			resp := at.do(http.MethodPost, "/api/chat",
				backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "Me!"}, alice)
			if resp.StatusCode == http.StatusAccepted {
				var g backendapi.Generation
				if err := json.NewDecoder(resp.Body).Decode(&g); err != nil {
					t.Error(err)
				}
				started <- g
			}

			codes <- resp.StatusCode
		}()
	}

	count := map[int]int{}
	for range n {
		count[soon(t, "an answer", codes)]++
	}

	if d := cmp.Diff(map[int]int{http.StatusAccepted: 1, http.StatusConflict: n - 1}, count); d != "" {
		t.Errorf("status codes (-want +got):\n%s", d)
	}

	close(release)
	i.follow(alice, soon(t, "the one that was taken", started).ID, "").rest()
	if d := i.detail(alice, g.ConversationID); len(d.Messages) != 4 {
		t.Errorf("%d messages, want 4", len(d.Messages))
	}
}

func TestChatValidation(t *testing.T) {
	i, _, _ := stack(t)
	for name, tc := range map[string]struct {
		body   string
		status int
		at     string
	}{
		"no message":    {`{}`, 422, "body"},
		"empty message": {`{"message":" \n\t"}`, 422, "body.message"},
		"too long": {`{"message":"` + strings.Repeat("ä", backendapi.MaxMessage/2+1) + `"}`,
			422, "body.message"},
		"unknown field":   {`{"message":"Hi","stream":true}`, 422, "body.stream"},
		"wrong type":      {`{"message":7}`, 422, "body.message"},
		"model":           {`{"message":"Hi","model":"../etc passwd"}`, 422, "body.model"},
		"not JSON":        {`{"message"`, 400, ""},
		"two values":      {`{"message":"Hi"} {}`, 400, ""},
		"not an object":   {`[]`, 422, "body"},
		"nothing":         {``, 400, ""},
		"body too big":    {`{"message":"` + strings.Repeat("x", 512<<10) + `"}`, 413, ""},
		"no conversation": {`{"message":"Hi","conversation_id":"01890000-0000-7000-8000-000000000000"}`, 404, ""},
		"conversation id": {`{"message":"Hi","conversation_id":"x:messages"}`, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := i.in(t).refused(tc.status, http.MethodPost, "/api/chat", tc.body, alice)
			if tc.at == "" {
				return
			}

			for _, e := range p.Errors {
				if e.Location == tc.at {
					return
				}
			}

			t.Errorf("no fault at %s: %+v", tc.at, p.Errors)
		})
	}

	i.refused(http.StatusUnsupportedMediaType, http.MethodPost, "/api/chat", "message=Hi",
		alice.with("Content-Type", "text/plain"))
	for _, owner := range []string{"a b", "a:b", "{x}", strings.Repeat("a", 129)} {
		i.refused(http.StatusUnprocessableEntity, http.MethodGet, "/api/conversations", nil,
			header{wire.OwnerHeader: owner})
	}

	i.refused(http.StatusNotFound, http.MethodGet, "/api/nothing", nil, nil)
	i.refused(http.StatusMethodNotAllowed, http.MethodPut, "/api/chat", `{}`, nil)
	// The longest message there may be, of characters that JSON escapes: the limit is on the
	// message, not on its form.
	i.send(alice, "", strings.Repeat("\x01", backendapi.MaxMessage-1)+"x")
}
