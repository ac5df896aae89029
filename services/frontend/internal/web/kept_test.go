package web

import (
	"strings"
	"testing"
	"time"
)

func TestKept(t *testing.T) {
	for ttl, want := range map[time.Duration]string{
		0:                   "",
		30 * 24 * time.Hour: "deleted 30 days after",
		24 * time.Hour:      "deleted 1 day after",
		36 * time.Hour:      "deleted 36 hours after",
		90 * time.Minute:    "deleted 1 hour after",
		5 * time.Minute:     "deleted 5 minutes after",
	} {
		if got := kept(ttl); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q in it", ttl, got, want)
		}
	}
}
