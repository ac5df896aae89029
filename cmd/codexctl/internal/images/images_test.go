package images

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/codexcontinue/codexcontinue/stacks"
)

// TestContext checks that a build gets the files that its .dockerignore lets in, and nothing that
// depends on the machine.
func TestContext(t *testing.T) {
	root := fstest.MapFS{
		"services/backend/Dockerfile":              {Data: []byte("FROM scratch\n")},
		"services/backend/Dockerfile.dockerignore": {Data: []byte("**\n!go.mod\n!services/backend\n**/*_test.go\n")},
		"go.mod":                        {Data: []byte("module x\n"), Mode: 0o600},
		"secret":                        {Data: []byte("x")},
		"services/backend/main.go":      {Data: []byte("package main\n"), Mode: 0o664},
		"services/backend/main_test.go": {Data: []byte("package main\n")},
		"services/backend/generate.sh":  {Data: []byte("#!/bin/sh\n"), Mode: 0o700},
		"services/frontend/main.go":     {Data: []byte("package main\n")},
	}

	r, err := tarContext(root, stacks.Build{
		Context:    ".",
		Dockerfile: "services/backend/Dockerfile",
	})
	if err != nil {
		t.Fatal(err)
	}

	got := map[string]fs.FileMode{}
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 || h.Uid != 0 {
			t.Errorf("%s carries a time or an owner", h.Name)
		}

		got[h.Name] = h.FileInfo().Mode().Perm()
	}

	want := map[string]fs.FileMode{
		dockerfileName:                             0o644,
		"go.mod":                                   0o644,
		"services/backend/main.go":                 0o644,
		"services/backend/generate.sh":             0o755,
		"services/backend/Dockerfile":              0o644,
		"services/backend/Dockerfile.dockerignore": 0o644,
	}

	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("%s is %o, want %o", name, got[name], mode)
		}
	}

	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is sent", name)
		}
	}
}

func node(name, runtime string, labels map[string]string) []corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	n.Status.NodeInfo.ContainerRuntimeVersion = runtime
	return []corev1.Node{n}
}

func TestFind(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "containerd.sock")
	if err := os.WriteFile(sock, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	kept := sockets
	sockets = []string{sock}
	t.Cleanup(func() { sockets = kept })
	for name, c := range map[string]struct {
		into, context string
		nodes         []corev1.Node
		tool, called  string
		err           string
	}{
		"kind": {"", "kind-lab", node("lab-control-plane", "containerd://2", nil), "kind", "lab", ""},
		"kind by its node": {"", "admin",
			[]corev1.Node{{
				ObjectMeta: metav1.ObjectMeta{Name: "lab-control-plane"},
				Spec:       corev1.NodeSpec{ProviderID: "kind://docker/lab/lab-control-plane"},
			}},
			"kind", "lab", ""},
		"k3d": {"", "k3d-lab", node("k3d-lab-server-0", "containerd://2-k3s1", nil), "k3d", "lab", ""},
		"minikube": {"", "work",
			node("work", "containerd://2", map[string]string{"minikube.k8s.io/name": "work"}),
			"minikube", "work", ""},
		"docker desktop":   {"", "docker-desktop", node("docker-desktop", "docker://28", nil), "engine", "", ""},
		"this machine":     {"", "default", node(host, "containerd://2", nil), "containerd", sock, ""},
		"another machine":  {"", "default", node("elsewhere", "containerd://2", nil), "", "", "say --into"},
		"said":             {"kind=other", "kind-lab", nil, "kind", "other", ""},
		"a socket":         {"containerd=" + sock, "x", nil, "containerd", sock, ""},
		"a missing socket": {"containerd=/nonexistent", "x", nil, "", "", "/nonexistent"},
		"nonsense":         {"podman", "x", nil, "", "", "is none of kind"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Find(c.into, c.context, c.nodes, nil)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, %v, want %q", d, err, c.err)
				}
				return
			}

			if err != nil || d.Tool != c.tool || d.Name != c.called {
				t.Errorf("got %s %q, %v, want %s %q", d.Tool, d.Name, err, c.tool, c.called)
			}
		})
	}
}

// TestLoad runs programs in place of the tools, and checks how they are called and how they fail.
func TestLoad(t *testing.T) {
	for tool, want := range map[string]string{
		"kind":       "load image-archive PATH --name lab",
		"k3d":        "image import PATH --cluster lab",
		"minikube":   "image load PATH --profile lab",
		"containerd": "--address lab --namespace k8s.io images import PATH",
	} {
		t.Run(tool, func(t *testing.T) {
			dir := t.TempDir()
			program := tool
			if tool == "containerd" {
				program = "ctr"
			}

			script := `#!/bin/sh
for a in "$@"; do
	case "$a" in *.tar) cat "$a" >"` + dir + `/archive"; a=PATH;; esac
	printf '%s ' "$a"
done >"` + dir + `/args"
`

			if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}

			environ := []string{"PATH=" + dir + ":/usr/bin:/bin"}
			d := Destination{Tool: tool, Name: "lab", environ: environ}
			err := d.Load(t.Context(), func(w io.Writer) error {
				_, err := io.WriteString(w, "images")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}

			args, _ := os.ReadFile(filepath.Join(dir, "args"))
			archive, _ := os.ReadFile(filepath.Join(dir, "archive"))
			if strings.TrimSpace(string(args)) != want || string(archive) != "images" {
				t.Errorf("called with %q and %q, want %q", args, archive, want)
			}

			if err := os.WriteFile(filepath.Join(dir, program),
				[]byte("#!/bin/sh\necho no such cluster >&2; exit 1\n"), 0o700); err != nil {
				t.Fatal(err)
			}

			err = d.Load(t.Context(), func(io.Writer) error { return nil })
			if err == nil || !strings.HasSuffix(err.Error(), ": no such cluster") {
				t.Errorf("a failing tool: %v", err)
			}
		})
	}
}

// TestHas runs a program in place of ctr.
func TestHas(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ctr"),
		[]byte("#!/bin/sh\necho docker.io/codexcontinue/ml:1\necho docker.io/library/redis:8\n"),
		0o700); err != nil {
		t.Fatal(err)
	}

	environ := []string{"PATH=" + dir + ":/usr/bin:/bin"}
	refs := []string{"codexcontinue/ml:1", "codexcontinue/ml:2", "redis:8"}
	d := Destination{Tool: "containerd", Name: "x", environ: environ}
	has, err := d.Has(context.Background(), refs, nil)
	if err != nil || !has[refs[0]] || has[refs[1]] || !has[refs[2]] {
		t.Errorf("got %v, %v", has, err)
	}
}

// TestOf checks that each image is listed once, under the reference that the targets use.
func TestOf(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	build := &stacks.Build{
		Repository: "codexcontinue/x",
		Context:    ".",
		Dockerfile: "Dockerfile",
		Target:     "production",
	}

	list, err := Of(stacks.Stack{Services: []stacks.Service{
		{Name: "a", Image: stacks.Image{Build: build}},
		{Name: "b", Image: stacks.Image{Ref: "redis:8"}},
		{Name: "c", Image: stacks.Image{Build: build}},
	}},
		root)
	if err != nil || len(list) != 2 || !strings.HasPrefix(list[0].Ref, "codexcontinue/x:") ||
		list[1].Ref != "redis:8" {
		t.Fatalf("got %+v, %v", list, err)
	}

	if !slices.ContainsFunc(list, func(x Image) bool { return x.Build == nil }) {
		t.Error("an image that is pulled counts as built")
	}
}

// TestOfKept checks that an image of an earlier release has its own reference, and is not built.
func TestOfKept(t *testing.T) {
	build := &stacks.Build{Repository: "codexcontinue/x", Context: ".", Dockerfile: "missing"}
	list, err := Of(stacks.Stack{Services: []stacks.Service{
		{Name: "a", Image: stacks.Image{Build: build, Kept: "codexcontinue/x:1"}},
	}}, t.TempDir())
	if err != nil || len(list) != 1 || list[0].Ref != "codexcontinue/x:1" || !list[0].Kept {
		t.Errorf("got %+v, %v", list, err)
	}
}
