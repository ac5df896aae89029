package parse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// fhir reads a Bundle of FHIR R4, or a single resource, as lines of text: what a resource is, and
// for each of its elements the name and what it says. Of a code it is the text for people and the
// code itself.
func (d *Document) fhir(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(noMark(b)))
	dec.UseNumber() // 7.10 is as exact as it is written
	var resource map[string]any
	if err := dec.Decode(&resource); err != nil || dec.More() {
		return broken("The document is broken: it is no JSON object, or nested too deep.")
	}

	kind := text(resource["resourceType"])
	if kind == "" {
		return otherType("The file is named .json, and its content is no resource of FHIR.")
	}
	if deep(resource, 0) {
		return errTooDeep
	}

	if kind != "Bundle" {
		return d.resource(resource)
	}

	entries, _ := resource["entry"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		r, ok := entry["resource"].(map[string]any)
		if !ok {
			d.warn("An entry of the Bundle has no resource.")
			continue
		}
		if err := d.resource(r); err != nil {
			return err
		}
	}

	d.Title = "" // the first resource is no title of all
	return nil
}

// deep reports whether a value is nested deeper than maxDepth.
func deep(v any, depth int) bool {
	if depth > maxDepth {
		return true
	}
	switch v := v.(type) {
	case map[string]any:
		for x := range maps.Values(v) {
			if deep(x, depth+1) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return deep(x, depth+1) })
	}
	return false
}

// notShown are elements that say nothing to a reader.
var notShown = map[string]bool{
	"resourceType": true, "meta": true, "text": true, "extension": true, "contained": true,
	"modifierExtension": true, "implicitRules": true, "language": true, "id": true,
}

// first are elements that come before the others, in this order.
var first = []string{
	"status", "code", "type", "category", "name", "title", "subject", "patient", "value",
}

// resource adds a resource under a heading of its own.
func (d *Document) resource(r map[string]any) error {
	kind := text(r["resourceType"])
	if kind == "" {
		d.warn("A resource does not say what it is.")
		return nil
	}

	heading := words(kind)
	for _, element := range []string{"code", "type", "title", "name", "medicationCodeableConcept",
		"vaccineCode"} {
		if s := value(r[element]); s != "" {
			heading += ": " + shorten(s, maxTitle)
			break
		}
	}
	if err := d.add(Block{Kind: Heading, Level: 1, Text: heading}); err != nil {
		return err
	}

	for _, line := range fields(r, "", 0) {
		if err := d.add(Block{Kind: Item, Text: line}); err != nil {
			return err
		}
	}

	// The narrative stands for elements only where nothing else is said.
	if narrative, ok := r["text"].(map[string]any); ok && len(r) <= 4 {
		if err := d.fragment(text(narrative["div"])); err != nil {
			return err
		}
	}

	contained, _ := r["contained"].([]any)
	for _, c := range contained {
		if c, ok := c.(map[string]any); ok {
			if err := d.resource(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// fields returns a line for each element that says something. A name begins with prefix.
func fields(r map[string]any, prefix string, depth int) []string {
	names := slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		return strings.Compare(rank(a)+a, rank(b)+b)
	})
	var out []string
	for _, name := range names {
		if notShown[name] && !(name == "text" && depth > 0) || strings.HasPrefix(name, "_") {
			continue
		}

		label := prefix + words(name)
		values, ok := r[name].([]any)
		if !ok {
			values = []any{r[name]}
		}
		for _, v := range values {
			if s := value(v); s != "" {
				out = append(out, label+": "+s)
			} else if v, ok := v.(map[string]any); ok {
				out = append(out, fields(v, label+", ", depth+1)...)
			}
		}
	}
	return out
}

// rank orders elements: those of first have a digit, which is before letters.
func rank(name string) string {
	for i, f := range first {
		if name == f || f == "value" && strings.HasPrefix(name, f) {
			return string(rune('0' + i))
		}
	}
	return "~"
}

// words returns a name such as valueQuantity as words.
func words(name string) string {
	for _, suffix := range []string{"CodeableConcept", "Quantity", "DateTime", "Reference", "Period"} {
		if s, ok := strings.CutSuffix(name, suffix); ok && s != "" {
			name = s
			break
		}
	}

	var s strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			s.WriteByte(' ')
		}
		if i > 0 {
			r = unicode.ToLower(r)
		}
		s.WriteRune(r)
	}
	return s.String()
}

// value returns an element's value in a line, "" if it is none of FHIR's data types, which has
// elements of its own.
func value(v any) string {
	switch v := v.(type) {
	case string, json.Number, bool:
		return text(v)
	case []any:
		if len(v) > 0 {
			return value(v[0])
		}
		return ""
	case map[string]any:
		return complexValue(v)
	}
	return ""
}

// complexValue returns the value of a data type that has parts.
func complexValue(v map[string]any) string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return v[n] != nil })
	}
	known := func(names ...string) bool { // whether it has no others
		for n := range v {
			if !slices.Contains(names, n) && n != "extension" && n != "id" &&
				!strings.HasPrefix(n, "_") {
				return false
			}
		}
		return true
	}

	switch {
	case known("coding", "text") && has("coding", "text"): // CodeableConcept
		return concept(v)
	case known("system", "version", "code", "display", "userSelected") && has("code", "display"):
		return coding(v)
	case known("value", "comparator", "unit", "system", "code") && has("unit", "code", "comparator"):
		unit := text(v["unit"])
		if unit == "" {
			unit = text(v["code"])
		}
		return join(" ", text(v["comparator"]), text(v["value"]), unit)
	case known("start", "end") && has("start", "end"): // Period
		return join(" to ", text(v["start"]), text(v["end"]))
	case known("low", "high", "text", "type", "appliesTo", "age") && has("low", "high"): // Range
		return join(" to ", value(v["low"]), value(v["high"]))
	case known("numerator", "denominator") && has("numerator"): // Ratio
		return join(" per ", value(v["numerator"]), value(v["denominator"]))
	case known("reference", "type", "identifier", "display") && has("reference", "display"):
		return join(" ", text(v["display"]), parenthesis(v["display"] != nil, text(v["reference"])))
	case known("use", "type", "system", "value", "period", "assigner", "rank") && has("value"):
		return text(v["value"]) // Identifier, ContactPoint
	case has("family", "given") && known("use", "text", "family", "given", "prefix", "suffix",
		"period"): // HumanName
		if s := text(v["text"]); s != "" {
			return s
		}
		return join(" ", list(v["prefix"]), list(v["given"]), text(v["family"]), list(v["suffix"]))
	case has("line", "city", "postalCode") && known("use", "type", "text", "line", "city",
		"district", "state", "postalCode", "country", "period"): // Address
		return join(", ", list(v["line"]), join(" ", text(v["postalCode"]), text(v["city"])),
			text(v["state"]), text(v["country"]))
	case has("contentType", "data", "url") && known("contentType", "language", "data", "url",
		"size", "hash", "title", "creation"): // Attachment
		return join(": ", text(v["title"]), attached(v))
	case has("text") && known("text", "time", "authorString", "authorReference"): // Annotation
		return join(" ", text(v["text"]), parenthesis(true, text(v["time"])))
	}
	return ""
}

// attached returns the text in an attachment, "" of one that is none.
func attached(v map[string]any) string {
	if !strings.HasPrefix(text(v["contentType"]), "text/plain") {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(text(v["data"]))
	if err != nil || !isText(b) {
		return ""
	}
	return string(b)
}

func concept(v map[string]any) string {
	codings, _ := v["coding"].([]any)
	said := text(v["text"])
	for _, c := range codings {
		c, _ := c.(map[string]any)
		switch display, code := text(c["display"]), text(c["code"]); {
		case said == "":
			said = coding(c)
		case code != "" && display != said && display != "":
			return said + " (" + display + ", " + code + ")"
		case code != "" && !strings.Contains(said, code):
			return said + " (" + code + ")"
		}
	}
	return said
}

func coding(v map[string]any) string {
	if text(v["display"]) == "" {
		return text(v["code"])
	}
	return join(" ", text(v["display"]), parenthesis(true, text(v["code"])))
}

func parenthesis(with bool, s string) string {
	if !with || s == "" {
		return s
	}
	return "(" + s + ")"
}

// join returns the parts that are not empty with the separator between them.
func join(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
}

// list returns the texts of a list.
func list(v any) string {
	all, _ := v.([]any)
	var out []string
	for _, x := range all {
		out = append(out, text(x))
	}
	return join(" ", out...)
}

// text returns a text, number or truth value as it is written.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	}
	return ""
}
