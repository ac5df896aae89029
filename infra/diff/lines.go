package diff

import (
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Line is a line of a text that changes: Sign is "-", "+", or " " for one that stays.
type Line struct {
	Sign string `json:"sign"`
	Text string `json:"text"`
}

// around is how many lines that stay are shown before and after a change.
const around = 1

// maxLines bounds the texts that are compared line by line: the time grows with the square of it. A
// longer one is shown as replaced as a whole.
const maxLines = 2000

// Lines returns the changed lines of a text, with the lines around them. "…" stands for lines that
// are left out between two changes.
func Lines(before, after string) []Line {
	a, b := split(before), split(after)

	var out []Line
	add := func(sign string, lines []string) {
		for _, l := range lines {
			out = append(out, Line{sign, l})
		}
	}

	if max(len(a), len(b)) > maxLines && before != after {
		add("-", a)
		add("+", b)
		return out
	}

	// No line is junk: one that is often there, such as a closing brace, is compared as the others are.
	matcher := difflib.NewMatcherWithJunk(a, b, false, nil)
	for i, group := range matcher.GetGroupedOpCodes(around) {
		if i > 0 {
			out = append(out, Line{" ", "…"})
		}
		for _, op := range group {
			if op.Tag == 'e' {
				add(" ", a[op.I1:op.I2])
				continue
			}
			add("-", a[op.I1:op.I2])
			add("+", b[op.J1:op.J2])
		}
	}

	return out
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
