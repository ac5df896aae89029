package sources_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgetest"
	"github.com/codexcontinue/codexcontinue/services/internal/sources"
)

func TestQuery(t *testing.T) {
	for _, tc := range []struct{ question, before, want string }{
		{"And for children?", "", "And for children?"},
		{"And for children?", "What is the dose?", "And for children?\nWhat is the dose?"},
		{"one two three four five six seven eight nine", "x",
			"one two three four five six seven eight nine"},
	} {
		if got := sources.Query(tc.question, tc.before); got != tc.want {
			t.Errorf("%q after %q: %q", tc.question, tc.before, got)
		}
	}

	long := "x" + strings.Repeat("é", knowledgeapi.MaxQuery)
	if got := sources.Query(long, ""); len(got) != knowledgeapi.MaxQuery-1 || !utf8.ValidString(got) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestFind bounds what is found.
func TestFind(t *testing.T) {
	k := knowledgetest.Start(t)
	client := hop.New("knowledge", k.URL)
	for n, size := range []int{10, 40 << 10, 20 << 10, 10 << 10, 10} {
		k.Add(knowledgeapi.Passage{ID: fmt.Sprint(n), Text: "word" + strings.Repeat("x", size)})
	}

	found, err := sources.Find(t.Context(), client, "alice", "a word")
	if err != nil || len(found) != 3 || found[2].N != 3 || found[2].PassageID != "2" {
		t.Errorf("%d passages, %v", len(found), err)
	}

	if found, err = sources.Find(t.Context(), client, "alice", "other"); err != nil || found != nil {
		t.Errorf("%v, %v", found, err)
	}

	k.Hold(true)
	if _, err = sources.Find(t.Context(), client, "alice", "word"); err == nil {
		t.Error("it waits for ever")
	}
}
