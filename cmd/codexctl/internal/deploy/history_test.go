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
