package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
)

// Destination is where a cluster's nodes take images from, and the tool that puts them there.
type Destination struct {
	// Tool is kind, k3d, minikube, containerd or engine, which is a cluster that runs on the
	// Docker engine's own images.
	Tool string

	// Name is the tool's name of the cluster; for containerd the path of its socket.
	Name string

	environ environ.Vars
}

func (d Destination) String() string {
	switch d.Tool {
	case "containerd":
		return "containerd at " + d.Name
	case "engine":
		return "the Docker engine that the cluster runs on"
	}
	return d.Tool + " cluster " + d.Name
}

// The default sockets of containerd: as packaged, and inside k3s.
var sockets = []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"}

// Find returns the destination for the cluster with that context and those nodes. into is the value
// of --into: empty to detect it, a tool, tool=NAME, or containerd=SOCKET.
func Find(into, context string, nodes []corev1.Node, env []string) (Destination, error) {
	d := Destination{environ: env}
	tool, name, _ := strings.Cut(into, "=")
	switch tool {
	case "":
		tool = detect(context, nodes)
		if tool == "" {
			return d, errors.New("images: what kind of cluster this is cannot be told from its " +
				"context and nodes: say --into kind, k3d, minikube or containerd=SOCKET, or name " +
				"a registry that it pulls from (codexcontinue:registry)")
		}
	case "kind", "k3d", "minikube", "containerd":
	default:
		return d, fmt.Errorf("images: --into %s: is none of kind, k3d, minikube, "+
			"containerd[=SOCKET]",
			into)
	}

	if name != "" && tool != "containerd" {
		d.Tool, d.Name = tool, name
		return d, nil
	}

	d.Tool = tool
	switch tool {
	case "kind", "k3d":
		d.Name = strings.TrimPrefix(context, tool+"-")
		if d.Name == context { // the context has another name, but the nodes carry the cluster's
			for _, n := range nodes {
				for _, part := range []string{"-control-plane", "-server-0"} {
					if base, ok := strings.CutSuffix(n.Name, part); ok {
						d.Name = strings.TrimPrefix(base, "k3d-")
					}
				}
			}
		}
	case "minikube":
		d.Name = context
		for _, n := range nodes {
			if profile := n.Labels["minikube.k8s.io/name"]; profile != "" {
				d.Name = profile
			}
		}
	case "containerd":
		if d.Name = name; name == "" {
			i := slices.IndexFunc(sockets, func(path string) bool {
				_, err := os.Stat(path)
				return err == nil
			})
			if i < 0 {
				return d, fmt.Errorf("images: containerd listens on none of %s: say --into "+
					"containerd=SOCKET",
					strings.Join(sockets, ", "))
			}

			d.Name = sockets[i]
		}

		if _, err := os.Stat(d.Name); err != nil {
			return d, fmt.Errorf("images: containerd: %w: it has to run on this machine", err)
		}
	}

	return d, nil
}

// detect returns the kind of cluster from its context's name and its nodes, or "".
func detect(context string, nodes []corev1.Node) string {
	for _, n := range nodes {
		switch {
		case strings.HasPrefix(n.Spec.ProviderID, "kind://"):
			return "kind"
		case n.Labels["minikube.k8s.io/name"] != "":
			return "minikube"
		case strings.HasPrefix(n.Name, "k3d-"):
			return "k3d"
		case strings.HasPrefix(n.Status.NodeInfo.ContainerRuntimeVersion, "docker://"):
			return "engine"
		}
	}

	for _, tool := range []string{"kind", "k3d"} {
		if strings.HasPrefix(context, tool+"-") {
			return tool
		}
	}

	switch context {
	case "minikube":
		return "minikube"
	case "docker-desktop":
		return "engine"
	}

	// One node that is this machine.
	if host, err := os.Hostname(); err == nil && len(nodes) == 1 && nodes[0].Name == host &&
		strings.HasPrefix(nodes[0].Status.NodeInfo.ContainerRuntimeVersion, "containerd://") {
		return "containerd"
	}

	return ""
}

// Has reports which of the images are there already. It asks containerd, or reads what the nodes
// report, which is late: an image that they do not list yet is loaded again, which does no harm.
func (d Destination) Has(
	ctx context.Context, refs []string, nodes []corev1.Node,
) (map[string]bool, error) {
	out := map[string]bool{}
	switch d.Tool {
	case "engine":
		for _, r := range refs {
			out[r] = true
		}
		return out, nil
	case "containerd":
		list, err := d.run(ctx, "ctr",
			"--address", d.Name, "--namespace", "k8s.io", "images", "ls", "-q")
		if err != nil {
			return nil, err
		}

		there := strings.Fields(list)
		for _, r := range refs {
			out[r] = slices.Contains(there, cluster.FullRef(r))
		}

		return out, nil
	}

	for _, r := range refs {
		out[r], _ = cluster.HasImage(nodes, r)
	}

	return out, nil
}

// Load puts the images there; save writes them as an archive.
func (d Destination) Load(ctx context.Context, save func(to io.Writer) error) error {
	if d.Tool == "engine" {
		return nil
	}
	if err := d.Ready(); err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "codexctl-images-")
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	defer os.RemoveAll(dir)

	path := filepath.Join(dir, "images.tar")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	if err := errors.Join(save(f), f.Close()); err != nil {
		return err
	}

	command := map[string][]string{
		"kind":       {"kind", "load", "image-archive", path, "--name", d.Name},
		"k3d":        {"k3d", "image", "import", path, "--cluster", d.Name},
		"minikube":   {"minikube", "image", "load", path, "--profile", d.Name},
		"containerd": {"ctr", "--address", d.Name, "--namespace", "k8s.io", "images", "import", path},
	}[d.Tool]

	_, err = d.run(ctx, command...)
	return err
}

// Ready returns an error if the tool is not installed, before images are built for it.
func (d Destination) Ready() error {
	program := d.Tool
	switch d.Tool {
	case "engine":
		return nil
	case "containerd":
		program = "ctr"
	}

	if _, err := d.environ.LookPath(program); err != nil {
		return fmt.Errorf("images: %s is not on PATH, and puts images into %s: install it, say "+
			"another way with --into, or name a registry (codexcontinue:registry)",
			program, d)
	}

	return nil
}

func (d Destination) run(ctx context.Context, command ...string) (string, error) {
	out, err := output(ctx, d.environ, command...)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, exec.ErrNotFound):
		return "", d.Ready()
	case ctx.Err() != nil:
		return "", ctx.Err()
	}

	return "", fmt.Errorf("images: %s: %w", strings.Join(command[:min(4, len(command))], " "), err)
}

// output runs a command and returns what it prints. The error is the last line that it prints to
// standard error, if there is one.
func output(ctx context.Context, env environ.Vars, command ...string) (string, error) {
	cmd, err := env.Command(ctx, "", command[0], command[1:]...)
	if err != nil {
		return "", err
	}

	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	if why := strings.TrimSpace(stderr.String()); why != "" {
		err = errors.New(why[strings.LastIndex(why, "\n")+1:])
	}
	return "", err
}
