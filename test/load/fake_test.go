package load

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

// stack is a stack in one process, that does to every third message what a test wants.
type stack struct {
	mu            sync.Mutex
	chats         map[string][]stored // conversations by their id
	owner         map[string]string
	taken         map[string][2]string // replies by their key: conversation, generation
	asked, visits int

	// change changes what is stored of a message and its answer; text what the reader is sent of
	// the answer.
	change func(user, answer stored) []stored
	text   func(answer string) string

	// cut cuts the connection after a message was taken; keys gives the page a key.
	cut, keys bool

	// unavailable answers 503 to every third front page.
	unavailable bool
}

var words = regexp.MustCompile(`count (\d+)`)

// third reports whether a message, the first being 1, is one that something is done to.
func third(n int) bool { return n%3 == 0 }

func (s *stack) serve(t *testing.T) string {
	s.chats, s.owner, s.taken = map[string][]stored{}, map[string]string{}, map[string][2]string{}
	mux := http.NewServeMux()
	me := func(w http.ResponseWriter, r *http.Request) string {
		if c, err := r.Cookie("me"); err == nil {
			return c.Value
		}
		s.asked++
		id := fmt.Sprintf("owner-%d", s.asked)
		http.SetCookie(w, &http.Cookie{Name: "me", Value: id, Path: "/"})
		return id
	}

	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if s.visits++; s.unavailable && third(s.visits) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.page(w, me(w, r), "")
	})

	mux.HandleFunc(
		"GET /c/{id}",
		func(w http.ResponseWriter, r *http.Request) { s.page(w, me(w, r), r.PathValue("id")) },
	)

	mux.HandleFunc(
		"GET /fragments/{name}",
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<p></p>") },
	)

	mux.HandleFunc("GET /status", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc(
		"POST /chat",
		func(w http.ResponseWriter, r *http.Request) { s.chat(w, r, me(w, r)) },
	)

	mux.HandleFunc("GET /api/conversations", func(w http.ResponseWriter, r *http.Request) {
		var page struct {
			Conversations []struct{ ID string } `json:"conversations"`
			Next          string                `json:"next"`
		}

		var ids []string
		for id, owner := range s.owner {
			if owner == me(w, r) {
				ids = append(ids, id)
			}
		}

		slices.Sort(ids)
		// A page has two, so that there are several.
		from, _ := strconv.Atoi(r.FormValue("cursor"))
		for i, id := range ids[min(from, len(ids)):] {
			if i == 2 {
				page.Next = strconv.Itoa(from + 2)
				break
			}
			page.Conversations = append(page.Conversations, struct{ ID string }{id})
		}

		_ = json.NewEncoder(w).Encode(page)
	})

	mux.HandleFunc("GET /api/conversations/{id}", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"messages": s.chats[r.PathValue("id")]})
	})
	mux.HandleFunc("GET /generations/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		state, text := s.answer(r.PathValue("id"))
		half := len(text) / 2
		updates := []update{
			{HTML: []string{"<p>" + text[:half]}},
			{Keep: 3 + half, HTML: []string{text[half:] + "</p>"}},
		}

		for i, data := range updates {
			line, _ := json.Marshal(data)
			fmt.Fprintf(w, "id: %d-0\nevent: blocks\ndata: %s\n\n", i, line)
		}

		fmt.Fprintf(w, "event: end\ndata: {\"state\": %q}\n\n", state)
	})

	mux.HandleFunc(
		"GET /api/generations/{id}/events",
		func(w http.ResponseWriter, r *http.Request) {
			state, text := s.answer(r.PathValue("id"))
			delta, _ := json.Marshal(map[string]string{"text": text})
			end := map[string]string{
				endComplete: "done", endFailed: "error", endStopped: "stopped",
			}[state]
			fmt.Fprintf(w, "event: delta\ndata: %s\n\nevent: %s\ndata: {}\n\n", delta, end)
		},
	)

	locked := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		mux.ServeHTTP(w, r)
	})

	server := httptest.NewServer(locked)
	t.Cleanup(server.Close)
	return server.URL
}

// generations are named by their conversation and the place of their answer.
func (s *stack) answer(generation string) (state, text string) {
	id, place, _ := strings.Cut(generation, ".")
	i, _ := strconv.Atoi(place)
	list := s.chats[id]
	if i >= len(list) {
		return endFailed, ""
	}

	text = list[i].Content
	if s.text != nil {
		text = s.text(text)
	}

	return list[i].State, text
}

func (s *stack) page(w http.ResponseWriter, owner, id string) {
	fmt.Fprint(w, `<main class="chat"><select><option value="a">a</option>`)
	fmt.Fprint(w, `<option value="load" selected>load</option></select>`)
	if s.keys {
		s.asked++
		fmt.Fprintf(w, `<input type="hidden" name="key" value="key-%s-%d">`, owner, s.asked)
	}

	for _, m := range s.chats[id] {
		if m.Content != "" {
			fmt.Fprintf(w, `<template class="source">%s</template>`, html.EscapeString(m.Content))
		}
	}
}

func (s *stack) chat(w http.ResponseWriter, r *http.Request, owner string) {
	text, id, key := r.FormValue("message"), r.FormValue("conversation_id"), r.FormValue("key")
	if r.FormValue("model") != "load" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}

	reply := func(id, generation string) {
		named := map[string]string{"conversation_id": id, "generation_id": generation}
		_ = json.NewEncoder(w).Encode(named)
	}

	if t, ok := s.taken[key]; ok && key != "" {
		reply(t[0], t[1])
		return
	}

	s.asked++
	if id == "" {
		id = fmt.Sprintf("c%d", s.asked)
		s.owner[id] = owner
	}

	n, _ := strconv.Atoi(words.FindStringSubmatch(text)[1])
	user := stored{Role: "user", Content: text, State: endComplete}
	answer := stored{Role: "assistant", Content: slowmodel.Text(n), State: endComplete}
	generation := fmt.Sprintf("%s.%d", id, len(s.chats[id])+1)
	messages := []stored{user, answer}
	something := third(len(s.taken) + 1)
	if key == "" {
		key = "none-" + strconv.Itoa(s.asked)
	}

	s.taken[key] = [2]string{id, generation}
	if something && s.change != nil {
		messages = s.change(user, answer)
	}

	s.chats[id] = append(s.chats[id], messages...)
	if something && s.cut {
		panic(http.ErrAbortHandler)
	}

	reply(id, generation)
}

// TestFinds: what a stack does wrong is found, and what it does right is not.
func TestFinds(t *testing.T) {
	// answer changes an answer, content its text.
	answer := func(f func(a *stored)) *stack {
		return &stack{change: func(user, a stored) []stored { f(&a); return []stored{user, a} }}
	}
	content := func(f func(text string) string) *stack {
		return answer(func(a *stored) { a.Content = f(a.Content) })
	}
	const wrongText = "answers with wrong text: "
	for name, tc := range map[string]struct {
		s      *stack
		resend bool
		want   string // of the error, empty for none
		also   func(*Report) bool
	}{
		"nothing": {
			s:    &stack{},
			also: func(r *Report) bool { return r.ExactAnswers == r.Acknowledged },
		},
		"a lost message": {
			s:    &stack{change: func(_, _ stored) []stored { return nil }},
			want: "messages lost: ",
		},
		"a lost answer": {
			s:    &stack{change: func(user, _ stored) []stored { return []stored{user} }},
			want: "answers lost: ",
		},
		"a doubled message": {
			s:    &stack{change: func(q, a stored) []stored { return []stored{q, a, q, a} }},
			want: "messages doubled: ",
		},
		"a doubled answer": {
			s:    &stack{change: func(q, a stored) []stored { return []stored{q, a, a} }},
			want: "answers doubled: ",
		},
		"a strange message": {
			s: &stack{change: func(q, a stored) []stored {
				return []stored{q, a, {Role: "user", Content: "who is this", State: endComplete}}
			}},
			want: "messages never sent: ",
		},
		"a failed answer": {
			s:    answer(func(a *stored) { a.State = endFailed }),
			want: "answers failed: ",
		},
		"a stopped answer": {
			s:    answer(func(a *stored) { a.State = endStopped }),
			want: "answers failed: ",
		},
		"a cut answer": {
			s:    content(func(text string) string { return text[:len(text)-5] }),
			want: wrongText,
		},
		"a gap": {
			s:    content(func(text string) string { return strings.Replace(text, "w3 ", "", 1) }),
			want: wrongText,
		},
		"doubled text": {
			s:    content(func(text string) string { return "w1 w2 " + text }),
			want: wrongText,
		},
		"an answer begun again": {
			s: content(func(text string) string { return "w1 w2 [again] " + text }),
			also: func(r *Report) bool {
				return r.RestartedAnswers > 0 && r.RestartedAnswers+r.ExactAnswers == r.Acknowledged
			},
		},
		"another text shown": {
			s: &stack{text: func(answer string) string {
				return strings.Replace(answer, "w2 ", "w2 w2 ", 1)
			}},
			want: "readers that saw another answer: ",
		},
		"an error": {
			s:    &stack{unavailable: true},
			want: "requests failed: ",
			also: func(r *Report) bool {
				return r.Lost() == nil && r.Failures[0].What == "HTTP 503"
			},
		},
		"a lost reply": {
			s:    &stack{cut: true},
			want: "requests failed: ",
			also: func(r *Report) bool {
				return r.Lost() == nil && r.StoredUnacknowledged > 0 && r.Resends == 0
			},
		},
		"a lost reply, and a key": {
			s:      &stack{cut: true, keys: true},
			resend: true,
			also: func(r *Report) bool {
				return r.Lost() == nil && r.Resends > 0 && r.Acknowledged == r.Asked
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := tc.s.serve(t)
			r, err := Start(
				t.Context(),
				Options{
					URL:      url,
					People:   3,
					Answers:  1,
					Streams:  2,
					Long:     time.Second,
					Requests: 150,
					Rate:     500,
					Turns:    2,
					Seed:     1,
					Resend:   tc.resend,
				},
			)
			if err != nil {
				t.Fatal(err)
			}

			<-r.Done()
			rep := r.Stop()
			err = rep.Err()
			if (err == nil) != (tc.want == "") ||
				err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %v, want %q", err, tc.want)
			}

			if rep.Acknowledged < 6 || tc.also != nil && !tc.also(rep) {
				var b strings.Builder
				_ = rep.Print(&b) // to a string
				t.Error(b.String())
			}
		})
	}
}

// TestRefused: connections that are refused are counted apart, for as long as they are.
func TestRefused(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end() // a run that is stopped looks for what is there
	url := "http://127.0.0.1:" + peers.FreePort(t, "127.0.0.1")
	r, err := Start(ctx, Options{URL: url, People: 2})
	if err != nil {
		t.Fatal(err)
	}

	// People give up after a minute.
	for deadline := time.Now().Add(50 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		rep := r.Report()
		if rep.FailureCount() > 0 || rep.RequestCount() > 0 || time.Now().After(deadline) {
			t.Fatalf("%+v", rep)
		}
		if rep.Refused.Count >= 2 && rep.Refused.Longest >= 200*time.Millisecond {
			return
		}
	}
}
