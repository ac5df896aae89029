package auditlog

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxReason is the greatest length of a reason in characters.
const maxReason = 200

// CheckReason returns an error unless the text can be the reason for an act: one line, which the
// record has word for word.
func CheckReason(text string) error {
	n := utf8.RuneCountInString(text)
	if strings.TrimSpace(text) == "" || n > maxReason || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("a reason is one line of 1 to %d characters, and is recorded as it is: "+
			"write why, such as the number of a case, and nothing of what people wrote", maxReason)
	}
	return nil
}
