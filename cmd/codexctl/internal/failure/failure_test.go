package failure

import (
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
)

func urn(typ, name string) string {
	return "urn:pulumi:dev::codexcontinue::codexcontinue:docker:Service$docker:index/" + typ + "::" + name
}

func kubeURN(typ, name string) string {
	return "urn:pulumi:lab::codexcontinue::codexcontinue:kubernetes:Service$kubernetes:" + typ + "::" + name
}

// TestRecognise holds the rules against messages as the engine, the provider and Pulumi write them.
func TestRecognise(t *testing.T) {
	services := map[string]bool{"edge": true, "redis": true, "backend": true, "ml": true}
	for name, c := range map[string]struct {
		in                  progress.Diagnostic
		service, what, todo string
	}{
		"port": {progress.Diagnostic{URN: urn("container:Container", "codexcontinue-dev-edge"),
			Message: "  sdk-v2/provider2.go:572: sdk.helper_schema: Unable to start container: Error response from daemon: driver failed programming external connectivity on endpoint x (1): Bind for 127.0.0.1:8080 failed: port is already allocated: provider=docker@4.10.0"},
			"edge", "the host port 8080 is taken", "sport = :8080"},
		"port of a process": {progress.Diagnostic{URN: urn("container:Container", "codexcontinue-dev-edge"),
			Message: "Error starting userland proxy: listen tcp4 127.0.0.1:8080: bind: address already in use"},
			"edge", "the host port 8080 is taken", ""},
		"pull": {progress.Diagnostic{URN: urn("remoteImage:RemoteImage", "redis"),
			Message: "Unable to read Docker image into resource: unable to pull image redis:8.2.1-bookworm: error pulling image redis:8.2.1-bookworm: Error response from daemon: Get \"https://registry.example/v2/\": dial tcp: lookup registry.example: no such host"},
			"redis", "the image redis:8.2.1-bookworm cannot be pulled", "docker pull redis:8.2.1-bookworm"},
		"build": {progress.Diagnostic{URN: urn("image:Image", "backend"),
			Message: "error: process \"/bin/sh -c go build\" did not complete successfully: exit code: 1"},
			"backend", "the image does not build", "backend's Dockerfile in services/"},
		"build output": {progress.Diagnostic{URN: urn("image:Image", "backend"), Output: []string{"./main.go:7:2: undefined: foo"},
			Message: "error: process \"/bin/sh -c go build\" did not complete successfully: exit code: 1"},
			"backend", "the image does not build:\n    ./main.go:7:2: undefined: foo\n    ", "backend's Dockerfile in services/"},
		"unhealthy replica": {progress.Diagnostic{URN: urn("container:Container", "codexcontinue-dev-backend-2"),
			Message: "container failed to be in healthy state"},
			"backend", "the container did not become healthy", ""},
		"unhealthy by the hook": {progress.Diagnostic{URN: urn("container:Container", "codexcontinue-dev-ml"),
			Message: "container codexcontinue-dev-ml-1a2b3c4 is unhealthy after 1m0s: read `docker logs codexcontinue-dev-ml-1a2b3c4`"},
			"ml", "the container did not become healthy", ""},
		"plugin": {progress.Diagnostic{Message: "error: could not load plugin for docker provider: no resource plugin 'pulumi-resource-docker' found"},
			"", "docker provider can neither be found nor downloaded", "pulumi plugin install resource docker"},
		"disk": {progress.Diagnostic{URN: urn("image:Image", "ml"), Message: "write /x: no space left on device"},
			"ml", "the engine's disk is full", "docker system df"},
		"rbac": {progress.Diagnostic{URN: kubeURN("apps/v1:Deployment", "backend"),
			Message: `resource codexcontinue-lab/backend was not successfully created by the Kubernetes API server: deployments.apps is forbidden: User "ada" cannot create resource "deployments" in API group "apps" in the namespace "codexcontinue-lab"`},
			"backend", "forbidden by RBAC: ada may not create deployments", "codexctl doctor lab"},
		"quota": {progress.Diagnostic{URN: kubeURN("core/v1:Service", "backend"),
			Message: `resource codexcontinue-lab/backend was not successfully created by the Kubernetes API server: services "backend" is forbidden: exceeded quota: few, requested: services=1, used: services=2, limited: services=2`},
			"backend", "quota few is exceeded: it asks for services=1, services=2 is used of services=2", "raise the quota"},
		"webhook": {progress.Diagnostic{URN: kubeURN("apps/v1:Deployment", "ml"),
			Message: `resource x was not successfully created by the Kubernetes API server: admission webhook "policy.example.com" denied the request: no owner label`},
			"ml", "policy policy.example.com refuses it: no owner label", "administrator"},
		"conflict": {progress.Diagnostic{URN: kubeURN("apps/v1:Deployment", "ml"),
			Message: "Server-Side Apply field conflict detected. See https://www.pulumi.com for troubleshooting help\n: the resource \"backend\" was not successfully updated: Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas"},
			"ml", "kubectl-edit has changed .spec.replicas of it", "patchForce"},
		"cluster away": {progress.Diagnostic{URN: kubeURN("core/v1:Namespace", "namespace"),
			Message: "configured Kubernetes cluster is unreachable: unable to load schema information from the API server: Get \"https://10.0.0.1:6443/openapi/v2\": dial tcp: connect: connection refused"},
			"", "the cluster went away", "codexctl doctor lab"},
		"kubernetes plugin": {progress.Diagnostic{Message: "error: could not load plugin for kubernetes provider: no resource plugin 'pulumi-resource-kubernetes' found"},
			"", "kubernetes provider can neither be found nor downloaded", "pulumi plugin install resource kubernetes"},
		"program": {progress.Diagnostic{URN: "urn:pulumi:dev::codexcontinue::pulumi:pulumi:Stack::codexcontinue-dev",
			Message: "codexcontinue:debgu: unknown key"}, "", "codexcontinue:debgu: unknown key", ""},
		"summary": {progress.Diagnostic{Message: "update failed"}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := recognise(c.in, "lab", services)
			if p.Service != c.service || !strings.Contains(p.What, c.what) || (c.what == "") != (p.What == "") || !strings.Contains(p.Todo, c.todo) {
				t.Errorf("got %q: %q, to do %q; want %q: %q, to do %q", p.Service, p.What, p.Todo, c.service, c.what, c.todo)
			}
			if strings.Contains(p.What+p.Todo, "$") {
				t.Errorf("a reference was not replaced: %q, %q", p.What, p.Todo)
			}
		})
	}
}
