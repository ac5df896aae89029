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

// maxLines bounds the texts that are compared line by line: the time grows with the square of it. Of
// a longer one all is shown as replaced that lies between the equal lines at both ends.
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

	if max(len(a), len(b)) > maxLines {
		return replaced(a, b)
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

// replaced returns the lines of two long texts that are not equal from their beginnings or their ends
// on, as replaced as a whole.
func replaced(a, b []string) []Line {
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}

	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}

	var out []Line
	add := func(sign string, lines []string) {
		for _, l := range lines {
			out = append(out, Line{sign, l})
		}
	}
	if head+tail < max(len(a), len(b)) {
		add(" ", a[max(0, head-around):head])
		add("-", a[head:len(a)-tail])
		add("+", b[head:len(b)-tail])
		add(" ", a[len(a)-tail:min(len(a), len(a)-tail+around)])
	}

	return out
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
