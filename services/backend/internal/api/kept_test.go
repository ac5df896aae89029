package api_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/internal/mltest"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// TestConversationEnds holds that nothing is left of a conversation whose time is over, while its
// owner goes on with another one: neither a text, nor its id where anything lists or counts it.
func TestConversationEnds(t *testing.T) {
	const phrase = "the pangolin sleeps at noon"
	const ttl = 6 * time.Second // longer than a busy machine takes from one request to the next
	t.Parallel()
	server, ml := redistest.Start(t), mltest.Start(t)
	i := newInstance(t, server.URL, ml.URL, options{store: func(o *store.Options) {
		o.TTL, o.Keep = ttl, ttl
	}})
	ml.Chat(func(s *mltest.Stream) { s.Text(phrase + ", I think."); s.Done() })
	ended := i.complete("", "Tell me: "+phrase)
	ml.Chat(func(s *mltest.Stream) { s.Text("Hello."); s.Done() })
	other := i.complete("", "Hello")

	r := server.Client(t)
	if got := redistest.Find(t, r, phrase); len(got) == 0 {
		t.Fatal("nothing is stored")
	}

	for end := time.Now().Add(ttl + patience); len(redistest.Find(t, r, phrase)) > 0; {
		if time.Now().After(end) {
			t.Fatalf("the phrase is in %q", redistest.Find(t, r, phrase))
		}
		i.want(http.StatusOK, nil, http.MethodPatch, "/api/conversations/"+other.ConversationID,
			backendapi.Rename{Title: "Hello again"}, alice)
		time.Sleep(200 * time.Millisecond)
	}

	var page backendapi.ConversationPage
	i.want(http.StatusOK, &page, http.MethodGet, "/api/conversations", nil, alice)
	if len(page.Conversations) != 1 || page.Conversations[0].ID != other.ConversationID {
		t.Errorf("listed are %+v", page.Conversations)
	}
	i.refused(http.StatusNotFound, http.MethodGet, "/api/conversations/"+ended.ConversationID, nil,
		alice)
	if _, all := i.exportAll("?format=json"); bytes.Contains(all, []byte(ended.ConversationID)) {
		t.Errorf("the export has it: %s", all)
	}

	// What the owner asks next takes it out of what is counted.
	i.complete(other.ConversationID, "Hello?")
	for _, key := range redistest.Find(t, r, ended.ConversationID, ended.ID) {
		if left := r.PTTL(t.Context(), key).Val(); left <= 0 || left > store.KeyKept ||
			key == "owner:alice:conversations" || key == "owner:alice:usage" {
			t.Errorf("%s has its id, for %s", key, left)
		}
	}
}
