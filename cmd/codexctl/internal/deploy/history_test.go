package deploy

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/blang/semver"
	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
)

// TestUpdate reads back what an update says of itself, and of others what there is.
func TestUpdate(t *testing.T) {
	made := Release{
		By: "carol", Revision: "39a7f76-dirty", Settings: "ab12",
		Images: map[string]string{"backend": "codexcontinue/backend:1234"}, Model: "codexcontinue:ef56",
		Data: map[string]int{"backend": 2}, Rollback: 3,
	}
	end := "2026-11-26T14:04:10.000Z"
	start := time.Date(2026, 11, 26, 14, 3, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		in   auto.UpdateSummary
		want Update
	}{
		"of codexctl": {
			auto.UpdateSummary{
				Kind: "update", Result: "succeeded", StartTime: "2026-11-26T14:03:00.000Z",
				EndTime: &end, Message: strconv.Quote(made.message()), ResourceChanges: &map[string]int{"create": 2},
				Config: auto.ConfigMap{
					"codexcontinue:tlsKey":        {Secret: true},
					"codexcontinue:edge":          {Value: `{"port":80}`},
					"codexcontinue:redisPassword": {Secret: true},
				},
			},
			Update{
				Kind: "update", Result: "succeeded", Start: start, End: start.Add(70 * time.Second),
				Changes: map[string]int{"create": 2}, Release: &made,
				Config:  map[string]string{"codexcontinue:edge": `{"port":80}`},
				Secrets: []string{"codexcontinue:redisPassword", "codexcontinue:tlsKey"},
			},
		},
		"that was not to wait": {
			auto.UpdateSummary{
				Kind: "update", Result: "succeeded", StartTime: "2026-11-26T14:03:00.000Z",
				Message: Release{NoWait: true, ID: "A"}.message(),
			},
			Update{
				Kind: "update", Result: NotAwaited, Start: start, Release: &Release{NoWait: true, ID: "A"},
				Config: map[string]string{},
			},
		},
		"of pulumi, and going on": {
			auto.UpdateSummary{
				Kind: "refresh", Result: "in-progress",
				StartTime: "2026-11-26T14:03:00.000Z", Message: "A commit",
			},
			Update{Kind: "refresh", Result: "in-progress", Start: start, Config: map[string]string{}},
		},
		"of somebody who writes like codexctl": {
			auto.UpdateSummary{Message: "codexctl: is nice"}, Update{Config: map[string]string{}},
		},
	} {
		if d := cmp.Diff(tt.want, update(tt.in)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestNote gives updates the results of the stack's tags, but those of which not all was made, and
// takes no result that only Pulumi gives.
func TestNote(t *testing.T) {
	list := []Update{
		{Result: Succeeded, Release: &Release{ID: "A"}},
		{Result: Succeeded, Release: &Release{ID: "B"}},
		{Result: NotAwaited, Release: &Release{ID: "C", NoWait: true}},
		{Result: "failed", Release: &Release{ID: "D"}},
		{Result: Succeeded, Release: &Release{}}, // of a release before
		{Result: Succeeded},
		{Result: Succeeded, Release: &Release{ID: "E"}},
	}
	note(list, map[string]string{
		"codexctl:A": ModelNotReady, "codexctl:C": Unhealthy, "codexctl:D": ModelNotReady,
		"codexctl:": Unhealthy, "codexctl:E": "in-progress",
	})

	var got []string
	for _, u := range list {
		got = append(got, u.Result)
	}
	want := []string{
		ModelNotReady, Succeeded, Unhealthy, "failed", Succeeded, Succeeded, Succeeded,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the results (-want +got):\n%s", d)
	}
}

// fakeCLI is a Pulumi CLI of a stack with so many updates. As the real one it gives ten of them unless
// it is asked for a page.
type fakeCLI struct {
	auto.PulumiCommand // that of the CLI's version is of no use here
	updates            int
}

func (f fakeCLI) Run(
	_ context.Context, _ string, _ io.Reader, _, _ []io.Writer, _ []string, args ...string,
) (string, string, int, error) {
	size, page := 10, 1
	flags := flag.NewFlagSet("history", flag.ContinueOnError)
	flags.IntVar(&size, "page-size", size, "")
	flags.IntVar(&page, "page", page, "")
	for _, name := range []string{"json", "non-interactive"} {
		flags.Bool(name, false, "")
	}
	flags.String("stack", "", "")
	if err := flags.Parse(args[2:]); err != nil {
		return "", err.Error(), 1, err
	}

	all := []auto.UpdateSummary{}
	for n := f.updates; n > 0; n-- { // the newest first
		all = append(all, auto.UpdateSummary{Kind: "update", Version: n, Result: "succeeded"})
	}
	from := min((page-1)*size, len(all))
	b, err := json.Marshal(all[from:min(from+size, len(all))])
	return string(b), "", 0, err
}

func (fakeCLI) Version() semver.Version { return semver.MustParse("3.220.0") }

// TestHistoryIsWhole counts the updates from the first one, however many there are.
func TestHistoryIsWhole(t *testing.T) {
	for _, n := range []int{0, 1, 11, 100, 101, 250} {
		w, err := auto.NewLocalWorkspace(t.Context(), auto.WorkDir(t.TempDir()),
			auto.Pulumi(fakeCLI{updates: n}))
		if err != nil {
			t.Fatal(err)
		}
		stack, err := auto.SelectStack(t.Context(), "prod", w)
		if err != nil {
			t.Fatal(err)
		}

		list, err := (&Session{stack: stack}).History(t.Context())
		if err != nil || len(list) != n {
			t.Errorf("%d of %d updates, %v", len(list), n, err)
			continue
		}
		if n > 0 && (list[0].Number != n || list[n-1].Number != 1) {
			t.Errorf("of %d: the newest is %d, the first %d", n, list[0].Number, list[n-1].Number)
		}
	}
}
