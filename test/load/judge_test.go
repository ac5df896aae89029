package load

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/slowmodel"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

func TestJudge(t *testing.T) {
	want := slowmodel.Text(5) // w1 w2 w3 w4 w5 end.
	for text, verdict := range map[string]string{
		want:                                  textExact,
		"":                                    textCut,
		"w1 w2 w":                             textCut,
		"w1 w2 w4 w5 end.":                    textGap,
		"w1 w2 w2 w3 w4 w5 end.":              textDoubled,
		"w1 w2w2 w3 w4 w5 end.":               textOther,
		want + want:                           textDoubled,
		"w1 w2 " + want:                       textDoubled, // begun again, but nothing says so
		"w1 w2 \n\n---\n\n" + want:            textRestarted,
		"w1 w\n\n*Begun again.*\n\n" + want:   textRestarted,
		"w1 [again] w1 w2 w3 [again] " + want: textRestarted,
		"w1 w3 [again] " + want:               textOther,
		"w1 w2 [again] w1 w2 w3":              textOther,
		"lost " + want:                        textOther,
		"w1 w2 lost " + want:                  textOther,
		"w1 w2 w" + "lost " + want:            textOther,
		"[again] " + want:                     textOther,
		"Hello.":                              textOther,
	} {
		if got := judge(text, want); got != verdict {
			t.Errorf("%q is %s, want %s", text, got, verdict)
		}
	}

	for text, verdict := range map[string]string{
		tinymodel.Answer:                          textExact,
		tinymodel.Answer[:30]:                     textCut,
		tinymodel.Answer + tinymodel.Answer:       textDoubled,
		"Hello! I am [again] " + tinymodel.Answer: textRestarted,
	} {
		if got := judge(text, tinymodel.Answer); got != verdict {
			t.Errorf("%q is %s, want %s", text, got, verdict)
		}
	}
}

func TestUpdate(t *testing.T) {
	var blocks []string
	var err error
	for _, u := range []update{
		{HTML: []string{"<p>w1 ü"}},
		{Keep: 7, HTML: []string{" w2 😀</p>"}},
		{Keep: 13, HTML: []string{" w3</p>", "<p>w4</p>"}},
		{From: 1, HTML: []string{"<p>w4 &lt;w5</p>"}},
	} {
		if blocks, err = u.apply(blocks); err != nil {
			t.Fatal(err)
		}
	}

	if got := plain(blocks); got != "w1 ü w2 😀 w3 w4 <w5" {
		t.Errorf("it shows %q", got)
	}

	for _, u := range []update{
		{From: 3},
		{From: -1},
		{From: 2, Keep: 1, HTML: []string{"x"}},
		{Keep: 100, HTML: []string{"x"}},
		{Keep: 1},
	} {
		if _, err := u.apply(blocks); err == nil {
			t.Errorf("%+v is taken", u)
		}
	}
}

func TestEvents(t *testing.T) {
	const stream = ": alive\n\nretry: 250\nid: 1-0\nevent: start\ndata: {}\n\n" +
		"data: a\ndata: b\n\nid: 2-0\nevent: delta\ndata: cut"
	s := &events{r: bufio.NewReader(strings.NewReader(stream))}
	for _, want := range []event{{"1-0", "start", "{}"}, {"1-0", "", "a\nb"}} {
		if got, err := s.next(); err != nil || got != want {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}

	if e, err := s.next(); err == nil {
		t.Errorf("an event that was cut off is one: %+v", e)
	}
	if s.last != "1-0" {
		t.Errorf("the last id is that of the event that was cut off: %s", s.last)
	}
	if s.retry != 250*time.Millisecond {
		t.Errorf("retry is %s", s.retry)
	}
}

func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"this machine": {Options{URL: "http://127.0.0.1:8080", People: 1}, ""},
		"its name": {
			Options{URL: "http://localhost:8080/", People: 1, Answers: 2, Streams: 5}, "",
		},
		"IPv6":    {Options{URL: "http://[::1]:8080", People: 1}, ""},
		"another": {Options{URL: "http://10.0.0.1:8080", People: 1}, "not this machine"},
		"another's name": {
			Options{URL: "http://localhost.example.org", People: 1}, "not this machine",
		},
		"asked for":      {Options{URL: "https://chat.example.org", Remote: true, People: 1}, ""},
		"no address":     {Options{URL: "127.0.0.1:8080", People: 1}, "http://host:port"},
		"nobody":         {Options{URL: "http://127.0.0.1:1"}, "people and answers"},
		"too many":       {Options{URL: "http://127.0.0.1:1", People: 501}, "people and answers"},
		"too fast":       {Options{URL: "http://127.0.0.1:1", People: 1, Rate: 1001}, "rate"},
		"unread answers": {Options{URL: "http://127.0.0.1:1", Answers: 2, Streams: 1}, "streams"},
		"one sentence": {
			Options{URL: "http://127.0.0.1:1", Answers: 1, Streams: 1, Sentence: "x"},
			"one sentence",
		},
		"negative": {Options{URL: "http://127.0.0.1:1", People: 1, Duration: -1}, "negative"},
	} {
		_, err := tc.o.check()
		if (err == nil) != (tc.want == "") ||
			err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestPrint: no line of the table is wider than a terminal's, whatever stands in it.
func TestPrint(t *testing.T) {
	t0 := time.Now()
	r := Report{
		URL:          "http://127.0.0.1:8080",
		WrongAnswers: map[string]int{textGap: 3},
		LostMessages: 2,
		Examples:     []string{strings.Repeat("a word ", 30), strings.Repeat("x", 300)},
	}

	r.failed("question", "HTTP 502", "p1 POST /chat: "+strings.Repeat("y", 100))
	r.LongGaps = 1
	r.GapsAt = []Gap{
		{t0.Add(-time.Second), 9 * time.Second, "p1"},
		{t0.Add(-100 * time.Millisecond), 3 * time.Second, "p2"},
		{t0, 6 * time.Second, "p3"},
	}

	whole := r.with(
		map[string][]time.Duration{
			"page":        {time.Millisecond, 2 * time.Second, 100 * time.Second},
			"longest gap": {time.Second},
		},
	)

	var b strings.Builder
	if err := whole.Print(&b); err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}

	if err := whole.Err(); err == nil || !strings.Contains(err.Error(), "messages lost: 2") ||
		!strings.Contains(err.Error(), "wrong text: 3") ||
		!strings.Contains(err.Error(), "requests failed: 1") {
		t.Errorf("the error is %v", err)
	}

	if gap := whole.GapIn(t0, t0.Add(time.Second)); gap != 6*time.Second {
		t.Errorf("the gap is %s", gap)
	}
	if gap := whole.GapIn(t0.Add(-time.Minute), t0); gap != 9*time.Second {
		t.Errorf("the gap before is %s", gap)
	}
	if r.failed("question", "HTTP 502", "p2"); whole.FailureCount() != 1 {
		t.Errorf("a report counts what fails behind it: %d failures", whole.FailureCount())
	}

	if p := whole.Requests["page"]; p.Count != 3 || p.Median != 2*time.Second ||
		p.Max != 100*time.Second {
		t.Errorf("the times of pages are %+v", p)
	}
}
