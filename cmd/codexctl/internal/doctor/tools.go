package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/pulumicli"
)

// providerVersion is the version of pulumi-docker that go.mod pins.
const providerVersion = "4.10.0"

// goMinimum is the go directive of go.mod.
const goMinimum = "1.26"

func pulumi(ctx context.Context, p *Patient) []Finding {
	f := p.Finder.Look(ctx)
	switch {
	case f.Path != "":
		return found(OK, "", "v%s at %s", f.Version, f.Path)
	case f.Rejected != nil:
		return found(Warn,
			"nothing: the first `codexctl up` builds v"+pulumicli.Version+" (some minutes)", "%v",
			f.Rejected)
	}

	return found(Warn,
		"nothing: the first `codexctl up` builds v"+pulumicli.Version+" (some minutes)",
		"there is none on PATH")
}

func provider(_ context.Context, p *Patient) []Finding {
	const name = "pulumi-resource-docker"
	if file := lookIn(p.Path, name); file != "" {
		return found(OK, "", "%s", file)
	}

	for _, dir := range p.PluginDirs {
		if file := filepath.Join(dir, "resource-docker-v"+providerVersion, name); executable(file) {
			return found(OK, "", "v%s installed", providerVersion)
		}
	}

	return found(Warn,
		"nothing with a network: the first `codexctl up` downloads it; without one, install it "+
			"with `pulumi plugin install resource docker "+providerVersion+"` elsewhere and copy it",
		"v%s is not installed", providerVersion)
}

func goVersion(ctx context.Context, _ *Patient) []Finding {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return found(Warn,
			"install Go "+goMinimum+" or newer (https://go.dev/dl) to build codexctl and to run the tests",
			"it is not on PATH")
	}

	v := strings.TrimSpace(string(out))
	if older(v, goMinimum) {
		return found(Warn,
			"install Go "+goMinimum+" or newer, or let it download one (GOTOOLCHAIN=auto)", "%s", v)
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

	if file := lookIn(dirs, name); file != "" {
		return found(OK, "", "%s", file)
	}

	return found(Warn,
		"nothing for codexctl; for a plain `pulumi up` install Pulumi as a whole "+
			"(https://www.pulumi.com/docs/install)",
		"%s is not there: a plain `pulumi up` does not work", name)
}

// lookIn returns the path of the program in the first of the folders that has it, or "".
func lookIn(dirs []string, name string) string {
	for _, dir := range dirs {
		if file := filepath.Join(dir, name); executable(file) {
			return file
		}
	}
	return ""
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
