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

// maxLines bounds the texts that are compared line by line: the time grows with the square of it.
// Of a longer one all is shown as replaced that lies between the equal lines at both ends.
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

	for i, group := range changes(a, b) {
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

// changes returns how a becomes b: groups of changes, with the equal lines around each.
func changes(a, b []string) [][]difflib.OpCode {
	if max(len(a), len(b)) <= maxLines {
		// No line is junk: one that is often there, such as a closing brace, is
		// compared as the others are.
		return difflib.NewMatcherWithJunk(a, b, false, nil).GetGroupedOpCodes(around)
	}

	head, tail := 0, 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}

	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}

	endA, endB := len(a)-tail, len(b)-tail
	if head == endA && head == endB {
		return nil
	}

	before, after := min(head, around), min(tail, around)
	return [][]difflib.OpCode{{
		{Tag: 'e', I1: head - before, I2: head, J1: head - before, J2: head},
		{Tag: 'r', I1: head, I2: endA, J1: head, J2: endB},
		{Tag: 'e', I1: endA, I2: endA + after, J1: endB, J2: endB + after},
	}}
}

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
