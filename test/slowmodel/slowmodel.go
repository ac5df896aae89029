// Package slowmodel is a language model for tests, whose answers take as long as their question
// says and whose text is known to the letter. It stands in front of a real Ollama: everything but
// the answers to conversations is that one's.
//
// A question holds "count N every PAUSE", and its answer is Text(N): the words w1 to wN, one each
// PAUSE, and "end.". With "think M" before, M words of reasoning come first. A conversation whose
// last message is the assistant's is a cut answer: it goes on behind the last letter that it has.
package slowmodel

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What an answer is where its question does not say.
const (
	DefaultWords = 12
	DefaultPause = 20 * time.Millisecond
)

// End is the last word of every answer.
const End = "end."

// Question returns the text that asks for so many words with a pause before each.
func Question(words int, pause time.Duration) string {
	return fmt.Sprintf("count %d every %s", words, pause)
}

// Text returns the whole answer of so many words.
func Text(words int) string { return strings.Join(tokens(words), "") }

// tokens are the parts in which an answer is written: a word with the space behind it.
func tokens(words int) []string {
	out := make([]string, 0, words+1)
	for i := range words {
		out = append(out, "w"+strconv.Itoa(i+1)+" ")
	}
	return append(out, End)
}

// Lost is the word with which an answer begins that cannot go on from the text it was given: no
// test takes it for right.
const Lost = "lost"

// rest are the tokens of an answer behind the text so far. A token that was cut is completed first.
func rest(words int, soFar string) []string {
	all := tokens(words)
	for i, token := range all {
		if len(soFar) < len(token) {
			if !strings.HasPrefix(token, soFar) {
				break
			}
			return append([]string{token[len(soFar):]}, all[i+1:]...)
		}

		after, ok := strings.CutPrefix(soFar, token)
		if !ok {
			break
		}

		soFar = after
	}

	if soFar == "" {
		return nil // all of it was there
	}

	return append([]string{Lost + " "}, all...)
}

// task is what a question asks for.
type task struct {
	words, think int
	pause        time.Duration
}

var (
	counts = regexp.MustCompile(`\bcount (\d{1,5})\b(?: every ([0-9.]+[a-zµ]+))?`)
	thinks = regexp.MustCompile(`\bthink (\d{1,4})\b`)
)

// taskOf reads a question.
func taskOf(question string) task {
	t := task{words: DefaultWords, pause: DefaultPause}
	if m := counts.FindStringSubmatch(question); m != nil {
		t.words, _ = strconv.Atoi(m[1]) // five digits at most
		if d, err := time.ParseDuration(m[2]); err == nil && d >= 0 && d <= time.Minute {
			t.pause = d
		}
	}

	if m := thinks.FindStringSubmatch(question); m != nil {
		t.think, _ = strconv.Atoi(m[1])
	}

	return t
}

// Modelfile returns a Modelfile that makes a model from the GGUF file, or the model, named from.
// Its template leaves a cut answer open at its end, as a model's must that is to go on with one;
// that of tinymodel begins a new one.
func Modelfile(from string) string {
	return "FROM " + from + "\n" + `TEMPLATE """{{ if .System }}[SYS]{{ .System }}[/SYS]
{{ end }}{{ range $i, $m := .Messages }}` +
		`{{ $last := eq (len (slice $.Messages $i)) 1 }}[{{ $m.Role }}] {{ $m.Content }}` +
		`{{ if not $last }}
{{ else if ne $m.Role "assistant" }}
[assistant] {{ end }}{{ end }}"""
`
}
