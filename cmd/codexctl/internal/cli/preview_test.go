package cli

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
)

// TestPrintPlan shows where nothing answers for a while: the old one goes before the new one is there.
func TestPrintPlan(t *testing.T) {
	step := func(name string, op apitype.OpType) progress.Step {
		return progress.Step{URN: name, Kind: "container", Name: name, Op: op,
			Changed: []string{"image"}}
	}
	plan := merge([]progress.Step{
		step("redis", apitype.OpDeleteReplaced), step("gate", apitype.OpCreateReplacement),
		step("redis", apitype.OpReplace), step("gate", apitype.OpReplace),
		step("redis", apitype.OpCreateReplacement), step("gate", apitype.OpDeleteReplaced),
		step("egress", apitype.OpDelete),
	})

	var said strings.Builder
	printPlan(console.New(&said, func(string) string { return "" }), plan)
	const want = "± replace  container  redis, the old one first  [image]\n" +
		"± replace  container  gate  [image]\n" +
		"- delete   container  egress\n"
	if said.String() != want {
		t.Errorf("got\n%swant\n%s", said.String(), want)
	}
}
