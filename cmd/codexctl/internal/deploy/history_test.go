package deploy

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
)

// TestUpdate reads back what an update says of itself, and of others what there is.
func TestUpdate(t *testing.T) {
	made := Release{
		By: "carol", Revision: "39a7f76-dirty", Settings: "ab12",
		Images: map[string]string{"backend": "codexcontinue/backend:1234"}, Model: "codexcontinue:ef56",
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
			},
			Update{
				Kind: "update", Result: "succeeded", Start: start, End: start.Add(70 * time.Second),
				Changes: map[string]int{"create": 2}, Release: &made,
			},
		},
		"of pulumi, and going on": {
			auto.UpdateSummary{
				Kind: "refresh", Result: "in-progress",
				StartTime: "2026-11-26T14:03:00.000Z", Message: "A commit",
			},
			Update{Kind: "refresh", Result: "in-progress", Start: start},
		},
		"of somebody who writes like codexctl": {
			auto.UpdateSummary{Message: "codexctl: is nice"}, Update{},
		},
	} {
		if d := cmp.Diff(tt.want, update(tt.in)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
