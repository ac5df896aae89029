package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/backups"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/deploy"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
)

func (a *App) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup COMMAND",
		Short: "Make, list and check backups of a stack that runs",
		Long: `Works on the backups of a stack (codexcontinue:backup, which also says when they are
made, where they are kept and for how long). The service "backup" makes them, and
encrypts them with age to recipients: it cannot read them again. See "codexctl
restore" for the way back.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}

	create := &cobra.Command{
		Use:   "create STACK",
		Short: "Make a backup now",
		Args:  exactly(1, "name the stack"),
		RunE:  func(c *cobra.Command, args []string) error { return a.createBackup(c.Context(), args[0]) },
	}

	var asJSON bool
	list := &cobra.Command{
		Use:   "list STACK",
		Short: "List the backups, the last one first",
		Args:  exactly(1, "name the stack"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.listBackups(c.Context(), args[0], asJSON)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	var verifyIdentity string
	verify := &cobra.Command{
		Use:   "verify STACK [BACKUP]",
		Short: "Check that a backup is what was written",
		Long: `Has the stack read a backup, the last one unless named, and compare its SHA-256 with
that of when it was written. With --identity it is brought to this machine instead, and
all of it is decrypted and checked here. Nothing is restored.`,
		Args: between(1, 2, "name the stack, and a backup"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.verifyBackup(c.Context(), args[0], word(args, 1), verifyIdentity)
		},
	}
	verify.Flags().StringVar(&verifyIdentity, "identity", "",
		"decrypt it with the identity in this file; - is the standard input")

	var stateIdentity, stateFrom, stateAt string
	state := &cobra.Command{
		Use:   "state STACK FOLDER --identity FILE",
		Short: "Get a stack's settings, model's sources and state back, as they were last",
		Long: `Writes what was last kept of the stack by "up" and "backup create" to a new folder: its
settings file, modelfiles/ with what its model is made of, and state.json, which
"pulumi stack import --file" reads. Secrets are encrypted as they were, so the passphrase
is needed as before. What was not kept of the model is named, with its SHA-256.`,
		Args: exactly(2, "name the stack, and a new folder"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.backupState(c.Context(), args[0], args[1], stateOptions{
				identity: stateIdentity, from: stateFrom, at: stateAt,
			})
		},
	}
	state.Flags().StringVar(&stateIdentity, "identity", "",
		"the file with an identity; - is the standard input")
	state.Flags().StringVar(&stateFrom, "from", "", "a folder with a copy of the backups' files")
	state.Flags().StringVar(&stateAt, "at", "", "as they were at the backup of this name")

	for _, x := range []*cobra.Command{create, list, verify, state} {
		x.DisableFlagsInUseLine = true
		c.AddCommand(x)
	}
	return c
}

// between takes that many arguments.
func between(least, most int, want string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("%s: see `%s --help`", want, c.CommandPath())}
		}
		return nil
	}
}

// word returns the argument at the place, "" if there is none.
func word(args []string, at int) string {
	if at < len(args) {
		return args[at]
	}
	return ""
}

// keeper is the container of a stack's service backup, as a backups.Source.
type keeper struct {
	platform platform
	replica  running.Replica
	program  string
	say      func(format string, args ...any)
}

// errNoBackups is for a stack whose settings ask for none.
func errNoBackups(t target) error {
	return fmt.Errorf("stack %s makes no backups: set %s:backup: {recipients: [age1...], directory: "+
		"...}, then `codexctl up %s`", t.file.Name, stacks.Project, t.name)
}

// keeper returns the container that makes the stack's backups.
func (a *App) keeper(
	ctx context.Context, t target, stack stacks.Stack, p platform,
) (keeper, error) {
	service := stack.Service(stacks.Backup)
	if service == nil {
		return keeper{}, errNoBackups(t)
	}

	list, err := t.replicas(ctx, p, stacks.Backup)
	if err != nil {
		return keeper{}, err
	}
	for _, r := range list {
		if r.Healthy {
			return keeper{p, r, service.Health.Command[0], a.say}, nil
		}
	}
	return keeper{}, fmt.Errorf("%s of stack %s does not run well: `codexctl logs -s %s %[1]s` says why",
		stacks.Backup, t.file.Name, t.name)
}

// withKeeper calls f with the container that makes the stack's backups.
func (a *App) withKeeper(
	ctx context.Context, name string, f func(t target, stack stacks.Stack, k keeper) error,
) error {
	t, stack, err := a.load(name)
	if err != nil {
		return err
	}
	if stack.Service(stacks.Backup) == nil {
		return errNoBackups(t)
	}

	p, err := a.connect(ctx, t)
	if err != nil {
		return err
	}
	defer p.Close()

	k, err := a.keeper(ctx, t, stack, p)
	if err != nil {
		return err
	}
	return f(t, stack, k)
}

// stream runs the program with the words, which reads in, and writes what it prints to w.
func (k keeper) stream(ctx context.Context, in io.Reader, w io.Writer, words ...string) error {
	return streamed(ctx, k.platform, k.replica, in, w, append([]string{k.program}, words...)...)
}

// streamed runs a command in the replica. What it says on stderr is its error, if it fails.
func streamed(
	ctx context.Context, p platform, in running.Replica, stdin io.Reader, stdout io.Writer,
	command ...string,
) error {
	_, err := warned(ctx, p, in, stdin, stdout, command...)
	return err
}

// warned is streamed, and returns what the command says on stderr if it does not fail.
func warned(
	ctx context.Context, p platform, in running.Replica, stdin io.Reader, stdout io.Writer,
	command ...string,
) (warning string, err error) {
	var said bytes.Buffer
	code, err := p.Stream(ctx, in, command, running.Streams{In: stdin, Out: stdout, Err: &said})
	switch text := lastLines(said.String()); {
	case err != nil:
		return "", err
	case code != 0 && text == "":
		return "", fmt.Errorf("%s in %s: exit code %d", command[0], in.Name, code)
	case code != 0:
		return "", errors.New(text)
	default:
		return text, nil
	}
}

// lastLines returns what a command has said at its end, without the lines of its log.
func lastLines(said string) string {
	var kept []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "{") {
			kept = append(kept, strings.TrimPrefix(line, stacks.Backup+": "))
		}
	}
	return console.Plain(strings.Join(kept[max(0, len(kept)-10):], "; "))
}

// Files implements backups.Source.
func (k keeper) Files(ctx context.Context) ([]string, error) {
	var out bytes.Buffer
	warning, err := warned(ctx, k.platform, k.replica, nil, &out, k.program, "files")
	if warning != "" {
		k.say("%s", warning)
	}
	return strings.Fields(out.String()), err
}

// Fetch implements backups.Source.
func (k keeper) Fetch(ctx context.Context, file string, to io.Writer) error {
	return k.stream(ctx, nil, to, "fetch", file)
}

// listed is a backup as the service prints it.
type listed struct {
	Name string `json:"name"`
	archive.Summary
}

// create has a backup made. Those of stay are not dropped until release, for a week at most.
func (k keeper) create(ctx context.Context, stay ...string) (b listed, err error) {
	var out bytes.Buffer
	warning, err := warned(ctx, k.platform, k.replica, nil, &out,
		append([]string{k.program, "create"}, stay...)...)
	if err != nil {
		return b, err
	}
	if warning != "" { // older ones may be left
		k.say("%s", warning)
	}
	return b, json.Unmarshal(out.Bytes(), &b)
}

// release lets the backups be dropped that create has kept. That it fails is only said.
func (k keeper) release(ctx context.Context, stay ...string) {
	for _, name := range stay {
		if err := k.stream(ctx, nil, io.Discard, "release", name); err != nil {
			k.say("%s stays for a week: %s", name, err)
		}
	}
}

func (a *App) createBackup(ctx context.Context, name string) error {
	return a.withKeeper(ctx, name, func(t target, stack stacks.Stack, k keeper) error {
		if err := a.keepState(ctx, t, stack, k); err != nil {
			return err
		}
		b, err := k.create(ctx)
		if err != nil {
			return err
		}
		a.out.Printf("%s", b.Name)
		a.say("%s in %s, for %d recipients", console.Size(b.Bytes),
			console.Elapsed(b.Ended.Sub(b.Begun)), len(b.Recipients))
		return nil
	})
}

func (a *App) listBackups(ctx context.Context, name string, asJSON bool) error {
	return a.withKeeper(ctx, name, func(_ target, _ stacks.Stack, k keeper) error {
		var out bytes.Buffer
		if err := k.stream(ctx, nil, &out, "list"); err != nil {
			return err
		}
		var list []listed
		if err := json.Unmarshal(out.Bytes(), &list); err != nil {
			return fmt.Errorf("%s says something else than JSON: %w", k.replica.Name, err)
		}
		if asJSON {
			return writeJSON(a.out, list)
		}

		rows := [][]string{{"BACKUP", "AGE", "SIZE", "TOOK", "DATA", "RECIPIENTS"}}
		for _, b := range list {
			rows = append(rows, []string{b.Name, console.Age(a.now().Sub(b.Begun)),
				console.Size(b.Bytes), console.Elapsed(b.Ended.Sub(b.Begun)), fmt.Sprint(b.Data),
				fmt.Sprint(len(b.Recipients))})
		}
		a.out.Table(rows, head)
		return nil
	})
}

func (a *App) verifyBackup(ctx context.Context, name, backup, identity string) error {
	return a.withKeeper(ctx, name, func(t target, stack stacks.Stack, k keeper) error {
		if identity != "" {
			ids, err := backups.Identities(identity, a.in)
			if err != nil {
				return err
			}
			return a.withBackup(ctx, k, backup, ids, func(b *backups.Backup) error {
				a.describe(b)
				m, err := a.describeModel(ctx, t, stack, b)
				if err != nil || m == nil {
					return err
				}
				return b.VerifyWeights(ctx, m)
			})
		}

		if backup == "" {
			files, err := k.Files(ctx)
			if err == nil {
				backup, err = backups.Choose(files, "")
			}
			if err != nil {
				return err
			}
		}
		if err := k.stream(ctx, nil, io.Discard, "verify", backup); err != nil {
			return err
		}
		a.out.Printf("%s is what was written.", backup)
		return nil
	})
}

// withBackup calls f with the backup, which it brings to this machine for that long. also are where
// else it is read what was erased since.
func (a *App) withBackup(
	ctx context.Context, from backups.Source, name string, ids []age.Identity,
	f func(b *backups.Backup) error, also ...backups.Source,
) (err error) {
	dir, err := os.MkdirTemp("", "codexctl-backup-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	b, err := backups.Open(ctx, from, name, dir, ids, also...)
	if err != nil {
		return err
	}
	return f(b)
}

// describe prints what the backup is.
func (a *App) describe(b *backups.Backup) {
	a.out.Printf("%s of stack %s: all that was stored before %s", b.Name, b.Manifest.Stack,
		b.Manifest.Begun.Format(time.RFC3339))
	rows := [][]string{}
	for _, p := range b.Manifest.Parts {
		rows = append(rows, []string{"  " + p.Name, console.Size(p.Bytes), p.SHA256})
	}
	a.out.Table(rows, nil)
}

// describeModel says what the stack's own model was made of at the backup, and whether the sources
// here make another one. It returns that model; nil if it is not kept.
func (a *App) describeModel(
	ctx context.Context, t target, stack stacks.Stack, b *backups.Backup,
) (*archive.Model, error) {
	s, err := b.State(ctx)
	if errors.Is(err, backups.ErrNoState) || err == nil && s.Model == nil {
		a.say("what the model was made of is not kept with %s", b.Name)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what was kept of the stack's state: %w", err)
	}

	m := s.Model
	a.out.Printf("model %s:%s, as kept %s", console.Plain(m.Name), console.Plain(version(m.Digest)),
		s.Time.Format(time.RFC3339))
	rows := [][]string{}
	for _, f := range m.Files {
		size := console.Size(f.Bytes)
		switch {
		case f.Beside:
			size += ", beside it"
		case f.Left:
			size += ", not in it"
		}
		rows = append(rows, []string{"  " + console.Plain(f.Path), size, console.Plain(f.SHA256)})
	}
	a.out.Table(rows, nil)

	if m.Base != stack.Model.Base {
		a.say("its base was %s, and is %s here: the settings say which", console.Plain(m.Base),
			stack.Model.Base)
	}
	if m.Name != stack.Model.Name || m.Digest != stack.Model.Digest {
		a.say("the sources here make %s:%s of %s: a restore leaves them alone. `codexctl backup state "+
			"%s FOLDER --at %s --identity KEY` writes those of the backup into FOLDER: to have that "+
			"model, put them into the place of yours, and `codexctl up %[4]s`", stack.Model.Name,
			version(stack.Model.Digest), stack.Model.Modelfile, t.name, b.Name)
	}
	return m, nil
}

// keepState keeps the stack's settings and state beside its backups.
func (a *App) keepState(ctx context.Context, t target, stack stacks.Stack, k keeper) error {
	s, err := a.session(ctx, t, false)
	if err == nil {
		err = a.keepStateOf(ctx, t, stack, s, k)
	}
	if err != nil {
		return a.explainError(err, t.name)
	}
	return nil
}

// keepStateOf is keepState of a session that is open.
func (a *App) keepStateOf(
	ctx context.Context, t target, stack stacks.Stack, s *deploy.Session, k keeper,
) error {
	model, err := backups.ReadModel(os.DirFS(t.project.Root), stack)
	if err != nil { // somebody may be at work on them
		a.say("what the model is made of is not kept: %v", err)
		model = nil
	}
	if model != nil && stack.BackupWeights {
		a.keepWeights(ctx, os.DirFS(t.project.Root), model, k)
	}
	state := archive.State{Revision: a.revision(ctx, t), Model: model}
	settings, err := os.ReadFile(t.file.Path)
	if err != nil {
		return err
	}
	state.Settings = string(settings)
	if state.Deployment, err = s.Export(ctx); err != nil {
		return err
	}

	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return k.stream(ctx, bytes.NewReader(b), io.Discard, "state")
}

// keepWeights has the files of the model kept that its state has no room for, and notes which are.
// Those that are there already are neither sent nor read again. That some cannot be kept is said.
func (a *App) keepWeights(ctx context.Context, sources fs.FS, m *archive.Model, k keeper) {
	large := map[string][]*archive.ModelFile{} // by their SHA-256
	for i := range m.Files {
		if f := &m.Files[i]; f.Left {
			large[f.SHA256] = append(large[f.SHA256], f)
		}
	}
	if len(large) == 0 {
		return
	}

	sums := slices.Sorted(maps.Keys(large))
	var out bytes.Buffer
	if err := k.stream(ctx, nil, &out, append([]string{"missing"}, sums...)...); err != nil {
		a.say("the model's weights are not kept with the backups: %v", err)
		return
	}
	missing := strings.Fields(out.String())

	for _, sum := range sums {
		if slices.Contains(missing, sum) {
			if err := a.sendWeights(ctx, sources, *large[sum][0], k); err != nil {
				a.say("%s is not kept with the backups: %v", large[sum][0].Path, err)
				continue
			}
		}
		for _, f := range large[sum] {
			f.Beside = true
		}
	}
}

// sendWeights has a file of the model kept.
func (a *App) sendWeights(
	ctx context.Context, sources fs.FS, file archive.ModelFile, k keeper,
) error {
	f, err := sources.Open(file.Path)
	if err != nil {
		return err
	}
	defer f.Close()

	a.say("keeping %s (%s) with the backups", file.Path, console.Size(file.Bytes))
	return k.stream(ctx, f, io.Discard, "weights", file.SHA256)
}

// stateAfterUp keeps the settings and the state of a stack that makes backups. An up that cannot is
// done all the same.
func (a *App) stateAfterUp(
	ctx context.Context, t target, stack stacks.Stack, s *deploy.Session, p platform,
) {
	if stack.Service(stacks.Backup) == nil {
		return
	}
	k, err := a.keeper(ctx, t, stack, p)
	if err == nil {
		err = a.keepStateOf(ctx, t, stack, s, k)
	}
	if err != nil {
		a.say("the stack's state is not kept beside its backups: %v", err)
	}
}

// stateOptions are the options of `backup state`.
type stateOptions struct {
	identity, from string

	at string // the name of a backup; empty is now
}

func (a *App) backupState(ctx context.Context, name, folder string, o stateOptions) error {
	if o.identity == "" {
		return usageError{errors.New("--identity is not set: name the file of an identity")}
	}
	at := a.now()
	if o.at != "" {
		if err := archive.CheckName(o.at); err != nil {
			return usageError{fmt.Errorf("--at: %w", err)}
		}
		_, _, at = archive.Parse(archive.File(o.at))
	}
	ids, err := backups.Identities(o.identity, a.in)
	if err != nil {
		return err
	}

	write := func(file string, src backups.Source) error {
		s, err := backups.State(ctx, src, at, ids)
		if err != nil {
			return err
		}
		if s.Model != nil {
			if err := backups.CheckModel(s.Model); err != nil {
				a.say("what the model is made of is left out: %v", err)
				s.Model = nil
			}
		}
		if o.at != "" && s.Time.After(at) {
			a.say("nothing is kept from before %s: this is from after it", o.at)
		}
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
		err = errors.Join(
			os.WriteFile(filepath.Join(folder, file), []byte(s.Settings), 0o600),
			os.WriteFile(filepath.Join(folder, "state.json"), s.Deployment, 0o600))
		if err == nil && s.Model != nil {
			err = backups.WriteModel(folder, s.Model)
		}
		if err != nil {
			return err
		}
		if s.Model != nil {
			err = backups.WriteWeights(ctx, src, folder, s.Model, ids) // the rest is of use without them
		}
		a.say("the settings and the state of %s, sources %s, are in %s",
			s.Time.Format(time.RFC3339), console.Plain(s.Revision), folder)
		a.sayModelFiles(s.Model, folder)
		return err
	}

	if o.from != "" { // the stack may be gone with its settings
		return write("Pulumi."+filepath.Base(name)+".yaml", backups.Folder(o.from))
	}
	return a.withKeeper(ctx, name, func(t target, _ stacks.Stack, k keeper) error {
		return write(filepath.Base(t.file.Path), k)
	})
}

// sayModelFiles says where the model's files are that were written to the folder, and which are
// not.
func (a *App) sayModelFiles(m *archive.Model, folder string) {
	if m == nil {
		a.say("what the model is made of is not in it")
		return
	}
	a.say("what makes the model %s:%s is in %s", console.Plain(m.Name),
		console.Plain(version(m.Digest)), console.Plain(filepath.Join(folder, filepath.Dir(m.Modelfile))))
	for _, f := range m.Files {
		if f.Left && !f.Beside {
			a.say("  but for %s, which was not kept (%s): yours has to have the SHA-256 %s",
				console.Plain(f.Path), console.Size(f.Bytes), console.Plain(f.SHA256))
		}
	}
}
