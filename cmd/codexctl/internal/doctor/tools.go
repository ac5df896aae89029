package doctor

import (
	"cmp"
	"context"
	"go/version"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/environ"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
)

func pulumi(ctx context.Context, p *Patient) []Finding {
	f := p.Finder.Look(ctx)
	if f.Path == "" {
		return found(Warn,
			"nothing: the first `codexctl up` builds v"+pulumicli.Version+" (some minutes)",
			"%s", f.Why)
	}

	return found(OK, "", "v%s at %s", f.Version, f.Path)
}

func dockerProvider(_ context.Context, p *Patient) []Finding {
	return provider(p, "docker", pulumicli.DockerProvider)
}

func kubernetesProvider(_ context.Context, p *Patient) []Finding {
	return provider(p, "kubernetes", "")
}

// provider looks for a provider's plugin of the pinned version, or of any if none is.
func provider(p *Patient, kind, pinned string) []Finding {
	wanted, missing := kind, "it"
	if pinned != "" {
		wanted, missing = kind+" "+pinned, "v"+pinned
	}

	dirs := slices.Clone(p.Path)
	for _, dir := range p.PluginDirs {
		folders, _ := filepath.Glob(filepath.Join(dir, "resource-"+kind+"-v"+cmp.Or(pinned, "*")))
		slices.Reverse(folders) // the newest first
		dirs = append(dirs, folders...)
	}

	if file := environ.Find(dirs, "pulumi-resource-"+kind); file != "" {
		return found(OK, "", "%s", file)
	}

	return found(Warn,
		"nothing with a network: the first `codexctl up` downloads it; without one, install it "+
			"with `pulumi plugin install resource "+wanted+"` elsewhere and copy it",
		"%s is not installed", missing)
}

func goVersion(ctx context.Context, _ *Patient) []Finding {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return found(Warn,
			"install Go "+pulumicli.Go+" or newer (https://go.dev/dl) to build codexctl and to run the tests",
			"it is not on PATH")
	}

	v := strings.TrimSpace(string(out))
	if number, _, _ := strings.Cut(v, " "); version.Compare(number, "go"+pulumicli.Go) < 0 {
		return found(Warn,
			"install Go "+pulumicli.Go+" or newer, or let it download one (GOTOOLCHAIN=auto)", "%s", v)
	}

	return found(OK, "", "%s", v)
}

// languageHost looks for the language host, which only a plain pulumi needs: codexctl
// runs the program itself.
func languageHost(ctx context.Context, p *Patient) []Finding {
	const name = "pulumi-language-go"
	dirs := p.Path
	if f := p.Finder.Look(ctx); f.Path != "" {
		dirs = append([]string{filepath.Dir(f.Path)}, dirs...)
	}

	if file := environ.Find(dirs, name); file != "" {
		return found(OK, "", "%s", file)
	}

	return found(Warn,
		"nothing for codexctl; for a plain `pulumi up` install Pulumi as a whole "+
			"(https://www.pulumi.com/docs/install)",
		"%s is not there: a plain `pulumi up` does not work", name)
}
