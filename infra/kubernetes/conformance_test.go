package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// schemaVersion is the Kubernetes release that test/schemas was made from.
const schemaVersion = "v1.35"

// finding is one thing that a judge has against an object.
type finding struct {
	// check is the judge's name of it, object "Kind name".
	check, object string
	// text is what is wrong.
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s: %s: %s", f.object, f.check, f.text) }

// accepted is a critical finding of kube-score that is right about the object and
// wrong about the stack.
type accepted struct {
	check string

	// object is "Kind name" as a pattern of path.Match.
	object string
	reason string
}

var acceptedScores = []accepted{
	{"container-image-pull-policy", "Deployment *",
		"an image's tag is the digest of what it was made of, or it is pinned by digest: nothing " +
			"newer can be under it; and a cluster without a registry has images that cannot be pulled"},
	{"container-image-pull-policy", "StatefulSet *", "as for Deployments"},
	{"container-image-pull-policy", "Job model-*", "as for Deployments"},
	{"container-security-context-user-group-id", "StatefulSet redis",
		"999 is the user of the upstream image; the namespace's pods have no host paths, where a " +
			"low number could be somebody's"},
	{"pod-probes-identical", "Deployment edge",
		"the edge is ready whenever it works: it answers for a frontend that is away with a page " +
			"that says so, so it has one path for both, asked at different rates"},
	{"pod-probes-identical", "Deployment resolver",
		"it answers for a cluster's DNS that is away with an error, as fast as it can: without it " +
			"there would be no answer"},
	{"pod-probes-identical", "StatefulSet redis",
		"Redis depends on nothing: working and being ready are one thing, asked at different rates"},
	{"pod-probes-identical", "StatefulSet store", "as for redis"},
	{"pod-probes-identical", "StatefulSet ollama",
		"where the services speak TLS nobody but ml asks Ollama anything: one command in its pod " +
			"finds out both"},
	{"pod-probes-identical", "Deployment web", "the lab's web has no path for readiness, to test " +
		"what becomes of that"},
	{"container-security-context-readonlyrootfilesystem", "Deployment web",
		"the lab's web says why it writes to its root, to test what becomes of that"},
	{"statefulset-has-servicename", "StatefulSet redis",
		"nobody asks for its one pod by a name of its own, and a headless Service's name " +
			"resolves to nothing while that pod is replaced"},
	{"statefulset-has-servicename", "StatefulSet knowledge", "as for redis"},
	{"statefulset-has-servicename", "StatefulSet store", "as for redis"},
	{"networkpolicy-targets-pod", "NetworkPolicy gateway",
		"the pods are those of the gateway's controller, if it puts any into the namespace"},
	{"networkpolicy-targets-pod", "NetworkPolicy certificate",
		"the pods are cert-manager's, which come and go with a challenge"},
}

// clustered are ways of running prod that its file does not choose.
var clustered = map[string]func(*stacks.Settings){
	"pushed":        func(s *stacks.Settings) { s.Registry = "registry.example.com/team" },
	"load balancer": func(s *stacks.Settings) { s.Edge.Address = "0.0.0.0" },
	"gateway of others": func(s *stacks.Settings) {
		s.Edge.Host, s.Edge.Gateway = "chat.example.com", &stacks.Gateway{
			Name:      "main",
			Namespace: "gateways",
		}
	},
	"gateway with a certificate": func(s *stacks.Settings) {
		s.Edge.Host, s.Edge.Gateway = "chat.example.com", &stacks.Gateway{Class: "envoy"}
		s.Edge.TLS = &stacks.TLS{Secret: "certificate"}
	},
	"ingress": func(s *stacks.Settings) {
		s.Edge.Host, s.Edge.Ingress = "chat.example.com", &stacks.Ingress{Class: "nginx"}
		s.Edge.TLS = &stacks.TLS{Issuer: "letsencrypt"}
	},
	"autoscaled": func(s *stacks.Settings) {
		s.Services = map[string]stacks.ServiceSettings{stacks.Backend: {Autoscale: &stacks.Autoscale{
			Min: 2,
			Max: 4,
			CPU: 60,
		}}}
	},
	"replicas of one model": func(s *stacks.Settings) {
		shared, replicas := true, 3
		s.Volumes = map[string]stacks.VolumeSettings{stacks.OllamaData: {Shared: &shared}}
		s.Services = map[string]stacks.ServiceSettings{stacks.Ollama: {Replicas: &replicas}}
	},
	"slices of GPUs": func(s *stacks.Settings) {
		replicas := 2
		s.GPU = &stacks.GPU{Count: 1, Resource: "nvidia.com/mig-1g.10gb", RuntimeClass: "nvidia"}
		s.Services = map[string]stacks.ServiceSettings{stacks.Ollama: {Replicas: &replicas}}
	},
	"OpenID provider": func(s *stacks.Settings) {
		s.SignIn = &stacks.SignInSettings{OIDC: &stacks.OIDCSettings{
			Issuer:        "https://id.example.com",
			ClientID:      "chat",
			AllowedGroups: []string{"team"},
			GroupsClaim:   "groups",
			CA:            "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
		}}
	},
	"external Redis": func(s *stacks.Settings) {
		s.Redis = &stacks.RedisSettings{
			Sentinels: []string{"10.0.0.1:26379", "10.0.0.2:26379"},
			Master:    "main",
			URL:       "rediss://chat@redis.example.com:6379/0",
			CA:        "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
		}
	},
}

// eachManifest runs f on the objects of the lab's stack, of every shipped one, and of prod in
// every way of clustered.
func eachManifest(t *testing.T, f func(t *testing.T, objects []*unstructured.Unstructured)) {
	t.Helper()
	eachStack(t, func(t *testing.T, p planned) {
		f(t, mustRender(t, p.stack, p.root))
	})
	for name, change := range clustered {
		t.Run(name, func(t *testing.T) { f(t, manifestsOf(t, "prod", change)) })
	}
}

// manifestsOf are the objects of a shipped stack with other settings.
func manifestsOf(
	t *testing.T, name string, change func(*stacks.Settings),
) []*unstructured.Unstructured {
	t.Helper()
	root := repository(t)
	settings := stacks.Settings{
		Target: stacks.Kubernetes, AssumeSecrets: true,
		SignIn: &stacks.SignInSettings{Accounts: true}, // some are open to a network
	}
	change(&settings)
	if settings.Edge.Host != "" {
		settings.Edge.TrustedProxies = []string{"10.244.0.0/16"}
	}
	stack, err := stacks.Load(name, settings, stacks.Checkout{FS: os.DirFS(root)})
	if err != nil {
		t.Fatal(err)
	}
	if err := stack.Validate(); err != nil {
		t.Fatal(err)
	}

	return mustRender(t, stack, root)
}

// mustRender is the stack as others than Pulumi make it.
func mustRender(t *testing.T, stack stacks.Stack, root string) []*unstructured.Unstructured {
	t.Helper()
	rendered, err := kubernetes.Render(stack, kubernetes.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}

	objects, err := rendered.Manifests()
	if err != nil {
		t.Fatal(err)
	}

	return objects
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func idOf(o *unstructured.Unstructured) string { return o.GetKind() + " " + o.GetName() }

// podSecurity evaluates every pod template against the standard "restricted" in its latest version,
// with the evaluator of the API server's admission plugin. It returns the number of templates, too:
// none at all would pass as well.
func podSecurity(
	t *testing.T, objects []*unstructured.Unstructured,
) (findings []finding, pods int) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}

	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, o := range objects {
		fields, found, err := unstructured.NestedMap(o.Object, "spec", "template")
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			continue
		}

		var template corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields,
			&template, true); err != nil {
			t.Fatalf("%s: %v", idOf(o), err)
		}

		pods++
		for _, r := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
			if !r.Allowed {
				findings = append(findings, finding{r.ForbiddenReason, idOf(o), r.ForbiddenDetail})
			}
		}
	}

	return findings, pods
}

// kubeScore are the critical findings of kube-score, with those of its optional checks that the
// stacks mean to pass. Those that want requests to equal limits are not among them, but for
// memory: see cpuRequestShare.
func kubeScore(t *testing.T, objects []*unstructured.Unstructured) []finding {
	t.Helper()
	text := judge(t, "kube-score", objects, "score", "--kubernetes-version", schemaVersion,
		"--output-format", "json",
		"--enable-optional-test", "container-memory-requests-equal-limits",
		"--enable-optional-test", "container-seccomp-profile",
		"--enable-optional-test", "container-ports-check", "-")

	var cards []struct {
		TypeMeta struct{ Kind string } `json:"type_meta"`
		Meta     struct{ Name string } `json:"object_meta"`
		Checks   []struct {
			Check    struct{ ID string }
			Grade    int
			Skipped  bool
			Comments []struct{ Path, Summary string }
		}
	}

	if err := json.Unmarshal(text, &cards); err != nil {
		t.Fatalf("kube-score: %v: %s", err, text)
	}

	const critical = 1
	var out []finding
	checked := 0
	for _, card := range cards {
		for _, c := range card.Checks {
			if c.Skipped {
				continue
			}

			checked++
			if c.Grade > critical {
				continue
			}

			var words []string
			for _, w := range c.Comments {
				words = append(words, strings.TrimSpace(w.Path+" "+w.Summary))
			}

			out = append(out,
				finding{c.Check.ID, card.TypeMeta.Kind + " " + card.Meta.Name,
					strings.Join(words, "; ")})
		}
	}

	if checked < len(objects) {
		t.Errorf("kube-score made %d checks of %d objects", checked, len(objects))
	}

	return out
}

// conform are the objects that do not fit the schemas of test/schemas: a field that is not in the
// schema does not, and neither does a kind without a schema.
func conform(t *testing.T, objects []*unstructured.Unstructured) []finding {
	t.Helper()
	text := judge(t, "kubeconform", objects, "-strict", "-verbose", "-output", "json",
		"-schema-location",
		filepath.Join(repository(t), "test/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json"))
	var report struct {
		Resources []struct{ Kind, Name, Status, Msg string }
	}
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatalf("kubeconform: %v: %s", err, text)
	}
	if len(report.Resources) != len(objects) {
		t.Errorf("kubeconform looked at %d of %d objects", len(report.Resources), len(objects))
	}

	var out []finding
	for _, r := range report.Resources {
		if r.Status != "statusValid" {
			out = append(out, finding{r.Status, r.Kind + " " + r.Name, r.Msg})
		}
	}

	return out
}

// judges are the programs of tools/manifests, by name. A program that is not in the
// build cache is built.
var judges = sync.OnceValues(func() (map[string]string, error) {
	out := map[string]string{}
	for _, program := range []string{"kube-score", "kubeconform"} {
		cmd := exec.Command("go", "tool", "-n", program)
		cmd.Dir = "../../tools/manifests"
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		where, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go tool %s: %w: %s", program, err, &stderr)
		}

		out[program] = strings.TrimSpace(string(where))
	}

	return out, nil
})

// judge pipes the objects through one of the programs of tools/manifests and returns what it
// writes. Both exit with 1 when they find something.
func judge(
	t *testing.T, program string, objects []*unstructured.Unstructured, args ...string,
) []byte {
	t.Helper()
	where, err := judges()
	if err != nil {
		peers.Missing(t, program, err)
	}

	var in, stderr bytes.Buffer
	if err := kubernetes.YAML(&in, objects); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(where[program], args...)
	cmd.Stdin, cmd.Stderr = &in, &stderr
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); err != nil &&
		!(errors.As(err, &failed) && failed.ExitCode() == 1 && len(out) > 0) {
		t.Fatalf("%s: %v: %s", program, err, &stderr)
	}

	return out
}

// TestPodSecurity holds every pod to what the namespace enforces.
func TestPodSecurity(t *testing.T) {
	eachManifest(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		findings, pods := podSecurity(t, objects)
		if pods < 5 {
			t.Errorf("%d pod templates", pods)
		}
		for _, f := range findings {
			t.Error(f)
		}
	})
}

// TestKubeScore wants no critical finding but those of acceptedScores, and no entry
// there without a finding.
func TestKubeScore(t *testing.T) {
	used := make([]bool, len(acceptedScores))
	eachManifest(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		for _, f := range kubeScore(t, objects) {
			i := slices.IndexFunc(acceptedScores, func(a accepted) bool {
				matches, err := path.Match(a.object, f.object)
				return err == nil && matches && a.check == f.check
			})
			if i < 0 {
				t.Error(f)
				continue
			}

			used[i] = true
		}
	})

	for i, a := range acceptedScores {
		if !used[i] && !t.Skipped() {
			t.Errorf("kube-score does not find %s in %s any more: remove the entry", a.check,
				a.object)
		}
	}
}

// TestSchemas wants every object to fit the schemas of the Kubernetes release
// and of the Gateway API.
func TestSchemas(t *testing.T) {
	eachManifest(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		for _, f := range conform(t, objects) {
			t.Error(f)
		}
	})
}

// TestJudges holds that each judge finds what is made wrong, and nothing else that it does not
// find in the original.
func TestJudges(t *testing.T) {
	objects := manifestsOf(t, "prod", func(s *stacks.Settings) {
		s.Edge.Host, s.Edge.Gateway = "chat.example.com", &stacks.Gateway{Class: "envoy"}
	})
	security := func(t *testing.T, o []*unstructured.Unstructured) []finding {
		f, _ := podSecurity(t, o)
		return f
	}

	containers := []string{"spec", "template", "spec", "containers"}
	first := func(f func(c map[string]any)) func(o *unstructured.Unstructured) error {
		return func(o *unstructured.Unstructured) error {
			list, _, err := unstructured.NestedSlice(o.Object, containers...)
			if err != nil || len(list) == 0 {
				return errors.Join(err, errors.New("no containers"))
			}
			f(list[0].(map[string]any))
			return unstructured.SetNestedSlice(o.Object, list, containers...)
		}
	}

	set := func(value any, at ...string) func(o *unstructured.Unstructured) error {
		return func(o *unstructured.Unstructured) error {
			return unstructured.SetNestedField(o.Object, value, at...)
		}
	}

	for name, tc := range map[string]struct {
		object string
		change func(o *unstructured.Unstructured) error
		find   func(*testing.T, []*unstructured.Unstructured) []finding

		// check is the judge's, text part of what it says.
		check, text string
	}{
		"a privileged container": {"Deployment backend", first(func(c map[string]any) {
			c["securityContext"].(map[string]any)["privileged"] = true
		}), security, "privileged", "backend"},
		"a capability": {"Deployment backend", first(func(c map[string]any) {
			c["securityContext"].(map[string]any)["capabilities"] = map[string]any{
				"drop": []any{"ALL"},
				"add":  []any{"NET_ADMIN"},
			}
		}), security, "unrestricted capabilities", "NET_ADMIN"},
		"a user that may be root": {"StatefulSet ollama", first(func(c map[string]any) {
			c["securityContext"].(map[string]any)["runAsUser"] = int64(0)
		}), security, "runAsUser=0", "ollama"},
		"the node's network": {"Deployment edge",
			set(true, "spec", "template", "spec", "hostNetwork"), security, "host namespaces",
			"hostNetwork"},
		"a missing limit": {"Deployment frontend", first(func(c map[string]any) {
			delete(c["resources"].(map[string]any)["limits"].(map[string]any), "memory")
		}), kubeScore, "container-resources", "Memory limit"},
		"a writable root": {"Deployment frontend", first(func(c map[string]any) {
			c["securityContext"].(map[string]any)["readOnlyRootFilesystem"] = false
		}), kubeScore, "container-security-context-readonlyrootfilesystem", "frontend"},
		"a moving tag": {"Deployment edge", first(func(c map[string]any) {
			c["image"] = "caddy:latest"
		}), kubeScore, "container-image-tag", "edge"},
		"no readiness": {"Deployment backend", first(func(c map[string]any) {
			delete(c, "readinessProbe")
		}), kubeScore, "pod-probes", "readinessProbe"},
		"a Service without pods": {"Service backend",
			set(map[string]any{"app": "gone"}, "spec", "selector"), kubeScore,
			"service-targets-pod", ""},
		"an unknown field": {"Deployment backend", first(func(c map[string]any) {
			c["imagePolicy"] = "Always"
		}), conform, "statusInvalid", "imagePolicy"},
		"a value of another type": {"Service backend", set("two", "spec", "ports"), conform,
			"statusInvalid", "/spec/ports"},
		"a missing field": {"NetworkPolicy backend", func(o *unstructured.Unstructured) error {
			unstructured.RemoveNestedField(o.Object, "spec", "selector")
			return unstructured.SetNestedField(o.Object,
				[]any{map[string]any{"ipBlock": map[string]any{}}}, "spec", "podSelector")
		}, conform, "statusInvalid", "podSelector"},
		"an unknown route field": {"HTTPRoute edge", set("chat.example.com", "spec", "hostname"),
			conform, "statusInvalid", "hostname"},
		"a route that matches odds": {"HTTPRoute edge",
			set([]any{map[string]any{"matches": []any{map[string]any{"path": map[string]any{"type": "Odd"}}}}},
				"spec", "rules"),
			conform, "statusInvalid", "type"},
		"an unknown kind": {"Service backend", set("Servize", "kind"), conform, "statusError", "Servize"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := make([]*unstructured.Unstructured, len(objects))
			found := false
			for i, o := range objects {
				changed[i] = o.DeepCopy()
				if idOf(o) == tc.object {
					found = true
					if err := tc.change(changed[i]); err != nil {
						t.Fatal(err)
					}
				}
			}

			if !found {
				t.Fatalf("there is no %s", tc.object)
			}

			before := map[string]bool{}
			for _, f := range tc.find(t, objects) {
				before[f.check+" "+f.object] = true
			}

			var fresh []finding
			for _, f := range tc.find(t, changed) {
				if !before[f.check+" "+f.object] {
					fresh = append(fresh, f)
				}
			}

			if len(fresh) == 0 {
				t.Fatal("not found")
			}

			if !slices.ContainsFunc(fresh, func(f finding) bool {
				return f.check == tc.check && strings.Contains(f.text+f.object, tc.text)
			}) {
				t.Errorf("found %v, want %s with %q", fresh, tc.check, tc.text)
			}
		})
	}
}
