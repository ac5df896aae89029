package load

import (
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/test/slowmodel"
)

// The verdicts on an answer's text.
const (
	textExact     = "exact"
	textRestarted = "begun again" // behind a visible mark
	textCut       = "cut short"
	textGap       = "with a gap"
	textDoubled   = "doubled text"
	textOther     = "of another text"
)

// counted matches the words of an answer that counts, and their beginnings.
var counted = regexp.MustCompile(`^(w\d*|e|en|end|end\.)$`)

// judge says how an answer's text differs from the one that was wanted.
func judge(text, want string) string {
	if text == want {
		return textExact
	}
	if before, ok := strings.CutSuffix(text, want); ok && marked(before, want) {
		return textRestarted
	}
	if strings.HasPrefix(want, text) {
		return textCut
	}
	if strings.HasPrefix(text, want) {
		return textDoubled
	}

	words, wanted := strings.Fields(text), strings.Fields(want)
	times := map[string]int{}
	for _, w := range words {
		times[w]++
	}

	more, fewer, strange := false, false, false
	for _, w := range wanted {
		times[w]--
	}

	for w, n := range times {
		more, fewer = more || n > 0, fewer || n < 0
		strange = strange || n > 0 && !slices.Contains(wanted, w)
	}

	switch {
	case more && !strange:
		return textDoubled
	case fewer && !more:
		return textGap
	}

	return textOther
}

// marked reports whether a text is the beginning of an answer and a mark that an answer which
// begins again has before it, once or several times. What the slow model says when it cannot go on
// is no mark.
func marked(text, want string) bool {
	words, wanted := strings.Fields(text), strings.Fields(want)
	counts := len(wanted) > 0 && counted.MatchString(wanted[0])
	for i := 0; i < len(words); {
		begun := i
		for k := 0; i < len(words) && k < len(wanted); k++ {
			if words[i] == wanted[k] {
				i++
				continue
			}

			if strings.HasPrefix(wanted[k], words[i]) { // cut within the word
				i++
			}

			break
		}

		mark := 0
		for i < len(words) && !(counts && counted.MatchString(words[i])) {
			if strings.Contains(words[i], slowmodel.Lost) {
				return false
			}
			i++
			mark++
		}

		if mark == 0 || begun == 0 && i == mark {
			return false
		}
	}

	return len(words) > 0
}

// sameText reports whether what a reader saw is what is stored. A page shows Markdown's marks as
// what they mean, so of an answer that began again the words of the answer are compared.
func sameText(w watched, stored, want string) bool {
	if !w.shown {
		return w.text == stored
	}
	if w.text == strings.Join(strings.Fields(stored), " ") {
		return true
	}

	return judge(stored, want) == textRestarted &&
		strings.Join(answerWords(w.text), " ") == strings.Join(answerWords(stored), " ")
}

func answerWords(text string) []string {
	var out []string
	for _, w := range strings.Fields(text) {
		if counted.MatchString(w) {
			out = append(out, w)
		}
	}
	return out
}
