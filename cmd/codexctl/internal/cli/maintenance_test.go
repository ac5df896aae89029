package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// noticed is a platform with a gate that says something of maintenance.
type noticed struct {
	platform
	healthy bool
	said    string
	err     error

	// asked are the commands that ran in the gate.
	asked []string
}

func (p *noticed) Replicas(context.Context, string) ([]running.Replica, error) {
	return []running.Replica{{Name: "gate-1", Service: stacks.Gate, Healthy: p.healthy}}, nil
}

func (p *noticed) Exec(
	_ context.Context, _ running.Replica, command []string,
) (int, string, error) {
	p.asked = append(p.asked, strings.Join(command, " "))
	return 0, p.said, p.err
}

// TestNotice: status shows what a gate says that people read instead of the site.
func TestNotice(t *testing.T) {
	stack := stacks.Stack{Name: "prod", Services: []stacks.Service{
		{Name: stacks.Gate, Health: stacks.Health{Command: []string{"/gate", "healthcheck"}}},
	}}
	none := console.New(io.Discard, func(string) string { return "" })
	a := &App{out: none, err: none, now: time.Now}
	since := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	for name, x := range map[string]struct {
		p     *noticed
		want  *notice
		fails bool
	}{
		"none": {p: &noticed{healthy: true, said: "null\n"}},
		"one": {
			p: &noticed{
				healthy: true,
				said:    `{"message":"Noon.","by":"carol","since":"2026-01-02T03:04:00Z"}`,
			},
			want: &notice{"Noon.", "carol", since},
		},
		"no gate runs well": {p: &noticed{said: "{}"}},
		"no answer":         {p: &noticed{healthy: true, err: errors.New("x")}, fails: true},
		"no JSON":           {p: &noticed{healthy: true, said: "usage: gate"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := a.notice(t.Context(), target{file: project.StackFile{Name: "prod"}}, stack, x.p)
			if (err != nil) != x.fails || (got == nil) != (x.want == nil) ||
				got != nil && *got != *x.want {
				t.Errorf("got %+v, %v", got, err)
			}
			if x.p.healthy && (len(x.p.asked) != 1 || x.p.asked[0] != "/gate maintenance") {
				t.Errorf("asked %q", x.p.asked)
			}
		})
	}

	var text strings.Builder
	r := &report{
		Maintenance: &notice{"Noon.", "carol", since},
		OneOffs: []running.OneOff{
			{Name: "run-1", Service: "redis", StartedAt: since, Until: since.Add(time.Hour)},
			{Name: "run-2", Service: "gate", StartedAt: since, Until: since.Add(time.Second)},
		},
		now: since.Add(5 * time.Minute),
	}
	r.print(console.New(&text, func(string) string { return "" }))
	for _, want := range []string{
		"closed     by carol, for 5m: Noon.\n",
		"run        redis: run-1, for 5m\n",
		"run        gate: run-2, for 5m, beyond its limit: ",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("status lacks %q:\n%s", want, text.String())
		}
	}
}
