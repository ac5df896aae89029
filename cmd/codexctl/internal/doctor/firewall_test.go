package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFirewall holds what is said of a machine whose firewall has the lines, lacks some, or cannot be
// read.
func TestFirewall(t *testing.T) {
	const input = "iptables -I INPUT -i cc-ward -m conntrack --ctstate NEW -j DROP"
	const forward = "iptables -I DOCKER-USER -i cc-ward -m conntrack --ctstate NEW -j DROP"
	for name, tt := range map[string]struct {
		script string // of iptables; "" is none
		status Status
		fix    []string
	}{
		"both":        {"exit 0", OK, nil},
		"neither":     {"exit 1", Warn, []string{input, forward}},
		"one":         {`[ "$3" = INPUT ]`, Warn, []string{forward}},
		"no root":     {"exit 4", Skip, []string{input, forward}},
		"no iptables": {"", Skip, []string{input, forward}},
		"to the letter": {
			`[ "$*" = "-w -C INPUT -i cc-ward -m conntrack --ctstate NEW -j DROP" ]`,
			Warn, []string{forward},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules := ruleSet{}
			if tt.script != "" {
				dir := t.TempDir()
				script := "#!/bin/sh\n" + tt.script + "\n"
				path := filepath.Join(dir, "iptables")
				if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
				if rules.program = findProgram([]string{"", dir}, "iptables"); rules.program != path {
					t.Fatalf("found %q", rules.program)
				}
			}

			got := closed(t.Context(), "cc-ward", rules)
			if len(got) != 1 || got[0].Status != tt.status {
				t.Fatalf("got %+v", got)
			}
			for _, line := range []string{input, forward} {
				want := strings.Contains(strings.Join(tt.fix, "\n"), line)
				if strings.Contains(got[0].Fix, line) != want {
					t.Errorf("%q is there: %t, in %q", line, !want, got[0].Fix)
				}
			}
			if len(tt.fix) == 0 && got[0].Fix != "" {
				t.Errorf("to do: %q", got[0].Fix)
			}
		})
	}
}
