package targets_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/infra/recorder"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/pulumi/pulumi-docker/sdk/v4/go/docker"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// facts are what a plan says about the services, as "service/aspect" in words that are the
// same for both targets.
type facts map[string]string

// set refuses to say two things at once: replicas of one service must be alike.
func (f facts) set(key, value string) {
	if old, ok := f[key]; ok && old != value {
		value = "both " + old + " and " + value
	}
	f[key] = value
}

// recording is a stack's plan on a target.
type recording struct {
	stack     stacks.Stack
	resources []plan.Resource

	// files holds the content of the files that the recorded program gives a service, by path: of a
	// container all, of pods the secret ones by their keys. The plan hides them.
	files map[string]map[string]string
	root  string
}

func recordFacts(t *testing.T, stack stacks.Stack, target stacks.Target, root string) recording {
	t.Helper()
	files := opened{root: root, files: map[string]map[string]string{}}
	values, secrets := config(stack)
	resources, err := recorder.Record(context.Background(),
		recorder.Stack{Project: stacks.Project, Name: stack.Name, Config: values, Secrets: secrets},
		func(ctx *pulumi.Context) error {
			if err := ctx.RegisterStackTransformation(files.look); err != nil {
				return err
			}
			return program(stack, target, root)(ctx)
		})
	if err != nil {
		t.Fatalf("%s on %s: %v", stack.Name, target, err)
	}

	files.looking.Wait()
	return recording{stack: stack, resources: resources, files: files.files, root: root}
}

// digest tells contents apart.
func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:6])
}

// words joins a list so that no two lists read the same.
func words(list []string) string { return fmt.Sprintf("%q", list) }

func (f facts) addEnvironment(service string, variables map[string]string) {
	for name, value := range variables {
		f.set(service+"/env/"+name, value)
	}
}

// named returns the services, as "name:port", that a text names with a port.
func named(text string, services []string) []string {
	var out []string
	for _, s := range services {
		for _, m := range regexp.MustCompile(`(?:^|[^\w.-])`+regexp.QuoteMeta(s)+
			`[: ](\d{2,5})\b`).FindAllStringSubmatch(text,
			-1) {
			out = append(out, s+":"+m[1])
		}
	}

	return out
}

func unique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// opened keeps the files that a program gives to its services.
type opened struct {
	// looking counts what is looked at: the program does not wait for it.
	looking sync.WaitGroup
	root    string
	mu      sync.Mutex
	files   map[string]map[string]string
}

// look sees what is registered before it is recorded. It changes nothing.
func (o *opened) look(
	args *pulumi.ResourceTransformationArgs,
) *pulumi.ResourceTransformationResult {
	service := strings.TrimSuffix(strings.TrimSuffix(args.Name, "-files"), "-live")
	switch props := args.Props.(type) {
	case *docker.ContainerArgs:
		if props.Uploads == nil {
			break
		}

		service = service[strings.LastIndex(service, "-")+1:] // codexcontinue-<stack>-<service>
		o.looking.Add(1)
		props.Uploads.ToContainerUploadArrayOutput().ApplyT(func(
			list []docker.ContainerUpload,
		) (int, error) {
			defer o.looking.Done()
			for _, u := range list {
				if u.Source == nil {
					o.add(service, u.File, *u.Content)
					continue
				}

				// A file of the checkout, named from where the provider starts.
				text, err := os.ReadFile(filepath.Join(o.root, "infra", *u.Source))
				if err != nil {
					return 0, err
				}
				o.add(service, u.File, string(text))
			}
			return len(list), nil
		})
	case pulumi.Map:
		data, ok := props["data"].(pulumi.StringMapOutput)
		if !ok {
			break // not a Secret
		}

		o.looking.Add(1)
		data.ApplyT(func(data map[string]string) (int, error) {
			defer o.looking.Done()
			for key, value := range data {
				content, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					return 0, err
				}
				o.add(service, key, string(content))
			}

			return len(data), nil
		})
	}

	return nil
}

func (o *opened) add(service, path, content string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.files[service] == nil {
		o.files[service] = map[string]string{}
	}
	o.files[service][path] = content
}
