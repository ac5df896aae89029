package targets_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// exception is a fact that the targets have a reason to tell apart.
type exception struct {
	// stack is the kind of those that it is for, as kindOf returns it; "*" is all.
	stack string

	// fact is "service/aspect", of which each may be "*" or end in it; docker and kubernetes are
	// what each says, "*" is anything.
	fact, docker, kubernetes string
	reason                   string
}

const letsIn = "all containers of an engine's network reach each other"

const letsOut = "an engine's network lets everybody out or nobody"

var exceptions = []exception{
	{"*", "*/env/APPLY_MODEL", "true", "false",
		"on a cluster a Job makes the model: several replicas of ml would make it at once"},
	{"*", "model/kind", "", "Job", "the Job that makes the model; on Docker ml does when it starts"},
	{"*", "*/pids", "*", "",
		"a limit of processes is the kubelet's to set, for all pods of a node (podPidsLimit)"},
	{"*", "*/ready/asks", "", "*", "an engine asks for health alone"},
	{"*", "backend/health/asks", "GET /ready at 8000", "GET /health at 8000",
		"an engine asks one thing, and a backend that does not get at Redis must not take its " +
			"predecessor's place; a cluster asks for readiness besides"},
	{"*", "ollama/health/asks", `["ollama" "list"]`, "GET / at 11434",
		"the image has no other program that can ask; the kubelet can, and needs no process for it"},
	{"*", "*/programs in *", "false", "true", "pods have no noexec"},
	{fenced, "resolver/*", "*", "*",
		"it is there on a cluster alone, which writes what it answers: an engine answers by itself"},
	{open, "edge/published", "to this machine at *", "",
		"where nobody signs in people forward a port of the pod, which no policy concerns"},
	{open, "*/may reach *", "yes", "", letsIn},
	{fenced, "*/may reach *", "yes", "", letsIn},
	{"lab", "edge/may reach ml", "yes", "", letsIn},
	{"lab", "edge/may reach ollama", "yes", "", letsIn},
	{"lab", "web/may reach edge", "yes", "", letsIn},
	{"lab", "web/may reach ollama", "yes", "", letsIn},
	{"lab", "ml/may reach edge", "yes", "", letsIn},
	{"lab", "ml/may reach web", "yes", "", letsIn},
	{"lab", "ollama/may reach *", "yes", "", letsIn},
	{"lab", "store/may reach web", "yes", "", letsIn},
	{open, "*/leaves to", "anywhere", "*", letsOut},
	{"lab", "edge/leaves to", "anywhere", "nowhere", letsOut},
	{"lab", "web/leaves to", "anywhere", "10.1.2.3/32 port 5432", letsOut},
	{"lab", "ml/leaves to", "anywhere", "nowhere", letsOut},
	{"lab", "ollama/leaves to", "anywhere", "0.0.0.0/0 port 443, ::/0 port 443", letsOut},
}

// The kinds of shipped stacks: those whose networks all have a way out, and the others.
const open, fenced = "open", "fenced"

// kindOf returns the kind of the stack; the lab's is a kind of its own.
func kindOf(s stacks.Stack) string {
	switch {
	case s.Name == "lab":
		return s.Name
	case slices.ContainsFunc(s.Networks, func(n stacks.Network) bool { return n.Internal }):
		return fenced
	default:
		return open
	}
}

// about reports whether the exception is one for the fact.
func (e exception) about(fact string) bool {
	service, aspect, _ := strings.Cut(e.fact, "/")
	of, what, _ := strings.Cut(fact, "/")
	return like(service, of) && like(aspect, what)
}

// like reports whether the text is the pattern, which may end in "*".
func like(pattern, text string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(text, start)
	}
	return pattern == text
}

// difference is a fact on which the targets do not agree.
type difference struct{ fact, docker, kubernetes string }

func (d difference) String() string {
	return fmt.Sprintf("%s: docker says %q, kubernetes says %q", d.fact, d.docker, d.kubernetes)
}

// compare returns the differences, and which exceptions explain others.
func compare(stack string, docker, kubernetes facts) (unexplained []difference, used map[int]bool) {
	used = map[int]bool{}
	all := maps.Clone(docker)
	maps.Copy(all, kubernetes)
	for _, fact := range slices.Sorted(maps.Keys(all)) {
		d := difference{fact, docker[fact], kubernetes[fact]}
		if d.docker == d.kubernetes {
			continue
		}

		i := slices.IndexFunc(exceptions, func(e exception) bool {
			return like(e.stack, stack) && e.about(fact) && like(e.docker, d.docker) &&
				like(e.kubernetes, d.kubernetes)
		})
		if i < 0 {
			unexplained = append(unexplained, d)
			continue
		}

		used[i] = true
	}

	return unexplained, used
}

// described is a stack with the root that it is planned at.
type described struct {
	stacks.Stack
	root string
}

// eachStack runs f on the lab's stack and on every shipped one as it is on a cluster, which is the
// one that both targets can express: on Docker, dev mounts the sources besides.
func eachStack(t *testing.T, f func(t *testing.T, s described)) {
	t.Helper()
	lab := labRoot(t)
	t.Run("lab", func(t *testing.T) { f(t, described{labStack(t, lab), lab}) })
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range stacks.Overlays() {
		t.Run(name, func(t *testing.T) {
			p, err := plan.Of(context.Background(), root, name,
				plan.OfOptions{Target: stacks.Kubernetes})
			if err != nil {
				t.Fatal(err)
			}
			f(t, described{p.Stack, root})
		})
	}

	t.Run("documents", func(t *testing.T) {
		stack, err := stacks.Load("documents", stacks.Settings{
			Target: stacks.Kubernetes, Overlay: "healthcare", AssumeSecrets: true,
			Knowledge: &stacks.KnowledgeSettings{
				Collections: map[string][]string{"handbook": nil, "wards": {"nurses"}},
				Embedding:   "nomic-embed-text",
			},
		}, stacks.Checkout{FS: os.DirFS(root)})
		if err != nil {
			t.Fatal(err)
		}
		f(t, described{stack, root})
	})
}

// TestSameStack checks that both targets express the same stack: what they make of it is read
// from their plans alone.
func TestSameStack(t *testing.T) {
	explained := map[int]bool{}
	eachStack(t, func(t *testing.T, s described) {
		onDocker := dockerFacts(t, recordFacts(t, s.Stack, stacks.Docker, s.root))
		onKubernetes := kubernetesFacts(t, recordFacts(t, s.Stack, stacks.Kubernetes, s.root))
		if len(onDocker) < 20*len(s.Services) {
			t.Errorf("%d facts about %d services", len(onDocker), len(s.Services))
		}

		unexplained, used := compare(kindOf(s.Stack), onDocker, onKubernetes)
		for _, d := range unexplained {
			t.Error(d)
		}

		maps.Copy(explained, used)
	})

	for i, e := range exceptions {
		if !explained[i] {
			t.Errorf("the exception %q of %s explains nothing any more: remove it", e.fact, e.stack)
		}
	}
}

// TestSameDescription checks that the settings' target alone does not change what a stack is: but
// for one of development, which mounts the sources where containers can see them.
func TestSameDescription(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range stacks.Overlays() {
		var found [2]stacks.Stack
		for i, target := range both {
			p, err := plan.Of(context.Background(), root, name, plan.OfOptions{Target: target})
			if err != nil {
				t.Fatal(err)
			}

			found[i] = p.Stack
			found[i].Remove(stacks.Resolver) // of a private stack on a cluster

			// What tells the edge from others on an engine; on a cluster a NetworkPolicy does.
			found[i].Service(stacks.Gate).Contract.(*gateenv.Config).EdgeHost = ""
			if !p.Stack.Development {
				continue
			}

			for j := range found[i].Services { // what mounted sources need
				s := &found[i].Services[j]
				s.Image, s.Ports, s.Mounts, s.Health = stacks.Image{}, nil, nil, stacks.Health{}
				s.StartTimeout, s.Resources, s.Security = 0, stacks.Resources{}, stacks.Security{}
			}

			found[i].Volumes = slices.DeleteFunc(found[i].Volumes, func(v stacks.Volume) bool {
				return v.Name == stacks.GoCache
			})
		}

		if d := cmp.Diff(found[0], found[1], cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-docker +kubernetes):\n%s", name, d)
		}
	}
}

// TestDifferences changes one thing in one of two plans of the lab, and wants
// exactly that to be told.
func TestDifferences(t *testing.T) {
	root := labRoot(t)
	stack := labStack(t, root)
	recorded := map[stacks.Target]recording{}
	for _, target := range both {
		recorded[target] = recordFacts(t, stack, target, root)
	}

	type object = map[string]any
	at := func(o any, keys ...any) any {
		for _, k := range keys {
			switch k := k.(type) {
			case string:
				o = o.(object)[k]
			case int:
				o = o.([]any)[k]
			}
		}

		return o
	}

	set := func(value any, keys ...any) func(in object) {
		return func(in object) {
			at(in, keys[:len(keys)-1]...).(object)[keys[len(keys)-1].(string)] = value
		}
	}

	own := func(value any, keys ...any) func(in object) { // in the pods' container
		return set(value, append([]any{"spec", "template", "spec", "containers", 0}, keys...)...)
	}
	const (
		webPods   = "kubernetes:" + webPods
		edgePods  = "kubernetes:" + edgePods
		storePods = "kubernetes:" + storePods
	)

	const containers = "docker:index/container:Container codexcontinue-lab-"
	const policy = "kubernetes:networking.k8s.io/v1:NetworkPolicy "
	for name, tc := range map[string]struct {
		target   stacks.Target
		resource string
		change   func(in object)
		fact     string
	}{
		"image":     {stacks.Kubernetes, webPods, own("probe:2", "image"), "web/image"},
		"arguments": {stacks.Kubernetes, edgePods, own([]any{"other"}, "args"), "edge/command"},
		"variable": {stacks.Kubernetes, webPods, own("http://ml:5001", "env", 0, "value"),
			"web/env/ML"},
		"CPU": {stacks.Kubernetes, webPods, own("1", "resources", "limits", "cpu"), "web/cpu"},
		"memory": {stacks.Kubernetes, webPods, own("1Gi", "resources", "limits", "memory"),
			"web/memory"},
		"liveness path": {stacks.Kubernetes, webPods,
			own("/other", "livenessProbe", "httpGet", "path"), "web/health/asks"},
		"liveness port": {stacks.Kubernetes, webPods,
			own("metrics", "livenessProbe", "httpGet", "port"), "web/health/asks"},
		"period": {stacks.Kubernetes, webPods, own(9.0, "readinessProbe", "periodSeconds"),
			"web/health/every"},
		"probe's timeout": {stacks.Kubernetes, webPods, own(9.0, "startupProbe", "timeoutSeconds"),
			"web/health/timeout"},
		"retries": {stacks.Kubernetes, webPods,
			own(9.0, "livenessProbe", "failureThreshold"), "web/health/retries"},
		"mount's path": {stacks.Kubernetes, storePods,
			own("/other", "volumeMounts", 0, "mountPath"), "store/mount /other"},
		"mount's access": {stacks.Kubernetes, storePods, own(true, "volumeMounts", 0, "readOnly"),
			"store/mount /data"},
		"memory's size": {stacks.Kubernetes, webPods,
			set("1Mi", "spec", "template", "spec", "volumes", 0, "emptyDir",
				"sizeLimit"), "web/mount /cache"},
		"file": {stacks.Kubernetes, "kubernetes:core/v1:ConfigMap store-files",
			func(in object) {
				in["data"].(object)["etc.store.store.conf"] = "other"
			}, "store/file /etc/store/store.conf"},
		"file's path": {stacks.Kubernetes, storePods,
			set("other.conf", "spec", "template", "spec", "volumes", 0, "projected", "sources", 0,
				"configMap", "items", 0, "path"), "store/file /etc/store/other.conf"},
		"secret's path": {stacks.Kubernetes, storePods,
			set("other.conf", "spec", "template", "spec", "volumes", 1, "projected", "sources", 0,
				"secret", "items", 0, "path"), "store/file /run/secrets/other.conf"},
		"Modelfile": {stacks.Kubernetes, "kubernetes:core/v1:ConfigMap modelfiles",
			func(in object) {
				in["data"].(object)["lab.Modelfile"] = "FROM other"
			}, "ml/file /models/ollama/lab/Modelfile"},
		"user": {stacks.Kubernetes, webPods, own(1.0, "securityContext", "runAsUser"), "web/user"},
		"writable root": {stacks.Kubernetes, edgePods,
			own(false, "securityContext", "readOnlyRootFilesystem"), "edge/read-only root"},
		"capability": {stacks.Kubernetes, edgePods,
			own([]any{}, "securityContext", "capabilities", "add"), "edge/capabilities"},
		"kept capability": {stacks.Kubernetes, edgePods,
			own([]any{"CHOWN"}, "securityContext", "capabilities", "drop"), "edge/capabilities"},
		"new privileges": {stacks.Kubernetes, edgePods,
			own(true, "securityContext", "allowPrivilegeEscalation"), "edge/new privileges"},
		"stop grace": {stacks.Kubernetes, webPods,
			set(60.0, "spec", "template", "spec",
				"terminationGracePeriodSeconds"), "web/stop grace"},
		"replicas": {stacks.Kubernetes, webPods, set(9.0, "spec", "replicas"), "web/replicas"},
		"egress":   {stacks.Kubernetes, policy + "edge", set([]any{}, "spec", "egress"), "edge/calls"},
		"ingress":  {stacks.Kubernetes, policy + "ml", set([]any{}, "spec", "ingress"), "web/calls"},
		"no fence": {stacks.Kubernetes, policy + "edge",
			set([]any{"Ingress"}, "spec", "policyTypes"), "edge/calls"},
		"called port": {stacks.Kubernetes, "kubernetes:core/v1:Service ml",
			set(5001.0, "spec", "ports", 0, "port"), "web/calls"},
		"Service's pods": {stacks.Kubernetes, "kubernetes:core/v1:Service ml",
			set(object{"a": "b"}, "spec", "selector"), "web/calls"},
		"published port": {stacks.Kubernetes, "kubernetes:core/v1:Service edge",
			set(9999.0, "spec", "ports", 0, "port"), "edge/published"},
		"load balancer": {stacks.Kubernetes, "kubernetes:core/v1:Service edge",
			set("LoadBalancer", "spec", "type"), "edge/published"},
		"opened service": {stacks.Kubernetes, policy + "ml",
			set([]any{object{}}, "spec", "ingress"), "ml/published"},
		"way out": {stacks.Kubernetes, policy + "store",
			set([]any{object{"to": []any{object{"ipBlock": object{"cidr": "0.0.0.0/0"}}},
				"ports": []any{object{"port": 443.0}}}}, "spec", "egress"), "store/leaves to"},
		"docker variable": {stacks.Docker, containers + "edge",
			set([]any{"WEB=http://web:8001"}, "envs"), "edge/env/WEB"},
		"docker memory": {stacks.Docker, containers + "edge", set(64.0, "memory"), "edge/memory"},
		"docker CPU":    {stacks.Docker, containers + "edge", set(1000.0, "cpuQuota"), "edge/cpu"},
		"docker user":   {stacks.Docker, containers + "edge", set("0:0", "user"), "edge/user"},
		"docker check": {stacks.Docker, containers + "store",
			set([]any{"CMD", "/other"}, "healthcheck", "tests"), "store/health/asks"},
		"docker grace": {stacks.Docker, containers + "edge", set(1.0, "destroyGraceSeconds"),
			"edge/stop grace"},
		"docker alias": {stacks.Docker, containers + "ml",
			set([]any{}, "networksAdvanced", 0, "aliases"), "web/calls"},
		"docker networks": {stacks.Docker, containers + "edge", func(in object) {
			in["networksAdvanced"] = append(in["networksAdvanced"].([]any), object{"name": "private-lab"})
		}, "edge/may reach store"},
		"docker network": {stacks.Docker, "docker:index/network:Network private",
			set(false, "internal"), "store/leaves to"},
		"docker port": {stacks.Docker, containers + "edge", set("0.0.0.0", "ports", 0, "ip"),
			"edge/published"},
		"docker mount": {stacks.Docker, containers + "store",
			set(true, "mounts", 0, "readOnly"), "store/mount /data"},
		"docker tmpfs": {stacks.Docker, containers + "web",
			set("rw,noexec,size=1", "tmpfs", "/cache"), "web/mount /cache"},
		"docker replica": {stacks.Docker, containers + "web-2", set("1:1", "user"), "web/user"},
		"docker no files": {stacks.Docker, containers + "store", set([]any{}, "volumes"),
			"store/file /etc/store/store.conf"},
		"docker privilege": {stacks.Docker, containers + "edge", set([]any{}, "securityOpts"),
			"edge/new privileges"},
		"docker image": {stacks.Docker, "docker:index/remoteImage:RemoteImage web",
			set("probe:2", "name"), "web/image"},
		"docker order": {stacks.Docker, containers + "edge", nil, "edge/waits for"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(recorded[tc.target].resources)
			if err != nil {
				t.Fatal(err)
			}

			altered := recorded[tc.target]
			altered.resources = nil
			if err := json.Unmarshal(text, &altered.resources); err != nil {
				t.Fatal(err)
			}

			i := slices.IndexFunc(altered.resources, func(r plan.Resource) bool {
				return r.Type+" "+r.Name == tc.resource
			})
			if i < 0 {
				t.Fatalf("there is no %s", tc.resource)
			}

			if tc.change != nil {
				tc.change(altered.resources[i].Inputs)
			} else {
				altered.resources[i].Options.DependsOn = nil
			}

			docker, kubernetes := recorded[stacks.Docker], altered
			if tc.target == stacks.Docker {
				docker, kubernetes = altered, recorded[stacks.Kubernetes]
			}

			unexplained, _ := compare(stack.Name, dockerFacts(t, docker),
				kubernetesFacts(t, kubernetes))
			if !slices.ContainsFunc(unexplained, func(d difference) bool {
				return d.fact == tc.fact
			}) {
				t.Errorf("told are %v, want %s", unexplained, tc.fact)
			}

			if len(unexplained) > 3 {
				t.Errorf("one change tells %d differences: %v", len(unexplained), unexplained)
			}
		})
	}
}
