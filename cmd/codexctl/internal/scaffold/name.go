package scaffold

import (
	"fmt"
	"regexp"
	"strings"
)

// Name is the name of what is added: lower-case words with dashes between them.
type Name string

// maxName leaves room for what is put before the name of a domain: its model is
// codexcontinue-NAME, and no name of a stack has more than 40 characters.
const maxName = 26

// nameRule has every word begin with a letter, so that two names are two identifiers: a1 and a-1
// would be one.
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*$`)

// ParseName returns text as a Name. Folders, stacks, containers and Go identifiers are named after
// it, so it takes what all of these accept.
func ParseName(text string) (Name, error) {
	switch n := Name(text); {
	case !nameRule.MatchString(text):
		return "", fmt.Errorf("name %q: use lower-case letters, digits and single dashes, "+
			"each word beginning with a letter",
			text)
	case len(text) > maxName:
		return "", fmt.Errorf("name %q: has %d characters: use at most %d", text, len(text), maxName)
	default:
		return n, nil
	}
}

// Package returns the name as that of a Go package: legaladvice.
func (n Name) Package() string { return strings.ReplaceAll(string(n), "-", "") }

// Exported returns the name as an exported identifier: LegalAdvice.
func (n Name) Exported() string { return strings.ReplaceAll(n.Title(), " ", "") }

// Identifier returns the name as an identifier that is not exported: legalAdvice.
func (n Name) Identifier() string { return string(n[:1]) + n.Exported()[1:] }

// Title returns the name as people write it: Legal Advice.
func (n Name) Title() string {
	words := strings.Split(string(n), "-")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}
