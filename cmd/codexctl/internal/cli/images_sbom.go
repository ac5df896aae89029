package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/sbom"
)

func (a *App) sbomCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "sbom [STACK]",
		Short: "Write what each image that the stack builds is made of",
		Long: `Writes a file of CycloneDX for each image that the stack builds: its programs with
their modules as the compiler noted them, the packages of Debian in it, and the images
that it is built from. What the local engine lacks it builds. The same image has the
same file, so none is kept with the stack: the name of a file has the image's tag.`,
		Args: stackArg,
		RunE: func(c *cobra.Command, args []string) error {
			return a.writeSBOMs(c.Context(), stackOf(args), dir)
		},
	}

	c.Flags().StringVarP(&dir, "output", "o", filepath.Join("out", "sbom"),
		"the folder to write to")
	return c
}

func (a *App) writeSBOMs(ctx context.Context, stackName, dir string) error {
	t, _, list, err := a.imagesOf(stackName)
	if err != nil {
		return err
	}
	eng, err := a.localEngine(ctx, t)
	if err != nil {
		return err
	}
	defer eng.Close()

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	for _, x := range list {
		if x.Build == nil {
			continue
		}
		for _, v := range x.Variants() {
			if err := a.writeSBOM(ctx, t, eng, v, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeSBOM writes the list of one image.
func (a *App) writeSBOM(
	ctx context.Context, t target, eng *engine.Engine, x images.Image, dir string,
) error {
	if x.Kept && x.Tag() != x.Ref {
		return fmt.Errorf("sbom: image %s: is that of an earlier release in a registry: run the command "+
			"in a checkout of its commit, which `codexctl history` names", x.Ref)
	}
	if err := a.ensureImages(ctx, t, eng, []images.Image{x}); err != nil {
		return err
	}

	archive, err := os.CreateTemp("", "codexctl-sbom-*.tar")
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	defer os.Remove(archive.Name())
	saved := eng.SaveImages(ctx, []string{x.Ref}, archive)
	if err := errors.Join(saved, archive.Close()); err != nil {
		return err
	}

	tag, err := name.NewTag(x.Ref)
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	img, err := tarball.ImageFromPath(archive.Name(), &tag)
	if err != nil {
		return fmt.Errorf("sbom: image %s: %w", x.Ref, err)
	}
	var bases []string
	if !x.Kept { // the sources do not say what that of an earlier release was built from
		bases = x.Build.Bases()
	}
	bom, err := sbom.Of(sbom.Image{Image: img, Ref: x.Ref, Platform: x.Platform, Bases: bases})
	if err != nil {
		return fmt.Errorf("sbom: %w", err)
	}

	var text bytes.Buffer
	if err := sbom.Write(&text, bom); err != nil {
		return fmt.Errorf("sbom: %w", err)
	}
	file := filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(x.Ref)+".cdx.json")
	if err := replaceFile(file, text.Bytes()); err != nil {
		return fmt.Errorf("sbom: %w", err)
	}

	a.out.Printf("%s", file)
	return nil
}
