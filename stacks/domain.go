package stacks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/codexcontinue/codexcontinue/services/frontend/domain"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
)

// modelfilesRoot holds a folder for each domain: its model in a Modelfile, and its texts.
const modelfilesRoot, textsFile = "modelfiles", "domain.yaml"

// domainFile is where the frontend finds the texts of the domain.
const domainFile = "/etc/frontend/domain.json"

// textKeys are the keys of the texts of a domain.
var textKeys = []string{"greeting", "notice", "prompts", "title"}

// safetyKey says that the prompt of the domain's model is there for people's
// safety. It may be left out.
const safetyKey = "safety"

// What fits on the page: characters of each text, and the number of prompts.
const (
	maxTitle, maxGreeting, maxPrompt, maxNotice = 60, 120, 200, 300

	maxPrompts = 6
)

// domain makes the stack one of the domain, which is a folder of modelfiles: the stack gets its
// model and its texts.
func (s *Stack) domain(name string) {
	s.Domain = name
	s.Model.Name = Project + "-" + name
	s.Model.Modelfile = path.Join(modelfilesRoot, name, "Modelfile")
}

// applyDomain hands the texts of the domain to the frontend, and to the others what they have to
// know of them. A title replaces the domain's own unless it is empty. It comes when it is known
// which models the settings name, and which is the stack's own.
func (s *Stack) applyDomain(fsys fs.FS, title string, learning LearningSettings) error {
	texts, err := readTexts(fsys, path.Join(modelfilesRoot, s.Domain, textsFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("%s:domain: %q is none of %s, the folders of %s with a %s", Project,
			s.Domain,
			strings.Join(domains(fsys), ", "), modelfilesRoot, textsFile)
	}

	if err != nil {
		return err
	}

	if title != "" {
		if err := checkText(title, maxTitle); err != nil {
			return fmt.Errorf("%s:domainTitle: %w", Project, err)
		}
		texts.Title = title
	}

	content, err := texts.Encode()
	if err != nil {
		return err
	}

	if f := s.Service(Frontend); f != nil {
		f.Files = append(f.Files, File{Path: domainFile, Content: content})
	}

	s.Safeguarded = s.Safeguarded || s.Domain == healthcareDomain
	safety, err := s.forSafety(fsys, texts)
	if err != nil {
		return err
	}
	edit(s, func(c *gateenv.Config) { c.Title, c.RawCompletions = texts.Title, !safety })
	if safety {
		s.ownModelAlone()
	}
	s.applyLearning(learning, safety)

	return nil
}

// forSafety reports whether the prompt of the stack's model is there for people's safety. The texts
// that people see say so, or those beside the Modelfile, which are others where the settings name
// another domain and leave the model.
func (s *Stack) forSafety(fsys fs.FS, shown domain.Texts) (bool, error) {
	folder := path.Dir(s.Model.Modelfile)
	if shown.Safety || s.Safeguarded || folder == path.Join(modelfilesRoot, s.Domain) {
		return shown.Safety || s.Safeguarded, nil
	}

	beside, err := readTexts(fsys, path.Join(folder, textsFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return beside.Safety, err
}

// domains lists the folders of modelfiles that have texts.
func domains(fsys fs.FS) []string {
	found, _ := fs.Glob(fsys, path.Join(modelfilesRoot, "*", textsFile)) // the pattern is valid
	for i, name := range found {
		found[i] = path.Base(path.Dir(name))
	}
	return found
}

// readTexts reads the texts of a domain strictly. It reports every problem at once, each with the
// line that it is in.
func readTexts(fsys fs.FS, name string) (domain.Texts, error) {
	source, err := fs.ReadFile(fsys, name)
	if err != nil {
		return domain.Texts{}, err
	}

	var document yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(source))
	if err := dec.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return domain.Texts{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return domain.Texts{}, fmt.Errorf("%s: must be one document", name)
	}

	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return domain.Texts{}, fmt.Errorf("%s: must hold the keys %s", name,
			strings.Join(textKeys, ", "))
	}

	r := textReader{name: name}
	return r.mapping(document.Content[0]), errors.Join(r.errs...)
}

// textReader reads nodes of a file of texts and collects what is wrong with them.
type textReader struct {
	problems
	name string
}

func (r *textReader) at(node *yaml.Node, key, format string, args ...any) {
	r.add(fmt.Sprintf("%s:%d: %s", r.name, node.Line, key), format, args...)
}

func (r *textReader) mapping(node *yaml.Node) domain.Texts {
	var t domain.Texts
	seen := map[string]bool{}
	for pair := range slices.Chunk(node.Content, 2) {
		key, value := pair[0].Value, pair[1]
		if seen[key] {
			r.at(pair[0], key, "is there twice")
			continue
		}

		seen[key] = true
		switch key {
		case "title":
			t.Title = r.text(value, key, maxTitle)
		case "greeting":
			t.Greeting = r.text(value, key, maxGreeting)
		case "prompts":
			t.Prompts = r.prompts(value, key)
		case "notice":
			t.Notice = r.text(value, key, maxNotice)
		case safetyKey:
			if err := value.Decode(&t.Safety); err != nil || value.Tag != "!!bool" {
				r.at(value, key, "must be true or false")
			}
		default:
			r.at(pair[0], key, "%v", unknownKey(key, slices.Concat(textKeys, []string{safetyKey})))
		}
	}

	for _, key := range textKeys {
		if !seen[key] {
			r.at(node, key, "is missing")
		}
	}

	return t
}

func (r *textReader) prompts(node *yaml.Node, key string) []string {
	if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		r.at(node, key, "must be a list of examples, one or more")
		return nil
	}

	if n := len(node.Content); n > maxPrompts {
		r.at(node, key, "%d examples are too many: leave %d at most", n, maxPrompts)
	}

	var out []string
	for i, item := range node.Content {
		out = append(out, r.text(item, fmt.Sprintf("%s.%d", key, i), maxPrompt))
	}

	return out
}

// text returns the text of a scalar, which is one line of at most limit characters.
func (r *textReader) text(node *yaml.Node, key string, limit int) string {
	if node.Kind != yaml.ScalarNode {
		r.at(node, key, "must be text")
		return ""
	}

	text := strings.TrimRight(node.Value, "\n")
	if node.Tag == "!!null" {
		text = ""
	}
	if err := checkText(text, limit); err != nil {
		r.at(node, key, "%v", err)
	}

	return text
}

// checkText returns an error unless text is one line of 1 to limit characters.
func checkText(text string, limit int) error {
	switch n := utf8.RuneCountInString(text); {
	case strings.TrimSpace(text) == "":
		return errors.New("is empty")
	case n > limit:
		return fmt.Errorf("is of %d characters: use at most %d", n, limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("must be one line of text: a text that is folded begins with >-")
	}

	return nil
}
