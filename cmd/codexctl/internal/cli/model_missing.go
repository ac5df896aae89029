package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/cluster"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/failure"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
	"github.com/codexcontinue/codexcontinue/services/status"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// lookTimeout bounds how long up looks for the models that nothing downloads.
const lookTimeout = 10 * time.Second

// errNoOllama is returned where nothing can say yet what models there are.
var errNoOllama = errors.New("no Ollama of the stack runs yet")

// need is a model that somebody has to put into Ollama, unless it has one of the others already,
// which were made of it.
type need struct {
	base   string
	others []string
}

// names returns all of which one is enough.
func (n need) names() []string { return append([]string{n.base}, n.others...) }

// neededModels returns the models that the stack needs and does not download.
func neededModels(t target, stack stacks.Stack) ([]need, error) {
	svc := stack.Service(stacks.ML)
	if svc == nil || stack.Service(stacks.Ollama) == nil {
		return nil, nil
	}
	if c, ok := svc.Contract.(*mlenv.Config); !ok || !c.NoDownload {
		return nil, nil
	}

	m, err := modelfiles.Load(os.DirFS(t.project.Root), stack.Model.Modelfile, stack.Model.Base)
	if err != nil {
		return nil, err
	}

	var out []need
	if !slices.Contains(m.Files, path.Clean(m.Base)) {
		made := stack.Model.Name + ":" + version(stack.Model.Digest)
		out = append(out, need{base: m.Base, others: []string{made}})
	}
	if embedding := stack.Embedding(); embedding != "" {
		out = append(out, need{base: embedding})
	}

	return out, nil
}

// requireModels reports the models that the stack needs, does not download, and does not have: ml
// would find out when everything is made. It only warns where that cannot be known before.
func (a *App) requireModels(ctx context.Context, t target, p platform, stack stacks.Stack) error {
	needs, err := neededModels(t, stack)
	if err != nil || len(needs) == 0 {
		return err
	}

	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var lacking []need
	switch p := p.(type) {
	case *onEngine:
		lacking, err = a.lackingOnEngine(look, t, p.Engine, stack, needs)
	case *onCluster:
		lacking, err = a.lackingOnCluster(look, p, stack, needs)
	}

	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errNoOllama):
		for _, n := range lacking {
			a.err.Hanging(a.err.Paint(console.Yellow, "warning: "), fmt.Sprintf("Ollama cannot "+
				"download %s, and whether it has it shows only when it runs: this fails unless the "+
				"model was put there before; if it was not,", n.base))
			a.say("%s", bringModel(n.base, t.name))
		}
		return nil
	case err != nil:
		a.say("whether Ollama has its models is not known yet: %v", err)
		return nil
	case len(lacking) == 0:
		return nil
	}

	var problems []failure.Problem
	for _, n := range lacking {
		problems = append(problems, missingModel(n.base, t.name))
	}

	failure.Print(a.err, problems)
	a.say("Nothing was made or changed.")
	return errReported
}

// lackingOnEngine returns the models that a running Ollama does not have or, where none runs, the
// volume that it would get. Whether an image of others that is not here brings them is not known:
// errNoOllama comes with the models of which that is so.
func (a *App) lackingOnEngine(
	ctx context.Context, t target, eng *engine.Engine, stack stacks.Stack, needs []need,
) ([]need, error) {
	list, err := eng.Containers(ctx, stacks.Ollama)
	if err != nil {
		return nil, err
	}

	for _, c := range list {
		if !c.Running {
			continue
		}
		names, err := namesAt(ctx, relayTo(eng, stack)(c.Replica))
		return lackingIn(needs, names), err
	}

	r, err := docker.Render(os.DirFS(t.project.Root), stack)
	if err != nil {
		return nil, err
	}

	// Where the volume has what says of which parts a model is.
	var folder, target string
	server := stack.Service(stacks.Ollama)
	for _, m := range server.Mounts {
		below, err := filepath.Rel(m.Target, server.Env["OLLAMA_MODELS"])
		if err == nil && m.Kind == stacks.MountVolume && m.Source == stacks.OllamaData {
			folder, target = below, m.Target
		}
	}

	var files []string
	byFile := map[string]string{} // the names of the models
	for _, n := range needs {
		for _, name := range n.names() {
			file, err := models.ManifestPath(name)
			if err != nil {
				return nil, err
			}
			file = path.Join(folder, file)
			byFile[file], files = name, append(files, file)
		}
	}

	volume, image := r.Project.Volumes[stacks.OllamaData].Name, r.Project.Services[stacks.Ollama].Image
	there, err := eng.VolumeHas(ctx, volume, image, target, files...)
	if err != nil {
		return nil, err
	}
	if len(there) == 0 && stacks.TagOf(server.Image.Ref) != stacks.OllamaImage {
		if has, err := eng.HasImage(ctx, image); err != nil || !has {
			return needs, cmp.Or(err, errNoOllama)
		}
	}

	var names []string
	for _, file := range there {
		names = append(names, byFile[file])
	}

	return lackingIn(needs, names), nil
}

// lackingOnCluster returns the models that no Ollama of the stack has. Where none runs, a volume
// has those that its claim names; errNoOllama comes with others, which it may have as well. Without
// a volume there are none: nothing fills a new one from an image.
func (a *App) lackingOnCluster(
	ctx context.Context, k *onCluster, stack stacks.Stack, needs []need,
) ([]need, error) {
	list, err := k.Replicas(ctx, stacks.Ollama)
	if err != nil {
		return nil, err
	}

	var names []string
	asked := 0
	for _, pod := range list {
		if !pod.Healthy {
			continue
		}

		has, err := a.namesInPod(ctx, k, stack, pod)
		if err != nil {
			return nil, err
		}

		asked++
		names = append(names, has...)
	}

	switch {
	case asked > 0:
		return lackingIn(needs, names), nil
	case len(list) > 0 || sharesModels(stack):
		return needs, errNoOllama
	}

	imported, err := k.ImportedModels(ctx)
	if err != nil {
		return nil, err
	}

	var lacking []need
	someVolume := false
	for i := range stack.Service(stacks.Ollama).Replicas {
		names, ok := imported[cluster.ClaimName(stacks.Ollama, stacks.OllamaData, i)]
		someVolume = someVolume || ok
		for _, n := range lackingIn(needs, names) {
			if !slices.ContainsFunc(lacking, func(x need) bool { return x.base == n.base }) {
				lacking = append(lacking, n)
			}
		}
	}

	if someVolume && len(lacking) > 0 {
		return lacking, errNoOllama
	}
	return lacking, nil
}

// namesAt returns the names of the models of the Ollama that dial connects to.
func namesAt(ctx context.Context, dial dialer) ([]string, error) {
	o := models.NewOllama(dial)
	defer o.Close()
	return o.Names(ctx)
}

// lackingIn returns the models that are not among the names.
func lackingIn(needs []need, names []string) []need {
	var out []need
	for _, n := range needs {
		if !slices.ContainsFunc(n.names(), func(name string) bool {
			full, err := models.FullName(name)
			return slices.Contains(names, name) || err == nil && slices.Contains(names, full)
		}) {
			out = append(out, n)
		}
	}
	return out
}

// missingModel is the problem of a stack whose Ollama lacks the base model and cannot download it.
func missingModel(base, stack string) failure.Problem {
	return failure.Problem{
		Service: stacks.ML,
		What:    status.MissingText(base),
		Todo:    bringModel(base, stack),
	}
}

// bringModel tells how to put the base model into the stack's Ollama.
func bringModel(base, stack string) string {
	return fmt.Sprintf("put it there with one of\n"+
		"    codexctl model pull %[2]s %[1]s   # this machine downloads it\n"+
		"    codexctl model import %[2]s FILE.gguf --name %[1]s   # or a folder or archive of "+
		"models\n"+
		"  and run `codexctl up %[2]s` again", base, stack)
}

// withMissingModel returns the problems. Those whose log says that a base model is missing become
// one that says so: each replica of a job that fails for it is a problem.
func withMissingModel(problems []failure.Problem, stack string) []failure.Problem {
	var out []failure.Problem
	said := map[string]bool{}
	for _, p := range problems {
		base, ok := missingIn(p.Log)
		switch {
		case !ok:
			out = append(out, p)
		case !said[base]:
			said[base] = true
			out = append(out, missingModel(base, stack))
		}
	}

	return out
}

// missingIn returns the base model of which the log says that it is missing.
func missingIn(log []string) (base string, ok bool) {
	for _, line := range log {
		if base, ok := status.MissingBase(line); ok {
			return base, true
		}
	}
	return "", false
}
