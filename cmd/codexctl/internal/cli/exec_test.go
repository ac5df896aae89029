package cli

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
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

// TestOnceOf: a one-off command writes to no volume that takes one writer, and it is known where
// the service's secrets are.
func TestOnceOf(t *testing.T) {
	stack := stacks.Stack{Volumes: []stacks.Volume{
		{Name: "data", SingleWriter: true}, {Name: "cache"}, {Name: "shown"},
	}}
	svc := stacks.Service{
		Mounts: []stacks.Mount{
			{Kind: stacks.MountVolume, Source: "data", Target: "/data"},
			{Kind: stacks.MountVolume, Source: "cache", Target: "/cache"},
			{Kind: stacks.MountVolume, Source: "shown", Target: "/shown", ReadOnly: true},
			{Kind: stacks.MountBind, Source: ".", Target: "/src"},
		},
		Files: []stacks.File{
			{Path: "/etc/app/config"},
			{Path: "/run/secrets/a", Secret: "a"}, {Path: "/run/secrets/b", Secret: "b"},
		},
	}

	once := onceOf(stack, svc, runOptions{secrets: true, limit: time.Minute}, []string{"x"})
	want := running.Once{
		Args: []string{"x"}, Secrets: true, SecretDirs: []string{"/run/secrets"},
		Writable: []string{"/cache"}, Limit: time.Minute,
	}
	if !reflect.DeepEqual(once, want) {
		t.Errorf("got %+v, want %+v", once, want)
	}
}
