package stacks_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestEvals: a version has to pass the evals beside the Modelfile, but in development, unless the
// settings say otherwise.
func TestEvals(t *testing.T) {
	e, err := modelfiles.LoadEvals(os.DirFS(".."), "modelfiles/codexcontinue/Modelfile")
	if err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		stack string
		asked *bool
		want  string
	}{
		"prod":             {"prod", nil, e.Digest},
		"prod, left out":   {"prod", new(false), ""},
		"development":      {"dev", nil, ""},
		"development, too": {"dev", new(true), e.Digest},
	} {
		t.Run(name, func(t *testing.T) {
			v := withPassword()
			if tc.stack == "dev" {
				v.Secrets = nil
			}
			v.Model.Evals = tc.asked
			s := load(t, tc.stack, v)
			ml := s.Service(stacks.ML).Contract.(*mlenv.Config)
			if s.Model.Evals != tc.want || ml.EvalsDigest != tc.want {
				t.Errorf("the stack has %q, ml %q, want %q", s.Model.Evals, ml.EvalsDigest, tc.want)
			}
		})
	}
}

// without is a file system that lacks a file, or has another text there.
type without struct {
	fs.FS
	name, text string
}

func (w without) Open(name string) (fs.File, error) {
	if name != w.name {
		return w.FS.Open(name)
	}
	if w.text == "" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fstest.MapFS{name: {Data: []byte(w.text)}}.Open(name)
}

// TestNoEvals: a domain may have none, unless the settings ask for them; those that are wrong are
// an error with the place.
func TestNoEvals(t *testing.T) {
	const file = "modelfiles/codexcontinue/evals.yaml"
	for name, tc := range map[string]struct {
		text  string
		asked *bool
		want  string
	}{
		"none":             {"", nil, ""},
		"none, left out":   {"", new(false), ""},
		"none, asked for":  {"", new(true), "codexcontinue:model.evals: there is no evals.yaml"},
		"wrong":            {"case: []", nil, file + ":1: case: is not known here"},
		"wrong, left out ": {"case: []", new(false), file + ":1: case: is not known here"},
	} {
		t.Run(name, func(t *testing.T) {
			v := withPassword()
			v.Model.Evals = tc.asked
			c := checkout()
			c.FS = without{c.FS, file, tc.text}
			s, err := stacks.Load("prod", v, c)
			switch {
			case tc.want == "" && (err != nil || s.Model.Evals != ""):
				t.Errorf("got %q, %v", s.Model.Evals, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}
