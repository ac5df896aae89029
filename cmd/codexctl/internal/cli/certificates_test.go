package cli

import (
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
)

// TestIsUp tells settings that services run with from those that no up has seen.
func TestIsUp(t *testing.T) {
	up := func(digest string) deploy.Update {
		return deploy.Update{
			Kind: "update", Result: "succeeded", Release: &deploy.Release{Settings: digest},
		}
	}
	plain := func(kind string) deploy.Update {
		return deploy.Update{Kind: kind, Result: "succeeded"}
	}
	failed := up("now")
	failed.Result = "failed"

	for name, tt := range map[string]struct {
		newestFirst []deploy.Update
		want        bool
	}{
		"never up":             {nil, true},
		"up":                   {[]deploy.Update{up("now"), up("before")}, true},
		"changed since":        {[]deploy.Update{up("before"), up("now")}, false},
		"a failure":            {[]deploy.Update{failed, up("before")}, false},
		"a refresh":            {[]deploy.Update{plain("refresh"), up("before")}, false},
		"down":                 {[]deploy.Update{plain("destroy"), up("before")}, true},
		"up by a plain pulumi": {[]deploy.Update{plain("update"), up("x")}, true},
	} {
		if got := isUp(tt.newestFirst, "now"); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
