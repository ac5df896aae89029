package cli

import (
	"strings"
	"testing"
)

// TestUserBefore: a stack whose gate is of the version before --by is managed as well. A gate that
// takes the line is asked once.
func TestUserBefore(t *testing.T) {
	const usage = "gate: usage: gate user list\n       gate user invite NAME"
	for _, before := range []bool{false, true} {
		var lines []string
		g := gate{program: "/gate", platform: commands{run: func(command []string) (int, string) {
			line := strings.Join(command, " ")
			lines = append(lines, line)
			if strings.Contains(line, " --by=") == before {
				return 1, usage
			}
			return 0, "invited\n"
		}}}

		said, err := g.user(t.Context(), "https://a", []string{"invite", "ada", "--admin"})
		if err != nil || said != "invited" {
			t.Errorf("%q, %v", said, err)
		}

		want := 1
		if before {
			want = 2
		}
		if last := lines[len(lines)-1]; len(lines) != want ||
			!strings.HasPrefix(last, "/gate user --at=https://a ") ||
			!strings.HasSuffix(last, " invite ada --admin") {
			t.Errorf("it ran %q", lines)
		}
	}
}

// TestNobodyYet: up says whom to invite where a gate says that nobody has an account, and not where
// somebody has one, or cannot be asked for.
func TestNobodyYet(t *testing.T) {
	for name, tt := range map[string]struct {
		code int
		said string
		want bool
	}{
		"nobody":   {0, "Nobody has an account. Invite an admin: user invite NAME --admin\n", true},
		"somebody": {0, "NAME  MAY    GROUPS  SINCE\nada   admin          2026-11-27\n", false},
		"away":     {1, "gate: redis: connection refused\n", false},
	} {
		var line string
		g := gate{program: "/gate", platform: commands{run: func(command []string) (int, string) {
			line = strings.Join(command, " ")
			return tt.code, tt.said
		}}}
		if got := g.nobodyYet(t.Context()); got != tt.want || !strings.HasSuffix(line, " list") {
			t.Errorf("%s: %t, by %q", name, got, line)
		}
	}
}
