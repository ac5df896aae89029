package learn

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/learning"
	"gopkg.in/yaml.v3"
)

// evalCase is a case as evals.yaml has it.
type evalCase struct {
	Name    string   `yaml:"name"`
	Prompt  string   `yaml:"prompt"`
	Must    []string `yaml:"must,omitempty"`
	MustNot []string `yaml:"mustNot,omitempty"`
}

// caseOf returns the case of what was accepted. Its name tells nothing of the question, as whoever
// sees the state of a stack sees the names of its cases.
func caseOf(v learning.Submission) evalCase {
	sum := sha256.Sum256([]byte(v.Review.Question))
	return evalCase{
		Name: "learned " + hex.EncodeToString(sum[:4]), Prompt: v.Review.Question,
		Must: patterns(v.Review.Must), MustNot: patterns(v.Review.MustNot),
	}
}

// patterns returns those that match the texts, in which line breaks count as spaces.
func patterns(texts []string) (out []string) {
	for _, text := range texts {
		out = append(out, regexp.QuoteMeta(strings.Join(strings.Fields(text), " ")))
	}
	return out
}

// addCases returns the file of evals with a case for each accepted answer that says what it must or
// must not contain, unless it is there, and how many those are. All that it has stays as it is.
func addCases(source []byte, accepted []learning.Submission) ([]byte, int, error) {
	before, err := readEvals(source)
	if err != nil {
		return nil, 0, err
	}

	var names []string
	for _, c := range before.Cases {
		names = append(names, c.Name)
	}

	var cases []evalCase
	for _, v := range accepted {
		c := caseOf(v)
		if len(c.Must)+len(c.MustNot) == 0 || slices.Contains(names, c.Name) {
			continue
		}
		names, cases = append(names, c.Name), append(cases, c)
	}
	if len(cases) == 0 {
		return source, 0, nil
	}

	out, err := insertCases(source, cases)
	if err != nil {
		return nil, 0, err
	}

	after, err := readEvals(out)
	if err != nil {
		return nil, 0, fmt.Errorf("with what was accepted: %w", err)
	}
	if len(after.Cases) != len(before.Cases)+len(cases) {
		return nil, 0, errors.New("the cases cannot be added to this file: add them by hand")
	}

	return out, len(cases), nil
}

// readEvals reads a file of evals as the plan does.
func readEvals(source []byte) (modelfiles.Evals, error) {
	dir, err := os.MkdirTemp("", "codexctl-learn-")
	if err != nil {
		return modelfiles.Evals{}, err
	}
	defer os.RemoveAll(dir)

	err = os.WriteFile(filepath.Join(dir, modelfiles.EvalsFile), source, 0o600)
	if err != nil {
		return modelfiles.Evals{}, err
	}

	return modelfiles.LoadEvals(os.DirFS(dir), "Modelfile")
}

// insertCases inserts the cases as text behind the last one, so that comments and layout stay.
func insertCases(source []byte, cases []evalCase) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(source, &document); err != nil {
		return nil, err
	}

	keys := document.Content[0].Content
	at := 0
	for keys[at].Value != "cases" { // it is there: the file was read
		at += 2
	}

	list := keys[at+1]
	lines := strings.SplitAfter(string(bytes.TrimRight(source, "\n"))+"\n", "\n")
	lines = lines[:len(lines)-1]
	indent, _, dashed := strings.Cut(lines[list.Content[0].Line-1], "-")
	if list.Style&yaml.FlowStyle != 0 || !dashed || strings.TrimSpace(indent) != "" {
		return nil, errors.New("write its cases below each other, each behind a dash, so that others " +
			"can be added")
	}

	end := len(lines)
	if at+2 < len(keys) { // in front of the next key and its comment
		end = keys[at+2].Line - 1
		for end > 0 && quiet(lines[end-1]) {
			end--
		}
	}

	var text strings.Builder
	for _, c := range cases {
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(c), enc.Close()); err != nil {
			return nil, err
		}

		text.WriteString("\n")
		first := indent + "- "
		for line := range strings.Lines(b.String()) {
			text.WriteString(first + line)
			first = indent + "  "
		}
	}

	lines = slices.Insert(lines, end, text.String())
	return []byte(strings.Join(lines, "")), nil
}

// quiet reports whether a line has nothing but a comment.
func quiet(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#")
}
