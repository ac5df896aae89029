package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/infra/secret"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// The value of every secret of the recorded stacks: it must not appear anywhere.
const recordedPassword = secret.Placeholder + "hunter2"

// record deploys the stack on the recording monitor.
func record(stack stacks.Stack, root string) ([]plan.Resource, docker.Outputs, error) {
	var outputs docker.Outputs
	resources, err := recorder.Record(context.Background(), recorder.Stack{
		Project: stacks.Project, Name: stack.Name,
		Config: map[string]string{
			"codexcontinue:redisPassword": recordedPassword, "codexcontinue:tlsKey": recordedPassword,
			"codexcontinue:internalAuthority": recordedPassword,
		},
		Secrets: []string{
			"codexcontinue:redisPassword", "codexcontinue:tlsKey", "codexcontinue:internalAuthority",
		},
	}, func(ctx *pulumi.Context) error {
		var err error
		outputs, err = deploy(ctx, stack, root)
		return err
	})

	return resources, outputs, err
}

// deploy is the program of the tests.
func deploy(ctx *pulumi.Context, stack stacks.Stack, root string) (docker.Outputs, error) {
	r, err := docker.Render(os.DirFS(root), stack)
	if err != nil {
		return docker.Outputs{}, err
	}
	return docker.Provision(ctx, r, root)
}

func mustRecord(t *testing.T, stack stacks.Stack, root string) []plan.Resource {
	t.Helper()
	resources, _, err := record(stack, root)
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

// buildTag is the reference of an image that is built: its tag moves with
// every edit of the sources.
var buildTag = regexp.MustCompile(`"(codexcontinue[a-z/-]*):[0-9a-f]{12}"`)

// toJSON writes the plan with what depends on the machine and the commit named: root, platform
// and digests of sources.
func toJSON(t *testing.T, v any, root string) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}

	text := strings.ReplaceAll(out.String(), root, "[root]")
	return buildTag.ReplaceAll([]byte(text), []byte(`"$1:[digest of the inputs]"`))
}

// containersOf are the recorded containers that run, by service.
func containersOf(resources []plan.Resource) map[string][]plan.Resource {
	out := map[string][]plan.Resource{}
	for _, r := range resources {
		if r.Type != "docker:index/container:Container" {
			continue
		}
		if service := label(r, stacks.LabelService); service != "" {
			out[service] = append(out[service], r)
		}
	}

	return out
}

func label(r plan.Resource, name string) string {
	labels, _ := r.Inputs["labels"].([]any)
	for _, l := range labels {
		if pair := l.(map[string]any); pair["label"] == name {
			return pair["value"].(string)
		}
	}
	return ""
}
