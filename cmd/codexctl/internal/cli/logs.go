package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

func (a *App) logsCommand() *cobra.Command {
	var stack, since string
	var follow, bare bool
	var tail int
	c := &cobra.Command{
		Use:   "logs [-f] SERVICE",
		Short: "Print what the containers of a service log",
		Long: `Prints the logs of every replica of the service, each line with its container
before it. With -f it goes on with what comes, also from the containers that
replace those there now.`,
		Args: serviceArg,
		RunE: func(c *cobra.Command, args []string) error {
			from, err := parseSince(since, a.now())
			if err != nil {
				return err
			}
			return a.logs(c.Context(), stack, args[0],
				running.LogOptions{Tail: tail, Since: from, Follow: follow}, bare)
		},
	}

	f := c.Flags()
	f.StringVarP(&stack, "stack", "s", defaultStack, "the stack")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	f.IntVarP(&tail, "tail", "n", -1, "only the last lines of each container; -1 for all")
	f.StringVar(&since, "since", "",
		"only what is newer: a duration such as 10m, or an RFC 3339 time")
	f.BoolVar(&bare, "no-prefix", false, "print the lines alone, for other programs")
	return c
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}

	return time.Time{}, usageError{fmt.Errorf("--since: %q is neither a duration such as 10m nor "+
		"a time such as 2026-01-31T15:04:05Z",
		text)}
}

func (a *App) logs(
	ctx context.Context, name, service string, o running.LogOptions, bare bool,
) error {
	t, p, err := a.attach(ctx, name)
	if err != nil {
		return err
	}
	defer p.Close()

	// A service that does not run yet can be followed.
	if _, err := t.replicas(ctx, p, service); err != nil &&
		!(o.Follow && errors.Is(err, errNoContainer)) {
		return err
	}

	return p.Logs(ctx, service, o, func(c running.Replica, text string) {
		a.printLog(c, text, bare)
	})
}

// printLog prints one line of a log. On a terminal it leaves out control sequences, as a log may
// hold whatever its program was sent.
func (a *App) printLog(c running.Replica, text string, bare bool) {
	if a.out.Terminal {
		text = console.Plain(text)
	}

	if bare {
		a.out.Printf("%s", text)
		return
	}

	a.out.Printf("%s %s", a.out.Paint(prefixPaint(c.Name), prefix(c)+" |"), text)
}

// prefix returns a short name that tells replicas apart: the service and the random end of
// the container's name.
func prefix(c running.Replica) string {
	i := strings.LastIndex(c.Name, "-")
	if i < 0 || !strings.Contains(c.Name, c.Service) {
		return c.Name
	}
	return c.Service + "-" + c.Name[i+1:]
}

func prefixPaint(name string) console.Paint {
	colours := []console.Paint{console.Cyan, "35", "34", console.Yellow, console.Green}
	h := fnv.New32a()
	h.Write([]byte(name))
	return colours[h.Sum32()%uint32(len(colours))]
}
