package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optrefresh"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// lab is a small stack on the real engine, through the real CLI and the real provider plugin.
type lab struct {
	t     *testing.T
	api   *client.Client
	root  string
	ref   string
	state string // the file backend's folder
	stack stacks.Stack
	pul   auto.Stack
}

const firstPassword, secondPassword = "correct-horse-battery", "staple-tr0ub4dor"

func newLab(t *testing.T) *lab {
	t.Helper()
	ctx := context.Background()
	peers.Find(t, "pulumi", "pulumi")
	peers.DockerPlugin(t)
	api, err := client.New(client.FromEnv)
	if err == nil {
		_, err = api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	}
	if err != nil {
		peers.Missing(t, "docker", err)
	}

	t.Cleanup(func() { api.Close() })

	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatal(err)
	}

	l := &lab{t: t, api: api, root: t.TempDir()}
	name := "it" + hex.EncodeToString(random[:])
	l.ref = "codexcontinue-" + name + ":1"
	l.importProbe()
	l.write("Pulumi.yaml", "name: codexcontinue\nruntime: go\nmain: infra\n")
	l.write("infra/main.go", "package main\n")
	l.write("services/built/Dockerfile",
		"FROM scratch AS base\nCOPY probe /probe\nFROM base AS production\n"+
			"ENTRYPOINT [\"/probe\"]\n")
	l.write("services/built/Dockerfile.dockerignore", "**\n!probe\n")
	port, err := strconv.Atoi(peers.FreePort(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	l.stack = labStack(name, l.ref, port)

	l.state = t.TempDir()
	l.pul, err = auto.UpsertStackInlineSource(ctx, name, "codexcontinue",
		func(ctx *pulumi.Context) error {
			out, err := deploy(ctx, l.stack, l.root)
			ctx.Export("containers", out.Containers)
			return err
		}, auto.WorkDir(l.root), auto.EnvVars(map[string]string{
			"PULUMI_BACKEND_URL":                          "file://" + l.state,
			"PULUMI_CONFIG_PASSPHRASE":                    "test",
			"PULUMI_SKIP_UPDATE_CHECK":                    "true",
			"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
		}))
	if err != nil {
		t.Fatal(err)
	}

	l.password(firstPassword)
	t.Cleanup(l.clean)
	return l
}

func (l *lab) clean() {
	ctx := context.Background()
	if _, err := l.pul.Destroy(ctx, optdestroy.ContinueOnError()); err != nil {
		l.t.Error(err)
	}
	for _, v := range l.stack.Volumes {
		volume := "codexcontinue-" + v.Name + "-" + l.stack.Name
		if _, err := l.api.VolumeRemove(ctx, volume, client.VolumeRemoveOptions{}); err != nil {
			l.t.Error(err)
		}
	}

	images, err := l.api.ImageList(ctx,
		client.ImageListOptions{Filters: make(client.Filters).Add("reference",
			"codexcontinue-"+l.stack.Name+"*")})
	if err != nil {
		l.t.Error(err)
	}

	for _, img := range images.Items {
		for _, tag := range img.RepoTags {
			if _, err := l.api.ImageRemove(ctx, tag, client.ImageRemoveOptions{}); err != nil {
				l.t.Error(err)
			}
		}
	}
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) password(value string) {
	l.t.Helper()
	if err := l.pul.SetConfig(context.Background(), "codexcontinue:redisPassword", auto.ConfigValue{
		Value:  value,
		Secret: true,
	}); err != nil {
		l.t.Fatal(err)
	}
}

// importProbe makes the image of the probe and leaves its binary in the root, for the built image.
func (l *lab) importProbe() {
	l.t.Helper()
	binary := filepath.Join(l.root, "probe")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}

	text, err := os.ReadFile(binary)
	if err != nil {
		l.t.Fatal(err)
	}

	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	header := &tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(text))}
	if err := w.WriteHeader(header); err != nil {
		l.t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		l.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}

	body, err := l.api.ImageImport(context.Background(),
		client.ImageImportSource{Source: &layer, SourceName: "-"}, l.ref,
		client.ImageImportOptions{Changes: []string{`ENTRYPOINT ["/probe"]`}})
	if err != nil {
		l.t.Fatal(err)
	}
	defer body.Close()

	if _, err := io.Copy(io.Discard, body); err != nil {
		l.t.Fatal(err)
	}
}

// labStack uses every part of the model that Docker provisions: a volume, a secret and a
// configuration file, tmpfs, a bind, a kept capability, a published port, two replicas, a
// build, a health gate.
func labStack(name, ref string, port int) stacks.Stack {
	base := stacks.Service{
		Image:    stacks.Image{Ref: ref},
		Networks: []string{"main"},
		Health: stacks.Health{
			Command:     []string{"/probe", "healthcheck"},
			Interval:    time.Second,
			Timeout:     2 * time.Second,
			StartPeriod: time.Minute,
			Retries:     3,
		},
		Replicas:     1,
		Resources:    stacks.Resources{CPU: 500, Memory: 64 * stacks.MiB, PIDs: 64},
		Security:     stacks.Security{UID: 65532, GID: 65532},
		StopGrace:    10 * time.Second,
		Log:          stacks.Log{MaxSize: 10 * stacks.MiB, MaxFiles: 3},
		StartTimeout: time.Minute,
	}

	store, built, web := base, base, base
	store.Name = "store"
	store.Env = map[string]string{"MODE": "store"}
	store.Files = []stacks.File{
		{Path: "/run/secrets/redis-password", Secret: stacks.RedisPassword},
		{Path: "/etc/store/store.conf", Content: "port 8080\n"},
	}

	store.Mounts = []stacks.Mount{
		{Kind: stacks.MountVolume, Source: "data", Target: "/data"},
		{Kind: stacks.MountTmpfs, Target: "/tmp", Size: 4 * stacks.MiB},
	}

	built.Name = "built"
	built.Image = stacks.Image{Build: &stacks.Build{
		Repository: "codexcontinue-" + name + "-built",
		Context:    ".",
		Dockerfile: "services/built/Dockerfile",
		Target:     "production",
	}}

	built.Replicas = 2
	built.DependsOn = []string{"store"}
	web.Name = "web"
	web.Ports = []stacks.Port{{Name: "http", Container: 8080, Host: port, Address: "127.0.0.1"}}
	web.Mounts = []stacks.Mount{{
		Kind:     stacks.MountBind,
		Source:   "services",
		Target:   "/services",
		ReadOnly: true,
	}}

	web.Security.KeepCapabilities = map[string]string{"NET_BIND_SERVICE": "test"}
	web.DependsOn = []string{"built"}
	web.Resources.CPU = 512_000 // more than the machine has
	return stacks.Stack{
		Name:     name,
		Networks: []stacks.Network{{Name: "main"}},
		Volumes:  []stacks.Volume{{Name: "data"}},
		Secrets:  []stacks.Secret{{Name: stacks.RedisPassword, ConfigKey: "redisPassword"}},
		Services: []stacks.Service{web, built, store},
	}
}

// service is the one in the stack, to be changed.
func (l *lab) service(name string) *stacks.Service {
	i := slices.IndexFunc(l.stack.Services, func(s stacks.Service) bool { return s.Name == name })
	return &l.stack.Services[i]
}

// said collects both streams of a command, each of which is copied by a goroutine of its own.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.buf.String() }

func (l *lab) up() string {
	l.t.Helper()
	var out said
	if _, err := l.pul.Up(context.Background(), optup.ProgressStreams(&out),
		optup.ErrorProgressStreams(&out), optup.Diff()); err != nil {
		l.t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

func (l *lab) preview() (string, map[string]int) {
	l.t.Helper()
	var out said
	res, err := l.pul.Preview(context.Background(), optpreview.ProgressStreams(&out),
		optpreview.ErrorProgressStreams(&out), optpreview.Diff())
	if err != nil {
		l.t.Fatalf("%v\n%s", err, out.String())
	}

	changes := map[string]int{}
	for op, n := range res.ChangeSummary {
		if op != "same" {
			changes[string(op)] = n
		}
	}

	return out.String(), changes
}

func (l *lab) wantClean(when string) {
	l.t.Helper()
	if text, changes := l.preview(); len(changes) > 0 {
		l.t.Fatalf("preview %s is not clean: %v\n%s", when, changes, text)
	}
}

func (l *lab) refresh() {
	l.t.Helper()
	var out bytes.Buffer
	_, err := l.pul.Refresh(context.Background(),
		optrefresh.ProgressStreams(&out), optrefresh.Diff())
	if err != nil {
		l.t.Fatalf("%v\n%s", err, out.String())
	}
}

// containers are the running containers of a service.
func (l *lab) containers(service string) []container.InspectResponse {
	l.t.Helper()
	list, err := l.api.ContainerList(context.Background(),
		client.ContainerListOptions{Filters: make(client.Filters).
			Add("label", stacks.LabelStack+"="+l.stack.Name, stacks.LabelService+"="+service)})
	if err != nil {
		l.t.Fatal(err)
	}

	var out []container.InspectResponse
	for _, c := range list.Items {
		full, err := l.api.ContainerInspect(context.Background(), c.ID,
			client.ContainerInspectOptions{})
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, full.Container)
	}

	return out
}

func (l *lab) one(service string) container.InspectResponse {
	l.t.Helper()
	all := l.containers(service)
	if len(all) != 1 {
		l.t.Fatalf("service %s has %d containers, want 1", service, len(all))
	}
	return all[0]
}

// exec runs the probe in the service's container and returns what it said.
func (l *lab) exec(service string, args ...string) (string, int) {
	l.t.Helper()
	ctx := context.Background()
	run, err := l.api.ExecCreate(ctx, l.one(service).ID, client.ExecCreateOptions{
		Cmd:          append([]string{"/probe"}, args...),
		AttachStdout: true,
		AttachStderr: true,
	})
	if err != nil {
		l.t.Fatal(err)
	}

	conn, err := l.api.ExecAttach(ctx, run.ID, client.ExecAttachOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()

	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, conn.Reader); err != nil {
		l.t.Fatal(err)
	}

	res, err := l.api.ExecInspect(ctx, run.ID, client.ExecInspectOptions{})
	if err != nil {
		l.t.Fatal(err)
	}

	return out.String(), res.ExitCode
}

func (l *lab) wantNoSecret(where, text string) {
	l.t.Helper()
	for _, secret := range []string{firstPassword, secondPassword} {
		if strings.Contains(text, secret) {
			l.t.Errorf("%s shows the password", where)
		}
	}
}

// events are what happened to the service's containers since then, oldest first, as "<action>
// <old|new> <exit code>".
func (l *lab) events(service, newID string, since time.Time) []string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream := l.api.Events(ctx, client.EventsListOptions{
		Since: fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond()),
		Until: fmt.Sprint(time.Now().Unix() + 1),
		Filters: make(client.Filters).Add("type", "container").
			Add("label", stacks.LabelStack+"="+l.stack.Name, stacks.LabelService+"="+service),
	})

	var out []string
	for {
		select {
		case m := <-stream.Messages:
			which := "old"
			if m.Actor.ID == newID {
				which = "new"
			}

			action := string(m.Action)
			if m.Action == events.ActionDie {
				action += " " + m.Actor.Attributes["exitCode"]
			}
			if !strings.HasPrefix(action, "exec_") {
				out = append(out, which+" "+action)
			}
		case err := <-stream.Err:
			if !errors.Is(err, io.EOF) {
				l.t.Fatal(err)
			}
			return out
		}
	}
}

// wantNoSecretInState reads all the file backend wrote: checkpoints, history, backups.
func (l *lab) wantNoSecretInState() {
	l.t.Helper()
	files := 0
	err := filepath.WalkDir(l.state, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		l.wantNoSecret(filepath.Base(path), string(text))
		return err
	})
	if err != nil || files == 0 {
		l.t.Errorf("read %d files of the state: %v", files, err)
	}
}

func TestRealEngine(t *testing.T) {
	peers.EndToEnd(t)
	l := newLab(t)
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		ok := t.Run(name, func(sub *testing.T) { l.t = sub; f(sub) })
		l.t = t
		if !ok {
			t.FailNow()
		}
	}

	step("up", func(t *testing.T) {
		l.wantNoSecret("up", l.up())
		l.wantClean("after up")
		l.refresh()
		l.wantClean("after refresh")
		if out := l.up(); !strings.Contains(out, "unchanged") || strings.Contains(out, "created") {
			t.Errorf("the second up changed something:\n%s", out)
		}
	})

	step("containers", func(t *testing.T) {
		for _, name := range []string{"store", "built", "web"} {
			for _, c := range l.containers(name) {
				l.wantHardened(c)
			}
		}

		if n := len(l.containers("built")); n != 2 {
			t.Errorf("built has %d containers, want 2", n)
		}

		order := []string{
			l.one("store").State.StartedAt, l.containers("built")[0].State.StartedAt,
			l.one("web").State.StartedAt,
		}
		if !slices.IsSorted(order) {
			t.Errorf("store, built, web were started at %v, want this order", order)
		}
		if out, _ := l.exec("web", "lookup", "built"); out != "2\n" {
			t.Errorf("the alias built has %q addresses, want 2", out)
		}
		if _, code := l.exec("web", "write", "/x", "y"); code == 0 {
			t.Error("the root file system can be written")
		}
		if _, code := l.exec("web", "write", "/services/x", "y"); code == 0 {
			t.Error("the read-only bind can be written")
		}
		if out, code := l.exec("store", "write", "/tmp/x", "y"); code != 0 {
			t.Errorf("/tmp cannot be written: %s", out)
		}

		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.service("web").Ports[0].Host))
		if err != nil {
			t.Errorf("the published port does not answer: %v", err)
		} else {
			conn.Close()
		}
	})

	step("secret", func(t *testing.T) {
		if out, _ := l.exec("store", "cat", "/run/secrets/redis-password"); out != firstPassword {
			t.Errorf("the secret file holds %q", out)
		}
		if out, _ := l.exec("store", "cat", "/etc/store/store.conf"); out != "port 8080\n" {
			t.Errorf("the configuration file holds %q", out)
		}

		l.wantNoSecret("inspect", l.inspectAll())
		l.wantNoSecretInState()

		before := l.one("store").ID
		l.password(secondPassword)
		text, changes := l.preview()
		l.wantNoSecret("preview", text)
		if changes["replace"] != 2 { // the files and the container
			t.Errorf("a rotated password plans %v, want 2 replacements\n%s", changes, text)
		}

		since := time.Now()
		l.wantNoSecret("up", l.up())
		after := l.one("store").ID
		if before == after {
			t.Error("the container was not replaced")
		}
		if out, _ := l.exec("store", "cat", "/run/secrets/redis-password"); out != secondPassword {
			t.Errorf("the secret file holds %q", out)
		}

		l.wantHandover("store", after, since)
		l.wantNoSecret("inspect", l.inspectAll())
		l.wantNoSecretInState()
		l.wantClean("after the rotation")
	})

	step("a live file is replaced in place", func(t *testing.T) {
		s := l.service("store")
		const file = "/run/live/greeting"
		s.Files = append(s.Files, stacks.File{
			Path: file, Secret: stacks.RedisPassword, Live: true,
			Content: "first " + stacks.SecretToken,
		})
		l.up()
		l.wantClean("after the live file")
		before := l.one("store").ID
		if out, _ := l.exec("store", "cat", file); out != "first "+secondPassword {
			t.Errorf("the live file holds %q", out)
		}
		if _, code := l.exec("store", "write", file, "x"); code == 0 {
			t.Error("the live file can be written")
		}

		s.Files[len(s.Files)-1].Content = "second " + stacks.SecretToken
		text, changes := l.preview()
		l.wantNoSecret("preview", text)
		if changes["replace"] != 1 || len(changes) != 1 {
			t.Errorf("another live file plans %v, want 1 replacement\n%s", changes, text)
		}

		l.wantNoSecret("up", l.up())
		if l.one("store").ID != before {
			t.Error("the container was replaced")
		}
		if out, _ := l.exec("store", "cat", file); out != "second "+secondPassword {
			t.Errorf("the live file holds %q", out)
		}

		l.wantNoSecret("inspect", l.inspectAll())
		l.wantNoSecretInState()
		l.refresh()
		l.wantClean("after another live file")
	})

	step("health check edit replaces", func(t *testing.T) {
		before := l.one("store").ID
		l.service("store").Health.Retries = 5
		if text, changes := l.preview(); changes["replace"] != 1 || len(changes) != 1 {
			t.Errorf("planned %v, want 1 replacement\n%s", changes, text)
		}

		l.up()
		after := l.one("store")
		if after.ID == before || after.Config.Healthcheck.Retries != 5 {
			t.Errorf("retries are %d", after.Config.Healthcheck.Retries)
		}

		l.wantClean("after the edit")
	})

	step("limits", func(t *testing.T) {
		before := l.one("store").ID
		l.service("store").Resources.Memory = 96 * stacks.MiB
		if text, changes := l.preview(); changes["update"] != 1 || len(changes) != 1 {
			t.Errorf("planned %v, want 1 update\n%s", changes, text)
		}

		l.up()
		if c := l.one("store"); c.ID != before || c.HostConfig.Memory != int64(96*stacks.MiB) ||
			c.HostConfig.MemorySwap != int64(96*stacks.MiB) {
			t.Errorf("memory is %d, with swap %d", c.HostConfig.Memory, c.HostConfig.MemorySwap)
		}

		l.service("store").Resources.PIDs = 32
		l.service("store").Resources.CPU = 1000
		if text, changes := l.preview(); changes["replace"] != 1 || len(changes) != 1 {
			t.Errorf("planned %v, want 1 replacement\n%s", changes, text)
		}

		l.up()
		if c := l.one("store"); *c.HostConfig.PidsLimit != 32 || c.HostConfig.CPUQuota != 100_000 {
			t.Errorf("pids limit is %d, CPU %d", *c.HostConfig.PidsLimit, c.HostConfig.CPUQuota)
		}

		l.wantClean("after the limits")
	})

	step("drift", func(t *testing.T) {
		limit := int64(128 * stacks.MiB)
		_, err := l.api.ContainerUpdate(context.Background(), l.one("store").ID,
			client.ContainerUpdateOptions{Resources: &container.Resources{
				Memory:     limit,
				MemorySwap: limit,
			}})
		if err != nil {
			t.Fatal(err)
		}

		l.refresh()
		if text, changes := l.preview(); changes["update"] != 1 || len(changes) != 1 {
			t.Errorf("drift of the memory plans %v, want 1 update\n%s", changes, text)
		}

		l.up()
		if c := l.one("store"); c.HostConfig.Memory != int64(96*stacks.MiB) {
			t.Errorf("memory is %d", c.HostConfig.Memory)
		}

		l.wantClean("after the drift")
	})

	step("source edit replaces one image", func(t *testing.T) {
		store, web := l.one("store").ID, l.one("web").ID
		dockerfile, err := os.ReadFile(filepath.Join(l.root, "services/built/Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}

		l.write("ignored.txt", "not in the context")
		l.wantClean("after an edit outside the context")
		l.write("services/built/Dockerfile", string(dockerfile)+"LABEL edited=yes\n")
		if text, changes := l.preview(); changes["replace"] != 3 ||
			len(changes) != 1 { // the image and two containers
			t.Errorf("planned %v, want 3 replacements\n%s", changes, text)
		}

		l.up()
		if l.one("store").ID != store || l.one("web").ID != web {
			t.Error("a service whose source did not change was replaced")
		}

		for _, c := range l.containers("built") {
			if c.Config.Labels["edited"] != "yes" {
				t.Error("an old container of built still runs")
			}
		}

		l.wantClean("after the edit")
	})

	step("a volume with one writer never has two", func(t *testing.T) {
		l.stack.Volumes[0].SingleWriter = true
		s := l.service("store")
		s.Env = map[string]string{"EDITED": "once"}
		l.up() // the option takes effect with the next replacement
		l.wantClean("after the volume has one writer")

		s.Env = map[string]string{"EDITED": "twice"}
		since := time.Now()
		l.up()
		happened := l.events("store", l.one("store").ID, since)
		died, started := slices.Index(happened, "old die 0"), slices.Index(happened, "new start")
		if died < 0 || started < died {
			t.Errorf("the volume went over %q, want the old container to end before the new one starts",
				happened)
		}

		l.wantClean("after the edit")

		// A successor that does not come up leaves the service down, says so, and the
		// next `up` repairs it.
		good, patience := s.Health, s.StartTimeout
		s.Health.Command, s.StartTimeout = []string{"/probe", "cat", "/nope"}, 3*time.Second
		_, err := l.pul.Up(context.Background())
		if err == nil || !strings.Contains(err.Error(), "store is down") {
			t.Errorf("up with a container that does not get healthy ended with %v", err)
		}

		s.Health, s.StartTimeout = good, patience
		l.up()
		l.one("store")
		l.wantClean("after the repair")
	})

	step("published port is handed over", func(t *testing.T) {
		l.service("web").Env = map[string]string{"EDITED": "yes"}
		l.up()
		if env := l.one("web").Config.Env; !slices.Contains(env, "EDITED=yes") {
			t.Errorf("environment is %v", env)
		}
	})

	step("a network edit moves every container", func(t *testing.T) {
		l.service("web").Ports, l.stack.Networks[0].Internal = nil, true
		l.up()
		for _, name := range []string{"store", "built", "web"} {
			for _, c := range l.containers(name) {
				l.wantNetwork(c)
			}
		}

		l.wantClean("after the edit")
	})

	step("an unhealthy container fails every up", func(t *testing.T) {
		s := l.service("store")
		good := s.Health
		s.Health.Command, s.Health.StartPeriod, s.Health.Retries, s.StartTimeout = []string{
			"/probe", "cat", "/nope",
		}, 0, 1, 3*time.Second
		for i := range 2 {
			if _, err := l.pul.Up(context.Background()); err == nil {
				t.Fatalf("up %d passed with an unhealthy container", i+1)
			} else {
				l.wantNoSecret("the error", err.Error())
				if said := err.Error(); !strings.Contains(said, "services.store: container ") ||
					strings.Contains(said, "services.web: container ") {
					t.Errorf("up %d does not name the cause alone: %s", i+1, said)
				}
			}
		}

		s.Health, s.StartTimeout = good, time.Minute
		l.up()
		l.one("store")
		l.wantClean("after the repair")
	})

	step("down keeps the volume", func(t *testing.T) {
		ctx := context.Background()
		if _, err := l.pul.Destroy(ctx); err != nil {
			t.Fatal(err)
		}

		labelled := make(client.Filters).Add("label", stacks.LabelStack+"="+l.stack.Name)
		left, err := l.api.ContainerList(ctx, client.ContainerListOptions{
			All:     true,
			Filters: labelled,
		})
		if err != nil || len(left.Items) > 0 {
			t.Errorf("containers are left: %v, %v", left.Items, err)
		}

		networks, err := l.api.NetworkList(ctx, client.NetworkListOptions{Filters: labelled})
		if err != nil || len(networks.Items) > 0 {
			t.Errorf("networks are left: %v, %v", networks.Items, err)
		}

		volumes, err := l.api.VolumeList(ctx, client.VolumeListOptions{Filters: labelled})
		if err != nil || len(volumes.Items) != 1 {
			t.Errorf("volumes left are %v, %v, want one", volumes.Items, err)
		}

		l.up()
		l.wantClean("after the second life")
	})
}

// inspectAll is the engine's view of every container of the stack, files carriers too.
func (l *lab) inspectAll() string {
	l.t.Helper()
	list, err := l.api.ContainerList(context.Background(), client.ContainerListOptions{All: true,
		Filters: make(client.Filters).Add("label", stacks.LabelStack+"="+l.stack.Name)})
	if err != nil {
		l.t.Fatal(err)
	}

	var out strings.Builder
	for _, c := range list.Items {
		res, err := l.api.ContainerInspect(context.Background(), c.ID,
			client.ContainerInspectOptions{Size: true})
		if err != nil {
			l.t.Fatal(err)
		}
		out.Write(res.Raw)
	}

	return out.String()
}

// wantHandover checks that the new container was healthy before the old one was stopped,
// which ended by itself.
func (l *lab) wantHandover(service, newID string, since time.Time) {
	l.t.Helper()
	happened := l.events(service, newID, since)
	healthy, stopped := slices.Index(happened, "new health_status: healthy"), slices.Index(happened,
		"old kill")
	if healthy < 0 || stopped < healthy || !slices.Contains(happened, "old die 0") {
		l.t.Errorf("the handover of %s went %q, want the new container healthy, then the old one "+
			"stopped, which exits with 0",
			service, happened)
	}
}

func (l *lab) wantHardened(c container.InspectResponse) {
	l.t.Helper()
	h := c.HostConfig
	name := strings.TrimPrefix(c.Name, "/")
	check := func(what string, ok bool, got any) {
		l.t.Helper()
		if !ok {
			l.t.Errorf("%s: %s: got %v", name, what, got)
		}
	}

	check("name",
		strings.HasPrefix(name,
			"codexcontinue-"+l.stack.Name+"-"+c.Config.Labels[stacks.LabelService]+"-"),
		name)

	check("user", c.Config.User == "65532:65532", c.Config.User)
	check("read-only root", h.ReadonlyRootfs, h.ReadonlyRootfs)
	check("dropped capabilities", slices.Equal(h.CapDrop, []string{"ALL"}), h.CapDrop)
	check("no-new-privileges", slices.Equal(h.SecurityOpt, []string{"no-new-privileges:true"}),
		h.SecurityOpt)
	check("memory", h.Memory == int64(64*stacks.MiB) && h.MemorySwap == h.Memory,
		[]int64{h.Memory, h.MemorySwap})
	cpu := int64(l.service(c.Config.Labels[stacks.LabelService]).Resources.CPU)
	check("CPU", h.CPUQuota == cpu*100 && h.CPUPeriod == 100_000, h.CPUQuota)
	check("pids", h.PidsLimit != nil && *h.PidsLimit == 64, h.PidsLimit)
	check("init", h.Init != nil && *h.Init, h.Init)
	check("restart", h.RestartPolicy.Name == container.RestartPolicyUnlessStopped, h.RestartPolicy)
	check("log",
		h.LogConfig.Type == "json-file" && h.LogConfig.Config["max-size"] == "10485760" &&
			h.LogConfig.Config["max-file"] == "3",
		h.LogConfig)

	check("health", c.State.Health != nil && c.State.Health.Status == container.Healthy,
		c.State.Health)
	check("stop timeout", c.Config.StopTimeout != nil && *c.Config.StopTimeout == 10,
		c.Config.StopTimeout)
	l.wantNetwork(c)
}

func (l *lab) wantNetwork(c container.InspectResponse) {
	l.t.Helper()
	if n := c.NetworkSettings.Networks; len(n) != 1 || n["main-"+l.stack.Name] == nil {
		l.t.Errorf("%s is on the networks %v", c.Name, n)
	}
}
