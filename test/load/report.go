package load

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// maxExamples bounds how many examples of a kind are told.
	maxExamples = 20
	// width is the greatest width of a printed line.
	width = 80
)

// Report is what a load saw. Times are in nanoseconds in JSON.
type Report struct {
	URL         string        `json:"url"`
	Seed        uint64        `json:"seed"`
	Started     time.Time     `json:"started"`
	Took        time.Duration `json:"took"`
	People      int           `json:"people"`
	LongAnswers int           `json:"long_answers"`
	StreamsHeld int           `json:"streams_held"`

	// Requests are those of each kind, with their times; First and Gaps the times to an answer's
	// first text and its longest pause, of each reader.
	Requests map[string]Times `json:"requests"`
	First    Times            `json:"first_text"`
	Gaps     Times            `json:"longest_gap"`

	Failures []Failure `json:"failures,omitempty"`

	// Refused are connections that were not made. They are no failures: nothing was sent.
	Refused struct {
		Count   int           `json:"count"`
		Longest time.Duration `json:"longest"`
	} `json:"refused"`

	// Resends are messages that were sent again under their key, TransportRetries requests that the
	// HTTP client sent again by itself over another connection, Reconnects event streams that were
	// taken up again.
	Resends          int `json:"resends"`
	TransportRetries int `json:"transport_retries"`
	Reconnects       int `json:"reconnects"`

	Conversations int `json:"conversations"`

	// Asked are the messages that were sent, Acknowledged those that the stack took. Of the others
	// some are stored.
	Asked                int `json:"asked"`
	Acknowledged         int `json:"acknowledged"`
	StoredUnacknowledged int `json:"stored_unacknowledged"`
	LongAsked            int `json:"long_asked"`

	// Followed are the answers that were read to their end, Watched the streams over which they
	// were.
	Followed int `json:"followed"`
	Watched  int `json:"watched"`

	ExactAnswers     int            `json:"exact_answers"`
	RestartedAnswers int            `json:"restarted_answers"`
	FailedAnswers    int            `json:"failed_answers"`
	LostAnswers      int            `json:"lost_answers"`
	DoubledAnswers   int            `json:"doubled_answers"`
	WrongAnswers     map[string]int `json:"wrong_answers,omitempty"`
	LostMessages     int            `json:"lost_messages"`
	DoubledMessages  int            `json:"doubled_messages"`
	Unknown          int            `json:"unknown_messages"`
	Unlisted         int            `json:"unlisted_conversations"`
	Unreadable       int            `json:"unreadable"`

	// LostReaders gave up, ShownOther saw another answer than the one that is stored.
	LostReaders int `json:"lost_readers"`
	ShownOther  int `json:"shown_other"`
	LongGaps    int `json:"long_gaps"`

	Examples []string `json:"examples,omitempty"`

	// GapsAt are the gaps of readers of a second or more.
	GapsAt []Gap `json:"gaps_at,omitempty"`
}

// Failure is one kind of failure of one kind of request.
type Failure struct {
	Kind     string   `json:"kind"`
	What     string   `json:"what"`
	Count    int      `json:"count"`
	Examples []string `json:"examples"`
}

// Gap is a pause in an answer, as a reader saw it: the time of the text before it, and how long no
// more came.
type Gap struct {
	At     time.Time     `json:"at"`
	For    time.Duration `json:"for"`
	Reader string        `json:"reader"`
}

// GapIn is the longest of the pauses that something was the cause of which happened from then on,
// and before the other time: the last text may have come half a second before.
func (r *Report) GapIn(from, to time.Time) time.Duration {
	const before = 500 * time.Millisecond
	longest := time.Duration(0)
	for _, g := range r.GapsAt {
		if !g.At.Before(from.Add(-before)) && g.At.Before(to.Add(-before)) {
			longest = max(longest, g.For)
		}
	}

	return longest
}

// Times are the percentiles of some durations.
type Times struct {
	Count  int           `json:"count"`
	Median time.Duration `json:"median"`
	P95    time.Duration `json:"p95"`
	P99    time.Duration `json:"p99"`
	Max    time.Duration `json:"max"`
}

func timesOf(all []time.Duration) Times {
	n := len(all)
	if n == 0 {
		return Times{}
	}
	v := slices.Sorted(slices.Values(all))
	at := func(share float64) time.Duration { return v[min(n-1, int(share*float64(n)))] }
	return Times{n, at(0.5), at(0.95), at(0.99), v[n-1]}
}

// failed counts a failure and keeps the first examples.
func (r *Report) failed(kind, what, example string) {
	i := slices.IndexFunc(
		r.Failures,
		func(f Failure) bool { return f.Kind == kind && f.What == what },
	)
	if i < 0 {
		r.Failures, i = append(r.Failures, Failure{Kind: kind, What: what}), len(r.Failures)
	}

	f := &r.Failures[i]
	if f.Count++; len(f.Examples) < 3 {
		f.Examples = append(f.Examples, strings.ToValidUTF8(example, "?"))
	}
}

// with is a copy with the times worked out.
func (r *Report) with(times map[string][]time.Duration) *Report {
	out := *r
	out.Requests = map[string]Times{}
	for kind, all := range times {
		switch t := timesOf(all); kind {
		case "first text":
			out.First = t
		case "longest gap":
			out.Gaps = t
		default:
			out.Requests[kind] = t
		}
	}

	out.WrongAnswers = maps.Clone(r.WrongAnswers)
	out.Failures = slices.Clone(r.Failures)
	out.Examples, out.GapsAt = slices.Clone(r.Examples), slices.Clone(r.GapsAt)
	slices.SortStableFunc(out.Failures, func(a, b Failure) int { return b.Count - a.Count })
	return &out
}

// RequestCount is the number of all requests.
func (r *Report) RequestCount() int {
	n := 0
	for _, t := range r.Requests {
		n += t.Count
	}
	return n
}

// FailureCount is the number of all failed requests, but for messages that were sent again.
func (r *Report) FailureCount() int {
	n := 0
	for _, f := range r.Failures {
		if f.Kind != kindResent {
			n += f.Count
		}
	}
	return n
}

// WrongCount is the number of answers whose text is not right.
func (r *Report) WrongCount() int {
	n := 0
	for _, c := range r.WrongAnswers {
		n += c
	}
	return n
}

// finding is a number that must be 0.
type finding struct {
	what string
	n    int
}

// findings are what must not be: of messages and answers first.
func (r *Report) findings() []finding {
	return []finding{
		{
			"messages lost",
			r.LostMessages,
		}, {"messages doubled", r.DoubledMessages}, {"messages never sent", r.Unknown},
		{
			"answers failed",
			r.FailedAnswers,
		}, {"answers lost", r.LostAnswers}, {"answers doubled", r.DoubledAnswers},
		{
			"answers with wrong text",
			r.WrongCount(),
		}, {"conversations not listed", r.Unlisted}, {"not readable at the end", r.Unreadable},
		{"readers that gave up", r.LostReaders}, {"readers that saw another answer", r.ShownOther},
	}
}

// Lost returns an error that names what is lost, doubled, failed or wrong of messages and answers.
func (r *Report) Lost() error {
	var errs []error
	for _, f := range r.findings() {
		if f.n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d", f.what, f.n))
		}
	}
	return errors.Join(errs...)
}

// Err is Lost, and the requests that failed.
func (r *Report) Err() error {
	err := r.Lost()
	if n := r.FailureCount(); n > 0 {
		err = errors.Join(err, fmt.Errorf("requests failed: %d", n))
	}
	return err
}

// Print writes the report, no line wider than 80 columns.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Load on %s: %.0f s, seed %d\n", r.URL, r.Took.Seconds(), r.Seed)
	fmt.Fprintf(
		&b,
		"  %d people, %d long answers at a time with %d event streams\n\n",
		r.People,
		r.LongAnswers,
		r.StreamsHeld,
	)

	fmt.Fprintf(
		&b,
		"%-14s %7s %7s %9s %9s %9s %9s\n",
		"Requests",
		"number",
		"failed",
		"median",
		"p95",
		"p99",
		"max",
	)

	failed := map[string]int{}
	for _, f := range r.Failures {
		failed[f.Kind] += f.Count
	}

	for _, kind := range slices.Sorted(maps.Keys(r.Requests)) {
		row(&b, kind, fmt.Sprint(failed[kind]), r.Requests[kind])
	}

	fmt.Fprintf(&b, "  %-12s %7d %7d\n", "all", r.RequestCount(), r.FailureCount())
	fmt.Fprintf(
		&b,
		"\n%-14s %7s %7s %9s %9s %9s %9s\n",
		"Readers",
		"number",
		"",
		"median",
		"p95",
		"p99",
		"max",
	)

	row(&b, "first text", "", r.First)
	row(&b, "longest gap", "", r.Gaps)
	b.WriteString("\nMessages and answers\n")
	for _, f := range []finding{
		{"conversations", r.Conversations},
		{"messages sent", r.Asked},
		{"  acknowledged", r.Acknowledged},
		{"  of long answers", r.LongAsked},
		{"  not acknowledged, but stored", r.StoredUnacknowledged},
		{"answers complete, to the letter", r.ExactAnswers},
		{"answers begun again, with a mark", r.RestartedAnswers},
	} {
		fmt.Fprintf(&b, "  %-36s %7d\n", f.what, f.n)
	}

	b.WriteString("\nMust be 0\n")
	for _, f := range r.findings() {
		fmt.Fprintf(&b, "  %-36s %7d\n", f.what, f.n)
	}

	for _, verdict := range slices.Sorted(maps.Keys(r.WrongAnswers)) {
		fmt.Fprintf(&b, "    %-34s %7d\n", verdict, r.WrongAnswers[verdict])
	}

	b.WriteString("\nCounted apart\n")
	fmt.Fprintf(
		&b,
		"  %-36s %7d, for %.1f s at the longest\n",
		"connections refused",
		r.Refused.Count,
		r.Refused.Longest.Seconds(),
	)

	for _, f := range []finding{
		{"messages sent again", r.Resends},
		{"requests sent again by the transport", r.TransportRetries},
		{"event streams taken up again", r.Reconnects},
		{"readers with 5 s without text", r.LongGaps},
	} {
		fmt.Fprintf(&b, "  %-36s %7d\n", f.what, f.n)
	}

	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n%s: %s: %d\n", f.Kind, f.What, f.Count)
		list(&b, f.Examples)
	}

	if len(r.Examples) > 0 {
		b.WriteString("\nWrong\n")
		list(&b, r.Examples)
	}

	if r.LongGaps > 0 {
		b.WriteString("\nLong gaps\n")
		var texts []string
		for _, g := range r.GapsAt {
			if g.For > longGap && len(texts) < maxExamples {
				texts = append(
					texts,
					fmt.Sprintf(
						"%s %s: %.1f s without text",
						stamp(g.At),
						g.Reader,
						g.For.Seconds(),
					),
				)
			}
		}

		list(&b, texts)
	}

	_, err := io.WriteString(w, b.String())
	return err
}

func row(b *strings.Builder, name, failed string, t Times) {
	fmt.Fprintf(
		b,
		"  %-12s %7d %7s %9s %9s %9s %9s\n",
		name,
		t.Count,
		failed,
		short(t.Median),
		short(t.P95),
		short(t.P99),
		short(t.Max),
	)
}

// short writes a duration in at most nine columns.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// list writes texts, each cut to lines of at most width.
func list(b *strings.Builder, texts []string) {
	for _, text := range texts {
		line := "  -"
		for word := range strings.FieldsSeq(text) {
			for len(line)+1+len(word) > width {
				if room := width - 1 - len(line); len(line) <= 4 &&
					room > 0 { // one word that is wider than a line
					line, word = line+" "+word[:room], word[room:]
				}
				fmt.Fprintln(b, line)
				line = "   "
			}

			line += " " + word
		}

		fmt.Fprintln(b, line)
	}
}
