package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/bundle"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/sources"
	"github.com/codexcontinue/codexcontinue/infra/program"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// The names of a bundle's parts.
const (
	partCodexctl = "bin/codexctl"
	partCheckout = "checkout.tar.gz"
	partPulumi   = "programs/pulumi.gz"
	partLicences = "licences.tar.gz"
	partPlugins  = "plugins/"
)

// licencesOf is what the manifest says of a program, whose modules have licences of their own.
const licencesOf = "Apache-2.0; its modules: " + partLicences

func (a *App) bundleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle COMMAND",
		Short: "Carry a stack to a machine without internet",
		Long: `Writes one file with all that a stack needs, and puts what is in it in its place on
another machine of the same kind: images, codexctl, the Pulumi CLI and its provider,
the checkout, the models and the licences. A bundle is signed; "key" makes the two
keys, of which the machine without internet needs the public one.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	key := &cobra.Command{
		Use:   "key FILE",
		Short: "Make a key that signs bundles, and print the one that checks them",
		Long: `Writes a new key that signs bundles to FILE, which only its owner can read, and the
public one that checks them to FILE.pub and to the output.`,
		Args: exactly(1, "name a file"),
		RunE: func(_ *cobra.Command, args []string) error { return a.makeBundleKey(args[0]) },
	}

	var o bundleOptions
	create := &cobra.Command{
		Use: "create STACK --key FILE [-o FILE] [--model FILE.gguf|DIR|ARCHIVE] " +
			"[--embedding FILE.gguf|DIR|ARCHIVE]",
		Short: "Write a bundle of the stack",
		Long: `Writes a bundle with what git tracks in the checkout, the stack's settings, and the
images that are made of them, which the local engine builds or pulls. The base model,
and the one that makes vectors of documents if the stack has one, are taken from a
file or folder as "model import" takes it, or downloaded. Secrets are in it as in the
settings: encrypted, and without the passphrase.`,
		Args: exactly(1, "name the stack"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.createBundle(c.Context(), args[0], o)
		},
	}

	f := create.Flags()
	f.StringVar(&o.key, "key", "", "the file with the key that signs the bundle")
	f.StringVarP(&o.out, "output", "o", "", "the file to write (default STACK.bundle)")
	f.StringVar(&o.model, "model", "", "where the base model is; downloaded unless set")
	f.StringVar(&o.embedding, "embedding", "",
		"where the model is that makes vectors; downloaded unless set")
	f.BoolVar(&o.withoutModel, "without-model", false,
		"leave the models out, which the other machine has already")
	for _, x := range []*cobra.Command{key, create, a.bundleLoadCommand()} {
		x.DisableFlagsInUseLine = true
		c.AddCommand(x)
	}

	return c
}

type bundleOptions struct {
	key, out, model, embedding string
	withoutModel               bool
}

func (a *App) makeBundleKey(file string) error {
	private, public, err := bundle.GenerateKey()
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}

	err = errors.Join(writeNew(file, private, 0o600), writeNew(file+".pub", public, 0o644))
	if err != nil {
		return err
	}

	a.out.Printf("%s", public)
	return nil
}

// writeNew writes a key to a file that is not there yet.
func writeNew(file, key string, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("bundle: key: %w", err)
	}

	_, err = f.WriteString(key + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("bundle: key: %w", err)
	}

	return nil
}

// bundling is a bundle that is being made.
type bundling struct {
	*App
	t     target
	draft *bundle.Draft
	show  *modelProgress

	// opened close what models are read from.
	opened []func() error

	// programs are those whose modules have licences.
	programs []bundle.Program
}

func (a *App) createBundle(ctx context.Context, name string, o bundleOptions) error {
	if o.key == "" {
		return usageError{errors.New("--key: name the file with the key that signs the bundle: " +
			"`codexctl bundle key FILE` makes one")}
	}

	signer, err := bundle.ReadSigner(o.key)
	if err != nil {
		return err
	}

	t, err := a.target(name)
	if err != nil {
		return err
	}

	out := o.out
	if out == "" {
		out = t.file.Name + ".bundle"
	}
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("bundle: %s: is there: remove it, or name another with -o", out)
	}

	dir, err := os.MkdirTemp(filepath.Dir(out), ".codexctl-bundle-")
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer os.RemoveAll(dir)

	start := a.now()
	b := &bundling{App: a, t: t, show: &modelProgress{out: a.err, now: a.now}}
	b.draft = &bundle.Draft{Dir: dir, Manifest: bundle.Manifest{
		Stack:    t.file.Name,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Made:     start.UTC().Truncate(time.Second),
	}}

	defer b.show.clear()
	defer b.close()
	err = b.gather(ctx, o)
	if err == nil {
		err = b.draft.Write(ctx, out, signer, b.show.tell)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}

	info, err := os.Stat(out)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}

	b.show.clear()
	a.say("%s: %s in %s, signed by %s+%08x", out, console.Size(info.Size()),
		console.Elapsed(a.now().Sub(start)), signer.Name(), signer.KeyHash())
	a.say("%s in it has the SHA-256 %s", partCodexctl, b.draft.Manifest.Parts[0].SHA256)
	return nil
}

// gather adds the parts to the draft.
func (b *bundling) gather(ctx context.Context, o bundleOptions) error {
	if err := b.addCodexctl(ctx); err != nil {
		return err
	}

	root, err := b.addCheckout(ctx)
	if err != nil {
		return err
	}

	// From here on the stack is what the packed files say, with no others beside them.
	packed := *b.App
	packed.dir = root
	t, stack, err := packed.loadOffline(b.t.name)
	if err != nil {
		return err
	}

	if own := b.draft.Manifest.Platform; stack.Platform() != own {
		return fmt.Errorf("%s:platform: images are built for %s, and the programs of a "+
			"bundle that is made here are for %s: make it on a machine of that platform",
			stacks.Project, stack.Platform(), own)
	}

	if !o.withoutModel {
		if err := b.addModels(ctx, t, stack, o); err != nil {
			return err
		}
	}

	for _, step := range []func(context.Context, target, stacks.Stack) error{
		b.addPrograms, b.addImages, b.addLicences,
	} {
		if err := step(ctx, t, stack); err != nil {
			return err
		}
	}

	return nil
}

// close closes what models were read from. It is called when they are written.
func (b *bundling) close() {
	for _, done := range b.opened {
		_ = done()
	}
}

// loadOffline finds the stack and loads it as if its secrets were set.
func (a *App) loadOffline(name string) (target, stacks.Stack, error) {
	t, err := a.target(name)
	if err != nil {
		return t, stacks.Stack{}, err
	}

	plain, secret := t.file.Config.Own()
	_, stack, err := program.LoadOffline(t.project.Root, t.file.Name, plain, secret)
	return t, stack, err
}

func (b *bundling) addCodexctl(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bundle: codexctl: %w", err)
	}

	return b.addProgram(ctx, "codexctl", self, func(p bundle.Part) error {
		p.Name = partCodexctl
		return b.draft.AddFile(ctx, p, self)
	})
}

// addProgram adds a program by add, and notes what it is built of.
func (b *bundling) addProgram(
	ctx context.Context, name, file string, add func(p bundle.Part) error,
) error {
	program, err := bundle.ReadProgram(name, file)
	if err != nil {
		return err
	}

	b.programs = append(b.programs, program)
	b.show.tell("adding "+name, 0, 0)
	return add(bundle.Part{Source: name, Licence: licencesOf})
}

// addCheckout adds what git tracks, the stack's settings, and the files of its model and its evals.
// It returns a folder that holds these and nothing else.
func (b *bundling) addCheckout(ctx context.Context) (root string, err error) {
	from := b.t.project.Root
	_, stack, err := b.loadOffline(b.t.name)
	if err != nil {
		return "", err
	}

	if slices.ContainsFunc(stack.Services, compiled) {
		return "", fmt.Errorf("stack %s compiles its services where it runs, with modules from the "+
			"internet: bundle one of another overlay, such as prod", b.t.file.Name)
	}

	if _, _, err := b.t.load(); err != nil {
		b.say("the settings lack what `up` needs: %v", err) // all else was checked just now
	}

	checkout := sources.Checkout{Root: from, Environ: b.environ}
	files, err := checkout.Tracked(ctx)
	if err != nil {
		return "", err
	}
	if b.draft.Manifest.Revision, err = checkout.Revision(ctx); err != nil {
		return "", err
	}

	files = append(files, filepath.Base(b.t.file.Path))
	files = append(files, stack.Model.Sources()...)
	slices.Sort(files)
	files = slices.Compact(files)

	err = b.draft.AddMade(ctx, bundle.Part{
		Name:    partCheckout,
		Source:  "the checkout, commit " + b.draft.Manifest.Revision,
		Licence: "Apache-2.0",
	}, func(w io.Writer) error { return bundle.Pack(from, files, w) })
	if err != nil {
		return "", err
	}

	root = filepath.Join(b.draft.Dir, "checkout")
	_, err = bundle.Unpack(func(use func(io.Reader) error) error {
		return b.draft.ReadMade(partCheckout, use)
	}, root)
	return root, err
}

// compiled reports whether the service is compiled in its container, of sources that are mounted.
func compiled(svc stacks.Service) bool {
	return slices.ContainsFunc(svc.Mounts, func(m stacks.Mount) bool {
		return m.Kind == stacks.MountBind && m.Source == "."
	})
}

// addPrograms adds the Pulumi CLI and the provider of the stack's target.
func (b *bundling) addPrograms(ctx context.Context, t target, stack stacks.Stack) error {
	find, err := b.finder(b.t)
	if err != nil {
		return err
	}

	cli, err := find.Get(ctx)
	if err != nil {
		return err
	}

	add := func(name, source, part, file string) error {
		return b.addProgram(ctx, name, file, func(p bundle.Part) error {
			p.Name, p.Source = part, source
			return b.draft.AddProgram(ctx, p, file)
		})
	}
	err = add("pulumi", "https://github.com/pulumi/pulumi v"+cli.Version().String(), partPulumi,
		cli.Path)
	if err != nil {
		return err
	}

	place, err := t.place()
	if err != nil {
		return err
	}

	kind, version := "docker", pulumicli.DockerProvider
	if place.Target == stacks.Kubernetes {
		kind, version = "kubernetes", pulumicli.KubernetesProvider
	}

	file, err := b.provider(kind, version)
	if err != nil {
		return err
	}

	plugin := "resource-" + kind + "-v" + version
	return add("pulumi-resource-"+kind, "https://github.com/pulumi/pulumi-"+kind+" v"+version,
		partPlugins+plugin+".gz", file)
}

// provider returns the path of a provider's plugin: what Pulumi installed, or what is on PATH.
func (a *App) provider(kind, version string) (string, error) {
	program := "pulumi-resource-" + kind
	var dirs []string
	for _, dir := range a.pluginDirs() {
		dirs = append(dirs, filepath.Join(dir, "resource-"+kind+"-v"+version))
	}

	if file := environ.Find(dirs, program); file != "" {
		return file, nil
	}
	if file, err := a.environ.LookPath(program); err == nil {
		return file, nil
	}

	return "", fmt.Errorf("bundle: %s is neither in %s nor on PATH: install it with `pulumi plugin "+
		"install resource %s %s`", program, strings.Join(a.pluginDirs(), ", "), kind, version)
}

// addImages adds the images of the packed checkout, as the engine has or makes them.
func (b *bundling) addImages(ctx context.Context, t target, stack stacks.Stack) error {
	list, err := images.Of(stack, t.project.Root)
	if err != nil {
		return err
	}

	eng, err := b.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()

	b.show.clear()
	if err := b.ensureImages(ctx, t, eng, list); err != nil {
		return err
	}

	var refs []string
	for _, x := range list {
		refs = append(refs, x.Tag())
	}

	archive := filepath.Join(b.draft.Dir, "images.tar")
	f, err := os.Create(archive)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	defer os.Remove(archive)

	b.show.tell("saving images", 0, 0)
	if err := errors.Join(eng.SaveImages(ctx, refs, f), f.Close()); err != nil {
		return err
	}

	return b.draft.AddImages(ctx, archive, refs, b.show.tell)
}

// addLicences adds the licences of the programs and of the services.
func (b *bundling) addLicences(ctx context.Context, t target, _ stacks.Stack) error {
	checkout := sources.Checkout{Root: t.project.Root, Environ: b.environ}
	folders, err := checkout.Go(ctx, "env", "GOMODCACHE", "GOROOT")
	if err != nil {
		return err
	}

	listed, err := checkout.Go(ctx, "list", "-deps", "-f",
		"{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./services/...")
	if err != nil {
		return err
	}

	services := bundle.Program{Name: "the services' images"}
	for line := range strings.Lines(listed) {
		at, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		m := module.Version{Path: at, Version: version}
		if at != "" && !slices.Contains(services.Modules, m) {
			services.Modules = append(services.Modules, m)
		}
	}

	dirs := strings.Split(folders, "\n")
	l := bundle.Licences{
		Programs: append(b.programs, services),
		ModCache: dirs[0], GoRoot: dirs[1], Root: t.project.Root, Own: ownModule,
	}
	b.show.tell("collecting licences", 0, 0)
	return b.draft.AddMade(ctx, bundle.Part{
		Name:    partLicences,
		Source:  "the modules of the programs and services",
		Licence: "each its own",
	}, l.Write)
}

// ownModule is the project's own.
const ownModule = "github.com/codexcontinue/codexcontinue"

// addModels adds the base model, unless the checkout has it, and the one that makes vectors.
func (b *bundling) addModels(
	ctx context.Context, t target, stack stacks.Stack, o bundleOptions,
) error {
	m, err := modelfiles.Load(os.DirFS(t.project.Root), stack.Model.Modelfile, stack.Model.Base)
	if err != nil {
		return err
	}

	base, embedding := m.Base, stack.Embedding()
	if slices.Contains(m.Files, path.Clean(base)) {
		base = ""
	}

	switch {
	case embedding == "" && o.embedding != "":
		return fmt.Errorf("--embedding: %s has no model that makes vectors, which "+
			"%s:knowledge.embedding names", b.t.file.Name, stacks.Project)
	case base != "":
		if err := b.addModel(ctx, bundle.BaseModel, base, o.model); err != nil {
			return err
		}
	}

	if embedding == "" {
		return nil
	}

	return b.addModel(ctx, bundle.EmbeddingModel, embedding, o.embedding)
}

// addModel adds a model as the part, of a file or folder, or downloaded if from is empty.
func (b *bundling) addModel(ctx context.Context, part, from, file string) error {
	name, err := models.FullName(from)
	if err != nil {
		return err
	}

	if file == "" {
		model, _, err := b.download(ctx, from, name, b.show)
		if err != nil {
			return err
		}
		return b.draft.AddModel(part, name, model)
	}

	model, done, err := models.Open(ctx, file, name, b.show.tell)
	b.opened = append(b.opened, done)
	if err != nil {
		return err
	}

	return b.draft.AddModel(part, name, model)
}
