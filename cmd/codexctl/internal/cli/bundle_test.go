package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/bundle"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/sources"
	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/tinymodel"
)

// testBundle is a bundle of this checkout with a stack on a cluster that has the settings: the
// images of Redis and of ml, programs that say their names, and what more adds. It returns the
// file, its public key and the references of the images.
func testBundle(
	t *testing.T, settings, platform string, more func(d *bundle.Draft) error,
) (file, key string, refs []string) {
	t.Helper()
	root, files := copyCheckout(t)
	const settingsFile = "Pulumi.carried.yaml"
	text := "config:\n  codexcontinue:overlay: prod\n  codexcontinue:target: kubernetes\n" + settings
	if err := os.WriteFile(filepath.Join(root, settingsFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	_, stack, err := (&App{dir: root}).loadOffline("carried")
	if err != nil {
		t.Fatal(err)
	}
	list, err := images.Of(stack, root)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if x.Service == stacks.Redis || x.Service == stacks.ML {
			refs = append(refs, x.Ref)
		}
	}

	d := &bundle.Draft{Dir: t.TempDir(), Manifest: bundle.Manifest{
		Stack: "carried", Platform: platform,
	}}
	program := func(said string) string {
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	err = errors.Join(
		d.AddFile(t.Context(), bundle.Part{Name: partCodexctl}, program("codexctl")),
		d.AddMade(t.Context(), bundle.Part{Name: partCheckout}, func(w io.Writer) error {
			return bundle.Pack(root, append(files, settingsFile), w)
		}),
		d.AddProgram(t.Context(), bundle.Part{Name: partPulumi}, program("pulumi")),
		d.AddProgram(t.Context(),
			bundle.Part{Name: partPlugins + "resource-kubernetes-v4.30.0.gz"}, program("plugin")),
		d.AddImages(t.Context(), savedImages(t, refs), refs, func(string, int64, int64) {}),
		d.AddProgram(t.Context(), bundle.Part{Name: partLicences}, program("licences")),
		more(d),
	)
	if err != nil {
		t.Fatal(err)
	}

	private, public, err := bundle.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := bundle.ReadSigner(program(private))
	if err != nil {
		t.Fatal(err)
	}

	file = filepath.Join(t.TempDir(), "carried.bundle")
	if err := d.Write(t.Context(), file, signer, func(string, int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	return file, public, refs
}

// copyCheckout copies the files of this checkout, and returns their names.
func copyCheckout(t *testing.T) (root string, files []string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git lists the files of the checkout")
	}

	repository, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err = sources.Checkout{Root: repository, Environ: os.Environ()}.Tracked(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	root = t.TempDir()
	var packed bytes.Buffer
	if err := bundle.Pack(repository, files, &packed); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Unpack(func(use func(io.Reader) error) error {
		return use(bytes.NewReader(packed.Bytes()))
	}, root); err != nil {
		t.Fatal(err)
	}

	return root, files
}

func nothingMore(*bundle.Draft) error { return nil }

// savedImages is what `docker save` would write of images of these references.
func savedImages(t *testing.T, refs []string) string {
	t.Helper()
	list := map[name.Reference]v1.Image{}
	for _, ref := range refs {
		img, err := random.Image(1000, 1)
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		list[tag] = img
	}

	file := filepath.Join(t.TempDir(), "images.tar")
	if err := tarball.MultiRefWriteToFile(file, list); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBundleHasEvals: evals are packed with the Modelfile, whether or not git tracks them.
func TestBundleHasEvals(t *testing.T) {
	root, _ := copyCheckout(t)
	err := os.WriteFile(filepath.Join(root, "Pulumi.carried.yaml"),
		[]byte("config:\n  codexcontinue:overlay: prod\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	var said bytes.Buffer
	none := func(string) string { return "" }
	a := &App{dir: root, environ: os.Environ(), err: console.New(&said, none)}
	target, stack, err := a.loadOffline("carried")
	if err != nil {
		t.Fatal(err)
	}

	evals := path.Join(path.Dir(stack.Model.Modelfile), modelfiles.EvalsFile)
	for _, words := range [][]string{
		{"init", "--quiet"}, {"add", "--all"}, {"rm", "--quiet", "--cached", evals},
		{"-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all"},
	} {
		git := exec.Command("git", words...)
		git.Dir = root
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", words, err, out)
		}
	}

	b := &bundling{App: a, t: target, draft: &bundle.Draft{Dir: t.TempDir()}}
	packed, err := b.addCheckout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(packed, evals)); err != nil {
		t.Error(err)
	}
}

// TestBundleHasModels: a bundle has the base model, and the one that makes vectors of documents, of
// files or of the registry that its name names.
func TestBundleHasModels(t *testing.T) {
	root, _ := copyCheckout(t)
	var tiny bytes.Buffer
	if err := tinymodel.Write(&tiny); err != nil {
		t.Fatal(err)
	}
	weights, config := tiny.Bytes(), []byte("{}")
	digestOf := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/library/embed/manifests/latest":
			fmt.Fprintf(w, `{"config": {"mediaType": "application/vnd.docker.container.image.v1+json",
				"digest": %q, "size": %d}, "layers": [{"mediaType":
				"application/vnd.ollama.image.model", "digest": %q, "size": %d}]}`,
				digestOf(config), len(config), digestOf(weights), len(weights))
		case "/v2/library/embed/blobs/" + digestOf(config):
			_, _ = w.Write(config)
		case "/v2/library/embed/blobs/" + digestOf(weights):
			_, _ = w.Write(weights)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()

	base, own := filepath.Join(t.TempDir(), "base.gguf"), filepath.Join(t.TempDir(), "own.gguf")
	err := errors.Join(os.WriteFile(base, weights, 0o600), os.WriteFile(own, weights, 0o600))
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name, embedding, file, wantErr string
		want                           map[string]string // names of models by the part
	}{
		{
			name: "of words alone",
			want: map[string]string{bundle.BaseModel: "llama3:latest"},
		},
		{
			name: "of a file", embedding: "embed", file: own,
			want: map[string]string{
				bundle.BaseModel: "llama3:latest", bundle.EmbeddingModel: "embed:latest",
			},
		},
		{
			name: "of a registry", embedding: s.URL + "/library/embed",
			want: map[string]string{
				bundle.BaseModel:      "llama3:latest",
				bundle.EmbeddingModel: strings.TrimPrefix(s.URL, "http://") + "/library/embed:latest",
			},
		},
		{
			name: "of a registry without it", embedding: s.URL + "/library/other",
			wantErr: "it has no such model",
		},
		{
			name: "of no use", file: own,
			wantErr: "carried has no model that makes vectors, which " +
				"codexcontinue:knowledge.embedding names",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			settings := "config:\n  codexcontinue:overlay: prod\n  codexcontinue:knowledge:\n" +
				"    collections: {handbook: everybody}\n"
			if c.embedding != "" {
				settings += "    embedding: " + c.embedding + "\n"
			}
			err := os.WriteFile(filepath.Join(root, "Pulumi.carried.yaml"), []byte(settings), 0o600)
			if err != nil {
				t.Fatal(err)
			}

			var said bytes.Buffer
			a := &App{
				dir: root, environ: []string{"HOME=" + t.TempDir()}, now: time.Now,
				err: console.New(&said, func(string) string { return "" }),
			}
			target, stack, err := a.loadOffline("carried")
			if err != nil {
				t.Fatal(err)
			}

			b := &bundling{
				App: a, t: target, draft: &bundle.Draft{Dir: t.TempDir()},
				show: &modelProgress{out: a.err, now: a.now},
			}
			defer b.close()
			b.draft.Manifest.Stack = "carried"
			err = b.addModels(t.Context(), target, stack,
				bundleOptions{model: base, embedding: c.file})
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Errorf("%v, want %s", err, c.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}

			got := map[string]string{}
			r := reread(t, b.draft)
			for _, part := range []string{bundle.BaseModel, bundle.EmbeddingModel} {
				name, m, ok, err := r.Model(part)
				if err != nil || ok && len(m.Blobs) != 1 {
					t.Errorf("%s: %+v, %v", part, m, err)
				}
				if ok {
					got[part] = name
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("it has %v, want %v", got, c.want)
			}
		})
	}
}

// reread writes the draft, checks what was written, and returns it.
func reread(t *testing.T, d *bundle.Draft) *bundle.Reader {
	t.Helper()
	private, public, err := bundle.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := bundle.ReadSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundle.ReadVerifier(public)
	if err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "a.bundle")
	quiet := func(string, int64, int64) {}
	if err := d.Write(t.Context(), file, signer, quiet); err != nil {
		t.Fatal(err)
	}
	r, err := bundle.Open(file, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if err := r.Verify(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}

	return r
}

// TestLoadBundle loads a bundle for a cluster that pulls from a registry, twice, on a machine
// without an engine.
func TestLoadBundle(t *testing.T) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	address := strings.TrimPrefix(s.URL, "http://")
	here := runtime.GOOS + "/" + runtime.GOARCH
	settings := "  codexcontinue:registry: " + address + "/team\n"
	file, key, refs := testBundle(t, settings, here, nothingMore)

	home, to := t.TempDir(), filepath.Join(t.TempDir(), "carried")
	load := func(file, to string) (string, int) {
		var said bytes.Buffer
		code := Run(t.Context(), []string{"bundle", "load", file, "--verify-key", key, "--to", to},
			[]string{"HOME=" + home, "PATH="}, nil, &said, &said)
		return said.String(), code
	}

	for i := range 2 {
		said, code := load(file, to)
		if code != 0 || !strings.Contains(said, "bin/codexctl up carried") {
			t.Fatalf("load %d ends with %d:\n%s", i, code, said)
		}
		if !strings.Contains(said, "of which the settings here make edge") {
			t.Errorf("load does not say that an image is missing:\n%s", said)
		}
	}

	for path, want := range map[string]string{
		filepath.Join(to, "bin/codexctl"):            "codexctl",
		filepath.Join(to, ".bundle/licences.tar.gz"): "",
		filepath.Join(to, image.BroughtFile):         strings.Join(refs, "\n") + "\n",

		filepath.Join(home, ".cache/codexcontinue/pulumi-v3.255.0/bin/pulumi"): "pulumi",
		filepath.Join(home, ".pulumi/plugins/resource-kubernetes-v4.30.0/"+
			"pulumi-resource-kubernetes"): "plugin",
	} {
		text, err := os.ReadFile(path)
		if err != nil || want != "" && string(text) != want {
			t.Errorf("%s holds %q, %v, want %q", path, text, err, want)
		}
	}

	for _, ref := range refs {
		at, err := name.ParseReference(address + "/team/" + ref)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Image(at); err != nil {
			t.Errorf("the registry has no %s: %v", ref, err)
		}
	}

	t.Run("settings that are there stay", func(t *testing.T) {
		mine := filepath.Join(to, "Pulumi.carried.yaml")
		text, err := os.ReadFile(mine)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, "  codexcontinue:debug: true\n"...)
		if err := os.WriteFile(mine, text, 0o600); err != nil {
			t.Fatal(err)
		}

		said, code := load(file, to)
		kept, err := os.ReadFile(mine)
		if code != 0 || !strings.Contains(said, "carried.yaml stays as it is") ||
			err != nil || !bytes.Equal(kept, text) {
			t.Errorf("load ends with %d, %v:\n%s", code, err, said)
		}
	})

	t.Run("not over another stack", func(t *testing.T) {
		mark := filepath.Join(to, bundle.Folder, "stack")
		if err := os.WriteFile(mark, []byte("other\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		said, code := load(file, to)
		if code != exitFailed || !strings.Contains(said, "what a bundle of stack other brought") {
			t.Errorf("load ends with %d:\n%s", code, said)
		}
		if err := os.Remove(mark); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("not over a checkout of git", func(t *testing.T) {
		checkout := t.TempDir()
		if err := os.Mkdir(filepath.Join(checkout, ".git"), 0o755); err != nil {
			t.Fatal(err)
		}
		said, code := load(file, checkout)
		if code != exitFailed || !strings.Contains(said, "is a checkout of git") {
			t.Errorf("load ends with %d:\n%s", code, said)
		}
	})

	t.Run("nothing of a changed one is used", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = slices.Clone(text)
		at := bytes.LastIndex(text, []byte("licences.tar.gz"))
		text[at+512] ^= 1 // of its content
		changed, nowhere := filepath.Join(t.TempDir(), "changed"), filepath.Join(t.TempDir(), "to")
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			t.Fatal(err)
		}

		said, code := load(changed, nowhere)
		if code != exitFailed || !strings.Contains(said, "licences.tar.gz: has another checksum") {
			t.Errorf("load ends with %d:\n%s", code, said)
		}
		if _, err := os.Stat(nowhere); err == nil {
			t.Error("load wrote files of a bundle that was changed")
		}
	})

	t.Run("for another machine", func(t *testing.T) {
		other, otherKey, _ := testBundle(t, settings, "plan9/mips", nothingMore)
		key = otherKey
		said, code := load(other, to)
		if code != exitFailed ||
			!strings.Contains(said, "is made for plan9/mips, and this machine is "+here) {
			t.Errorf("load ends with %d:\n%s", code, said)
		}
	})
}

// TestLoadBundleIntoNodes loads a bundle for a cluster that pulls from no registry, and on which the
// stack was never up: a model goes into the claim that the stack will have, until an interrupt. A
// program in the place of kind keeps what it is given.
func TestLoadBundleIntoNodes(t *testing.T) {
	file, key, refs := testBundle(t, "", runtime.GOOS+"/"+runtime.GOARCH,
		func(d *bundle.Draft) error {
			return errors.Join(
				d.AddModel(bundle.BaseModel, "tiny:latest", models.Model{}),
				d.AddModel(bundle.EmbeddingModel, "embed:latest", models.Model{}),
			)
		})

	dir := t.TempDir()
	script := "#!/bin/sh\n/bin/cp \"$3\" " + dir + "/archive\n"
	if err := os.WriteFile(filepath.Join(dir, "kind"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := &newCluster{started: cancel}
	var said bytes.Buffer
	code := Run(ctx, []string{
		"bundle", "load", file, "--verify-key", key, "--to", filepath.Join(dir, "to"),
		"--into", "kind=lab",
	}, []string{"HOME=" + dir, "PATH=" + dir, "KUBECONFIG=" + k.kubeconfig(t)}, nil, &said, &said)
	for _, want := range []string{
		"2 images put into kind cluster lab, 0 were there",
		"carried is not up: an Ollama that a network policy closes fills each of its volumes",
		"interrupted",
	} {
		if code != exitInterrupted || !strings.Contains(said.String(), want) {
			t.Fatalf("load ends with %d and does not say %q:\n%s", code, want, &said)
		}
	}
	if !slices.Contains(k.did, "make persistentvolumeclaims ollama-data-ollama-0") {
		t.Errorf("it did %q", k.did)
	}

	for _, ref := range refs {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(filepath.Join(dir, "archive"), &tag)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := img.ConfigName(); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
