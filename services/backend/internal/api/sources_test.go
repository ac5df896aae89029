package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgetest"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
)

// letters is a passage that a question about letters finds.
var letters = knowledgeapi.Passage{
	ID: "p-1", Collection: "handbook", DocumentID: "d-1", File: "letters.md", Title: "Discharge",
	Heading: "Letters > Times", Page: 3, Text: "Letters of discharge are due within TWODAYS.",
	Before: "what was before", After: "what comes after",
}

var more = knowledgeapi.Passage{
	ID: "p-2", Collection: "handbook", DocumentID: "d-2", File: "more.pdf", Title: "More *letters*",
	Text: "Letters are signed by whoever wrote them.",
}

func sourceOf(n int, p knowledgeapi.Passage) backendapi.Source {
	return backendapi.Source{N: n, PassageID: p.ID, Collection: p.Collection, File: p.File,
		Title: p.Title, Heading: p.Heading, Page: p.Page}
}

// quoting answers with the passages with the numbers.
func quoting(numbers ...int) func(*mltest.Stream) {
	return func(s *mltest.Stream) {
		s.Send(mlapi.Chunk{Passages: append([]int{}, numbers...)})
		s.Text("Within two days [1].")
		s.Done()
	}
}

// documented is a stack with documents.
func documented(t testing.TB) (
	*instance, *mltest.Server, *redistest.Server, *knowledgetest.Server) {
	t.Helper()
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	k := knowledgetest.Start(t)
	k.Add(letters)
	i := newInstance(t, redis.URL, ml.URL, options{knowledge: k.URL})
	return i, ml, redis, k
}

// sources reads an answer's event with its sources, which is there once at most.
func (i *instance) sources(h header, generation string) *backendapi.Sources {
	i.t.Helper()
	var out *backendapi.Sources
	text := false
	for r := i.follow(h, generation, ""); ; {
		e := r.next()
		text = text || e.Name == backendapi.EventDelta
		switch {
		case backendapi.Final(e.Name):
			return out
		case e.Name != backendapi.EventSources:
		case out != nil || text:
			i.t.Errorf("the sources are told twice, or late: %s", e.Data)
		default:
			out = &backendapi.Sources{}
			if err := json.Unmarshal([]byte(e.Data), out); err != nil {
				i.t.Fatal(err)
			}
		}
	}
}

// TestSources: what is found goes to ml with the question, in the person's name, and the answer has
// its sources in its events, in its conversation and in its files. No text of a passage is kept.
func TestSources(t *testing.T) {
	i, ml, redis, k := documented(t)
	k.Add(more)
	asked := make(chan mlapi.ChatRequest, 8)
	ml.Chat(func(s *mltest.Stream) { asked <- s.Request; quoting(1)(s) })
	g := i.complete("", "When is a letter due, and who signs letters, and what else is there to say?")

	want := &backendapi.Sources{Sources: []backendapi.Source{sourceOf(1, letters)}, LeftOut: 1}
	if d := cmp.Diff(want, i.sources(alice, g.ID)); d != "" {
		t.Errorf("the event (-want +got):\n%s", d)
	}

	messages := i.detail(alice, g.ConversationID).Messages
	if d := cmp.Diff(want, messages[1].Sources); d != "" || messages[0].Sources != nil {
		t.Errorf("the conversation (-want +got):\n%s", d)
	}

	passages := []mlapi.Passage{
		{N: 1, Title: "Discharge, Letters > Times", Text: letters.Text},
		{N: 2, Title: more.Title, Text: more.Text},
	}
	if d := cmp.Diff(passages, soon(t, "a request to ml", asked).Passages); d != "" {
		t.Errorf("ml got (-want +got):\n%s", d)
	}

	s := k.Searches()
	if len(s) != 1 || s[0].Person.ID != "alice" || s[0].Limit != 6 {
		t.Errorf("%+v", s)
	}

	for format, line := range map[string]string{
		"":             "\n\nWithin two days [1].\n\nSources:\n\n- [1] Discharge, Letters \\> Times, page 3 (handbook/letters.md)\n",
		"?format=json": `"sources":{"sources":[{"n":1,"passage_id":"p-1",`,
	} {
		if _, file := i.export(g.ConversationID, format); !strings.Contains(file, line) {
			t.Errorf("%s has no %q:\n%s", format, line, file)
		}
	}

	if keys := redistest.Find(t, redis.Client(t), "TWODAYS"); len(keys) > 0 {
		t.Errorf("the text of a passage is in %v", keys)
	}
}

// TestNoSources holds the answers that have none.
func TestNoSources(t *testing.T) {
	for name, tc := range map[string]struct {
		question string
		set      func(*knowledgetest.Server, *mltest.Server)
		want     *backendapi.Sources
	}{
		"nothing is found": {"Unrelated?", nil, &backendapi.Sources{}},
		"for other groups": {"About secrets?", func(k *knowledgetest.Server, _ *mltest.Server) {
			k.Add(knowledgeapi.Passage{ID: "s", Text: "Of secrets."}, "board")
		}, &backendapi.Sources{}},
		"knowledge is away": {"letters?", func(k *knowledgetest.Server, _ *mltest.Server) {
			k.Kill()
		}, &backendapi.Sources{Unsearched: true}},
		"knowledge is slow": {"letters?", func(k *knowledgetest.Server, _ *mltest.Server) {
			k.Hold(true)
		}, &backendapi.Sources{Unsearched: true}},
		"no room": {"letters?", func(_ *knowledgetest.Server, ml *mltest.Server) {
			ml.Chat(quoting())
		}, &backendapi.Sources{LeftOut: 1}},
		"an ml of the former version": {"letters?", func(_ *knowledgetest.Server, ml *mltest.Server) {
			ml.Chat(func(s *mltest.Stream) {
				if len(s.Request.Passages) > 0 {
					s.Refuse(problem.New(http.StatusBadRequest, `json: unknown field "passages"`))
					return
				}
				s.Text("hello")
				s.Done()
			})
		}, &backendapi.Sources{Unsearched: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, ml, _, k := documented(t)
			if tc.set != nil {
				tc.set(k, ml)
			}

			g := i.complete("", tc.question)
			if d := cmp.Diff(tc.want, i.sources(alice, g.ID)); d != "" {
				t.Errorf("the event (-want +got):\n%s", d)
			}
			m := i.detail(alice, g.ConversationID).Messages[1]
			if d := cmp.Diff(tc.want, m.Sources); d != "" || m.State != backendapi.MessageComplete {
				t.Errorf("%s (-want +got):\n%s", m.State, d)
			}
		})
	}

	i, _, _ := stack(t)
	g := i.complete("", "letters?")
	if s := i.sources(alice, g.ID); s != nil {
		t.Errorf("a stack without documents has %+v", s)
	}
}

// TestSearchesForAFollowUp: a short question is searched for with the one before it, a long one
// alone, and never more than knowledge takes.
func TestSearchesForAFollowUp(t *testing.T) {
	i, _, _, k := documented(t)
	g := i.complete("", "What of letters?")
	i.complete(g.ConversationID, "And for children?")
	long := "This question says by itself what it is about, and needs no other"
	i.complete(g.ConversationID, long)
	i.complete(g.ConversationID, strings.Repeat("é", knowledgeapi.MaxQuery))

	want := []string{"What of letters?", "And for children?\nWhat of letters?", long,
		strings.Repeat("é", knowledgeapi.MaxQuery/2)}
	var got []string
	for _, s := range k.Searches() {
		got = append(got, s.Query)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestSourcesOfATakenOverAnswer: whoever goes on with an answer gives ml what was found first, with
// the numbers that it had, and does not search again. What the owner may read is searched as the
// owner was then.
func TestSourcesOfATakenOverAnswer(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	k := knowledgetest.Start(t)
	k.Add(letters, "ward")
	asked := make(chan mlapi.ChatRequest, 8)
	ml.Chat(func(s *mltest.Stream) { asked <- s.Request; quoting(1, 2)(s) })

	s := dead(t, store.Address{URL: redis.URL}, lease)
	before := orphan(t, s, "Already [1]. ")
	found := fmt.Sprintf(`{"passages":[{"n":1,"passage_id":"old","collection":"c","file":"f",`+
		`"title":"T","text":%q},{"n":2,"passage_id":"other","collection":"c","file":"f",`+
		`"title":"U","text":"b"}]}`, "OLDTEXT")
	if err := s.Found(t.Context(), before.Generation, found); err != nil {
		t.Fatal(err)
	}

	old := backendapi.Source{N: 1, PassageID: "old", Collection: "c", File: "f", Title: "T"}
	other := backendapi.Source{N: 2, PassageID: "other", Collection: "c", File: "f", Title: "U"}
	told := backendapi.Sources{Sources: []backendapi.Source{old}, LeftOut: 1}
	if err := s.Sources(t.Context(), before.Generation, told); err != nil {
		t.Fatal(err)
	}

	fresh, err := s.Begin(t.Context(), store.Turn{Owner: "alice", Title: "T", Model: "m:1",
		Message: "letters?", Groups: []string{"ward"}}, "T")
	if err != nil {
		t.Fatal(err)
	}

	lost := orphan(t, s, "Already [1]. ")
	if err := s.Sources(t.Context(), lost.Generation, told); err != nil {
		t.Fatal(err)
	}

	newInstance(t, redis.URL, ml.URL, options{knowledge: k.URL})
	if d := cmp.Diff(&told, stored(t, s, lost.ConversationID).Sources); d != "" {
		t.Errorf("of an answer whose passages are lost (-want +got):\n%s", d)
	}
	for _, tc := range []struct {
		b    store.Begun
		want []backendapi.Source
	}{
		{before, []backendapi.Source{old, other}},
		{fresh, []backendapi.Source{sourceOf(1, letters)}},
	} {
		m := stored(t, s, tc.b.ConversationID)
		if d := cmp.Diff(&backendapi.Sources{Sources: tc.want}, m.Sources); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}

	texts := map[string]bool{}
	for range 3 {
		for _, p := range soon(t, "a request to ml", asked).Passages {
			texts[fmt.Sprint(p.N, p.Text)] = true
		}
	}
	want := map[string]bool{"1OLDTEXT": true, "2b": true, "1" + letters.Text: true}
	if d := cmp.Diff(want, texts); d != "" {
		t.Errorf("ml got (-want +got):\n%s", d)
	}

	if got := k.Searches(); len(got) != 1 || got[0].Person.ID != "alice" ||
		!cmp.Equal(got[0].Person.Groups, []string{"ward"}) {
		t.Errorf("%+v", got)
	}
	if keys := redistest.Find(t, redis.Client(t), "OLDTEXT", "TWODAYS"); len(keys) > 0 {
		t.Errorf("the text of a passage is in %v", keys)
	}
}

// TestSourcesOfAnInterruptedAnswer: ml is asked again with the same passages, and they are told once,
// also if it has no room for all of them the second time.
func TestSourcesOfAnInterruptedAnswer(t *testing.T) {
	i, ml, _, k := documented(t)
	k.Add(more)
	asked := make(chan mlapi.ChatRequest, 8)
	ml.Chat(func(s *mltest.Stream) {
		asked <- s.Request
		if s.SoFar() == "" {
			s.Send(mlapi.Chunk{Passages: []int{1, 2}})
			s.Text("Signed [2], ")
			s.Cut()
		}
		s.Send(mlapi.Chunk{Passages: []int{1}})
		s.Text("within two days [1].")
		s.Done()
	})

	g := i.complete("", "letters?")
	first, second := soon(t, "a request to ml", asked), soon(t, "another", asked)
	if d := cmp.Diff(first.Passages, second.Passages); d != "" || len(first.Passages) != 2 {
		t.Errorf("(-want +got):\n%s", d)
	}
	want := &backendapi.Sources{Sources: []backendapi.Source{sourceOf(1, letters), sourceOf(2, more)}}
	if d := cmp.Diff(want, i.sources(alice, g.ID)); d != "" {
		t.Errorf("the event (-want +got):\n%s", d)
	}
	if n := len(k.Searches()); n != 1 {
		t.Errorf("%d searches", n)
	}
}

// TestErasedSources: nothing of what was found is left of an answer that is deleted while it is
// written, and no source when all is erased.
func TestErasedSources(t *testing.T) {
	i, ml, redis, _ := documented(t)
	begun := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		s.Send(mlapi.Chunk{Passages: []int{1}})
		s.Text("x")
		close(begun)
		s.Hold()
	})
	g := i.send(alice, "", "letters?")
	soon(t, "the answer's beginning", begun)
	if keys := redistest.Find(t, redis.Client(t), "TWODAYS"); len(keys) != 1 {
		t.Errorf("while the answer is written, what was found is in %v", keys)
	}
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+g.ConversationID, nil,
		alice)
	i.idle()
	if keys := redistest.Find(t, redis.Client(t), "TWODAYS"); len(keys) > 0 {
		t.Errorf("the text of a passage is in %v", keys)
	}

	ml.Chat(quoting(1))
	i.complete("", "letters?")
	if keys := redistest.Find(t, redis.Client(t), letters.ID); len(keys) == 0 {
		t.Error("the source is nowhere")
	}
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations", nil, alice)
	if keys := redistest.Find(t, redis.Client(t), letters.ID); len(keys) > 0 {
		t.Errorf("the source is in %v", keys)
	}
}

// TestPassage: a source is read by those who may, and for all others it is not there.
func TestPassage(t *testing.T) {
	i, _, _, k := documented(t)
	k.Add(knowledgeapi.Passage{ID: "s", Text: "Of secrets."}, "board")
	var got knowledgeapi.Passage
	i.want(http.StatusOK, &got, http.MethodGet, "/api/passages/p-1", nil, alice)
	if d := cmp.Diff(letters, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	var said []string
	for _, id := range []string{"s", "never", "a%2F..%2Fb"} {
		p := i.refused(http.StatusNotFound, http.MethodGet, "/api/passages/"+id, nil, alice)
		said = append(said, p.Type+p.Title+p.Detail)
	}
	k.Remove("p-1")
	p := i.refused(http.StatusNotFound, http.MethodGet, "/api/passages/p-1", nil, alice)
	said = append(said, p.Type+p.Title+p.Detail)
	for _, s := range said {
		if s != said[0] {
			t.Errorf("%q is told from %q", s, said[0])
		}
	}

	k.Kill()
	i.refused(http.StatusServiceUnavailable, http.MethodGet, "/api/passages/p-1", nil, alice)

	bare, _, _ := stack(t)
	bare.refused(http.StatusNotFound, http.MethodGet, "/api/passages/p-1", nil, alice)
}

// TestStatusOfKnowledge: it is among the services where there is one.
func TestStatusOfKnowledge(t *testing.T) {
	i, _, _, k := documented(t)
	of := func() backendapi.ServiceStatus {
		var s backendapi.Status
		i.want(http.StatusOK, &s, http.MethodGet, "/api/status", nil, alice)
		last := s.Services[len(s.Services)-1]
		if (s.Status == backendapi.StatusReady) != (last.Status == backendapi.StatusReady) {
			t.Errorf("%+v", s)
		}
		return last
	}

	if s := of(); s.Name != "knowledge" || s.Status != backendapi.StatusReady {
		t.Errorf("%+v", s)
	}
	k.Ready(wire.Readiness{Status: "not ready", Checks: map[string]string{"index": "is opened"}})
	if s := of(); s.Status != backendapi.StatusDegraded || s.Detail != "not ready; index: is opened" {
		t.Errorf("%+v", s)
	}
	k.Kill()
	if s := of(); s.Status != backendapi.StatusDown {
		t.Errorf("%+v", s)
	}
}
