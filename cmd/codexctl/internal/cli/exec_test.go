package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestChosen: a command runs where it was told to, or in one that runs well.
func TestChosen(t *testing.T) {
	list := []running.Replica{{Name: "a"}, {Name: "b", Healthy: true}, {Name: "c", Healthy: true}}
	for _, tt := range []struct {
		list       []running.Replica
		name, want string
		err        string
	}{
		{list, "", "b", ""},
		{list, "a", "a", ""},
		{list, "d", "", "there is no d: name one of a, b, c"},
		{list[:1], "", "", "none of a runs well: name one with --replica"},
	} {
		got, err := chosen(tt.list, tt.name)
		if got.Name != tt.want || (err == nil) != (tt.err == "") ||
			err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("of %v, %q: %q, %v; want %q, %s", namesOf(tt.list), tt.name, got.Name, err,
				tt.want, tt.err)
		}
	}
}

// TestStreams: without a terminal a command reads nothing, unless it is told to.
func TestStreams(t *testing.T) {
	none := console.New(io.Discard, func(string) string { return "" })
	a := &App{in: strings.NewReader("x"), out: none, err: none}
	for _, input := range []bool{false, true} {
		s, restore, err := a.streams(input)
		if err != nil {
			t.Fatal(err)
		}
		restore()
		if (s.In != nil) != input || s.Sizes != nil {
			t.Errorf("stdin %v: reads %v, terminal %v", input, s.In, s.Sizes)
		}
	}
}
