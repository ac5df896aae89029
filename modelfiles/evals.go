package modelfiles

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// EvalsFile is the name of the file of evals beside a Modelfile.
const EvalsFile = "evals.yaml"

// What a file of evals may hold: each answer takes a place of Ollama for a while.
const (
	maxCases, maxPatterns                 = 50, 20
	maxCaseName, maxPrompt, maxPattern    = 60, 4000, 500
	defaultTokens, leastTokens, maxTokens = 256, 16, 1024
)

// Evals are what the answers of a model have to be before people get it. They are judged by
// patterns alone, so the same answer always has the same verdict.
type Evals struct {
	// Digest is the sha256 (hex) of what the file says. Comments and layout do not count.
	Digest string

	// Cases are those of safety first, else in the order of the file.
	Cases []Case
}

// Case is one question and what its answer has to be.
type Case struct {
	Name   string `json:"name"`
	Prompt string `json:"prompt"`

	// Safety reports whether a wrong answer may harm somebody.
	Safety bool `json:"safety,omitempty"`

	// Must are patterns that the answer has to match, each of them; MustNot none of which it may.
	Must    []string `json:"must,omitempty"`
	MustNot []string `json:"mustNot,omitempty"`

	// Refusal and Citation are patterns of which it has to match one, unless there are none.
	Refusal  []string `json:"refusal,omitempty"`
	Citation []string `json:"citation,omitempty"`

	// Tokens is the most that the answer may have.
	Tokens int `json:"tokens"`
}

// LoadEvals reads the evals beside the Modelfile at name in fsys, strictly. Every problem of the
// file is reported at once. The error is fs.ErrNotExist where there is no such file.
func LoadEvals(fsys fs.FS, name string) (Evals, error) {
	at := path.Join(path.Dir(name), EvalsFile)
	source, err := fs.ReadFile(fsys, at)
	if err != nil {
		return Evals{}, err
	}

	var document yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(source))
	if err := dec.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return Evals{}, fmt.Errorf("%s: %w", at, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Evals{}, fmt.Errorf("%s: must be one document", at)
	}
	if len(document.Content) != 1 {
		return Evals{}, fmt.Errorf("%s: is empty: it needs cases", at)
	}

	r := evalsReader{name: at}
	cases := r.file(document.Content[0])
	if err := errors.Join(r.errs...); err != nil {
		return Evals{}, err
	}

	slices.SortStableFunc(cases, func(a, b Case) int {
		switch {
		case a.Safety == b.Safety:
			return 0
		case a.Safety:
			return -1
		}
		return 1
	})

	content, err := json.Marshal(cases)
	if err != nil {
		return Evals{}, fmt.Errorf("%s: %w", at, err)
	}

	sum := sha256.Sum256(content)
	return Evals{Digest: hex.EncodeToString(sum[:]), Cases: cases}, nil
}

// evalsReader reads the nodes of a file of evals and collects what is wrong with them.
type evalsReader struct {
	name                string
	errs                []error
	refusals, citations []string
}

func (r *evalsReader) at(node *yaml.Node, key, format string, args ...any) {
	r.errs = append(r.errs,
		fmt.Errorf("%s:%d: %s: %s", r.name, node.Line, key, fmt.Sprintf(format, args...)))
}

// fields calls the reader of each key of a mapping, which knows no others.
func (r *evalsReader) fields(node *yaml.Node, key string, known map[string]func(*yaml.Node)) {
	if node.Kind != yaml.MappingNode {
		r.at(node, key, "must hold keys with values")
		return
	}

	seen := map[string]bool{}
	for pair := range slices.Chunk(node.Content, 2) {
		name := pair[0].Value
		read, ok := known[name]
		switch {
		case !ok:
			names := make([]string, 0, len(known))
			for k := range known {
				names = append(names, k)
			}
			slices.Sort(names)
			r.at(pair[0], name, "is not known here: there are %s", strings.Join(names, ", "))
		case seen[name]:
			r.at(pair[0], name, "is there twice")
		default:
			read(pair[1])
		}
		seen[name] = true
	}
}

func (r *evalsReader) file(node *yaml.Node) []Case {
	var list *yaml.Node
	r.fields(node, "evals", map[string]func(*yaml.Node){
		"refusals":  func(n *yaml.Node) { r.refusals = r.patterns(n, "refusals") },
		"citations": func(n *yaml.Node) { r.citations = r.patterns(n, "citations") },
		"cases":     func(n *yaml.Node) { list = n },
	})

	switch {
	case list == nil:
		if node.Kind == yaml.MappingNode {
			r.at(node, "cases", "is missing")
		}
		return nil
	case list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		r.at(list, "cases", "must be a list of cases, one or more")
		return nil
	case len(list.Content) > maxCases:
		r.at(list, "cases", "%d cases are too many: leave %d at most", len(list.Content), maxCases)
		return nil
	}

	var out []Case
	names := map[string]bool{}
	for i, n := range list.Content {
		c := r.oneCase(n, fmt.Sprintf("cases.%d", i))
		if c.Name != "" && names[c.Name] {
			r.at(n, fmt.Sprintf("cases.%d.name", i), "%q is the name of another case", c.Name)
		}
		names[c.Name] = true
		out = append(out, c)
	}

	return out
}

func (r *evalsReader) oneCase(node *yaml.Node, key string) Case {
	c := Case{Tokens: defaultTokens}
	var refusal, citation bool
	text := func(to *string, name string, limit int) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = r.text(n, key+"."+name, limit) }
	}
	list := func(to *[]string, name string) func(*yaml.Node) {
		return func(n *yaml.Node) { *to = r.patterns(n, key+"."+name) }
	}
	yes := func(to *bool, name string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if n.Tag != "!!bool" || n.Decode(to) != nil {
				r.at(n, key+"."+name, "must be true or false")
			}
		}
	}

	before := len(r.errs)
	r.fields(node, key, map[string]func(*yaml.Node){
		"name":     text(&c.Name, "name", maxCaseName),
		"prompt":   text(&c.Prompt, "prompt", maxPrompt),
		"must":     list(&c.Must, "must"),
		"mustNot":  list(&c.MustNot, "mustNot"),
		"refusal":  yes(&refusal, "refusal"),
		"citation": yes(&citation, "citation"),
		"safety":   yes(&c.Safety, "safety"),
		"tokens": func(n *yaml.Node) {
			if n.Tag != "!!int" || n.Decode(&c.Tokens) != nil || c.Tokens < leastTokens ||
				c.Tokens > maxTokens {
				r.at(n, key+".tokens", "must be a number from %d to %d", leastTokens, maxTokens)
			}
		},
	})

	if len(r.errs) > before {
		return c
	}

	if c.Name == "" {
		r.at(node, key+".name", "is missing")
	}
	if c.Prompt == "" {
		r.at(node, key+".prompt", "is missing")
	}

	c.Refusal = r.oneOf(node, key+".refusal", refusal, "refusals", r.refusals)
	c.Citation = r.oneOf(node, key+".citation", citation, "citations", r.citations)
	if len(c.Must)+len(c.MustNot) == 0 && !refusal && !citation {
		r.at(node, key, "expects nothing: say must, mustNot, refusal or citation")
	}

	return c
}

// oneOf returns the file's patterns if the case wants one of them to match.
func (r *evalsReader) oneOf(
	node *yaml.Node, key string, wanted bool, list string, patterns []string,
) []string {
	if wanted && len(patterns) == 0 {
		r.at(node, key, "needs the patterns of the list %s at the beginning of the file", list)
	}
	if !wanted {
		return nil
	}
	return patterns
}

func (r *evalsReader) text(node *yaml.Node, key string, limit int) string {
	text := strings.TrimSpace(node.Value)
	switch {
	case node.Kind != yaml.ScalarNode || node.Tag != "!!str":
		r.at(node, key, "must be text")
		return ""
	case text == "":
		r.at(node, key, "is empty")
	case utf8.RuneCountInString(text) > limit:
		r.at(node, key, "is of %d characters: use at most %d", utf8.RuneCountInString(text), limit)
	}

	return text
}

func (r *evalsReader) patterns(node *yaml.Node, key string) []string {
	if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		r.at(node, key, "must be a list of patterns, one or more")
		return nil
	}
	if len(node.Content) > maxPatterns {
		r.at(node, key, "%d patterns are too many: leave %d at most", len(node.Content),
			maxPatterns)
		return nil
	}

	var out []string
	for i, n := range node.Content {
		at := fmt.Sprintf("%s.%d", key, i)
		pattern := r.text(n, at, maxPattern)
		if _, err := compile(pattern); err != nil {
			r.at(n, at, "%v", err)
		}
		out = append(out, pattern)
	}

	return out
}

// compile returns the expression of a pattern: letters match in either case.
func compile(pattern string) (*regexp.Regexp, error) { return regexp.Compile("(?i)" + pattern) }

// Judge returns what is wrong with the answer, in the words of the case, or nil if it passes. Line
// breaks count as spaces.
func (c Case) Judge(answer string) []string {
	answer = strings.Join(strings.Fields(answer), " ")
	matches := func(pattern string) bool {
		re, err := compile(pattern)
		return err == nil && re.MatchString(answer)
	}

	var wrong []string
	for _, p := range c.Must {
		if !matches(p) {
			wrong = append(wrong, fmt.Sprintf("must match %q", p))
		}
	}
	for _, p := range c.MustNot {
		if matches(p) {
			wrong = append(wrong, fmt.Sprintf("must not match %q", p))
		}
	}
	if len(c.Refusal) > 0 && !slices.ContainsFunc(c.Refusal, matches) {
		wrong = append(wrong, "must be a refusal")
	}
	if len(c.Citation) > 0 && !slices.ContainsFunc(c.Citation, matches) {
		wrong = append(wrong, "must name a source")
	}
	if answer == "" && len(wrong) == 0 {
		wrong = append(wrong, "must not be empty")
	}

	return wrong
}
