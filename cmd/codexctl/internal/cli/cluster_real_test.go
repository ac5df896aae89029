package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/utilities"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/progress"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/project"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// lab is a stack of one service in a real cluster. The real provider provisions it from a program
// that the test changes.
type lab struct {
	t         *testing.T
	app       *App
	k         *onCluster
	output    *bytes.Buffer
	session   *deploy.Session
	workload  func(ctx *pulumi.Context, ns string, provider pulumi.ResourceOption) error
	namespace string
}

const labService = stacks.Backend

func newLab(t *testing.T) *lab {
	peers.EndToEnd(t)
	peers.Find(t, "pulumi", "pulumi")
	peers.KubernetesPlugin(t)
	peers.Cluster(t)
	peers.Find(t, "docker", "docker")
	// The cluster cannot pull the image of the lab's pods.
	if out, err := exec.Command("../../../../test/cluster/cluster.sh", "load",
		stacks.RedisImage).CombinedOutput(); err != nil {
		t.Fatalf("load %s: %v: %s", stacks.RedisImage, err, out)
	}

	root, home := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"Pulumi.yaml":     "name: codexcontinue\nruntime: go\n",
		"Pulumi.lab.yaml": "config: {}\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	environ := append(os.Environ(), "PULUMI_HOME="+home, "PULUMI_BACKEND_URL=file://"+home,
		"PULUMI_CONFIG_PASSPHRASE=test")
	l := &lab{
		t:      t,
		output: &bytes.Buffer{},
		namespace: "codexctl-test-" + strings.ToLower(strings.Map(func(r rune) rune {
			if r == '/' || r == '_' {
				return '-'
			}
			return r
		}, t.Name())),
	}

	l.app = &App{environ: environ, now: time.Now}
	l.app.out, l.app.err = console.New(l.output, l.app.getenv), console.New(l.output, l.app.getenv)
	c, err := cluster.Connect(t.Context(), cluster.Options{
		Namespace: l.namespace,
		Stack:     "lab",
		Getenv:    os.Getenv,
	})
	if err != nil {
		t.Fatal(err)
	}

	l.k = &onCluster{
		Cluster: c,
		t: target{
			name:    "lab",
			project: project.Project{Root: root},
			file:    project.StackFile{Name: "lab"},
		},
		say: l.app.say,
	}

	command, err := pulumicli.Finder{
		Root:     root,
		CacheDir: home,
		Environ:  environ,
		Say:      l.app.say,
	}.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	l.session, err = deploy.Open(t.Context(), deploy.Options{
		Root:    root,
		Stack:   "lab",
		Command: command,
		Create:  true,
		Program: func(ctx *pulumi.Context) error {
			provider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{})
			if err != nil {
				return err
			}

			ns, err := newObject(ctx, "core/v1:Namespace", "namespace",
				pulumi.Map{"metadata": pulumi.Map{
					"name":   pulumi.String(l.namespace),
					"labels": labLabels(),
				}},
				pulumi.Provider(provider))
			if err != nil {
				return err
			}

			return l.workload(ctx, l.namespace,
				pulumi.Composite(pulumi.Provider(provider),
					pulumi.DependsOn([]pulumi.Resource{ns})))
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := l.session.Destroy(ctx, progress.Quiet(l.app.err, time.Now)); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})

	return l
}

// object is an object of the cluster.
type object struct{ pulumi.CustomResourceState }

// newObject makes an object of a kind (apps/v1:Deployment) by its fields. The SDK's own types of them
// would take minutes to compile.
func newObject(
	ctx *pulumi.Context, kind, name string, fields pulumi.Map, o ...pulumi.ResourceOption,
) (*object, error) {
	group, word, _ := strings.Cut(kind, ":")
	fields["apiVersion"] = pulumi.String(strings.TrimPrefix(group, "core/"))
	fields["kind"] = pulumi.String(word)
	made := &object{}
	err := ctx.RegisterResource("kubernetes:"+kind, name, fields, made,
		utilities.PkgResourceDefaultOpts(o)...)
	return made, err
}

func labLabels() pulumi.StringMap {
	return pulumi.StringMap{
		stacks.LabelProject: pulumi.String(stacks.Project),
		stacks.LabelStack:   pulumi.String("lab"),
		stacks.LabelService: pulumi.String(labService),
	}
}

func labMeta(name, ns string) pulumi.Map {
	return pulumi.Map{
		"name":      pulumi.String(name),
		"namespace": pulumi.String(ns),
		"labels":    labLabels(),
	}
}

func (l *lab) stack() stacks.Stack {
	return stacks.Stack{Name: "lab", Services: []stacks.Service{{Name: labService, Replicas: 2}}}
}

// up runs an update as the command does.
func (l *lab) up() ([]failure.Problem, time.Duration, error) {
	start := time.Now()
	_, problems, err := l.app.update(l.t.Context(), l.session, l.k, l.stack(), deploy.Release{},
		false)
	return problems, time.Since(start), err
}

// pod is what a test changes of a container that works.
type pod struct {
	image, command string
	limits         pulumi.StringMap
	// readiness and liveness are probes; nil for none.
	readiness, liveness pulumi.Map
}

// labImage is an image that the cluster has. The tests need its shell.
const labImage = stacks.RedisImage

// template returns a pod template. restart is when the pod is restarted.
func (p pod) template(ns, restart string) pulumi.Map {
	if p.image == "" {
		p.image = labImage
	}
	if p.command == "" {
		p.command = "echo up; trap 'exit 0' TERM; sleep 100000 & wait"
	}

	container := pulumi.Map{
		"name":            pulumi.String(labService),
		"image":           pulumi.String(p.image),
		"imagePullPolicy": pulumi.String("IfNotPresent"),
		"command":         pulumi.ToStringArray([]string{"sh", "-c", p.command}),
		"resources":       pulumi.Map{"limits": p.limits},
	}
	if p.readiness != nil {
		container["readinessProbe"] = p.readiness
	}
	if p.liveness != nil {
		container["livenessProbe"] = p.liveness
	}

	return pulumi.Map{
		"metadata": pulumi.Map{"labels": labLabels(), "namespace": pulumi.String(ns)},
		"spec": pulumi.Map{
			"restartPolicy":                 pulumi.String(restart),
			"terminationGracePeriodSeconds": pulumi.Int(5),
			"containers":                    pulumi.Array{container},
		},
	}
}

func (l *lab) deployment(p pod) {
	l.workload = func(ctx *pulumi.Context, ns string, o pulumi.ResourceOption) error {
		return newDeployment(ctx, ns, p, o)
	}
}

// newDeployment makes a Deployment of two pods.
func newDeployment(ctx *pulumi.Context, ns string, p pod, o ...pulumi.ResourceOption) error {
	_, err := newObject(ctx, "apps/v1:Deployment", labService, pulumi.Map{
		"metadata": labMeta(labService, ns),
		"spec": pulumi.Map{
			"replicas": pulumi.Int(2),
			"selector": pulumi.Map{"matchLabels": labLabels()},
			"template": p.template(ns, "Always"),
		},
	}, o...)

	return err
}

// limited makes a Deployment of two pods in a namespace with a quota of pods.
func limited(ctx *pulumi.Context, ns, pods string, p pod, o pulumi.ResourceOption) error {
	quota, err := newObject(ctx, "core/v1:ResourceQuota", "quota",
		pulumi.Map{
			"metadata": pulumi.Map{
				"name":      pulumi.String("few"),
				"namespace": pulumi.String(ns),
			},
			"spec": pulumi.Map{"hard": pulumi.Map{"pods": pulumi.String(pods)}},
		}, o)
	if err != nil {
		return err
	}

	return newDeployment(ctx, ns, p, o, pulumi.DependsOn([]pulumi.Resource{quota}))
}

// TestRealCluster follows a service through its life in a real cluster, with the real provider.
func TestRealCluster(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	l.deployment(pod{})
	if problems, _, err := l.up(); err != nil {
		t.Fatalf("up: %v: %v\n%s", err, problems, l.output)
	}

	before, err := l.k.Replicas(ctx, labService)
	if err != nil || len(before) != 2 || !before[0].Healthy || before[0].Node == "" ||
		before[0].Image != labImage {
		t.Fatalf("replicas: %+v, %v", before, err)
	}

	t.Run("restart shows in no preview", func(t *testing.T) {
		// A follower sees the old pods and the new ones.
		following, stop := context.WithCancel(ctx)
		lines, done := make(chan string, 100), make(chan error, 1)
		go func() {
			done <- l.k.Logs(following, labService, running.LogOptions{Tail: -1, Follow: true},
				func(r running.Replica, text string) {
					lines <- r.Name + " " + text
				})
		}()

		seen := map[string]bool{}
		expect := func(n int) {
			t.Helper()
			for timeout := time.After(time.Minute); len(seen) < n; {
				select {
				case line := <-lines:
					seen[line] = true
				case <-timeout:
					t.Fatalf("saw %v, want %d lines", seen, n)
				}
			}
		}

		expect(2)
		if err := l.k.Restart(ctx, labService, time.Minute, func(string, time.Duration) {}); err != nil {
			t.Fatal(err)
		}

		expect(4)
		stop()
		if err := <-done; err != nil {
			t.Errorf("follow: %v", err)
		}

		after, err := l.k.Replicas(ctx, labService)
		if err != nil || len(after) != 2 || after[0].Name == before[0].Name {
			t.Errorf("replicas after the restart: %+v, %v", after, err)
		}

		result, err := l.session.Preview(ctx, progress.Quiet(l.app.err, time.Now))
		if err != nil || len(result.Steps) != 0 {
			t.Errorf("preview after the restart: %+v, %v", result.Steps, err)
		}
		if _, err := l.session.Up(ctx, progress.Quiet(l.app.err, time.Now),
			deploy.Release{}, true); err != nil {
			t.Errorf("up after a refresh: %v", err)
		}

		again, err := l.k.Replicas(ctx, labService)
		if err != nil || len(again) != 2 || again[0].Name != after[0].Name {
			t.Errorf("replicas after up with refresh: %+v, %v: the restart was undone", again, err)
		}
	})

	t.Run("a command of its own", func(t *testing.T) {
		list, err := l.k.Replicas(ctx, labService)
		if err != nil || len(list) == 0 {
			t.Fatalf("replicas: %+v, %v", list, err)
		}

		for in, want := range map[string]string{"": "out\n", "in\n": "in\nout\n"} {
			var out strings.Builder
			s := running.Streams{Out: &out, Err: &out}
			if in != "" {
				s.In = strings.NewReader(in)
			}
			code, err := l.k.RunOnce(ctx, list[0], running.Once{
				Args: []string{"sh", "-c", "cat; echo out; exit 5"}, Limit: time.Minute,
			}, s)
			if err != nil || code != 5 || out.String() != want {
				t.Errorf("of %q: %d, %v, %q, want %q", in, code, err, out.String(), want)
			}
		}

		_, err = l.k.RunOnce(ctx, list[0], running.Once{
			Args: []string{"/no/such/program"}, Limit: time.Minute,
		}, running.Streams{Out: io.Discard, Err: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "/no/such/program") {
			t.Errorf("a program that is not there: %v", err)
		}

		after, err := l.k.Replicas(ctx, labService)
		if err != nil || len(after) != len(list) {
			t.Errorf("replicas after it: %+v, %v", after, err)
		}
		if left, err := l.k.OneOffs(ctx); err != nil || len(left) > 0 {
			t.Errorf("left: %+v, %v", left, err)
		}
	})

	for _, c := range []struct {
		name string
		set  func()
		want []string

		// within bounds the whole update.
		within time.Duration
	}{
		{"image", func() { l.deployment(pod{image: "registry.invalid/team/app:1"}) },
			[]string{"the image registry.invalid/team/app:1 cannot be pulled", "ImagePull"}, 45 * time.Second},
		{"built image", func() { l.deployment(pod{image: "codexcontinue/backend:000000000000"}) },
			[]string{"is not in the cluster", "codexctl images load lab"}, 30 * time.Second},
		{"crash", func() { l.deployment(pod{command: "echo I cannot go on >&2; exit 3"}) },
			[]string{"it crashes", "last exit code 3", "I cannot go on"}, 45 * time.Second},
		{"no room", func() {
			l.deployment(pod{limits: pulumi.StringMap{"memory": pulumi.String("4Ti")}})
		},
			[]string{"no node has room for it", "Insufficient memory"}, 30 * time.Second},
		{"no GPU", func() {
			l.deployment(pod{limits: pulumi.StringMap{"nvidia.com/gpu": pulumi.String("1")}})
		},
			[]string{"no node has the GPU", "Insufficient nvidia.com/gpu"}, 30 * time.Second},
		{"liveness", func() {
			l.deployment(pod{
				liveness: pulumi.Map{
					"periodSeconds":    pulumi.Int(1),
					"failureThreshold": pulumi.Int(1),
					"exec": pulumi.Map{"command": pulumi.ToStringArray([]string{
						"sh", "-c", "echo no answer; exit 1",
					})},
				},
				readiness: pulumi.Map{
					"periodSeconds": pulumi.Int(1),
					"exec": pulumi.Map{
						"command": pulumi.ToStringArray([]string{"false"}),
					},
				},
			})
		}, []string{"its probe fails", "no answer"}, 60 * time.Second},
		{"job", func() {
			l.workload = func(ctx *pulumi.Context, ns string, o pulumi.ResourceOption) error {
				failing := pod{command: "echo no such model; exit 4"}
				_, err := newObject(ctx, "batch/v1:Job", "model",
					pulumi.Map{
						"metadata": labMeta("model", ns),
						"spec": pulumi.Map{
							"backoffLimit": pulumi.Int(0),
							"template":     failing.template(ns, "Never"),
						},
					}, o)

				return err
			}
		}, []string{"the job model failed", "BackoffLimitExceeded", "no such model"}, 45 * time.Second},
		{"storage class", func() {
			l.workload = func(ctx *pulumi.Context, ns string, o pulumi.ResourceOption) error {
				claim := pulumi.Map{
					"metadata": pulumi.Map{
						"name":   pulumi.String("data"),
						"labels": labLabels(),
					},
					"spec": pulumi.Map{
						"accessModes":      pulumi.ToStringArray([]string{"ReadWriteOnce"}),
						"storageClassName": pulumi.String("missing"),
						"resources": pulumi.Map{
							"requests": pulumi.Map{"storage": pulumi.String("1Gi")},
						},
					},
				}

				_, err := newObject(ctx, "apps/v1:StatefulSet", labService, pulumi.Map{
					"metadata": labMeta(labService, ns),
					"spec": pulumi.Map{
						"replicas":             pulumi.Int(1),
						"serviceName":          pulumi.String(labService),
						"selector":             pulumi.Map{"matchLabels": labLabels()},
						"template":             pod{}.template(ns, "Always"),
						"volumeClaimTemplates": pulumi.Array{claim},
					},
				}, o)

				return err
			}
		}, []string{"no storage class missing", "ProvisioningFailed"}, 45 * time.Second},
		{"quota", func() {
			l.workload = func(ctx *pulumi.Context, ns string, o pulumi.ResourceOption) error {
				return limited(ctx, ns, "1", pod{command: "echo another; sleep 100000"}, o)
			}
		}, []string{"quota few is exceeded", "FailedCreate"}, 45 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set()
			problems, took, err := l.up()
			text := &strings.Builder{}
			failure.Print(console.New(text, func(string) string { return "" }), problems)
			t.Logf("%.1f s\n%s", took.Seconds(), text)
			if err == nil || len(problems) != 1 || problems[0].Service != labService ||
				problems[0].Todo == "" {
				t.Errorf("got %+v, %v, want one problem of %s", problems, err, labService)
			}

			for _, want := range c.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}

			if took > c.within {
				t.Errorf("it took %s, want at most %s", took, c.within)
			}
		})
	}

	t.Run("the next up goes on", func(t *testing.T) {
		l.workload = func(ctx *pulumi.Context, ns string, o pulumi.ResourceOption) error {
			return limited(ctx, ns, "10", pod{command: "echo mended; sleep 100000"}, o)
		}
		if problems, took, err := l.up(); err != nil {
			t.Errorf("after %s: %v: %+v", took, err, problems)
		}
	})

	if t.Failed() {
		fmt.Println(l.output)
	}
}
