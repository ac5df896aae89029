package workflows

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTurns checks that .ci/run gives each of the engine's tests that the Makefile names one turn.
func TestTurns(t *testing.T) {
	named := find(t, "../../Makefile", `(?m)^DOCKER_TESTS +\?= \^\((.*)\)\$\$$`)
	first := find(t, "../../.ci/run", `make e2e-docker DOCKER_TESTS='\^\((.*)\)\$\$'`)
	later := find(t, "../../.ci/run", `on_engine "\$1" \d+ \d+ '?([A-Za-z|]+)'?`)
	for i, name := range later {
		later[i] = "Test" + name
	}

	run := slices.Concat(first, later)
	slices.Sort(named)
	slices.Sort(run)
	if !slices.Equal(named, run) {
		t.Errorf("the Makefile names %v, .ci/run runs %v", named, run)
	}
}

// find returns the names, between bars, that the pattern's group finds in a file.
func find(t *testing.T, name, pattern string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.Split(m[1], "|")...)
	}
	if len(names) == 0 {
		t.Fatalf("%s: nothing is like %s", name, pattern)
	}
	return names
}
