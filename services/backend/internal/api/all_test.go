package api_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/google/go-cmp/cmp"
)

var carol = header{wire.OwnerHeader: "carol"}

// exportAll returns the file with all conversations of alice.
func (i *instance) exportAll(format string) (h http.Header, body []byte) {
	i.t.Helper()
	resp := i.do(http.MethodGet, "/api/conversations/export"+format, nil, alice)
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		i.t.Fatalf("%s: %s, %v", resp.Status, body, err)
	}
	return resp.Header, body
}

// TestExportAll reads all conversations of one person in both formats.
func TestExportAll(t *testing.T) {
	i, ml, _ := stack(t)
	if _, body := i.exportAll("?format=json"); string(body) != "{\"conversations\":[],\n\"submissions\":[]}\n" {
		t.Errorf("of nobody: %q", body)
	}

	ml.Chat(func(s *mltest.Stream) { s.Text("one"); s.Done() })
	first := i.complete("", "What is\n\"1\"?")
	ml.Chat(func(s *mltest.Stream) { s.Text("two"); s.Done() })
	second := i.complete("", "What is 2?")
	i.want(http.StatusCreated, nil, http.MethodPost, "/api/conversations", nil, carol)

	want := backendapi.All{Submissions: []backendapi.Submission{}}
	for _, g := range []string{second.ConversationID, first.ConversationID} {
		want.Conversations = append(want.Conversations, i.detail(alice, g))
	}

	h, body := i.exportAll("?format=json")
	var got backendapi.All
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if d := cmp.Diff(want, got); d != "" || h.Get("Content-Type") != "application/json" ||
		h.Get("Content-Disposition") != "attachment; filename=conversations.json" {
		t.Errorf("%v (-want +got):\n%s", h, d)
	}

	h, body = i.exportAll("")
	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil || h.Get("Content-Type") != "application/zip" {
		t.Fatalf("%v: %v", h, err)
	}

	for n, g := range []string{second.ConversationID, first.ConversationID} {
		if len(archive.File) != 2 {
			t.Fatalf("%d files", len(archive.File))
		}

		f, err := archive.File[n].Open()
		if err != nil {
			t.Fatal(err)
		}

		file, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}

		if _, alone := i.export(g, ""); string(file) != alone {
			t.Errorf("%s is not the export of the conversation:\n%s", archive.File[n].Name, file)
		}
		if name := archive.File[n].Name; !strings.HasSuffix(name, g[len(g)-8:]+".md") ||
			!strings.Contains(name, "-What-is-") {
			t.Errorf("the name %q", name)
		}
	}

	i.refused(http.StatusUnprocessableEntity, http.MethodGet,
		"/api/conversations/export?format=pdf", nil, alice)
}

// TestDeleteAll deletes all of one person's, stops the answer that is being written, and refuses
// what would store something new.
func TestDeleteAll(t *testing.T) {
	i, ml, _ := stack(t)
	stopped := make(chan struct{})
	ml.Chat(func(s *mltest.Stream) {
		s.Text("one")
		s.Hold()
		close(stopped)
	})
	g := i.send(alice, "", "What is it?")
	r := i.follow(alice, g.ID, "")
	for r.next().Name != backendapi.EventDelta {
	}

	var c backendapi.Conversation
	i.want(http.StatusCreated, &c, http.MethodPost, "/api/conversations", nil, carol)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations", nil, alice)
	if _, last, _ := r.rest(); last.Name != backendapi.EventStopped {
		t.Errorf("the reader gets %+v", last)
	}
	soon(t, "the model to be told", stopped)

	i.refused(http.StatusNotFound, http.MethodGet, "/api/conversations/"+g.ConversationID, nil, alice)
	p := i.refused(http.StatusConflict, http.MethodPost, "/api/chat",
		backendapi.ChatRequest{Message: "again"}, alice)
	if p.Type != "/problems/being-erased" {
		t.Errorf("%+v", p)
	}

	i.refused(http.StatusConflict, http.MethodPost, "/api/conversations", nil, alice)
	i.detail(carol, c.ID)
	i.want(http.StatusNoContent, nil, http.MethodDelete, "/api/conversations", nil, alice)
}

// TestTake takes another owner's conversations with a token of theirs, and with no other one.
func TestTake(t *testing.T) {
	i, _, _ := stack(t)
	var c backendapi.Conversation
	i.want(http.StatusCreated, &c, http.MethodPost, "/api/conversations", nil, alice)
	for _, token := range []string{"alice", "for ", "forged"} {
		i.refused(http.StatusForbidden, http.MethodPost, "/api/conversations/take",
			backendapi.Take{From: token}, carol)
	}

	i.refused(http.StatusUnprocessableEntity, http.MethodPost, "/api/conversations/take",
		backendapi.Take{}, carol)
	i.detail(alice, c.ID)
	i.want(http.StatusNoContent, nil, http.MethodPost, "/api/conversations/take",
		backendapi.Take{From: "for alice"}, carol)
	i.detail(carol, c.ID)
	i.refused(http.StatusNotFound, http.MethodGet, "/api/conversations/"+c.ID, nil, alice)
}
