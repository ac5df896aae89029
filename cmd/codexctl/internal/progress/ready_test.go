package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestReady checks that a cluster's workload is shown as ready when its pods are, however long ago
// Pulumi was done with it, and that unchanged workloads are reported to OnStep.
func TestReady(t *testing.T) {
	const deployment = "kubernetes:apps/v1:Deployment"
	var buf bytes.Buffer
	s := &script{at: time.Unix(1000, 0)}
	var reported []apitype.OpType
	s.d = New(console.New(&buf, func(string) string {
		return ""
	}), func() time.Time { return s.at }).
		WithNotes(make(chan running.Note)).OnStep(func(x Step, _ bool) {
		reported = append(reported, x.Op)
	})

	labels := func(service string) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{stacks.LabelService: service}}}
	}
	s.begin(apitype.OpUpdate, deployment, "backend", labels("backend"))
	s.begin(apitype.OpCreate, deployment, "frontend", labels("frontend"))
	s.end(apitype.OpUpdate, deployment, "backend")
	s.end(apitype.OpCreate, deployment, "frontend")
	s.begin(apitype.OpSame, deployment, "edge", labels("edge"))
	s.pass(3 * time.Second)
	if text := buf.String(); strings.Contains(text, "rolled out") ||
		strings.Contains(text, "ready") {
		t.Errorf("before the pods are ready:\n%s", text)
	}

	s.d.handleNote(running.Note{Service: "backend", Text: "starting"})
	s.d.handleNote(running.Note{Service: "backend", Ready: true})
	if text := buf.String(); !strings.Contains(text, "rolled out (3.0s)") ||
		strings.Contains(text, "ready") {
		t.Errorf("when backend is ready:\n%s", text)
	}

	r := s.d.finish()
	if len(r.Steps) != 2 || strings.Contains(buf.String(), "ready") {
		t.Errorf("%d steps; nobody said that frontend is ready:\n%s", len(r.Steps), buf.String())
	}
	if len(reported) != 5 || reported[4] != apitype.OpSame {
		t.Errorf("reported %v", reported)
	}
}
