package generation

import (
	"strings"
	"unicode"
)

// maxTitle is the length of a title made of a message, in characters.
const maxTitle = 60

// Title makes a conversation's title of its first message: the first line that says
// something, cut at a word.
func Title(message string) string {
	line := ""
	for l := range strings.Lines(message) {
		if line = strings.Join(strings.FieldsFunc(l, blank), " "); line != "" {
			break
		}
	}

	chars := []rune(line)
	if len(chars) <= maxTitle {
		return line
	}

	cut := maxTitle - 1 // one is for the ellipsis
	for i := cut; i > cut/2; i-- {
		if chars[i] == ' ' {
			cut = i
			break
		}
	}

	return strings.TrimRightFunc(string(chars[:cut]), unicode.IsPunct) + "…"
}

// blank is what separates words: space, and what nobody can see, but for the joiner inside emoji.
func blank(r rune) bool { return r != 0x200d && (unicode.IsSpace(r) || !unicode.IsGraphic(r)) }
