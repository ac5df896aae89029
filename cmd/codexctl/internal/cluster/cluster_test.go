package cluster

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func lab(objects ...runtime.Object) (*Cluster, *fake.Clientset) {
	api := fake.NewClientset(objects...)
	return &Cluster{Context: "lab", Namespace: "codexcontinue-lab", Stack: "lab", api: api}, api
}

func runningPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: object(name, "backend-new", "ReplicaSet")}
	p.Spec = corev1.PodSpec{
		NodeName: "node-1",
		Containers: []corev1.Container{{
			Name:  "backend",
			Image: "docker.io/codexcontinue/backend:abc",
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("1500m"),
				corev1.ResourceMemory: resource.MustParse("512Mi"),
			}},
		}},
	}

	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning,
		Conditions: []corev1.PodCondition{{
			Type:   corev1.PodReady,
			Status: corev1.ConditionTrue,
		}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name:  "backend",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(began)}},
		}},
	}
	if change != nil {
		change(p)
	}

	return p
}

func TestReplicas(t *testing.T) {
	unready := func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
	job := runningPod("model-1-x", unready)
	job.OwnerReferences[0].Kind = "Job"
	job.Labels[stacks.LabelService] = "model"
	other := runningPod("other-stack", nil)
	other.Labels[stacks.LabelStack] = "prod"
	c, _ := lab(runningPod("backend-1", nil), job, other,
		runningPod("backend-2", func(p *corev1.Pod) {
			unready(p)
			p.Status.ContainerStatuses[0].RestartCount = 2
		}),
		runningPod("backend-3", func(p *corev1.Pod) {
			unready(p)
			waiting("CrashLoopBackOff", "", 4, &corev1.ContainerStateTerminated{
				ExitCode: 137,
				Reason:   "OOMKilled",
			})(p)
			p.Status.ContainerStatuses[0].Name = "backend"
		}),
		runningPod("backend-4", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodPending
			p.Status.Conditions = nil
			unscheduled("0/1 nodes")(p)
		}),
		runningPod("backend-5", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }))

	got, err := c.Replicas(t.Context(), "")
	if err != nil || len(got) != 4 {
		t.Fatalf("got %+v, %v", got, err)
	}

	first := got[0]
	if !first.Healthy || first.Image != "codexcontinue/backend:abc" || first.CPU != 1500 ||
		first.Memory != 512*stacks.MiB || first.Node != "node-1" || !first.StartedAt.Equal(began) {
		t.Errorf("got %+v", first)
	}

	want := [][3]string{{"healthy", "running, ready", ""},
		{"starting", "running, not ready, restarted 2 times", ""},
		{"restarting", "restarting again and again, killed: it used more than its 512Mi of memory", ""},
		{"pending", "Unschedulable: 0/1 nodes", ""}}

	for i, w := range want {
		if got[i].State != w[0] || got[i].Condition != w[1] {
			t.Errorf("%s: got %s, %q; want %s, %q",
				got[i].Name, got[i].State, got[i].Condition, w[0], w[1])
		}
	}

	if !got[1].Starting || got[2].Starting || got[1].Restarts != 2 {
		t.Errorf("got %+v", got[1:3])
	}

	jobs, err := c.Replicas(t.Context(), "model")
	if err != nil || len(jobs) != 1 || jobs[0].Name != "model-1-x" {
		t.Errorf("the Job's own name: %+v, %v", jobs, err)
	}
}

func TestMissing(t *testing.T) {
	c, api := lab()
	c.User = "ada"
	api.PrependReactor("create", "selfsubjectaccessreviews",
		func(a ktesting.Action) (bool, runtime.Object, error) {
			r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
			of := r.Spec.ResourceAttributes
			r.Status.Allowed = !(of.Verb == "create" &&
				(of.Resource == "secrets" || of.Subresource == "portforward"))
			return true, r, nil
		})

	missing, err := c.Missing(t.Context(), stacks.Stack{})
	if err != nil || len(missing) != 2 || missing[0].String() != "create secrets" ||
		missing[1].String() != "create pods/portforward" {
		t.Fatalf("got %v, %v", missing, err)
	}

	err = c.Preflight(t.Context(), stacks.Stack{})
	if err == nil || !strings.Contains(err.Error(),
		"forbidden by RBAC: ada may not create secrets, create pods/portforward in the namespace "+
			"codexcontinue-lab (context lab): ask") {
		t.Errorf("got %v", err)
	}
}

// TestNeedsFollowTheStack checks that permissions for kinds that only some stacks have are
// needed by these alone.
func TestNeedsFollowTheStack(t *testing.T) {
	c, _ := lab()
	asks := func(s stacks.Stack, what string) bool {
		return slices.ContainsFunc(c.needs(s), func(a Access) bool { return a.String() == what })
	}
	plain := stacks.Stack{Services: []stacks.Service{
		{Name: stacks.Gate, Contract: &gateenv.Config{SignIn: gateenv.None}},
	}}
	full := stacks.Stack{
		Development: true,

		Volumes: []stacks.Volume{{Shared: true}},
		Secrets: []stacks.Secret{{External: &stacks.ExternalSecret{}}},
		Services: []stacks.Service{
			{Autoscale: &stacks.Autoscale{}},
			{Name: stacks.Gate, Contract: &gateenv.Config{SignIn: gateenv.Accounts}},
		},
		Route: &stacks.Route{Gateway: &stacks.Gateway{Class: "x"}, Ingress: &stacks.Ingress{}},
	}

	for _, what := range []string{"create persistentvolumeclaims",
		"patch horizontalpodautoscalers.autoscaling", "create ingresses.networking.k8s.io",
		"create externalsecrets.external-secrets.io",
		"create httproutes.gateway.networking.k8s.io", "delete gateways.gateway.networking.k8s.io",
		"create pods/attach", "create pods/exec"} {
		if asks(plain, what) || !asks(full, what) {
			t.Errorf("%s: asked for a plain stack: %v, for one that needs it: %v", what,
				asks(plain, what), asks(full, what))
		}
	}

	// Reading a pod and its exit code, and removing one that blocks an update.
	if !asks(plain, "get pods") || !asks(plain, "delete pods") {
		t.Errorf("a plain stack needs %v", c.needs(plain))
	}

	claims := 0
	for _, a := range c.needs(full) {
		if a.String() == "create persistentvolumeclaims" {
			claims++
		}
	}
	if claims != 1 || !asks(stacks.Stack{Development: true}, "create persistentvolumeclaims") {
		t.Errorf("claims of a development stack: %d times", claims)
	}
}

func TestNamespace(t *testing.T) {
	labels := map[string]string{stacks.LabelStack: "lab"}
	for name, c := range map[string]struct {
		ns   *corev1.Namespace
		want string
	}{
		"free": {nil, ""},
		"own": {&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "codexcontinue-lab", Labels: labels},
		}, ""},
		"another's": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "codexcontinue-lab"}},
			"is not this stack's"},
		"going": {&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "codexcontinue-lab", Labels: labels},
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating},
		}, "is being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			k, _ := lab()
			if c.ns != nil {
				k, _ = lab(c.ns)
			}

			if err := k.CheckNamespace(t.Context()); (err == nil) != (c.want == "") ||
				err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRemoveNamespaceOfAnother(t *testing.T) {
	c, api := lab(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "codexcontinue-lab"}})
	if err := c.RemoveNamespace(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := api.CoreV1().Namespaces().Get(t.Context(), "codexcontinue-lab", metav1.GetOptions{}); err != nil {
		t.Errorf("a namespace that is not the stack's was removed: %v", err)
	}
}

func TestGPUs(t *testing.T) {
	node := func(name, resourceName, quantity string, taint string) corev1.Node {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{"pool": name},
		}}

		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceName(resourceName): resource.MustParse(quantity)}
		if taint != "" {
			n.Spec.Taints = []corev1.Taint{{Key: taint, Effect: corev1.TaintEffectNoSchedule}}
		}

		return n
	}

	nodes := []corev1.Node{
		node("a", "nvidia.com/gpu", "2", ""), node("b", "nvidia.com/gpu", "4", "nvidia.com/gpu"),
		node("c", "nvidia.com/mig-1g.10gb", "7", ""), node("d", "nvidia.com/gpu", "0", ""),
	}

	for name, c := range map[string]struct {
		want        stacks.GPU
		devices, on int
	}{
		"any":       {stacks.GPU{Count: 1}, 2, 1},
		"tolerated": {stacks.GPU{Count: 1, Tolerations: []stacks.Toleration{{Key: "nvidia.com/gpu"}}}, 6, 2},
		"selected":  {stacks.GPU{Count: 1, NodeSelector: map[string]string{"pool": "x"}}, 0, 0},
		"slice":     {stacks.GPU{Count: 1, Resource: "nvidia.com/mig-1g.10gb"}, 7, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if devices, on, _ := GPUs(nodes, c.want); int(devices) != c.devices || on != c.on {
				t.Errorf("got %d on %d nodes, want %d on %d", devices, on, c.devices, c.on)
			}
		})
	}
}

func TestHasImage(t *testing.T) {
	node := func(images int, names ...string) corev1.Node {
		n := corev1.Node{}
		for range images {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{"x"}})
		}
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: names})
		return n
	}

	for name, c := range map[string]struct {
		nodes     []corev1.Node
		has, sure bool
	}{
		"there":         {[]corev1.Node{node(0, "docker.io/codexcontinue/ml:1")}, true, true},
		"on one of two": {[]corev1.Node{node(0, "docker.io/codexcontinue/ml:1"), node(0)}, false, true},
		"nowhere":       {[]corev1.Node{node(0, "docker.io/codexcontinue/ml:2")}, false, true},
		"a full list":   {[]corev1.Node{node(manyImages)}, false, false},
		"no nodes":      {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if has, sure := HasImage(c.nodes, "codexcontinue/ml:1"); has != c.has ||
				sure != c.sure {
				t.Errorf("got %v, %v, want %v, %v", has, sure, c.has, c.sure)
			}
		})
	}

	for ref, want := range map[string]string{
		"redis:8":                  "docker.io/library/redis:8",
		"ollama/ollama:1":          "docker.io/ollama/ollama:1",
		"registry.example.com/x:1": "registry.example.com/x:1",
		"localhost/x:1":            "localhost/x:1",
		"host:5000/x":              "host:5000/x",
	} {
		if got := FullRef(ref); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	wrap := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://10.0.0.1:6443/", Err: err}
	}
	for want, cause := range map[string]error{
		"is not running: nothing listens there": wrap(syscall.ECONNREFUSED),
		"does not answer in time":               context.DeadlineExceeded,
		"certificate that the kubeconfig does not": wrap(errors.New("tls: failed to verify " +
			"certificate: x509: certificate signed by unknown authority")),
		"credentials that cannot be had": wrap(errors.New("getting credentials: exec: executable " +
			"gke-gcloud-auth-plugin not found")),
	} {
		e := &Unreachable{Context: "lab", Server: "https://10.0.0.1:6443", Cause: cause}
		if !strings.Contains(e.Error(), want) ||
			!strings.Contains(e.Error(), "https://10.0.0.1:6443 (context lab)") ||
			strings.Contains(e.Error(), "\n") {
			t.Errorf("%q does not say %q", e.Error(), want)
		}
	}
}

func TestContexts(t *testing.T) {
	home := t.TempDir()
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(home, ".kube"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".kube", "config"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	expect := func(o Options, want string) {
		t.Helper()
		o.Getenv = getenv
		if _, err := Connect(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}

	expect(Options{}, "there is no Kubernetes context")
	write("contexts: [{name: a, context: {cluster: x}}, {name: b, context: {cluster: x}}]\n")
	expect(Options{},
		"chooses no context: set codexcontinue:kubernetes: {context: ...}, or choose with "+
			"`kubectl config use-context` (it has a, b)")
	expect(Options{Context: "c"}, `has no context "c": correct codexcontinue:kubernetes.context`)
	write("not: [yaml")
	expect(Options{}, "cannot be used")
}

func TestDenial(t *testing.T) {
	got := denial(`pods is forbidden: User "ada" cannot list resource "pods" ` +
		`in API group "" in the namespace "codexcontinue-lab"`)
	if got != "ada may not list pods in the namespace codexcontinue-lab" {
		t.Errorf("got %q", got)
	}
}

// TestFailed checks that only what RBAC forbids is told as a lack of rights.
func TestFailed(t *testing.T) {
	c, _ := lab()
	jobs := schema.GroupResource{Group: "batch", Resource: "jobs"}
	for why, want := range map[string]string{
		`User "ada" cannot create resource "jobs" in API group "batch"`: "forbidden: ada may not " +
			"create jobs.batch: ask the cluster's administrator for the permission",
		"exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=4, limited: " +
			"count/jobs.batch=4": "the namespace's quota few is exceeded",
		"unable to create new content in namespace x because it is being terminated": "unable to " +
			"create new content in namespace x because it is being terminated",
	} {
		err := c.failed("make job x", apierrors.NewForbidden(jobs, "x", errors.New(why)))
		rights := strings.Contains(err.Error(), "permission")
		if !strings.Contains(err.Error(), want) || rights != strings.Contains(want, "permission") {
			t.Errorf("got %v, want it to hold %q", err, want)
		}
	}
}

// TestUnblock checks that, if the update of a StatefulSet waits for a broken pod of an older
// revision, that pod is deleted and no other.
func TestUnblock(t *testing.T) {
	s := &appsv1.StatefulSet{
		ObjectMeta: object("redis", "", ""),
		Status:     appsv1.StatefulSetStatus{CurrentRevision: "old", UpdateRevision: "new"},
	}

	pod := func(name, revision string, change func(*corev1.Pod)) *corev1.Pod {
		p := runningPod(name, change)
		p.OwnerReferences[0] = metav1.OwnerReference{
			Kind:       "StatefulSet",
			Name:       "redis",
			UID:        "redis",
			Controller: ptr(true),
		}

		p.Labels[appsv1.ControllerRevisionHashLabelKey] = revision
		return p
	}

	broken := waiting("ErrImagePull", "not found", 0, nil)
	pods := []*corev1.Pod{
		pod("redis-0", "old", broken), pod("redis-1", "old", nil), pod("redis-2", "new", broken),
	}
	c, api := lab(pods[0], pods[1], pods[2])
	o := &Observer{c: c}
	o.unblock(t.Context(), observation{statefulSets: []*appsv1.StatefulSet{s}, pods: pods},
		"backend")
	list, err := api.CoreV1().Pods(c.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 || list.Items[0].Name != "redis-1" ||
		list.Items[1].Name != "redis-2" {
		t.Errorf("left are %v, %v", list.Items, err)
	}
}

// TestObserve watches a fake API server until a finding is certain.
func TestObserve(t *testing.T) {
	seen := rollout(waiting("InvalidImageName", "couldn't parse image name", 0, nil))
	for _, p := range seen.pods {
		p.Spec.Containers[0].Image = "UPPER/case"
	}

	c, _ := lab(seen.deployments[0], seen.replicaSets[0], seen.replicaSets[1], seen.pods[0],
		seen.pods[1])
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o := c.Observe(ctx, nil)
	o.Begin(Work{Service: "backend", Kind: "deploy"})
	found := o.Watch(ctx, nil)
	if len(found) != 1 || found[0].Service != "backend" ||
		!strings.Contains(found[0].What, "UPPER/case cannot be pulled") {
		t.Errorf("got %+v", found)
	}

	o.End(Work{Service: "backend", Kind: "deploy"}, true)
	if found := o.Failed(ctx); len(found) != 1 {
		t.Errorf("after the step failed: %+v", found)
	}
}
