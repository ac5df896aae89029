package api_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestOpenAPI(t *testing.T) {
	i, _, _ := stack(t)
	resp := i.do(http.MethodGet, "/openapi.json", nil, nil)
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	got = append(got, '\n')
	const golden = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("the API changed: run with -update if that is meant (-want +got):\n%s", d)
	}

	for _, path := range []string{"/docs", "/openapi.yaml", "/schemas/Problem.json"} {
		i.refused(http.StatusNotFound, http.MethodGet, path, nil, nil)
	}
}

func TestConversations(t *testing.T) {
	i, _, redis := stack(t)
	var c, named backendapi.Conversation
	resp := i.want(http.StatusCreated, &c, http.MethodPost, "/api/conversations", nil, alice)
	if c.Title == "" || c.Model != "codexcontinue" || c.CreatedAt.IsZero() ||
		resp.Header.Get("Location") != "/api/conversations/"+c.ID {
		t.Errorf("%+v", c)
	}

	i.want(http.StatusCreated, &named, http.MethodPost, "/api/conversations",
		map[string]string{"title": " Trip ", "model": "m:1"}, alice)
	if named.Title != "Trip" || named.Model != "m:1" {
		t.Errorf("%+v", named)
	}
	if d := i.detail(alice, c.ID); len(d.Messages) != 0 || d.Messages == nil {
		t.Errorf("%+v", d)
	}

	long := strings.Repeat("word ", 30)
	i.follow(alice, i.send(alice, c.ID, "\n  \n"+long+"\nmore").ID, "").rest()
	i.follow(alice, i.send(alice, named.ID, "Hi").ID, "").rest()
	if got, want := i.detail(alice, c.ID).Title, strings.TrimSpace(strings.Repeat("word ", 12))+"…"; got != want {
		t.Errorf("title of the first message: %q, want %q", got, want)
	}
	if got := i.detail(alice, named.ID).Title; got != "Trip" {
		t.Errorf("a given title was replaced by %q", got)
	}

	var renamed backendapi.Conversation
	i.want(http.StatusOK, &renamed, http.MethodPatch, "/api/conversations/"+c.ID,
		backendapi.Rename{Title: " Neu 🎉 "}, alice)
	if renamed.Title != "Neu 🎉" || renamed.UpdatedAt.Before(renamed.CreatedAt) {
		t.Errorf("%+v", renamed)
	}

	for _, title := range []string{"", "  ", "a\nb", "a\x00b", strings.Repeat("ü", backendapi.MaxTitle+1)} {
		i.refused(http.StatusUnprocessableEntity, http.MethodPatch, "/api/conversations/"+c.ID,
			backendapi.Rename{Title: title}, alice)
	}

	i.want(http.StatusOK, nil, http.MethodPatch, "/api/conversations/"+c.ID,
		backendapi.Rename{Title: strings.Repeat("ü", backendapi.MaxTitle)}, alice)
	i.refused(http.StatusUnprocessableEntity, http.MethodPost, "/api/conversations",
		`{"name":"x"}`, alice)
	for _, key := range []string{
		"conversation:" + c.ID, "conversation:" + c.ID + ":messages", "owner:alice:conversations",
	} {
		if ttl := redis.Client(t).TTL(t.Context(), key).Val(); ttl <= 0 {
			t.Errorf("%s lives for ever (%s)", key, ttl)
		}
	}

	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations/"+c.ID, nil, alice)
	i.refused(http.StatusNotFound, http.MethodDelete, "/api/conversations/"+c.ID, nil, alice)
	i.refused(http.StatusNotFound, http.MethodGet, "/api/conversations/"+c.ID, nil, alice)
	if n := redis.Client(t).Exists(t.Context(), "conversation:"+c.ID, "conversation:"+c.ID+":messages").Val(); n != 0 {
		t.Error("keys of a deleted conversation are left")
	}
}

// What is another owner's does not exist.
func TestOwners(t *testing.T) {
	i, ml, _ := stack(t)
	ml.Chat(func(s *mltest.Stream) { s.Text("secret"); s.Hold() })
	g := i.send(alice, "", "Hi")
	for _, other := range []header{{wire.OwnerHeader: "bob"}, {wire.OwnerHeader: "ALICE"}, nil} {
		i.refused(404, http.MethodGet, "/api/conversations/"+g.ConversationID, nil, other)
		i.refused(404, http.MethodPatch, "/api/conversations/"+g.ConversationID,
			backendapi.Rename{Title: "x"}, other)
		i.refused(404, http.MethodDelete, "/api/conversations/"+g.ConversationID, nil, other)
		i.refused(404, http.MethodPost, "/api/chat",
			backendapi.ChatRequest{ConversationID: g.ConversationID, Message: "x"}, other)
		i.refused(404, http.MethodPost, "/api/chat", backendapi.ChatRequest{
			ConversationID: g.ConversationID, Message: "x",
			Replaces: &backendapi.Replaces{From: g.ID, To: g.ID},
		}, other)
		for _, format := range []string{"", "?format=markdown", "?format=json"} {
			i.refused(404, http.MethodGet, "/api/conversations/"+g.ConversationID+"/export"+format,
				nil, other)
		}
		i.refused(404, http.MethodGet, "/api/generations/"+g.ID+"/events", nil, other)
		i.refused(404, http.MethodDelete, "/api/generations/"+g.ID, nil, other)
		var page backendapi.ConversationPage
		for _, q := range []string{"", "?q=Hi"} {
			i.want(200, &page, http.MethodGet, "/api/conversations"+q, nil, other)
			if len(page.Conversations) != 0 {
				t.Errorf("%v sees %+v", other, page)
			}
		}
	}

	if m := i.detail(alice, g.ConversationID).Messages[1]; m.State != backendapi.MessageStreaming {
		t.Errorf("%+v", m)
	}

	i.want(204, nil, http.MethodDelete, "/api/generations/"+g.ID, nil, alice)
	ml.Chat(func(s *mltest.Stream) { s.Done() })
	mine := i.send(nil, "", "Hi") // without a header: public
	i.detail(header{wire.OwnerHeader: "public"}, mine.ConversationID)
}

func TestPages(t *testing.T) {
	i, _, redis := stack(t)
	const n = 45
	var want []string
	for k := range n {
		var c backendapi.Conversation
		i.want(201, &c, http.MethodPost, "/api/conversations",
			map[string]string{"title": fmt.Sprint(k)}, alice)
		want = append(want, c.ID)
	}

	// All at one moment: only the ids tell them apart.
	r, moment := redis.Client(t), time.Now().UnixMilli()
	for _, id := range want[:40] {
		if err := r.ZAdd(t.Context(), "owner:alice:conversations", goredis.Z{
			Score: float64(moment), Member: id,
		}).Err(); err != nil {
			t.Fatal(err)
		}

		if err := r.HSet(t.Context(), "conversation:"+id, "updated_at", moment).Err(); err != nil {
			t.Fatal(err)
		}
	}

	for _, limit := range []int{1, 7, 44, 45, 200} {
		var got []string
		for cursor, pages := "", 0; ; pages++ {
			var page backendapi.ConversationPage
			i.want(200, &page, http.MethodGet,
				fmt.Sprintf("/api/conversations?limit=%d&cursor=%s", limit, cursor), nil, alice)
			for _, c := range page.Conversations {
				got = append(got, c.ID)
			}

			if cursor = page.Next; cursor == "" {
				break
			}
			if len(page.Conversations) != limit || pages > n {
				t.Fatalf("limit %d: a page of %d before the last", limit, len(page.Conversations))
			}
		}

		sorted := slices.Clone(got)
		slices.Sort(sorted)
		all := slices.Clone(want)
		slices.Sort(all)
		if d := cmp.Diff(all, sorted); d != "" {
			t.Errorf("limit %d: not each exactly once (-want +got):\n%s", limit, d)
		}
	}

	var first backendapi.ConversationPage
	i.want(200, &first, http.MethodGet, "/api/conversations?limit=10", nil, alice)
	moved := first.Conversations[9].ID
	i.want(200, nil, http.MethodPatch, "/api/conversations/"+moved,
		backendapi.Rename{Title: "moved"}, alice)
	var second, again backendapi.ConversationPage
	i.want(200, &second, http.MethodGet, "/api/conversations?limit=10&cursor="+first.Next, nil,
		alice)
	if len(second.Conversations) != 10 ||
		slices.ContainsFunc(second.Conversations, func(c backendapi.Conversation) bool {
			return slices.Contains(first.Conversations, c)
		}) {
		t.Errorf("the second page repeats the first")
	}

	i.want(200, &again, http.MethodGet, "/api/conversations?limit=1", nil, alice)
	if again.Conversations[0].ID != moved {
		t.Error("the last changed is not the first of the list")
	}

	for _, q := range []string{"limit=0", "limit=201", "limit=x", "page=2"} {
		i.refused(422, http.MethodGet, "/api/conversations?"+q, nil, alice)
	}

	for _, c := range []string{"x", "!!", first.Next + "A", "MTp4", "LTE6eA"} {
		i.refused(400, http.MethodGet, "/api/conversations?cursor="+c, nil, alice)
	}
}

func TestStatusAndModels(t *testing.T) {
	redis, ml := redistest.StartAs(t, stacks.Backend), mltest.Start(t)
	i := newInstance(t, redis.URL, ml.URL, options{})
	status := func() (backendapi.Status, map[string]backendapi.ServiceStatus) {
		t.Helper()
		var s backendapi.Status
		i.want(200, &s, http.MethodGet, "/api/status", nil, nil)
		by := map[string]backendapi.ServiceStatus{}
		for _, x := range s.Services {
			by[x.Name] = x
		}

		if len(by) != 4 {
			t.Fatalf("services: %+v", s.Services)
		}

		return s, by
	}

	if s, _ := status(); s.Status != backendapi.StatusReady || s.Model.State != mlapi.BuildReady {
		t.Errorf("%+v", s)
	}

	var models mlapi.Models
	i.want(200, &models, http.MethodGet, "/api/models", nil, nil)
	if len(models.Models) != 1 || models.Models[0].Name != "codexcontinue" {
		t.Errorf("%+v", models)
	}

	ml.Ready(wire.Readiness{
		Status: "not ready",
		Checks: map[string]string{"ollama": "connection refused", "model": "pulling"},
	})

	ml.Models(mlapi.Models{Build: mlapi.Build{
		Name: "codexcontinue", State: mlapi.BuildPulling, Completed: 1, Total: 4,
	}})
	s, by := status()
	if s.Status != backendapi.StatusDegraded || s.Model.Total != 4 ||
		by["ml"].Status != backendapi.StatusDegraded ||
		!strings.Contains(by["ml"].Detail, "model: pulling") ||
		by["ollama"].Status != backendapi.StatusDown ||
		by["ollama"].Detail != "connection refused" {
		t.Errorf("%+v", s)
	}

	i.want(200, &models, http.MethodGet, "/api/models", nil, nil)
	redis.Kill(t)
	if s, by := status(); by["redis"].Status != backendapi.StatusDown ||
		!strings.Contains(by["redis"].Detail, "REDIS_URL") ||
		s.Status != backendapi.StatusDegraded {
		t.Errorf("%+v", s)
	}

	i2 := newInstance(t, redis.URL, "http://127.0.0.1:1", options{})
	i2.refused(http.StatusBadGateway, http.MethodGet, "/api/models", nil, nil)
	i = i2
	if s, by := status(); by["ml"].Status != backendapi.StatusDown ||
		by["ollama"].Status != backendapi.StatusDown || s.Model.State != mlapi.BuildPending {
		t.Errorf("%+v", s)
	}
}
