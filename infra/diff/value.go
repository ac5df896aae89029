package diff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// text returns a value as a person reads it, on one line.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		odd := strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) })
		if v == "" || odd || v != strings.TrimSpace(v) {
			return strconv.Quote(v)
		}
		return v
	}

	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}

	return strings.TrimSpace(out.String())
}

// digest is what is too long to be read and tells nothing as a whole.
var digest = regexp.MustCompile(`\b[0-9a-f]{40,}\b`)

// texts returns the two values as a person reads them: of digests the beginning, unless both begin
// alike.
func (p Property) texts() (before, after string) {
	before, after = text(p.Before), text(p.After)
	short := func(s string) string {
		return digest.ReplaceAllStringFunc(s, func(d string) string { return d[:12] + "…" })
	}
	if b, a := short(before), short(after); b != a {
		return b, a
	}

	return before, after
}

// noted reports whether the notes show all of the change.
func (p Property) noted() bool { return p.same != "" || len(p.From) > 0 }

// linesOf returns the changed lines of a text of several lines, nil for other values.
func (p Property) linesOf() []Line {
	before, isText := p.Before.(string)
	after, alsoText := p.After.(string)
	if !isText || !alsoText || !strings.Contains(before+after, "\n") {
		return nil
	}
	return Lines(before, after)
}

// notes returns what else is known about the change.
func (p Property) notes() string {
	var out []string
	if p.same != "" {
		out = append(out, p.same)
	}
	if len(p.From) > 0 {
		out = append(out, "known after "+strings.Join(p.From, ", "))
	}
	if p.Replaces {
		out = append(out, "replaces")
	}

	return strings.Join(out, "; ")
}
