package cli

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestMissingModel: the log of a job that lacks its base model becomes what to type. Other problems
// stay as they are.
func TestMissingModel(t *testing.T) {
	problems := withMissingModel([]failure.Problem{
		{Service: stacks.ModelJob, What: "the job failed", Todo: "its log says why", Log: []string{
			"pending waiting for Ollama",
			"ml: ollama at 10.0.0.1: " + status.MissingText("llama3:8b") + ": put it there",
		}},
		{Service: stacks.Redis, What: "not well", Log: []string{"the base model of no use"}},
	}, "team/clinic")

	got := problems[0]
	if got.Service != stacks.ML || got.What != status.MissingText("llama3:8b") || got.Log != nil {
		t.Errorf("got %+v", got)
	}
	for _, want := range []string{
		"codexctl model pull team/clinic llama3:8b ", "codexctl model import team/clinic FILE.gguf ",
		"codexctl up team/clinic",
	} {
		if !strings.Contains(got.Todo, want) {
			t.Errorf("to do: %s, want %q", got.Todo, want)
		}
	}
	if problems[1].What != "not well" {
		t.Errorf("another problem is %+v", problems[1])
	}
}
