package learn

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/codexcontinue/codexcontinue/services/learning"
	"github.com/ollama/ollama/parser"
)

// learnedComment stands before the examples, once.
const learnedComment = "# Corrections of people, reviewed: see docs/learning.md.\n"

// addExamples returns the Modelfile with a pair of MESSAGE lines for each correction that it has
// not yet, and how many those are. All that it has stays as it is.
func addExamples(source []byte, accepted []learning.Submission) ([]byte, int, error) {
	before, err := messagesOf(source)
	if err != nil {
		return nil, 0, err
	}

	var added []string
	var lines strings.Builder
	for _, v := range accepted {
		// The former answer, accepted as it is, teaches nothing.
		if strings.TrimSpace(v.Review.Answer) == strings.TrimSpace(v.Answer) {
			continue
		}

		pair := []string{"user: " + v.Review.Question, "assistant: " + v.Review.Answer}
		if hasPair(before, pair) || hasPair(added, pair) {
			continue
		}

		for i, role := range []string{"user", "assistant"} {
			text := strings.TrimPrefix(pair[i], role+": ")
			if err := learning.CheckText(text); err != nil { // it may be older than this rule
				return nil, 0, fmt.Errorf("what was accepted %w: rewrite it on the page Review: %q", err,
					beginning(text))
			}
			if strings.HasSuffix(text, `"`) {
				text += "\n" // its quotation mark is none of those that end it
			}
			fmt.Fprintf(&lines, "MESSAGE %s \"\"\"%s\"\"\"\n", role, text)
		}
		added = append(added, pair...)
	}

	if len(added) == 0 {
		return source, 0, nil
	}

	out := append(bytes.TrimRight(bytes.Clone(source), "\n"), '\n')
	if !bytes.Contains(out, []byte(learnedComment)) {
		out = append(out, "\n"+learnedComment...)
	}
	out = append(out, lines.String()...)

	after, err := messagesOf(out)
	if err != nil {
		return nil, 0, err
	}
	for i, want := range append(before, added...) {
		if i >= len(after) || !same(after[i], want) {
			return nil, 0, fmt.Errorf("a Modelfile cannot hold this text, perhaps for its three "+
				"quotation marks in a row: rewrite it on the page Review: %q", beginning(want))
		}
	}

	return out, len(added) / 2, nil
}

// messagesOf returns the messages of a Modelfile, each with its role before it.
func messagesOf(source []byte) ([]string, error) {
	parsed, err := parser.ParseFile(bytes.NewReader(source))
	if err != nil {
		return nil, err
	}

	var out []string
	for _, c := range parsed.Commands {
		if c.Name == "message" {
			out = append(out, c.Args)
		}
	}
	return out, nil
}

// hasPair reports whether the two messages of the pair follow each other.
func hasPair(messages, pair []string) bool {
	for i := range len(messages) - 1 {
		if same(messages[i], pair[0]) && same(messages[i+1], pair[1]) {
			return true
		}
	}
	return false
}

func same(a, b string) bool { return strings.TrimSpace(a) == strings.TrimSpace(b) }

// beginning returns the beginning of a text for an error.
func beginning(text string) string {
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:59]) + "…"
	}
	return text
}
