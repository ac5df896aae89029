package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// message returns a message of govulncheck: the vulnerability id is reached through a function or,
// without one, only imported.
func message(t *testing.T, id, function, fixed string) string {
	t.Helper()
	type m = map[string]any
	trace := []m{{"module": "example.com/lib", "version": "v1.0.0", "package": "example.com/lib"}}
	if function != "" {
		trace[0]["function"] = "Parse"
		trace = append(trace, m{
			"module":   "ours",
			"function": function,
			"position": m{"filename": "main.go", "line": 7},
		})
	}

	var out strings.Builder
	for _, x := range []m{
		{"osv": m{"id": id, "summary": "summary of " + id}},
		{"finding": m{"osv": id, "fixed_version": fixed, "trace": trace}},
	} {
		// Like govulncheck's, the messages have many lines and follow one another.
		text, err := json.MarshalIndent(x, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}

	return out.String()
}

func TestJudge(t *testing.T) {
	accepted := map[string]string{"GO-1": "does no harm"}
	known := message(t, "GO-1", "run", "")
	for name, x := range map[string]struct {
		messages string
		want     []string // parts of the error; none if there is none
	}{
		"nothing but what is accepted": {known, nil},
		"twice, by two ways":           {known + known, nil},
		"only imported":                {known + message(t, "GO-2", "", "v1.0.1"), nil},
		"with a fix": {known + message(t, "GO-2", "run", "v1.0.1"),
			[]string{"GO-2: summary of GO-2", "main.go:7: run", "go get example.com/lib@v1.0.1"}},
		"without one": {known + message(t, "GO-2", "run", ""),
			[]string{"GO-2", "no fixed version", "accepted.go"}},
		"accepted for nothing": {"", []string{"GO-1: is reached no more"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := read(strings.NewReader(x.messages))
			if err != nil {
				t.Fatal(err)
			}

			var out bytes.Buffer
			err = judge(found, accepted, &out)
			if (err == nil) != (len(x.want) == 0) {
				t.Fatalf("error: %v, want %q", err, x.want)
			}

			for _, w := range x.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

// TestRun runs a program in place of govulncheck that ends as it does.
func TestRun(t *testing.T) {
	const unanswered = `echo 'govulncheck: fetching vulnerabilities: ` +
		`Get "https://db/index": dial tcp: lookup db: no such host' >&2; exit 1`
	for name, x := range map[string]struct {
		script, require string
		out, err        string
	}{
		"no answer": {
			script: unanswered,
			out:    "SKIPPED, nothing was checked: no answer from the database https://db: no such host",
		},
		"no answer, but wanted": {
			script:  unanswered,
			require: "redis,vulndb",
			out:     "SKIPPED",
			err:     "wants the database",
		},
		"a wrong address": {
			script: `echo 'govulncheck: fetching vulnerabilities: HTTP GET https://db/index: 404' >&2; exit 1`,
			err:    "404",
		},
		"what is not a message": {script: `echo 'no JSON'`, err: "invalid character"},
		"arguments are as given": {
			script: `test "$*" = "-db https://db -format json ./cmd/..." || { echo "$*" >&2; exit 2; }; exit 3`,
			err:    "exit status 3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "govulncheck")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+x.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}

			env := map[string]string{
				"GOVULNDB":                    "https://db",
				"CODEXCONTINUE_REQUIRE_PEERS": x.require,
			}

			var out bytes.Buffer
			err := run(t.Context(), []string{program, "./cmd/..."}, func(k string) string {
				return env[k]
			}, &out)
			if (err == nil) != (x.err == "") ||
				err != nil && !strings.Contains(err.Error(), x.err) {
				t.Errorf("error: %v, want %q", err, x.err)
			}

			if !strings.Contains(out.String(), x.out) {
				t.Errorf("it says %q, want %q", out.String(), x.out)
			}
		})
	}
}
