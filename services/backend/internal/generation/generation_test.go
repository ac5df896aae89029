package generation

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/internal/backendapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/google/go-cmp/cmp"
)

func TestTitle(t *testing.T) {
	words := strings.Repeat("word ", 20)
	for in, want := range map[string]string{
		"Hello":                   "Hello",
		"  two \t spaces  \nmore": "two spaces",
		"\r\n\n  second":          "second",
		"a\x00b\u202ec":           "a b c",
		"👩‍💻 codes":               "👩‍💻 codes",
		words:                     strings.TrimSpace(words[:59]) + "…",
		strings.Repeat("x", 60):   strings.Repeat("x", 60),
		strings.Repeat("x", 61):   strings.Repeat("x", 59) + "…",
		strings.Repeat("ä", 99):   strings.Repeat("ä", 59) + "…",
		strings.Repeat("a", 50) + ", then " + strings.Repeat("b", 50): strings.Repeat("a", 50) + ", then…",
		strings.Repeat("a", 55) + ", " + strings.Repeat("b", 50):      strings.Repeat("a", 55) + "…",
	} {
		got := Title(in)
		if got != want {
			t.Errorf("Title(%q) = %q, want %q", in, got, want)
		}
		if utf8.RuneCountInString(got) > maxTitle {
			t.Errorf("Title(%q) has more than %d characters", in, maxTitle)
		}
	}
}

func TestHistory(t *testing.T) {
	said := func(role, content, state string) backendapi.Message {
		return backendapi.Message{Role: role, Content: content, State: state}
	}
	earlier := []backendapi.Message{
		said("user", "11111", backendapi.MessageComplete),
		said("assistant", "22222", backendapi.MessageComplete),
		said("user", "333", backendapi.MessageComplete),
		said("assistant", "half", backendapi.MessageStopped),
		said("user", "4", backendapi.MessageComplete),
		said("assistant", "failed", backendapi.MessageFailed),
	}

	for budget, want := range map[int]string{
		0: "new", 3: "new", 4: "4 new", 7: "4 new", 8: "half 4 new", 10: "half 4 new",
		11: "333 half 4 new", 15: "333 half 4 new", 16: "22222 333 half 4 new",
		21: "11111 22222 333 half 4 new", 1000: "11111 22222 333 half 4 new",
	} {
		var got []string
		for _, m := range history(earlier, "new", budget) {
			got = append(got, m.Content)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("budget %d: %q, want %q", budget, s, want)
		}
	}

	// Nothing is left out in the middle: a message that does not fit ends the history.
	got := history([]backendapi.Message{
		said("user", "1", backendapi.MessageComplete),
		said("assistant", "too long", backendapi.MessageComplete),
	},
		"new", 6)

	if d := cmp.Diff([]mlapi.Message{{Role: "user", Content: "new"}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestCut(t *testing.T) {
	for _, text := range []string{"", "abc", strings.Repeat("ä🎉", 50)} {
		for _, limit := range []int{4, 5, 7, 1000} {
			all, rest, piece := "", text, ""
			for rest != "" {
				if piece, rest = cut(rest, limit); piece == "" || len(piece) > limit ||
					!utf8.ValidString(piece) {
					t.Fatalf("cut at %d: %q", limit, piece)
				}
				all += piece
			}

			if all != text {
				t.Errorf("%q became %q", text, all)
			}
		}
	}
}

// What comes while nobody looks is one piece; the ending comes with the last of it.
func TestInbox(t *testing.T) {
	in := newInbox()
	in.addText("a")
	in.setQueue(2)
	in.addText("b")
	<-in.wake
	if n := in.take(); n.text != "ab" || n.queue != 2 || n.outcome != nil {
		t.Errorf("%+v", n)
	}

	select {
	case <-in.wake:
		t.Error("awake for nothing")
	default:
	}

	in.addText("c")
	in.end(outcome{release: true})
	<-in.wake
	if n := in.take(); n.text != "c" || n.queue != 0 || n.outcome == nil {
		t.Errorf("%+v", n)
	}
}
