// Package usage describes what Redis knows of the use of models: ml counts it,
// and the gate shows it.
//
// A person has one key, Key(owner), a hash: of each day (UTC) the questions (q:DAY) and the tokens
// of prompts and answers (p:DAY, a:DAY), of Kept days at most, and asked, by which ml tells a
// question that it has counted. The key goes when nothing was asked for that long. People is a
// sorted set of those who have one, by the day of their last question: nobody may look for keys in
// Redis. Whoever deletes the former and takes the owner out of the latter leaves nothing of it; for
// ErasedMark the key has the field Erased alone then, and nothing is counted: answers that end
// meanwhile are of questions from before.
package usage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// People is the name in Redis of the set of those who have asked.
const People = "usage:people"

// Kept is how many days are kept, today included.
const Kept = 40

// Erased is the field of a person whose use was erased a moment ago, and ErasedMark how long it
// stays.
const (
	Erased     = "erased"
	ErasedMark = 15 * time.Minute
)

// Key returns the name in Redis of what a person has used.
func Key(owner string) string { return "usage:" + owner }

// DayOf returns the day that a time is on, in the form of time.DateOnly.
func DayOf(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Left returns how long the day of a time still lasts, in whole seconds, one at least.
func Left(t time.Time) time.Duration {
	t = t.UTC()
	end := time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
	return max(time.Second, end.Sub(t).Round(time.Second))
}

// Used counts what was used.
type Used struct {
	Questions    int64 `json:"questions"`
	PromptTokens int64 `json:"prompt_tokens"`
	Tokens       int64 `json:"answer_tokens"`
}

// AllTokens returns how many tokens were read and written.
func (u Used) AllTokens() int64 { return u.PromptTokens + u.Tokens }

// Add adds what another has used.
func (u *Used) Add(v Used) {
	u.Questions += v.Questions
	u.PromptTokens += v.PromptTokens
	u.Tokens += v.Tokens
}

// Day is what was used on a day.
type Day struct {
	Day string `json:"day"`
	Used
}

// Days reads a person's hash: the days on which something was used, the newest first.
func Days(fields map[string]string) ([]Day, error) {
	days := map[string]*Day{}
	for name, value := range fields {
		kind, day, ok := strings.Cut(name, ":")
		if !ok {
			continue
		}

		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("usage: %s is %q, which is no number", name, value)
		}

		d := days[day]
		if d == nil {
			d = &Day{Day: day}
			days[day] = d
		}

		switch kind {
		case "q":
			d.Questions = n
		case "p":
			d.PromptTokens = n
		case "a":
			d.Tokens = n
		}
	}

	out := []Day{}
	for d := range maps.Values(days) {
		if d.Used != (Used{}) {
			out = append(out, *d)
		}
	}

	slices.SortFunc(out, func(a, b Day) int { return cmp.Compare(b.Day, a.Day) })
	return out, nil
}
