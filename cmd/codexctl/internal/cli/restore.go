package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/backups"
	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/console"
	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/stacks"
)

type restoreOptions struct {
	identity, from string
	yes, noBackup  bool
	timeout        time.Duration

	// settle is the time between the notice and the backup of what the stack has.
	settle time.Duration
}

func (a *App) restoreCommand() *cobra.Command {
	o := restoreOptions{settle: gatesLook}
	c := &cobra.Command{
		Use:   "restore STACK [BACKUP] --identity FILE",
		Short: "Put a backup into the place of what a stack has stored",
		Long: `Puts a backup, the last one unless named, into the place of all conversations,
accounts, records and documents of a stack that runs, a new one or not. It is
decrypted on this machine, and checked before anything changes. What the stack has
is backed up first. People see the page of "codexctl maintenance" meanwhile, also
after a restore that has failed. Everybody signs in again, and invitations are void.

What was erased, deleted, moved, removed and revoked after the backup is done again.
Records of the audit that came after it stay, where they go on with the backup's.`,
		Args: between(1, 2, "name the stack, and a backup"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.identity == "" {
				return usageError{errors.New("--identity is not set: name the file of an identity " +
					"for which the backup was encrypted")}
			}
			return a.restore(c.Context(), args[0], word(args, 1), o)
		},
	}

	f := c.Flags()
	f.StringVar(&o.identity, "identity", "", "the file with an identity; - is the standard input")
	f.StringVar(&o.from, "from", "",
		"a folder with a copy of the backups' files, in the place of the stack's own")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before anything is replaced")
	f.BoolVar(&o.noBackup, "no-backup", false, "do not back up first what is replaced")
	f.DurationVar(&o.timeout, "timeout", 15*time.Minute,
		"how long Redis and the documents may take to read what they have got")
	return c
}

func (a *App) restore(ctx context.Context, name, backup string, o restoreOptions) error {
	ids, err := backups.Identities(o.identity, a.in)
	if err != nil {
		return err
	}

	return a.withKeeper(ctx, name, func(t target, stack stacks.Stack, k keeper) error {
		from, also := backupSources(k, o.from)
		return a.withBackup(ctx, from, backup, ids, func(b *backups.Backup) error {
			return a.restoreBackup(ctx, t, stack, k, b, o)
		}, also...)
	})
}

// backupSources returns where the backup is read, and where else it is known what was erased since: the
// stack's own place, which goes on where a copy ends.
func backupSources(k keeper, folder string) (from backups.Source, also []backups.Source) {
	if folder == "" {
		return k, nil
	}
	return backups.Folder(folder), []backups.Source{k}
}

// restorer puts a backup into a stack.
type restorer struct {
	*App
	t      target
	stack  stacks.Stack
	keeper keeper
	backup *backups.Backup
	o      restoreOptions

	page   string // the notice, as Redis has it
	closed bool   // whether people see a notice
	mine   bool   // whether this has put it up
	opens  bool   // whether it is a restore's, which takes it down
}

func (a *App) restoreBackup(
	ctx context.Context, t target, stack stacks.Stack, k keeper, b *backups.Backup, o restoreOptions,
) error {
	r := &restorer{App: a, t: t, stack: stack, keeper: k, backup: b, o: o}
	if err := r.check(); err != nil {
		return err
	}

	a.describe(b)
	if _, err := a.describeModel(ctx, t, stack, b); err != nil {
		a.say("%v", err) // what people have stored is in the backup, and goes back without it
	}
	if err := r.confirm(); err != nil {
		return err
	}

	release, err := a.lock(ctx, k.platform, t.name, "restore")
	if err != nil {
		return err
	}
	defer release()

	begun := a.now()
	if err := r.put(ctx); err != nil {
		if r.closed {
			err = fmt.Errorf("%w; people see the page of maintenance until `codexctl maintenance off %s`",
				err, t.name)
		}
		return err
	}

	a.say("%s has taken its place in %s", b.Name, console.Elapsed(a.now().Sub(begun)))
	return r.models()
}

// put puts the backup into the stack's place, while people see a notice. That is there before what the
// stack has is backed up: what they wrote in between would be in neither.
func (r *restorer) put(ctx context.Context) error {
	if err := r.close(ctx); err != nil {
		return r.unchanged(ctx, err)
	}
	if err := r.backUp(ctx); err != nil {
		return r.unchanged(ctx, err)
	}
	if err := r.putRedis(ctx); err != nil {
		return fmt.Errorf("the data of Redis: %w", err)
	}
	if err := r.putDocuments(ctx); err != nil {
		return fmt.Errorf("the documents: %w; Redis has the backup already: %s", err, r.again())
	}
	if err := r.replay(ctx); err != nil {
		return err
	}
	r.keeper.release(ctx, r.staying()...)
	if err := r.open(ctx); err != nil {
		return fmt.Errorf("all is restored, but %w", err)
	}
	return nil
}

// unchanged returns the error of a restore that has replaced nothing, and lets people in if this has
// kept them out.
func (r *restorer) unchanged(ctx context.Context, err error) error {
	if r.mine {
		ctx, cancel := afterwards(ctx)
		defer cancel()
		err = errors.Join(err, r.open(ctx))
	}
	return err
}

// afterwards returns a context for what is put right after a command that was cut off.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

// backUp backs up what the stack has. The backup that is restored stays, also where the rule has no
// place for it: this may have to be run again.
func (r *restorer) backUp(ctx context.Context) error {
	if r.o.noBackup {
		return nil
	}
	if r.mine { // what is sent until each gate shows the page is to be in it
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(r.o.settle):
		}
	}
	before, err := r.keeper.create(ctx, r.staying()...)
	if err != nil {
		return fmt.Errorf("what the stack has now cannot be backed up, so nothing was replaced: %w; "+
			"--no-backup does without", err)
	}
	r.say("what the stack has now is in %s", before.Name)
	return nil
}

// restoreNotice is what people read during a restore. By it another one knows it again.
const restoreNotice = "What this site has stored is being restored. It will be back soon."

// gatesLook is longer than a gate takes to see that there is a notice: it looks once a second.
const gatesLook = 2 * time.Second

// close puts up a notice, unless an operator has done so, and notes it as Redis has it: a restore
// replaces it with all else, and the gates are to show it until the end.
func (r *restorer) close(ctx context.Context) error {
	p := r.keeper.platform
	n, err := r.notice(ctx, r.t, r.stack, p)
	if err == nil && n == nil {
		if err = r.maintenance(ctx, "on", operator(), restoreNotice); err == nil {
			r.closed, r.mine, r.opens = true, true, true
			n, err = r.notice(ctx, r.t, r.stack, p)
		}
	}
	if err == nil && n == nil {
		err = errors.New("it is not there")
	}
	if err != nil {
		return fmt.Errorf("put up the page of maintenance: %w", err)
	}

	r.closed, r.opens = true, n.Message == restoreNotice
	text, err := json.Marshal(n)
	r.page = string(text)
	return err
}

// open takes the notice down, if it is not an operator's.
func (r *restorer) open(ctx context.Context) error {
	if !r.opens {
		r.say("the page of maintenance stays: `codexctl maintenance off %s` takes it down", r.t.name)
		return nil
	}
	if err := r.maintenance(ctx, "off", operator()); err != nil {
		return fmt.Errorf("the page of maintenance stays: %w", err)
	}
	r.closed = false
	return nil
}

// maintenance runs the command of a gate.
func (r *restorer) maintenance(ctx context.Context, words ...string) error {
	g, err := healthyGate(ctx, r.t, r.stack, r.keeper.platform)
	if err == nil {
		_, err = g.run(ctx, append([]string{"maintenance"}, words...)...)
	}
	return err
}

// staying returns the backup's name if it is one of the stack's own place.
func (r *restorer) staying() []string {
	if r.o.from != "" {
		return nil
	}
	return []string{r.backup.Name}
}

// again says how a restore goes on that has failed half-way. The last backup is another one by then.
func (r *restorer) again() string {
	return fmt.Sprintf("run it again, with the name %s", r.backup.Name)
}

// check finds what would fail half-way.
func (r *restorer) check() error {
	_, documents := r.backup.Manifest.Part(archive.Documents)
	if documents && r.stack.Service(stacks.Knowledge) == nil {
		return fmt.Errorf("%s has documents, and stack %s takes none: set %s:knowledge as it was, then "+
			"`codexctl up %s`", r.backup.Name, r.t.file.Name, stacks.Project, r.t.name)
	}
	if r.dataDir() == "" {
		return fmt.Errorf("stack %s has no Redis of its own", r.t.file.Name)
	}

	return r.fits()
}

// fits returns an error if the backup takes more memory than Redis has, which could not load it.
func (r *restorer) fits() error {
	part, _ := r.backup.Manifest.Part(archive.Redis)
	needs := part.Bytes // at least
	enough := errors.New("the rest need not be read")
	err := r.backup.Part(archive.Redis, func(content io.Reader) error {
		needs = max(needs, backups.Memory(content))
		return enough
	})
	if err != nil && !errors.Is(err, enough) {
		return err
	}

	memory := r.stack.Service(stacks.Redis).Resources.Memory
	if memory == 0 {
		return nil
	}
	said := fmt.Sprintf("the data of Redis in %s take %s of memory, and Redis of stack %s has %s",
		r.backup.Name, console.Size(needs), r.t.file.Name, memory)
	switch {
	case needs > int64(memory):
		return fmt.Errorf("%s: set %s:services.redis.memory as it was, then `codexctl up %s`", said,
			stacks.Project, r.t.name)
	case needs > stacks.MaxMemory(memory):
		r.say("%s, of which data may take %s: it may take nothing new then", said,
			console.Size(stacks.MaxMemory(memory)))
	}
	return nil
}

// dataDir returns where Redis keeps its data.
func (r *restorer) dataDir() string {
	redis := r.stack.Service(stacks.Redis)
	if redis == nil {
		return ""
	}
	for _, m := range redis.Mounts {
		if m.Source == stacks.RedisData {
			return m.Target
		}
	}
	return ""
}

// confirm asks whether the backup may take the place of what there is.
func (r *restorer) confirm() error {
	what := fmt.Sprintf("All that stack %s has stored", r.t.file.Name)
	if r.backup.Manifest.Stack != r.t.file.Name {
		what += fmt.Sprintf(", for what was stored in stack %s", r.backup.Manifest.Stack)
	}
	if !r.stack.Audited() {
		r.say("nobody signs in to stack %s, so it is not recorded what people delete: what they deleted "+
			"since the backup comes back", r.t.file.Name)
	}
	if r.o.yes {
		return nil
	}
	if !r.asks() {
		return usageError{fmt.Errorf("%s is replaced, and there is no terminal to ask on: add --yes",
			strings.ToLower(what[:1])+what[1:])}
	}
	if !r.typed(what+" is replaced. Type the stack's name: ", r.t.file.Name) {
		return errors.New("nothing was replaced")
	}
	return nil
}

// putRedis gives Redis the backup, and restarts it. What it has not begun with when that fails is
// dropped: it must not replace what people write later.
func (r *restorer) putRedis(ctx context.Context) error {
	part, ok := r.backup.Manifest.Part(archive.Redis)
	if !ok {
		return r.unchanged(ctx, fmt.Errorf("%s has nothing of Redis", r.backup.Name))
	}

	err := r.backup.Part(archive.Redis, func(content io.Reader) error {
		return r.script(ctx, backups.Receive, content, part.SHA256)
	})
	if err == nil {
		err = r.finish(ctx, part.SHA256)
	}
	var how []string
	if err == nil {
		how = []string{backups.Restarted}
		err = r.restart(ctx, stacks.Redis)
	}
	if err == nil {
		err = r.script(ctx, backups.Loaded, nil)
	}
	if err == nil {
		return nil
	}

	after, cancel := afterwards(ctx)
	defer cancel()
	if r.script(after, backups.Drop, nil, how...) != nil {
		return fmt.Errorf("%w; Redis has begun with the backup, or does when it starts within an hour: %s",
			err, r.again())
	}
	return r.unchanged(ctx, fmt.Errorf("%w; nothing was replaced", err))
}

// script runs a script of package backups where Redis runs.
func (r *restorer) script(ctx context.Context, text string, in io.Reader, words ...string) error {
	p := r.keeper.platform
	list, err := r.t.replicas(ctx, p, stacks.Redis)
	if err != nil {
		return err
	}
	return streamed(ctx, p, list[0], in, io.Discard,
		append([]string{"sh", "-c", text, "sh", r.dataDir()}, words...)...)
}

// finish has Redis begin with the backup, of the SHA-256, when it starts again.
func (r *restorer) finish(ctx context.Context, sum string) error {
	records, err := r.records(ctx)
	if err != nil {
		return fmt.Errorf("read the audit, which is to go on: %w", err)
	}
	tail := backups.Tail(r.page, records)
	of := sha256.Sum256(tail)
	return r.script(ctx, backups.Finish, bytes.NewReader(tail), hex.EncodeToString(of[:]), sum)
}

// restart restarts a service's containers, which then have what was put there.
func (r *restorer) restart(ctx context.Context, service string) error {
	return r.keeper.platform.Restart(ctx, service, r.o.timeout,
		func(name string, took time.Duration) {
			r.say("%s is healthy after %.1fs", name, took.Seconds())
		})
}

// records returns the audit's records of the stack that runs, from the day before the backup on.
func (r *restorer) records(ctx context.Context) ([]backups.Record, error) {
	if !r.stack.Audited() {
		return nil, nil
	}
	g, err := healthyGate(ctx, r.t, r.stack, r.keeper.platform)
	if err != nil {
		return nil, err
	}
	days, err := g.auditDays(ctx)
	if err != nil {
		return nil, err
	}

	since := r.backup.Manifest.Begun.AddDate(0, 0, -1).UTC().Format(time.DateOnly)
	// The backup's last record may be older, of the last day before that.
	first := len(days)
	for i, day := range slices.Backward(days) {
		first = i
		if day < since {
			break
		}
	}

	var all []backups.Record
	for _, day := range days[first:] {
		lines, err := g.auditOf(ctx, day)
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			all = append(all, backups.Record{Day: day, Line: line})
		}
	}
	return all, nil
}

// putDocuments gives knowledge the documents of the backup, and restarts it.
func (r *restorer) putDocuments(ctx context.Context) error {
	part, ok := r.backup.Manifest.Part(archive.Documents)
	if !ok {
		return nil
	}
	err := r.backup.Part(archive.Documents, func(content io.Reader) error {
		return r.keeper.stream(ctx, content, io.Discard, "documents", part.SHA256)
	})
	if err != nil {
		return err
	}
	return r.restart(ctx, stacks.Knowledge)
}

// replay has what was erased since done again. The gates learn first by which names people are known
// in the backup.
func (r *restorer) replay(ctx context.Context) error {
	again := func(err error) error {
		return fmt.Errorf("what was erased since the backup is there again: %w: %s", err, r.again())
	}
	if err := r.restart(ctx, stacks.Gate); err != nil {
		return again(err)
	}
	if !r.stack.Audited() {
		return nil
	}

	done, err := r.replayed(ctx)
	if err != nil {
		return again(err)
	}
	r.say("done again since the backup: %s", counted(done.Done))
	for _, x := range []struct {
		what string
		acts []string
	}{
		{"not done again, which only you or they can", done.Left}, {"failed", done.Failed},
	} {
		if len(x.acts) > 0 {
			r.say("%s:", x.what)
		}
		for _, act := range x.acts {
			r.say("  %s", console.Plain(act))
		}
	}
	if len(done.Failed) > 0 {
		return errors.New("not all that was erased since the backup could be erased again: do these by " +
			"hand")
	}
	return nil
}

// replayed is what a gate says of what was done since a backup.
type replayed struct {
	Done         map[string]int
	Left, Failed []string
}

// replayed has a gate do again what was erased since, and returns what it says.
func (r *restorer) replayed(ctx context.Context) (done replayed, err error) {
	// Somebody may have been erased while this asked, and copied.
	if err := r.backup.Refresh(ctx); err != nil {
		return done, err
	}
	g, err := healthyGate(ctx, r.t, r.stack, r.keeper.platform)
	if err != nil {
		return done, err
	}
	in, err := json.Marshal(append([]auditlog.Record{}, r.backup.Since...))
	if err != nil {
		return done, err
	}

	var out bytes.Buffer
	err = g.stream(ctx, bytes.NewReader(in), &out, "replay", "--by="+operator(), r.backup.Name)
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(out.Bytes(), &done); err != nil {
		return done, fmt.Errorf("%s says something else than JSON: %w", g.replica.Name, err)
	}
	return done, nil
}

// counted returns how many acts there were of each kind.
func counted(acts map[string]int) string {
	var out []string
	for _, action := range slices.Sorted(maps.Keys(acts)) {
		out = append(out, fmt.Sprintf("%d %s", acts[action], action))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// models says which models the stack had, of which a backup has the names alone. What the stack's
// own is made of is kept with the state.
func (r *restorer) models() error {
	var had struct {
		Models []struct{ Name, Digest string }
	}
	err := r.backup.Part(archive.Models, func(content io.Reader) error {
		return json.NewDecoder(content).Decode(&had)
	})
	if err != nil {
		return fmt.Errorf("models: %w", err)
	}

	var names []string
	for _, m := range had.Models {
		names = append(names, console.Plain(fmt.Sprintf("%s (%.12s)", m.Name, m.Digest)))
	}
	if len(names) > 0 {
		r.say("models that there were: %s; bring back what is missing with `codexctl model import %s`",
			strings.Join(names, ", "), r.t.name)
	}
	return nil
}
