package cli

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestPrunable: images go that no release needs to which people go back, of no stack.
func TestPrunable(t *testing.T) {
	release := func(number int, result, tag string) deploy.Update {
		return deploy.Update{Number: number, Kind: "update", Result: result,
			Release: &deploy.Release{Images: map[string]string{
				"backend": "codexcontinue/backend:" + tag, "redis": "redis:8.2." + tag,
			}}}
	}
	now := []images.Image{
		{Ref: "codexcontinue/backend:9", Build: &stacks.Build{}}, {Ref: "redis:8.2.9"},
	}
	own := []deploy.Update{
		release(9, "failed", "8"), release(8, "succeeded", "7"), release(7, "succeeded", "7"),
		{Number: 6, Kind: "update", Result: "succeeded"}, // of another program
		release(5, "failed", "6"), release(4, "succeeded", "5"), release(3, "succeeded", "4"),
		release(2, "failed", "9"), release(1, "succeeded", "1"),
	}
	other := []deploy.Update{release(2, "succeeded", "4"), release(1, "succeeded", "1")}

	for name, tt := range map[string]struct {
		all  [][]deploy.Update
		keep int
		want string // the tags
	}{
		// 8 was tried since and may be again, 9 is what the sources make.
		"the last one":        {[][]deploy.Update{own}, 1, "1 4 5 6"},
		"the last two":        {[][]deploy.Update{own}, 2, "1 4"},
		"more than there are": {[][]deploy.Update{own}, 9, ""},
		"another stack's":     {[][]deploy.Update{other, own}, 1, "1 5 6"},
	} {
		var tags []string
		for _, ref := range prunable(own, tt.all, now, tt.keep) {
			tags = append(tags, strings.TrimPrefix(ref, "codexcontinue/backend:"))
		}
		if got := strings.Join(tags, " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
