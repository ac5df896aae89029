package sse_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/sse"
	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, r *sse.Reader) []sse.Event {
	t.Helper()
	var out []sse.Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}

		out = append(out, e)
	}
}

// TestReader has the cases of the standard's own text.
func TestReader(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want []sse.Event
	}{
		"lines": {"data: YHOO\ndata: +2\ndata: 10\n\n", []sse.Event{{Data: "YHOO\n+2\n10"}}},
		"comment, ids": {": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			[]sse.Event{{ID: "1", Data: "first event"}, {Data: "second event"}, {Data: " third event"}}},
		"empty data":           {"data\n\ndata\ndata\n\ndata:", []sse.Event{{}, {Data: "\n"}}},
		"one space is dropped": {"data:test\n\ndata: test\n\n", []sse.Event{{Data: "test"}, {Data: "test"}}},
		"names": {"event: add\ndata: 1\n\ndata: 2\n\n",
			[]sse.Event{{Name: "add", Data: "1"}, {Data: "2"}}},
		"the id stays": {"id: 7\ndata: 1\n\ndata: 2\n\n",
			[]sse.Event{{ID: "7", Data: "1"}, {ID: "7", Data: "2"}}},
		"an id alone counts":         {"id: 8\n\ndata: 2\n\n", []sse.Event{{ID: "8", Data: "2"}}},
		"a name without data is not": {"event: x\n\ndata: 2\n\n", []sse.Event{{Data: "2"}}},
		"CRLF":                       {"data: 1\r\n\r\ndata: 2\r\n\r\n", []sse.Event{{Data: "1"}, {Data: "2"}}},
		"byte order mark":            {"\ufeffdata: 1\n\n", []sse.Event{{Data: "1"}}},
		"cut off":                    {"data: 1\n\ndata: 2\n", []sse.Event{{Data: "1"}}},
		"unknown fields":             {"retry: 10\nfoo: bar\ndata: 1\n\n", []sse.Event{{Data: "1"}}},
		"NUL in an id":               {"id: a\x00b\ndata: 1\n\n", []sse.Event{{Data: "1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, read(t, sse.NewReader(strings.NewReader(tc.in)))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}

	r := sse.NewReader(strings.NewReader("data: " + strings.Repeat("x", sse.MaxLine) + "\n\n"))
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line without bound: %v", err)
	}
}

// TestRoundTrip checks that what is written is what is read, and that text cannot add fields.
func TestRoundTrip(t *testing.T) {
	want := []sse.Event{
		{ID: "1-0", Name: "delta", Data: `{"text":"a"}`},
		{ID: "2-0", Name: "delta", Data: "two\nlines\n"},
		{ID: "3-0", Data: ""},
		{ID: "4-0", Data: ": not a comment\nid: 9\n\nevent: x"},
	}

	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		sw, err := sse.NewWriter(w, time.Minute)
		if err != nil {
			t.Error(err)
			return
		}

		for _, e := range want {
			if err := errors.Join(sw.Comment("keep\nevent: x"), sw.Send(e)); err != nil {
				t.Error(err)
			}
		}

		if err := sw.Send(sse.Event{ID: "5\ndata: x", Name: "a\r\nid: 6", Data: "y"}); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if ct := resp.Header.Get("Content-Type"); ct != sse.ContentType {
		t.Errorf("content type %q", ct)
	}

	if d := cmp.Diff(append(want, sse.Event{ID: "5data: x", Name: "aid: 6", Data: "y"}),
		read(t, sse.NewReader(resp.Body))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestWriteTimeout checks that a client that stops reading is noticed.
func TestWriteTimeout(t *testing.T) {
	failed := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		sw, err := sse.NewWriter(w, 50*time.Millisecond)
		for err == nil {
			err = sw.Send(sse.Event{Data: strings.Repeat("x", 64<<10)})
		}
		failed <- err
	}))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	select {
	case <-failed:
	case <-time.After(20 * time.Second):
		t.Error("the writer hangs")
	}
}

func FuzzReader(f *testing.F) {
	f.Add("id: 1\nevent: x\ndata: y\n\n")
	f.Fuzz(func(t *testing.T, in string) {
		r := sse.NewReader(strings.NewReader(in))
		for range len(in) + 1 {
			e, err := r.Next()
			if err != nil {
				return
			}
			if strings.ContainsAny(e.Name, "\n") || strings.ContainsAny(e.ID, "\n\x00") {
				t.Errorf("%q gives %+v", in, e)
			}
		}

		t.Errorf("%q gives more events than it has bytes", in)
	})
}
