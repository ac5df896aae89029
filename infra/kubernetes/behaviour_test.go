package kubernetes_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
)

// dig reads a value of the resource's inputs: names of fields, and numbers of list items.
func dig(t *testing.T, r plan.Resource, path ...any) any {
	t.Helper()
	var at any = r.Inputs
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := at.(map[string]any)
			at = m[step]
		case int:
			list, _ := at.([]any)
			if step >= len(list) {
				return nil
			}
			at = list[step]
		}
	}

	return at
}

func podOf(t *testing.T, r plan.Resource, path ...any) any {
	t.Helper()
	return dig(t, r, append([]any{"spec", "template", "spec"}, path...)...)
}

// lab records the lab's stack after a change.
func lab(t *testing.T, change func(*stacks.Stack)) []plan.Resource {
	t.Helper()
	stack, root := labStack(t)
	if change != nil {
		change(&stack)
	}
	return mustRecord(t, stack, kubernetes.Options{Root: root})
}

func name(t *testing.T, r plan.Resource) string {
	t.Helper()
	n, _ := dig(t, r, "metadata", "name").(string)
	return n
}

// TestSecretsAreNowhere: neither the value, nor what can be computed from it
// alone, stands in a plan.
func TestSecretsAreNowhere(t *testing.T) {
	sum := sha256.Sum256([]byte(recordedPassword))
	hidden := []string{
		recordedPassword, base64.StdEncoding.EncodeToString([]byte(recordedPassword)),
		hex.EncodeToString(sum[:]),
	}

	eachStack(t, func(t *testing.T, p planned) {
		text := toJSON(t, p.resources)
		for _, h := range hidden {
			if bytes.Contains(text, []byte(h)) {
				t.Errorf("the plan holds %s", h)
			}
		}

		secrets := of(p.resources, "Secret")
		if want := len(p.stack.Secrets) > 0; (len(secrets) > 0) != want {
			t.Errorf("%d Secrets for %d secrets", len(secrets), len(p.stack.Secrets))
		}

		for _, s := range secrets {
			if name(t, s) != "" || dig(t, s, "immutable") != true {
				t.Errorf("%s: named %q, immutable %v: a name must tell nothing of the content",
					s.Name, name(t, s), dig(t, s, "immutable"))
			}
		}
	})
}

// TestFilesAreImmutable: a changed file is a new ConfigMap, under another
// name, that the pods mount.
func TestFilesAreImmutable(t *testing.T) {
	before := lab(t, nil)
	after := lab(t, func(s *stacks.Stack) {
		s.Service("store").Files[0].Content = "bind 127.0.0.1\n"
	})
	first, second := of(before, "ConfigMap")["store-files"], of(after, "ConfigMap")["store-files"]
	if name(t, first) == name(t, second) || dig(t, second, "immutable") != true {
		t.Errorf("%s became %s, immutable %v", name(t, first), name(t, second),
			dig(t, second, "immutable"))
	}

	got := podOf(t, of(after, "StatefulSet")["store"], "volumes")
	if text := fmt.Sprint(got); !strings.Contains(text, name(t, second)) ||
		strings.Contains(text, name(t, first)) {
		t.Errorf("the pods mount %v", got)
	}
}

// TestFilesOfOneDirectory: a directory holds configuration and secrets side by
// side, at their paths.
func TestFilesOfOneDirectory(t *testing.T) {
	store := of(lab(t, nil), "StatefulSet")["store"]
	at := map[string][]string{}
	mounts, _ := podOf(t, store, "containers", 0, "volumeMounts").([]any)
	volumes, _ := podOf(t, store, "volumes").([]any)
	for _, m := range mounts {
		m := m.(map[string]any)
		for _, v := range volumes {
			v := v.(map[string]any)
			projected, ok := v["projected"].(map[string]any)
			if v["name"] != m["name"] || !ok {
				continue
			}
			if m["readOnly"] != true {
				t.Errorf("%v can be written to", m["mountPath"])
			}

			for _, source := range projected["sources"].([]any) {
				for kind, s := range source.(map[string]any) {
					for _, item := range s.(map[string]any)["items"].([]any) {
						dir := m["mountPath"].(string)
						at[dir] = append(at[dir], kind+" "+item.(map[string]any)["path"].(string))
					}
				}
			}
		}
	}

	want := map[string][]string{
		"/etc/store":   {"configMap store.conf", "secret auth.conf"},
		"/run/secrets": {"secret redis-password"},
	}

	if d := cmp.Diff(want, at); d != "" {
		t.Error(d)
	}
}

// TestModelfiles: pods get the stack's Modelfile and what it names, not what
// else lies in the folder.
func TestModelfiles(t *testing.T) {
	m := of(lab(t, nil), "ConfigMap")["modelfiles"]
	text, _ := dig(t, m, "data").(map[string]any)
	binary, _ := dig(t, m, "binaryData").(map[string]any)
	if d := cmp.Diff([]string{"lab.Modelfile"}, slices.Sorted(maps.Keys(text))); d != "" {
		t.Error(d)
	}
	weights := base64.StdEncoding.EncodeToString([]byte("weights\xff"))
	if len(binary) != 1 || binary["lab.lora.gguf"] != weights {
		t.Errorf("got %v", binary)
	}
}

// TestJob: the Job is another one exactly when the model, or what makes it, is.
func TestJob(t *testing.T) {
	job := func(change func(*stacks.Stack)) string {
		t.Helper()
		return name(t, of(lab(t, change), "Job")["model"])
	}

	apart := func(s *stacks.Stack) { s.Volumes[1].Shared, s.Volumes[1].PerReplica = false, true }
	shared, each := job(nil), job(apart)
	if !regexp.MustCompile(`^model-[0-9a-f]{12}$`).MatchString(shared) || shared == each {
		t.Errorf("the Job is %s, with a volume of each replica %s", shared, each)
	}

	for what, tc := range map[string]struct {
		change func(*stacks.Stack)
		moves  bool
	}{
		"the digest": {func(s *stacks.Stack) { s.Model.Digest = "other" }, true},
		"the replicas": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ollama").Replicas = 2
		}, true},
		"ml's image": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ml").Image.Build.Target = "other"
		}, true},
		"ml's limits": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ml").Resources.Memory *= 2
		}, false},
		"ml's replicas": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ml").Replicas = 2
		}, false},
		"Ollama's limits": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ollama").Resources.Memory *= 2
		}, false},
		"another service": {func(s *stacks.Stack) {
			apart(s)
			s.Service("web").Env["A"] = "2"
		}, false},
		"the stop's grace": {func(s *stacks.Stack) {
			apart(s)
			s.Service("ml").StopGrace *= 2
		}, false},
	} {
		if moved := job(tc.change) != each; moved != tc.moves {
			t.Errorf("%s: another Job: %v, want %v", what, moved, tc.moves)
		}
	}
}

// TestOwnGateway: what a gateway's controller puts beside a Gateway of the stack's own has a
// place in the quota, limits that it can live with, and a policy; beside somebody else's Gateway,
// or an Ingress, nothing is.
func TestOwnGateway(t *testing.T) {
	hard := func(list []plan.Resource, what string) float64 {
		t.Helper()
		text, _ := dig(t, of(list, "ResourceQuota")["quota"], "spec", "hard", what).(string)
		q, err := resource.ParseQuantity(text)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return q.AsApproximateFloat64()
	}

	inside := func(s *stacks.Stack) { s.Service(stacks.Edge).Ports[0].Address = "127.0.0.1" }
	own := lab(t, inside)
	theirs := lab(t, func(s *stacks.Stack) {
		inside(s)
		s.Route.Gateway, s.Route.TLS = &stacks.Gateway{Name: "main"}, nil
	})

	for what, want := range map[string]float64{"services.loadbalancers": 1, "services.nodeports": 3, "pods": 2} {
		if got := hard(own, what) - hard(theirs, what); got != want {
			t.Errorf("there is room for %v %s more, want %v", got, what, want)
		}
	}

	if got := hard(own, "limits.memory") - hard(theirs, "limits.memory"); got < float64(2*stacks.GiB) {
		t.Errorf("two proxies have %v bytes", got)
	}
	if got := dig(t, of(own, "LimitRange")["limits"], "spec", "limits", 0, "default", "memory"); got != "1Gi" {
		t.Errorf("a proxy without limits gets %v", got)
	}

	policy := of(own, "NetworkPolicy")["gateway"]
	i := slices.IndexFunc(own, func(r plan.Resource) bool { return r.Inputs["kind"] == "Gateway" })
	want := map[string]any{"gateway.networking.k8s.io/gateway-name": name(t, own[i])}
	if d := cmp.Diff(want, dig(t, policy, "spec", "podSelector", "matchLabels")); d != "" {
		t.Error(d)
	}
	if _, ok := of(theirs, "NetworkPolicy")["gateway"]; ok {
		t.Error("a policy for the pods of somebody else's Gateway")
	}
}

// TestRolling: a quarter of the pods is replaced at once, each new one ready before an old one
// goes; where there may be no device for one more, one is missing meanwhile.
func TestRolling(t *testing.T) {
	for name, tc := range map[string]struct {
		change         func(*stacks.Service)
		surge, missing float64
	}{
		"one":        {func(s *stacks.Service) { s.Autoscale, s.Replicas = nil, 1 }, 1, 0},
		"four":       {func(s *stacks.Service) { s.Autoscale, s.Replicas = nil, 4 }, 1, 0},
		"up to nine": {func(s *stacks.Service) { s.Autoscale.Max = 9 }, 3, 0},
		"with a GPU": {func(s *stacks.Service) {
			s.Autoscale, s.Replicas, s.GPU = nil, 8, &stacks.GPU{Count: 1}
		}, 0, 1},
	} {
		web := of(lab(t, func(s *stacks.Stack) {
			tc.change(s.Service("web"))
		}), "Deployment")["web"]
		at := []any{"spec", "strategy", "rollingUpdate"}
		if surge, missing := dig(t, web, append(at, "maxSurge")...), dig(t, web,
			append(at, "maxUnavailable")...); surge != tc.surge || missing != tc.missing {
			t.Errorf("%s: %v more and %v fewer, want %v and %v", name, surge, missing, tc.surge,
				tc.missing)
		}
	}
}

// TestJobFails: a pod that fails is the end of the Job, in the words by which Pulumi knows it (not
// PodFailurePolicy): the command has tried again where that helps. A pod that was taken away has
// not failed. The rule says all that the API server would fill in.
func TestJobFails(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		job := of(p.resources, "Job")["model"]
		if got := podOf(t, job, "restartPolicy"); got != "Never" {
			t.Errorf("pods restart %v: the Job's rules are about pods that end", got)
		}

		want := []any{map[string]any{
			"action":          "Ignore",
			"onPodConditions": []any{map[string]any{"type": "DisruptionTarget", "status": "True"}},
		}}

		if d := cmp.Diff(want, dig(t, job, "spec", "podFailurePolicy", "rules")); d != "" {
			t.Error(d)
		}
		if got := dig(t, job, "spec", "backoffLimit"); got != float64(0) {
			t.Errorf("a pod that failed is made again %v times", got)
		}

		args, _ := podOf(t, job, "containers", 0, "args").([]any)
		if i := slices.Index(args, any("--tries")); i < 0 || args[i+1] == "1" {
			t.Errorf("nobody tries again: %v", args)
		}
	})
}

// TestWhoWaitsForTheModel: the Job is made after Ollama. No service is, but replicas that share the
// model (TestSharedModel): ml is not ready without it, and what calls ml bears that.
func TestWhoWaitsForTheModel(t *testing.T) {
	resources := lab(t, func(s *stacks.Stack) {
		s.Volumes[1].Shared, s.Volumes[1].PerReplica = false, true
	})
	const job = "kubernetes:batch/v1:Job model"
	if after := of(resources, "Job")["model"].Options.DependsOn; !slices.Contains(after,
		"kubernetes:apps/v1:StatefulSet ollama") {
		t.Errorf("the Job waits for %v", after)
	}

	for kind, names := range map[string][]string{
		"Deployment":  {"edge", "web", "ml"},
		"StatefulSet": {"ollama", "store"},
	} {
		for _, n := range names {
			if waits := slices.Contains(of(resources, kind)[n].Options.DependsOn, job); waits {
				t.Errorf("%s waits for the Job: %v", n, waits)
			}
		}
	}

	args := podOf(t, of(resources, "Job")["model"], "containers", 0, "args")
	if d := cmp.Diff([]any{"model", "apply", "--tries", "4", "--replicas", "3"}, args); d != "" {
		t.Error(d)
	}
}

// TestSharedModel: replicas read what an Ollama beside the Job writes, and that
// one alone may download.
func TestSharedModel(t *testing.T) {
	resources := lab(t, nil)
	job, ollama := of(resources, "Job")["model"], of(resources, "StatefulSet")["ollama"]
	if got := podOf(t, job, "initContainers", 0, "restartPolicy"); got != "Always" {
		t.Errorf("the Ollama beside the Job is restarted %v", got)
	}

	writable := func(r plan.Resource) (claim, mount bool) {
		for _, v := range podOf(t, r, "volumes").([]any) {
			if c, ok := v.(map[string]any)["persistentVolumeClaim"].(map[string]any); ok {
				claim = c["readOnly"] != true
			}
		}

		list := "containers"
		if podOf(t, r, "initContainers") != nil {
			list = "initContainers"
		}

		for _, m := range podOf(t, r, list, 0, "volumeMounts").([]any) {
			if m := m.(map[string]any); m["mountPath"] == "/ollama" {
				mount = m["readOnly"] != true
			}
		}

		return claim, mount
	}

	if claim, mount := writable(job); !claim || !mount {
		t.Error("the Job cannot write to the volume")
	}
	if claim, mount := writable(ollama); claim || mount {
		t.Error("the replicas can write to the volume")
	}

	home := func(r plan.Resource, list string) (home any) {
		for _, v := range podOf(t, r, list, 0, "env").([]any) {
			if v := v.(map[string]any); v["name"] == "HOME" {
				home = v["value"]
			}
		}
		return home
	}

	if got := home(ollama, "containers"); got != "/tmp" {
		t.Errorf("the replicas' home is %v, which they cannot write to", got)
	}
	if after := ollama.Options.DependsOn; !slices.Contains(after, "kubernetes:batch/v1:Job model") {
		t.Errorf("the replicas start on an empty volume: they wait for %v", after)
	}

	if dig(t, ollama, "spec", "volumeClaimTemplates") != nil ||
		len(of(resources, "PersistentVolumeClaim")) != 1 {
		t.Error("there is not one claim of all")
	}
}

// TestAutoscale: the number of replicas is the autoscaler's once the pods are there. The stack sets
// the one to begin with, so that an autoscaler which comes to a running service finds its pods.
func TestAutoscale(t *testing.T) {
	resources := lab(t, nil)
	web, scaler := of(resources, "Deployment")["web"], of(resources,
		"HorizontalPodAutoscaler")["web"]
	if got := dig(t, web, "spec", "replicas"); fmt.Sprint(got) != "1" {
		t.Errorf("the Deployment begins with %v replicas, want 2", got)
	}

	if got := web.Options.IgnoreChanges; !slices.Equal(got, []string{"spec.replicas"}) {
		t.Errorf("of the Deployment is left to the cluster: %q", got)
	}

	if got := dig(t, scaler, "spec", "metrics", 0, "resource", "target",
		"averageValue"); got != "350m" { // 70 % of 500m
		t.Errorf("the target is %v", got)
	}

	if len(of(resources, "HorizontalPodAutoscaler")) != 1 {
		t.Error("another service has an autoscaler")
	}

	for n, d := range of(resources, "Deployment") {
		if n != "web" && dig(t, d, "spec", "replicas") == nil {
			t.Errorf("%s sets no replicas", n)
		}
	}
}

// TestProbes: three questions that differ, and enough time to start and to stop.
func TestProbes(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		for _, svc := range p.stack.Services {
			w, ok := of(p.resources, "Deployment")[svc.Name]
			if !ok {
				w = of(p.resources, "StatefulSet")[svc.Name]
			}

			number := func(probe, field string) float64 {
				n, _ := podOf(t, w, "containers", 0, probe, field).(float64)
				return n
			}

			starts := number("startupProbe", "periodSeconds") * number("startupProbe",
				"failureThreshold")
			if starts < svc.StartTimeout.Seconds() {
				t.Errorf("%s: is restarted after %gs, and may take %s to start", svc.Name, starts,
					svc.StartTimeout)
			}

			if number("livenessProbe", "periodSeconds") <= number("readinessProbe", "periodSeconds") {
				t.Errorf("%s: is restarted as fast as it is taken out of the traffic", svc.Name)
			}

			grace, _ := podOf(t, w, "terminationGracePeriodSeconds").(float64)
			sleep, _ := podOf(t, w, "containers", 0, "lifecycle", "preStop", "sleep",
				"seconds").(float64)
			if time.Duration(grace-sleep)*time.Second < svc.StopGrace {
				t.Errorf("%s: has %gs to stop, %gs of them asleep, and may take %s", svc.Name,
					grace, sleep, svc.StopGrace)
			}

			if (sleep > 0) != ok {
				t.Errorf("%s: sleeps %gs before it stops", svc.Name, sleep)
			}

			if svc.Health.LivePath != "" &&
				podOf(t, w, "containers", 0, "livenessProbe", "exec") != nil {
				t.Errorf("%s: runs a program for what a request would tell", svc.Name)
			}
		}
	})
}

// TestQuota: all replicas of the running revision and of the one that drains fit, and no
// container is too large.
func TestQuota(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		hard, _ := dig(t, of(p.resources, "ResourceQuota")["quota"], "spec",
			"hard").(map[string]any)
		largest, _ := dig(t, of(p.resources, "LimitRange")["limits"], "spec", "limits", 0,
			"max").(map[string]any)
		need := map[string]*resource.Quantity{}
		pods := 0
		for _, svc := range p.stack.Services {
			times := svc.Replicas
			if svc.Autoscale != nil {
				times = svc.Autoscale.Max
			}
			if _, deployment := of(p.resources, "Deployment")[svc.Name]; deployment {
				times = 2 * times
			}

			pods += times
			for k, q := range map[string]resource.Quantity{
				"limits.cpu":    *resource.NewMilliQuantity(int64(svc.Resources.CPU), resource.DecimalSI),
				"limits.memory": *resource.NewQuantity(int64(svc.Resources.Memory), resource.BinarySI),
			} {
				if need[k] == nil {
					need[k] = &resource.Quantity{}
				}

				for range times {
					need[k].Add(q)
				}

				bound := resource.MustParse(largest[strings.TrimPrefix(k, "limits.")].(string))
				if bound.Cmp(q) < 0 {
					t.Errorf("%s: %s of %s is over the largest of %s", svc.Name, k, &q, &bound)
				}
			}
		}

		for k, q := range need {
			have := resource.MustParse(hard[k].(string))
			if have.Cmp(*q) < 0 {
				t.Errorf("%s: the quota is %s, and the stack needs %s", k, &have, q)
			}

			q.Add(*q)
			if have.Cmp(*q) > 0 {
				t.Errorf("%s: the quota of %s is more than twice what the stack needs", k, &have)
			}
		}

		if have := resource.MustParse(hard["pods"].(string)); have.Value() < int64(pods) {
			t.Errorf("%s pods, and the stack needs %d", &have, pods)
		}
	})
}

func TestGPU(t *testing.T) {
	for what, tc := range map[string]struct {
		gpu         stacks.GPU
		resource    string
		tolerations []any
	}{
		"whole": {stacks.GPU{Count: 2}, "nvidia.com/gpu",
			[]any{map[string]any{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}}},
		"slice": {stacks.GPU{Count: 2, Resource: "nvidia.com/mig-1g.10gb"},
			"nvidia.com/mig-1g.10gb",
			[]any{map[string]any{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}}},
		"other": {stacks.GPU{Count: 2, Resource: "amd.com/gpu"}, "amd.com/gpu",
			[]any{map[string]any{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}}},
		"own taint": {stacks.GPU{Count: 2, Tolerations: []stacks.Toleration{{Key: "nvidia.com/gpu", Value: "present"}}},
			"nvidia.com/gpu",
			[]any{map[string]any{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}}},
	} {
		t.Run(what, func(t *testing.T) {
			ollama := of(lab(t, func(s *stacks.Stack) {
				s.Service("ollama").GPU = &tc.gpu
			}), "StatefulSet")["ollama"]
			for _, kind := range []string{"limits", "requests"} {
				if got := podOf(t, ollama, "containers", 0, "resources", kind, tc.resource); got != "2" {
					t.Errorf("%s are %v", kind, got)
				}
			}

			if d := cmp.Diff(tc.tolerations, podOf(t, ollama, "tolerations")); d != "" {
				t.Error(d)
			}
		})
	}

	ollama := of(lab(t, nil), "StatefulSet")["ollama"]
	if podOf(t, ollama, "runtimeClassName") != "nvidia" ||
		podOf(t, ollama, "nodeSelector", "gpu") != "h100" {
		t.Errorf("got %v %v", podOf(t, ollama, "runtimeClassName"),
			podOf(t, ollama, "nodeSelector"))
	}
}

// TestImages: with a registry what is built is pushed and referenced by digest; without, no
// Docker engine is needed.
func TestImages(t *testing.T) {
	pushed := lab(t, nil)
	built := of(pushed, "Image")["ml"]
	if ref, _ := dig(t, built, "imageName").(string); !strings.HasPrefix(ref,
		"registry.example.com/team/codexcontinue/ml:") || dig(t, built, "skipPush") != false {
		t.Errorf("pushes %s", ref)
	}

	if got := podOf(t, of(pushed, "Deployment")["ml"], "containers", 0, "image"); got != plan.Computed {
		t.Errorf("ml runs %v, and not what the registry says", got)
	}

	local := lab(t, func(s *stacks.Stack) { s.Registry = "" })
	if got, _ := podOf(t, of(local, "Deployment")["ml"], "containers", 0,
		"image").(string); !regexp.MustCompile(`^codexcontinue/ml:[0-9a-f]{12}$`).MatchString(got) {
		t.Errorf("ml runs %s", got)
	}

	for _, r := range local {
		if strings.HasPrefix(r.Type, "docker:") {
			t.Errorf("%s %s needs a Docker engine", r.Type, r.Name)
		}
	}
}

// TestWhatIsKept: of a stack that is destroyed, what holds data stays, and nothing else.
func TestWhatIsKept(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		for _, r := range p.resources {
			data := strings.HasSuffix(r.Type, ":Namespace") &&
				strings.HasPrefix(r.Type, "kubernetes:") ||
				strings.HasSuffix(r.Type, ":PersistentVolumeClaim")
			if kept := r.Options != nil && r.Options.RetainOnDelete; kept != data {
				t.Errorf("%s %s is kept: %v", r.Type, r.Name, kept)
			}

			if data && r.Provider != "cluster-kept" ||
				!data && strings.HasPrefix(r.Type, "kubernetes:") && r.Provider != "cluster" {
				t.Errorf("%s %s is made by %q", r.Type, r.Name, r.Provider)
			}

			if strings.HasSuffix(r.Type, ":StatefulSet") &&
				dig(t, r, "spec", "volumeClaimTemplates") != nil {
				if got := dig(t, r, "spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"); got != "Retain" {
					t.Errorf("%s: its claims are %v when it goes", r.Name, got)
				}
			}
		}
	})

	for _, r := range lab(t, func(s *stacks.Stack) { s.Remove("store", "ollama") }) {
		if r.Options != nil && r.Options.RetainOnDelete {
			t.Errorf("%s %s is kept, and the stack has no volume", r.Type, r.Name)
		}
	}
}

// TestParents: everything belongs to a component, which people see in a preview.
func TestParents(t *testing.T) {
	eachStack(t, func(t *testing.T, p planned) {
		for _, r := range p.resources {
			if strings.HasPrefix(r.Type, "kubernetes:") &&
				!strings.Contains(r.Parent, "codexcontinue:kubernetes:") {
				t.Errorf("%s %s belongs to %q", r.Type, r.Name, r.Parent)
			}
		}
	})
}

// TestContext: the kubeconfig's context is the stack's choice, and its current
// one when it makes none.
func TestContext(t *testing.T) {
	stack, root := labStack(t)
	for _, want := range []string{"", "production"} {
		for _, provider := range []string{"cluster", "cluster-kept"} {
			for _, r := range mustRecord(t, stack, kubernetes.Options{Root: root, Context: want}) {
				if r.Type != "pulumi:providers:kubernetes" || r.Name != provider {
					continue
				}
				if got, _ := r.Inputs["context"].(string); got != want {
					t.Errorf("%s connects to %q, want %q", provider, got, want)
				}
			}
		}
	}
}

// TestNoHostSecrets: a plan needs no kubeconfig and holds none.
func TestNoKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nowhere")
	for _, r := range lab(t, nil) {
		if r.Type == "pulumi:providers:kubernetes" && r.Inputs["kubeconfig"] != nil {
			t.Error("the plan holds the kubeconfig")
		}
	}

	if _, err := os.Stat("/nowhere"); err == nil {
		t.Fatal("/nowhere exists")
	}
}

// TestBroughtImages: what a bundle brought to the registry is neither built nor pushed, and nothing
// is pulled from elsewhere.
func TestBroughtImages(t *testing.T) {
	stack, root := labStack(t)
	pushed := of(mustRecord(t, stack, kubernetes.Options{Root: root}), "Image")
	ref, _ := dig(t, pushed["ml"], "imageName").(string)
	list := strings.TrimPrefix(ref, stack.Registry+"/") + "\n"
	for _, svc := range stack.Services {
		if svc.Image.Build == nil {
			list += svc.Image.Ref + "\n"
		}
	}

	file := filepath.Join(root, filepath.FromSlash(image.BroughtFile))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}

	resources := mustRecord(t, stack, kubernetes.Options{Root: root})
	if of(resources, "Image")["ml"].Type != "" {
		t.Error("ml is built and pushed")
	}
	if got := podOf(t, of(resources, "Deployment")["ml"], "containers", 0, "image"); got != ref {
		t.Errorf("ml runs %v, want %s", got, ref)
	}
	for _, svc := range stack.Services {
		if svc.Image.Build != nil {
			continue
		}

		for _, kind := range []string{"Deployment", "StatefulSet"} {
			made, ok := of(resources, kind)[svc.Name]
			if !ok {
				continue
			}
			want := stack.Registry + "/" + svc.Image.Ref
			if got := podOf(t, made, "containers", 0, "image"); got != want {
				t.Errorf("%s runs %v, want %s", svc.Name, got, want)
			}
		}
	}
}

// TestKeptImage: the image of an earlier release is taken from the registry by its digest, and
// neither built nor pushed.
func TestKeptImage(t *testing.T) {
	stack, root := labStack(t)
	kept := "codexcontinue/ml@sha256:" + strings.Repeat("0", 64)
	stack.Service("ml").Image.Kept = kept
	resources := mustRecord(t, stack, kubernetes.Options{Root: root})
	if of(resources, "Image")["ml"].Type != "" {
		t.Error("ml is built and pushed")
	}

	want := stack.Registry + "/" + kept
	if got := podOf(t, of(resources, "Deployment")["ml"], "containers", 0, "image"); got != want {
		t.Errorf("ml runs %v, want %s", got, want)
	}
}
