package load

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// follower is a browser without a load.
func follower(ctx context.Context, url string) *browser {
	r := &Run{base: url, hard: ctx, times: map[string][]time.Duration{}, pace: &pace{}}
	return r.newBrowser("p1", 1)
}

// TestReconnect: a stream that breaks is taken up again where it was, by the script of pages with
// keys and by clients of the API; each time is counted.
func TestReconnect(t *testing.T) {
	const first, rest = `{"html": ["<p>w1 "]}`, `{"keep": 6, "html": ["w2 end.</p>"]}`
	for name, tc := range map[string]struct {
		follow func(b *browser, ctx context.Context) watched
		parts  []string // one a connection; a number is a status
		want   []string // how each connection asks
		text   string
	}{
		"page": {
			follow: func(b *browser, ctx context.Context) watched { return b.followPage(ctx, "g") },
			parts: []string{
				"id: 1-0\nevent: blocks\ndata: " + first + "\n\n", "503",
				"id: 1-0\nevent: again\ndata: {}\n\n",
				"id: 2-0\nevent: blocks\ndata: " + rest + "\n\n" +
					"event: end\ndata: {\"state\": \"complete\"}\n\n",
			},
			want: []string{
				"/generations/g/events?after= Last-Event-ID=",
				"/generations/g/events?after=1-0 Last-Event-ID=",
				"/generations/g/events?after=1-0 Last-Event-ID=",
				"/generations/g/events?after=1-0 Last-Event-ID=",
			},
			text: "w1 w2 end.",
		},
		"API": {
			follow: func(b *browser, ctx context.Context) watched { return b.followAPI(ctx, "g") },
			parts: []string{
				"id: 1-0\nevent: delta\ndata: {\"text\": \"w1 \"}\n\n" +
					"id: 2-0\nevent: delta\ndata: {\"te",
				"503",
				"id: 2-0\nevent: delta\ndata: {\"text\": \"end.\"}\n\nevent: done\ndata: {}\n\n",
			},
			want: []string{
				"/api/generations/g/events?after= Last-Event-ID=",
				"/api/generations/g/events?after= Last-Event-ID=1-0",
				"/api/generations/g/events?after= Last-Event-ID=1-0",
			},
			text: "w1 end.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			serve := func(w http.ResponseWriter, r *http.Request) {
				part := tc.parts[len(asked)]
				asked = append(asked, fmt.Sprintf("%s?after=%s Last-Event-ID=%s", r.URL.Path,
					r.URL.Query().Get("after"), r.Header.Get("Last-Event-ID")))
				if part == "503" {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}

				fmt.Fprint(w, part)
			}

			server := httptest.NewServer(http.HandlerFunc(serve))
			defer server.Close()
			b := follower(t.Context(), server.URL)
			b.keyed = true
			w := tc.follow(b, t.Context())
			if w.end != endComplete || w.text != tc.text {
				t.Errorf("it saw %+v", w)
			}
			if !slices.Equal(asked, tc.want) {
				t.Errorf("it asked %q", asked)
			}
			if n := b.run.report.Reconnects; n != len(tc.parts)-1 {
				t.Errorf("of %d connections %d are counted as further ones", len(tc.parts), n)
			}
			if w.gap < 100*time.Millisecond {
				t.Errorf("the longest gap was %s", w.gap)
			}
		})
	}
}

// TestGivesUp: a reader does not wait for an answer that is gone, nor beyond its time.
func TestGivesUp(t *testing.T) {
	status := http.StatusNotFound
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	b := follower(t.Context(), server.URL)
	b.keyed = true
	w := b.followPage(t.Context(), "g")
	if w.end != endLost || b.run.report.Failures[0].What != "HTTP 404" {
		t.Errorf("of an answer that is gone it saw %+v", w)
	}

	status = http.StatusOK
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if w := b.followAPI(ctx, "g"); w.end != endLost {
		t.Errorf("of an answer without an end it saw %+v", w)
	}
}
