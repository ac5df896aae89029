package cli

import (
	"maps"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestCommandLabels checks that a command's container is the stack's, and none of the service's
// replicas, and that the service keeps its labels.
func TestCommandLabels(t *testing.T) {
	service := types.Labels{stacks.LabelStack: "dev", stacks.LabelService: "backend"}
	got := commandLabels(service)
	if !maps.Equal(got, map[string]string{stacks.LabelStack: "dev"}) {
		t.Errorf("labels %v", got)
	}
	if service[stacks.LabelService] != "backend" {
		t.Errorf("the service's labels are %v", service)
	}
}
