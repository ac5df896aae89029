package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/codexcontinue/codexcontinue/infra/kubernetes"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// behindGateway is the edge of a cluster where a gateway ends TLS before it, which is trusted. The
// tests have none: its address is one that nobody has, and they come to the edge themselves.
const behindGateway = "edge: {address: 0.0.0.0, port: 80, trustedProxies: [192.0.2.1/32]}\n"

// clusterWanted skips unless there is a cluster, what Pulumi needs for it, and Docker,
// which builds the images.
func clusterWanted(t *testing.T) (kubeconfig, containerd string) {
	t.Helper()
	engineWanted(t)
	peers.Find(t, "pulumi", "pulumi")
	peers.KubernetesPlugin(t)
	peers.Find(t, "chromium", "chromium")
	return peers.Cluster(t)
}

// TestKubernetes is the life of a prod stack whose target is a cluster: the same sources and
// settings as TestProd but for the target, and the same promises.
func TestKubernetes(t *testing.T) {
	kubeconfig, containerd := clusterWanted(t)
	const stack, password = "e2e-cluster", "open-sesame-in-the-cluster"
	c := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	settings := func(more string) {
		values := "overlay: prod\ntarget: kubernetes\nmodel: {base: ./tiny.gguf}\n" +
			behindGateway +
			"signIn: {accounts: true}\n" +
			"volumes: {redis-data: {size: 1Gi}, ollama-data: {size: 1Gi}}\n" + more
		c.change(t, stack, values)
	}

	c.ownWeights(t)
	settings("")
	c.usePulumi(t, stack)
	c.must(t, time.Minute, "pulumi", "stack", "init", stack)
	c.secret(t, stack, "codexcontinue:redisPassword", password)
	said := upServes(t, c, n, stack, "--load", "--into", "containerd="+containerd)
	url := c.url(t, stack)

	ada := c.invite(t, stack, url, "ada", "--admin")
	b := newBrowser(t)
	b.signIn(t, ada, url)
	chat(t, b, url+"/")
	b.screenshot(t, "kubernetes")
	c.forward(t, stack, "38080", ada)

	t.Run("an operator looks inside", func(t *testing.T) { looksInside(t, c, stack) })
	t.Run("maintenance", func(t *testing.T) { showsNotice(t, c, stack, url) })
	t.Run("a command of its own", func(t *testing.T) { runsOnce(t, c, stack) })
	t.Run("the audit has the commands", func(t *testing.T) { commandsAudited(t, c, stack) })
	t.Run("preview is clean", func(t *testing.T) {
		noChanges(t, c, stack)
		c.must(t, 5*time.Minute, "pulumi", "refresh", "--yes", "-s", stack, "--non-interactive")
		noChanges(t, c, stack)
	})

	t.Run("the secret shows nowhere", func(t *testing.T) {
		looked := map[string]string{
			"up":        said,
			"preview":   c.preview(t, stack, "--diff"),
			"logs":      n.logs(t),
			"processes": c.must(t, time.Minute, "ps", "axeww"),
			"state":     c.must(t, time.Minute, "pulumi", "stack", "export", "-s", stack),
		}

		// A service's password is derived: what is typed is in no object.
		own := stacks.File{Secret: stacks.RedisPassword, Content: stacks.SecretFor("redis user ml")}
		derived := own.Text(password)
		holders := 0
		for name, text := range n.objects(t) {
			if strings.HasPrefix(name, "Secret/") {
				if shows(text, derived) {
					holders++
				}
				if shows(text, password) {
					t.Errorf("%s holds the password that all others are derived of", name)
				}
				continue // the one place for it
			}
			looked[name] = text
		}

		if holders == 0 {
			t.Error("no Secret holds it: this test looks for the wrong text")
		}

		for where, text := range looked {
			if shows(text, password) || shows(text, derived) {
				t.Errorf("%s shows the secret", where)
			}
		}
	})

	t.Run("a changed limit rolls its Deployment only, and fails no request", func(t *testing.T) {
		before := n.uids(t)
		people := startLoad(t, ada, 4)
		settings("services: {backend: {memory: 512Mi}}")
		upServes(t, c, n, stack)
		people.noneFailed(t)
		replacedOnly(t, before, n.uids(t), stacks.Backend)
		for _, p := range n.pods(t, stacks.Backend) {
			if got := p.Spec.Containers[0].Resources.Limits.Memory().String(); got != "512Mi" {
				t.Errorf("%s has %s of memory", p.Name, got)
			}
		}
	})

	t.Run("an autoscaler comes and goes, and takes no pod with it", func(t *testing.T) {
		autoscaled(t, c, n, stack, settings)
	})

	t.Run("a deleted pod comes back, with its data", func(t *testing.T) {
		n.kill(t, stacks.Frontend)
		n.kill(t, stacks.Redis)
		conversationIsThere(t, b, url)
		noChanges(t, c, stack)
	})

	t.Run("a changed prompt makes the model again", func(t *testing.T) {
		const from, to = "You are CodexContinue,", "You are the changed CodexContinue,"
		before, jobs := n.uids(t), n.jobs(t)
		if got := n.system(t, "ollama-0", "codexcontinue"); !strings.HasPrefix(got, from) {
			t.Errorf("the model's prompt is %q", got)
		}

		edit(t, c, "modelfiles/codexcontinue/Modelfile", from, to)
		// The Pulumi CLI's words, or codexctl's.
		out := c.preview(t, stack, "--diff")
		if !strings.Contains(out, "kubernetes:batch/v1:Job") &&
			!strings.Contains(strings.Join(strings.Fields(out), " "), "replace job model") {
			t.Errorf("the preview shows no Job:\n%s", tail(out, 30))
		}

		upServes(t, c, n, stack)
		if got := n.system(t, "ollama-0", "codexcontinue"); !strings.HasPrefix(got, to) {
			t.Errorf("the model's prompt is still %q", got)
		}
		if after := n.jobs(t); len(after) != 1 || len(jobs) != 1 || after[0] == jobs[0] {
			t.Errorf("jobs were %v, are %v", jobs, after)
		}

		replacedOnly(t, before, n.uids(t), stacks.ML)
	})

	// Before an `up` that replaces the backend anyway.
	t.Run("a secret of a service is that service's", func(t *testing.T) {
		hasSecrets(t, c, n, stack)
	})
	t.Run("a changed secret reaches who needs it", func(t *testing.T) {
		changedSecret(t, c, n, stack, url)
	})
	t.Run("a pod that leaves serves who has not heard", func(t *testing.T) { leaving(t, n) })
	t.Run("one writer, whatever changes", func(t *testing.T) {
		oneWriter(t, c, n, stack, ada, settings)
	})
	t.Run("plain pulumi up waits too", func(t *testing.T) { plainUp(t, c, n, stack, settings) })
	t.Run("more replicas of Ollama share the work", func(t *testing.T) {
		moreReplicas(t, c, n, stack, ada)
	})
	t.Run("what cannot be says so at once", func(t *testing.T) {
		badUpdates(t, c, n, stack, settings)
	})
	t.Run("down keeps the claims, up finds the conversation", func(t *testing.T) {
		c.must(t, 5*time.Minute, "bin/codexctl", "down", stack)
		left := slices.Sorted(maps.Keys(n.objects(t)))
		want := []string{
			"PersistentVolumeClaim/ollama-data-ollama-0",
			"PersistentVolumeClaim/redis-data-redis-0",
			"Secret/tokens", // which is not the stack's
		}
		if !slices.Equal(left, want) {
			t.Errorf("left after down: %v, want %v", left, want)
		}

		upServes(t, c, n, stack)
		conversationIsThere(t, b, c.url(t, stack))
		c.must(t, 5*time.Minute, "bin/codexctl", "down", "--volumes", "--yes", stack)
		n.gone(t)
	})
}

// shows reports whether the text has the secret in it, as it is or as objects have it.
func shows(text, secret string) bool {
	return strings.Contains(text, secret) ||
		strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret)))
}

// ownWeights puts the tiny model's weights beside the Modelfile. On Docker the volume begins as a
// copy of what is in the test image, the model "tiny" with it; a claim is empty, and from the
// cluster no registry can be reached.
func (c *checkout) ownWeights(t *testing.T) {
	t.Helper()
	f, err := os.Create(c.path("modelfiles/codexcontinue/tiny.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tinymodel.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// badUpdates breaks a stack that is up, one way after the other, and leaves it as it was.
func badUpdates(t *testing.T, c *checkout, n *namespace, stack string, settings func(string)) {
	const fewer = "services: {backend: {memory: 512Mi}}"
	quota := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}},
	}

	if _, err := n.CoreV1().ResourceQuotas(n.name).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	settings("services: {backend: {memory: 600Mi}}")
	c.refused(t, stack, time.Minute, "backend: the namespace's quota few is exceeded",
		"services: {backend: {")
	if err := n.CoreV1().ResourceQuotas(n.name).Delete(t.Context(), "few", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	settings(fewer)
	source, err := os.ReadFile(c.path("services/backend/main.go"))
	if err != nil {
		t.Fatal(err)
	}

	edit(t, c, "services/backend/main.go", "func main() {",
		"var _ = \"nobody loads this\"\n\nfunc main() {")
	c.refused(t, stack, time.Minute, "is not in the cluster", "codexctl images load "+stack)
	if err := os.WriteFile(c.path("services/backend/main.go"), source, 0o644); err != nil {
		t.Fatal(err)
	}

	upServes(t, c, n, stack)
}

// TestKubernetesRefused asks for stacks that a cluster cannot have: each is one clear error,
// before anything is made.
func TestKubernetesRefused(t *testing.T) {
	kubeconfig, _ := clusterWanted(t)
	const stack = "e2e-refused"
	c := newCheckout(t)
	n := inCluster(t, kubeconfig, kubernetes.Namespace(stack))
	const values = "overlay: dev\ntarget: kubernetes\nmodel: {base: tiny}\n"
	for _, x := range []struct {
		name, values string
		kubeconfig   string
		want         []string
	}{
		{"no kubeconfig", values, "/nowhere/kubeconfig", []string{"KUBECONFIG"}},
		{"no such context", values + "kubernetes: {context: elsewhere}", kubeconfig, []string{"elsewhere"}},
		{"no such storage class", values + "volumes: {redis-data: {class: fast}}", kubeconfig,
			[]string{`no storage class "fast"`, "standard"}},
		{"forbidden", values, reader(t, n), []string{"forbidden by RBAC", "e2e-reader", "namespaces"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c.settings(t, stack, x.values)
			d := &checkout{dir: c.dir, env: append(slices.Clone(c.env), "KUBECONFIG="+x.kubeconfig)}
			d.refused(t, stack, 30*time.Second, x.want...)
			if _, err := n.CoreV1().Namespaces().Get(t.Context(), n.name,
				metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("the namespace was made, or: %v", err)
			}
		})
	}
}

// reader is a kubeconfig of somebody who may look at the cluster, and change nothing.
func reader(t *testing.T, n *namespace) string {
	t.Helper()
	const name = "e2e-reader"
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects: []rbacv1.Subject{{
			Kind:      rbacv1.ServiceAccountKind,
			Namespace: metav1.NamespaceDefault,
			Name:      name,
		}},
	}

	accounts := n.CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = accounts.Delete(context.Background(), name, metav1.DeleteOptions{})
		_ = n.RbacV1().ClusterRoleBindings().Delete(context.Background(), name,
			metav1.DeleteOptions{})
	})

	if _, err := n.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	token, err := accounts.CreateToken(t.Context(), name, &authv1.TokenRequest{},
		metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	config, err := clientcmd.LoadFromFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}

	for _, user := range config.AuthInfos {
		user.ClientCertificateData, user.ClientKeyData, user.Token = nil, nil, token.Status.Token
	}

	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}

	return file
}

// refused wants an up that fails within a time, with those words, and without a message
// of more than a screen. Where the machine is busy with something else it may be late twice.
func (c *checkout) refused(t *testing.T, stack string, within time.Duration, want ...string) {
	t.Helper()
	var took time.Duration
	for range 3 {
		start := time.Now()
		out, errOut, err := c.run(t, 5*time.Minute, "bin/codexctl", "up", stack)
		took = time.Since(start)
		if err == nil {
			t.Fatalf("up went well, want it to say %q", want)
		}

		for _, w := range want {
			if !strings.Contains(out+errOut, w) {
				t.Fatalf("up does not say %q:\n%s\n%s", w, tail(out, 20), tail(errOut, 40))
			}
		}

		if took <= within {
			return
		}
	}

	t.Errorf("it took %s and not less before, want at most %s", took.Round(time.Second), within)
}

// change rewrites the values of a stack's settings and leaves its secrets.
func (c *checkout) change(t *testing.T, stack, values string) {
	t.Helper()
	file := c.path("Pulumi." + stack + ".yaml")
	var secrets []string
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}

	lines := strings.Split(string(old), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "encryptionsalt:") {
			secrets = append([]string{line}, secrets...)
		}
		if strings.HasPrefix(strings.TrimSpace(line), "secure:") {
			secrets = append(secrets, lines[i-1], line)
		}
	}

	c.settings(t, stack, values)
	if len(secrets) == 0 {
		return
	}

	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	text := secrets[0] + "\n" + string(now) + strings.Join(secrets[1:], "\n") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// url is the address of the edge's load balancer.
func (c *checkout) url(t *testing.T, stack string) string {
	t.Helper()
	var status struct{ URL string }
	if err := json.Unmarshal([]byte(c.must(t, time.Minute, "bin/codexctl", "status", "--json", stack)),
		&status); err != nil || status.URL == "" {
		t.Fatalf("status tells no address: %v", err)
	}
	return strings.TrimSuffix(status.URL, "/")
}

func conversationIsThere(t *testing.T, b *browser, url string) {
	t.Helper()
	modelReady(t, url) // whose connections go to the pod's former address for a moment
	path, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname"))
	if err != nil {
		t.Fatal(err)
	}

	b.run(t, time.Minute, chromedp.Navigate(url+path), chromedp.Reload())
	b.waitFor(t, time.Minute, "the conversation of before",
		"document.body.innerText.includes("+js(answer)+")")
}

// jobs are the names of the namespace's Jobs.
func (n *namespace) jobs(t *testing.T) []string {
	t.Helper()
	list, err := n.BatchV1().Jobs(n.name).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	var out []string
	for _, j := range list.Items {
		out = append(out, j.Name)
	}

	return out
}

// gone waits until the namespace is no more: the API server answers the removal before it is done.
func (n *namespace) gone(t *testing.T) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		ns, err := n.CoreV1().Namespaces().Get(t.Context(), n.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		if err != nil || ns.DeletionTimestamp == nil || time.Since(start) > 5*time.Minute {
			t.Fatalf("namespace %s is still there after %s (%v)", n.name, time.Since(start), err)
		}
	}
}

// forward wants an answer through `codexctl forward`, the way to a stack without a load balancer.
func (c *checkout) forward(t *testing.T, stack, port string, as *person) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, c.path("bin/codexctl"), "forward", "--port", port, stack)
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stop(); _ = cmd.Wait() }()

	site := "http://127.0.0.1:" + port
	modelReady(t, site)
	client := as.at(t, site).client()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := fullAnswer(ctx, client, site)
		if err == nil {
			return
		}
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("nothing through `codexctl forward`: %v", err)
		}
	}
}
