package learning

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/codexcontinue/codexcontinue/services/internal/controltoken"
)

// CheckText returns an error if the text of a review may not become part of a model: its Modelfile
// has it as it is, where a control token would end its turn and begin another one.
func CheckText(text string) error {
	if token := controltoken.Find(text); token != "" {
		return fmt.Errorf("has %q, which models take for the end or the beginning of a turn", token)
	}

	bad := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if at := strings.IndexFunc(text, bad); at >= 0 {
		return fmt.Errorf("has a control character, %+q", []rune(text[at:])[0])
	}

	return nil
}
