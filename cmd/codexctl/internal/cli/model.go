package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/engine"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/images"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/models"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/infra/docker"
	"github.com/codexcontinue/codexcontinue/modelfiles"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) modelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "model COMMAND",
		Short: "Manage the versions of a stack's model, and bring base models",
		Long: `"list", "apply", "eval" and "rollback" are about the versions of the stack's own model:
one serves when it passes the evals beside its Modelfile. They run inside the service
that makes the model.

"import" and "pull" put a base model into every Ollama of a stack that cannot download
it, which the stack's own model is then made of. Only these read files and ask
registries: nothing opens the stack's networks. The stack may be up or not: the next
"up" finds the models in its volumes.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	var name string
	bring := &cobra.Command{
		Use:   "import STACK FILE.gguf|DIR|ARCHIVE [--name NAME]",
		Short: "Take the model from a file or folder of this machine",
		Long: `Takes a GGUF file, or a folder of models as an Ollama keeps them in ~/.ollama/models,
or a tar or tar.gz archive of such a folder. Ollama checks the digests of the weights.

Files that came whole are not sent again. One whose connection breaks is sent from its
beginning, three times at most, as Ollama keeps no part of a file; so it is by the next
import after an interruption.`,
		Args: exactly(2, "name the stack and a file"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.importModel(c.Context(), args[0], args[1], name)
		},
	}

	bring.Flags().StringVar(&name, "name", "",
		"the model's name in Ollama and in a folder; the default is the stack's base model")

	pull := &cobra.Command{
		Use:   "pull STACK NAME",
		Short: "Download the model to this machine first",
		Long: `Downloads the model from its registry to this machine, puts it into the stack, and
removes the download. An interrupted download goes on where it stopped with the next
run; what then goes into the stack is sent as "import" does.`,
		Args: exactly(2, "name the stack and a model"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.pullModel(c.Context(), args[0], args[1])
		},
	}

	for _, x := range append(a.releaseCommands(), bring, pull) {
		x.DisableFlagsInUseLine = true
		c.AddCommand(x)
	}

	return c
}

// exactly takes that many arguments.
func exactly(n int, want string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("%s: see `%s --help`", want, c.CommandPath())}
		}
		return nil
	}
}

func (a *App) importModel(ctx context.Context, stackName, from, name string) error {
	t, stack, err := a.load(stackName)
	if err != nil {
		return err
	}

	if name == "" {
		if name, err = baseOf(t, stack); err != nil {
			return err
		}
	}

	if name, err = models.FullName(name); err != nil {
		return err
	}

	show := &modelProgress{out: a.err, now: a.now}
	m, done, err := models.Open(ctx, from, name, show.tell)
	if err == nil {
		err = a.putModel(ctx, "model import", t, stack, name, m, show)
	}

	return errors.Join(err, done())
}

func (a *App) pullModel(ctx context.Context, stackName, from string) error {
	t, stack, err := a.load(stackName)
	if err != nil {
		return err
	}

	name, err := models.FullName(from)
	if err != nil {
		return err
	}

	show := &modelProgress{out: a.err, now: a.now}
	m, dir, err := a.download(ctx, from, name, show)
	if err != nil {
		return err
	}
	if err := a.putModel(ctx, "model pull", t, stack, name, m, show); err != nil {
		return err
	}

	return os.RemoveAll(dir)
}

// download downloads a model to this machine, and returns the folder that it is in.
func (a *App) download(
	ctx context.Context, from, name string, show *modelProgress,
) (m models.Model, dir string, err error) {
	cache := a.cacheDir()
	if cache == "" {
		return m, "", errors.New("model: there is no folder to download to: set HOME or " +
			"XDG_CACHE_HOME")
	}

	dir = filepath.Join(cache, "codexcontinue", "models",
		strings.NewReplacer("/", "_", ":", "_").Replace(name))
	r := models.Registry{Client: &http.Client{}}
	if err := r.Download(ctx, from, dir, show.tell); err != nil {
		return m, "", err
	}

	m, err = models.FromFolder(os.DirFS(dir), dir, name)
	return m, dir, err
}

// baseOf returns the base model of the stack, which is one that somebody has to bring.
func baseOf(t target, stack stacks.Stack) (string, error) {
	fsys := os.DirFS(t.project.Root)
	m, err := modelfiles.Load(fsys, stack.Model.Modelfile, stack.Model.Base)
	if err != nil {
		return "", err
	}

	if slices.Contains(m.Files, path.Clean(m.Base)) {
		return "", fmt.Errorf("model: %s is made of a file beside it, %s, and needs no other: say "+
			"--name for one that it does not name", stack.Model.Modelfile, m.Base)
	}

	return m.Base, nil
}

// longestImport bounds how long a model may take into a stack.
const longestImport = 24 * time.Hour

// putModel makes the model in every Ollama of the stack, as the command. It holds the lock of the
// stack meanwhile: an Ollama that another command started would write to the same volume.
func (a *App) putModel(
	ctx context.Context, command string, t target, stack stacks.Stack, name string,
	m models.Model, show *modelProgress,
) error {
	show.clear()
	defer show.clear()
	if stack.Service(stacks.Ollama) == nil {
		return fmt.Errorf("stack %s has no %s", t.file.Name, stacks.Ollama)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	objects := sync.OnceValues(func() (ollamaObjects, error) { return renderOllama(t, stack) })
	if k, ok := p.(*onCluster); ok { // where there is a place for the lock only with the namespace
		if err := a.prepareCluster(ctx, t, k, stack, objects); err != nil {
			return err
		}
	}

	release, err := a.lock(ctx, p, t.name, command)
	if err != nil {
		return err
	}
	defer release()

	if err := a.removeOneOffs(ctx, p, a.left); err != nil {
		return err
	}

	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, longestImport)
	defer cancel()
	put := func(at string, dial dialer) error {
		o := models.NewOllama(dial)
		defer o.Close()

		if err := answers(ctx, o); err != nil {
			return fmt.Errorf("%s: %w: %w", at, errSilent, err)
		}

		if err := o.Put(ctx, name, m, show.tell); err != nil {
			return err
		}

		show.clear()
		a.say("%s: %s is there", at, name)
		return nil
	}

	switch p := p.(type) {
	case *onEngine:
		err = a.ollamasOnEngine(ctx, t, p.Engine, stack, put)
	case *onCluster:
		err = a.ollamasOnCluster(ctx, t, p, stack, objects, name, put)
	}

	switch {
	case whole.Err() != nil:
		return errors.New("interrupted: files that came whole are not sent again")
	case ctx.Err() != nil:
		return fmt.Errorf("it took longer than %s and was stopped: files that came whole are not "+
			"sent again", longestImport)
	}

	return err
}

// dialer connects to an Ollama.
type dialer = func(ctx context.Context) (net.Conn, error)

// answerWithin is how long an Ollama may take to answer that was just started.
const answerWithin = 30 * time.Second

// errSilent is in the error for an Ollama that does not answer.
var errSilent = errors.New("ollama does not answer there")

// upFirst returns the error. It tells what to do where an Ollama of the stack does not answer.
func upFirst(err error, stack string) error {
	if errors.Is(err, errSilent) {
		return fmt.Errorf("%w: `codexctl up %s` first", err, stack)
	}
	return err
}

// onceMore returns the error. It tells what to do where an Ollama does not answer that the import
// has started.
func onceMore(err error) error {
	if errors.Is(err, errSilent) {
		return fmt.Errorf("%w: it was started for this: try again, and see that the machine it "+
			"runs on has time for it", err)
	}
	return err
}

// answers waits until Ollama does.
func answers(ctx context.Context, o *models.Ollama) error {
	for deadline := time.Now().Add(answerWithin); ; {
		_, err := o.Version(ctx)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}

		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// ollamasOnEngine calls put with a way to each container of Ollama. Where none runs it runs one
// without a network on the stack's volume, as the stack would, for the time that put takes.
func (a *App) ollamasOnEngine(
	ctx context.Context, t target, eng *engine.Engine, stack stacks.Stack,
	put func(at string, dial dialer) error,
) error {
	server := stack.Service(stacks.Ollama)
	to := relayTo(eng, stack)
	list, err := eng.Containers(ctx, stacks.Ollama)
	if err != nil {
		return err
	}

	for _, c := range list {
		if !c.Running {
			return fmt.Errorf("%s %s: `codexctl up %s` repairs that first", c.Name, c.Condition,
				t.name)
		}
	}

	for _, c := range list {
		if err := put(c.Name, to(c.Replica)); err != nil {
			return upFirst(err, t.name)
		}
	}

	if len(list) > 0 {
		return nil
	}

	r, err := docker.Render(os.DirFS(t.project.Root), stack)
	if err != nil {
		return err
	}

	c := r.Project.Services[stacks.Ollama]
	err = a.ensureImages(ctx, t, eng, []images.Image{
		{
			Service: stacks.Ollama, Ref: c.Image, Build: server.Image.Build,
			Platform: stack.Platform(), Kept: server.Image.Kept != "",
		},
	})
	if err != nil {
		return err
	}

	var env []string
	for key, value := range server.Env {
		env = append(env, key+"="+value)
	}

	// What is left of it, should this process be killed, is found by these.
	labels := commandLabels(c.Labels)
	labels[running.LabelOnce], labels[running.LabelLocked] = stacks.Ollama, "true"
	labels[running.LabelUntil] = strconv.FormatInt(a.now().Add(longestImport).Unix(), 10)

	a.say("%s is not up: an Ollama without a network fills its volume", t.file.Name)
	return eng.Serve(ctx, engine.Command{
		Args:    []string{"/bin/ollama", "serve"},
		Name:    r.Project.Name + "-model",
		Service: c,
		Env:     env,
		Network: "none",
		Volumes: r.Project.Volumes,
		Root:    t.project.Root,
		Labels:  labels,
	}, func(in running.Replica) error { return onceMore(put(in.Name, to(in))) })
}

// relayTo returns the way to Ollama in a container.
func relayTo(eng *engine.Engine, stack stacks.Stack) func(in running.Replica) dialer {
	relay := []string{"/drain", "relay", fmt.Sprint(stack.OllamaPort())}
	return func(in running.Replica) dialer {
		return func(ctx context.Context) (net.Conn, error) { return eng.Dial(ctx, in, relay) }
	}
}

// sayNew returns a function that prints an error, unless it was the last one as well: whoever waits
// tries again and again. It may be called from several goroutines.
func (a *App) sayNew() func(error) {
	var mu sync.Mutex
	var last string
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if text := err.Error(); text != last {
			last = text
			a.say("%s", text)
		}
	}
}

// modelProgress shows how far a model is: a line that is redrawn on a terminal,
// elsewhere a line now and then.
type modelProgress struct {
	out   *console.Console
	now   func() time.Time
	what  string
	at    time.Time
	drawn bool
}

func (p *modelProgress) tell(what string, done, total int64) {
	every := 15 * time.Second
	if p.out.Terminal {
		every = 200 * time.Millisecond
	}

	now := p.now()
	if what == p.what && now.Sub(p.at) < every {
		return
	}

	p.what, p.at = what, now
	if total > 0 {
		what = fmt.Sprintf("%s  %s of %s (%d%%)", what, console.Size(done), console.Size(total),
			100*done/total)
	}

	p.clear()
	if !p.out.Terminal {
		p.out.Printf("%s", what)
		return
	}

	fmt.Fprint(p.out, console.Cut(what, p.out.Width()-1))
	p.drawn = true
}

func (p *modelProgress) clear() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
