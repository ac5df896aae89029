package kubernetes_test

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// The password of the recorded stacks: it must not appear anywhere.
const recordedPassword = secret.Placeholder + "hunter2"

// record deploys the stack on the recording monitor.
func record(stack stacks.Stack, opts kubernetes.Options) ([]plan.Resource, error) {
	return recorder.Record(context.Background(), recorder.Stack{
		Project: stacks.Project, Name: stack.Name,
		Config: map[string]string{
			"codexcontinue:redisPassword":     recordedPassword,
			"codexcontinue:internalAuthority": recordedPassword,
		},
		Secrets: []string{"codexcontinue:redisPassword", "codexcontinue:internalAuthority"},
	}, func(ctx *pulumi.Context) error {
		rendered, err := kubernetes.Render(stack, opts)
		if err != nil {
			return err
		}
		_, err = kubernetes.Provision(ctx, rendered)
		return err
	})
}

func mustRecord(t *testing.T, stack stacks.Stack, opts kubernetes.Options) []plan.Resource {
	t.Helper()
	resources, err := record(stack, opts)
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

// What of a plan depends on the commit: the digests of sources in tags, and in the
// names of what holds them.
var (
	buildTag = regexp.MustCompile(`(codexcontinue/[a-z-]+):[0-9a-f]{12}`)
	jobName  = regexp.MustCompile(`"model-[0-9a-f]{12}"`)
)

// toJSON writes the plan with what depends on the machine and the commit named.
func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}

	text := jobName.ReplaceAllString(out.String(), `"model-[hash]"`)
	return buildTag.ReplaceAll([]byte(text), []byte(`$1:[digest of the inputs]`))
}

// of are the resources of that kind (Deployment, Job, ...) by their logical names.
func of(resources []plan.Resource, kind string) map[string]plan.Resource {
	out := map[string]plan.Resource{}
	for _, r := range resources {
		if strings.HasSuffix(r.Type, ":"+kind) {
			out[r.Name] = r
		}
	}
	return out
}
