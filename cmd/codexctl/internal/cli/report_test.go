package cli

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/status"
)

// TestReportTellsDetails prints what is wrong with a service, and what one that works has to tell.
func TestReportTellsDetails(t *testing.T) {
	var r report
	r.setModel(&status.Status{Services: []status.Service{
		{Name: "backend", Status: status.Ready},
		{Name: "redis", Status: status.Ready, Detail: "Redis uses 83 % of its memory."},
		{Name: "ml", Status: "down", Detail: "It does not answer."},
	}}, "")

	var text strings.Builder
	r.print(console.New(&text, func(string) string { return "" }))
	for _, want := range []string{
		"not ready: ml: down It does not answer.\n", "note       redis: Redis uses 83 % of its memory.\n",
	} {
		if strings.Count(text.String(), want) != 1 {
			t.Errorf("status lacks %q:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "backend") {
		t.Errorf("status tells of what has nothing to tell:\n%s", text.String())
	}
}
