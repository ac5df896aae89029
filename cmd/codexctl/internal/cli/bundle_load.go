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
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/bundle"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/infra/image"
	"github.com/codexcontinue/codexcontinue/stacks"
)

type bundleLoadOptions struct{ key, to, into string }

func (a *App) bundleLoadCommand() *cobra.Command {
	var o bundleLoadOptions
	c := &cobra.Command{
		Use:   "load FILE --verify-key KEY [--to DIR]",
		Short: "Put what is in a bundle in its place on this machine",
		Long: `Checks the bundle's signature and every checksum, and then puts the checkout into a
folder, the Pulumi CLI and its provider where codexctl and Pulumi look for them, the
images into the stack's engine or cluster, and the models into its Ollama. It asks
nothing of the internet. What is there already is left out, so that it can be
typed again; settings of stacks and their state are never overwritten. A folder holds
one stack.`,
		Args: exactly(1, "name the bundle"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.loadBundle(c.Context(), args[0], o)
		},
	}

	f := c.Flags()
	f.StringVar(&o.key, "verify-key", "",
		"the public key of who made the bundle, or the file that holds it")
	f.StringVar(&o.to, "to", stacks.Project, "the folder for the checkout")
	f.StringVar(&o.into, "into", "",
		"how images come into a cluster without a registry, as of images load")
	return c
}

func (a *App) loadBundle(ctx context.Context, file string, o bundleLoadOptions) error {
	if o.key == "" {
		return usageError{errors.New("--verify-key: name the public key of who made the bundle")}
	}

	key, err := bundle.ReadVerifier(o.key)
	if err != nil {
		return err
	}

	r, err := bundle.Open(file, key)
	if err != nil {
		return err
	}
	defer r.Close()

	here := runtime.GOOS + "/" + runtime.GOARCH
	if r.Platform != here {
		return fmt.Errorf("bundle: %s: is made for %s, and this machine is %s", file, r.Platform,
			here)
	}

	a.say("%s: stack %s of %s, signed by %s+%08x", file, r.Stack, r.Made.Format("2006-01-02 15:04"),
		key.Name(), key.KeyHash())
	show := &modelProgress{out: a.err, now: a.now}
	defer show.clear()
	if err := r.Verify(ctx, show.tell); err != nil {
		return err
	}

	if err := a.installBundle(r, o.to); err != nil {
		return err
	}

	show.clear()
	in := *a
	in.dir = o.to
	t, stack, err := in.loadOffline(r.Stack)
	if err != nil {
		return err
	}

	if err := in.bringImages(ctx, t, stack, r, o.into); err != nil {
		return err
	}
	if err := in.bringModels(ctx, t, stack, r, show); err != nil {
		return err
	}

	show.clear()
	a.say("next: cd %s && bin/codexctl up %s", o.to, r.Stack)
	return nil
}

// pluginPart is the form of the name of a part that is a provider's plugin.
var pluginPart = regexp.MustCompile(`^plugins/(resource-([a-z]+)-v[0-9.]+)\.gz$`)

// installBundle writes the checkout to the folder, and the programs where they are looked for.
func (a *App) installBundle(r *bundle.Reader, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
		return fmt.Errorf("bundle: %s: is a checkout of git, whose files would be overwritten: "+
			"name another folder with --to", dir)
	}

	// The files and images of one stack may be others than those of another.
	stackFile := filepath.Join(dir, bundle.Folder, "stack")
	other, err := os.ReadFile(stackFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bundle: %w", err)
	}
	if name := strings.TrimSpace(string(other)); name != "" && name != r.Stack {
		return fmt.Errorf("bundle: %s: holds what a bundle of stack %s brought: name another "+
			"folder with --to", dir, name)
	}

	kept, err := bundle.Unpack(func(use func(io.Reader) error) error {
		return r.ReadMade(partCheckout, use)
	}, dir)
	for _, name := range kept {
		a.say("%s stays as it is: the bundle has another", filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	if err := os.WriteFile(stackFile, []byte(r.Stack+"\n"), 0o644); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}

	if err := r.Copy(partCodexctl, filepath.Join(dir, "bin", "codexctl"), 0o755); err != nil {
		return err
	}
	licences := filepath.Join(dir, bundle.Folder, partLicences)
	if err := r.Copy(partLicences, licences, 0o644); err != nil {
		return err
	}

	find, err := a.finder(target{})
	if err != nil {
		return err
	}
	if err := r.Install(partPulumi, find.Built()); err != nil {
		return err
	}

	for _, p := range r.Parts {
		if m := pluginPart.FindStringSubmatch(p.Name); m != nil {
			file := filepath.Join(a.pluginDirs()[0], m[1], "pulumi-resource-"+m[2])
			if err := r.Install(p.Name, file); err != nil {
				return err
			}
		}
	}

	return nil
}

// bringImages puts the images where the stack runs, and notes that they are there.
func (a *App) bringImages(
	ctx context.Context, t target, stack stacks.Stack, r *bundle.Reader, into string,
) error {
	list, err := r.Images()
	if err != nil {
		return err
	}

	refs := refsOf(list)
	wanted, err := images.Of(stack, t.project.Root)
	if err != nil {
		return err
	}
	for _, x := range wanted {
		if !slices.Contains(refs, x.Tag()) {
			a.say("the bundle has no %s, of which the settings here make %s", x.Tag(), x.Service)
		}
	}

	place, err := t.place()
	if err != nil {
		return err
	}

	switch {
	case place.Target == stacks.Docker:
		err = a.bringToEngine(ctx, t, list)
	case place.Registry != "":
		err = a.bringToRegistry(ctx, place.Registry, list)
	default:
		err = a.bringToNodes(ctx, t, place, list, into)
	}
	if err != nil {
		return err
	}

	file := filepath.Join(t.project.Root, filepath.FromSlash(image.BroughtFile))
	return os.WriteFile(file, []byte(strings.Join(refs, "\n")+"\n"), 0o644)
}

func (a *App) bringToEngine(ctx context.Context, t target, list []bundle.Image) error {
	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()

	missing, err := lacking(list, func(ref string) (bool, error) { return eng.HasImage(ctx, ref) })
	if err != nil {
		return err
	}

	if len(missing) > 0 {
		a.say("putting %d images into the engine", len(missing))
		from, to := io.Pipe()
		go func() { to.CloseWithError(bundle.SaveImages(missing, to)) }()
		err := eng.LoadImages(ctx, from)
		from.CloseWithError(err)
		if err != nil {
			return err
		}
	}

	a.say("%d images put into the engine, %d were there", len(missing), len(list)-len(missing))
	return nil
}

// bringToRegistry pushes the images under the names that the program gives them there.
func (a *App) bringToRegistry(ctx context.Context, registry string, list []bundle.Image) error {
	for _, x := range list {
		ref := path.Join(registry, x.Ref)
		a.say("pushing %s", ref)
		if err := bundle.Push(ctx, ref, x.Image); err != nil {
			return err
		}
	}
	return nil
}

// bringToNodes puts the images into the nodes of a cluster that pulls from no registry.
func (a *App) bringToNodes(
	ctx context.Context, t target, place stacks.Settings, list []bundle.Image, into string,
) error {
	c, err := a.connectCluster(ctx, t, place)
	if err != nil {
		return err
	}

	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}

	to, err := images.Find(into, c.Context, nodes, a.environ)
	if err != nil {
		return err
	}
	if to.Tool == "engine" {
		return a.bringToEngine(ctx, t, list)
	}
	if err := to.Ready(); err != nil {
		return err
	}

	has, err := to.Has(ctx, refsOf(list), nodes)
	if err != nil {
		return err
	}

	missing, _ := lacking(list, func(ref string) (bool, error) { return has[ref], nil })
	if len(missing) > 0 {
		a.say("putting %d images into %s", len(missing), to)
		err := to.Load(ctx, func(w io.Writer) error { return bundle.SaveImages(missing, w) })
		if err != nil {
			return err
		}
	}

	a.say("%d images put into %s, %d were there", len(missing), to, len(list)-len(missing))
	return nil
}

func refsOf(list []bundle.Image) []string {
	var refs []string
	for _, x := range list {
		refs = append(refs, x.Ref)
	}
	return refs
}

// lacking returns the images of which has says that they are not there.
func lacking(
	list []bundle.Image, has func(ref string) (bool, error),
) ([]bundle.Image, error) {
	var out []bundle.Image
	for _, x := range list {
		there, err := has(x.Ref)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", x.Ref, err)
		}
		if !there {
			out = append(out, x)
		}
	}
	return out, nil
}

// bringModels puts the models into the stack's Ollama, as `model import` does.
func (a *App) bringModels(
	ctx context.Context, t target, stack stacks.Stack, r *bundle.Reader, show *modelProgress,
) error {
	if stack.Service(stacks.Ollama) == nil {
		return nil
	}

	parts := slices.DeleteFunc([]string{bundle.BaseModel, bundle.EmbeddingModel},
		func(part string) bool { return !r.Has(part) })
	for _, part := range parts {
		name, m, _, err := r.Model(part)
		if err != nil {
			return err
		}
		if err := a.putModel(ctx, "bundle load", t, stack, name, m, show); err != nil {
			return err
		}
	}

	return nil
}
