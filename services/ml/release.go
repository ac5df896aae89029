package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

// asks is the owner of the evals in the queue.
const asks = "evals"

const (
	// calmFor is how long a case of the evals lets people go first.
	calmFor = 30 * time.Second

	// calmEvery is how often it looks whether somebody waits.
	calmEvery = 200 * time.Millisecond
)

// spare returns what waits for a turn that nobody else wants: for a moment in which no request
// waits here, and after a while for a turn among all of them, as one who asks.
func spare(turns *queue.Queue) func(context.Context) (release func(), err error) {
	return func(ctx context.Context) (func(), error) {
		for deadline := time.Now().Add(calmFor); turns.Waiting() > 0 &&
			time.Now().Before(deadline); {
			if !outage.Pause(ctx, calmEvery) {
				return nil, context.Cause(ctx)
			}
		}

		for {
			release, err := turns.Acquire(ctx, asks, func(int) error { return nil })
			pause := time.Second // where another ml asks its evals, of the same owner
			full, ok := errors.AsType[*queue.FullError](err)
			switch {
			case ok:
				pause = full.RetryAfter
			case !errors.Is(err, queue.ErrAtOnce):
				return release, err
			}
			if !outage.Pause(ctx, pause) {
				return nil, context.Cause(ctx)
			}
		}
	}
}

// releaseCommands are the commands on versions that are there.
var releaseCommands = map[string]func(*releases, context.Context, string) error{
	"list": (*releases).list, "eval": (*releases).eval, "rollback": (*releases).rollback,
}

// releases are the versions of the model in every replica of Ollama.
type releases struct {
	out      mlapi.Model
	builders []*build.Builder // of each of out.Replicas
}

// runRelease runs the command for a person, and prints what came of it as JSON.
func runRelease(
	ctx context.Context, command string, args, environ []string, stdout, stderr io.Writer,
) error {
	flags := flag.NewFlagSet("ml model "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	want := 1
	if command == "rollback" {
		flags.IntVar(&want, "replicas", want, "")
	}
	if err := flags.Parse(args); err != nil || flags.NArg() > 1 ||
		command == "list" && flags.NArg() > 0 {
		return errors.New("usage: ml model list | eval [VERSION] | rollback [--replicas N] " +
			"[VERSION]")
	}

	cfg, err := contract.Parse[mlenv.Config](environ)
	if err != nil {
		return err
	}

	r, err := findReleases(ctx, cfg, logging.New(stderr, "ml", "error", false))
	if err != nil {
		return err
	}

	if have := len(r.builders); have < want {
		return fmt.Errorf("only %d of %d replicas of Ollama are there: another would go on with "+
			"the version that it has", have, want)
	}
	if err := releaseCommands[command](r, ctx, flags.Arg(0)); err != nil {
		return err
	}

	return json.NewEncoder(stdout).Encode(r.out)
}

// findReleases asks every replica which versions it has.
func findReleases(
	ctx context.Context, cfg mlenv.Config, log *slog.Logger,
) (*releases, error) {
	pool, err := ollamas(cfg, log)
	if err != nil {
		return nil, err
	}

	addresses, err := pool.Addresses(ctx)
	if err != nil {
		return nil, fmt.Errorf("find Ollama: %w", err)
	}

	r := &releases{out: mlapi.Model{
		Name: cfg.DefaultModel, Digest: cfg.ModelfileDigest, EvalsDigest: cfg.EvalsDigest,
	}}
	for _, address := range addresses {
		b := build.New(options(cfg), pool.Client(address), log, nil)
		all, err := b.Releases(ctx)
		if err != nil {
			return nil, fmt.Errorf("ollama at %s: %w", address, err)
		}

		r.builders = append(r.builders, b)
		r.out.Replicas = append(r.out.Replicas, mlapi.Releases{Address: address, Releases: all})
	}

	if len(r.builders) == 0 {
		return nil, errors.New("no Ollama is there")
	}

	return r, nil
}

// list adds the report on the version that the Modelfile makes.
func (r *releases) list(ctx context.Context, _ string) error {
	for _, v := range r.out.Replicas[0].Releases {
		if v.Wanted && v.Verdict != "" {
			report, err := r.builders[0].Report(ctx, v.Version)
			r.out.Evals = report
			return err
		}
	}
	return nil
}

// eval asks one replica, and has each that has the version keep the report.
func (r *releases) eval(ctx context.Context, version string) error {
	all := r.out.Replicas[0].Releases
	is := func(v mlapi.Release) bool { return v.Version == version || version == "" && v.Serves }
	i := slices.IndexFunc(all, is)
	switch {
	case i < 0 && version == "":
		return errors.New("no version serves: name one, see `codexctl model list STACK`")
	case i < 0:
		return fmt.Errorf("there is no version %s: see `codexctl model list STACK`", version)
	}

	version = all[i].Version
	report, err := r.builders[0].Eval(ctx, version)
	if err != nil {
		return err
	}

	for k, replica := range r.out.Replicas[1:] {
		if slices.ContainsFunc(replica.Releases, is) {
			if err := r.builders[k+1].Keep(ctx, version, report); err != nil {
				return fmt.Errorf("ollama at %s: %w", replica.Address, err)
			}
		}
	}

	r.out.Version, r.out.Evals, r.out.Replicas = version, &report, nil
	return nil
}

// rollback has an earlier version serve in every replica. It changes nothing unless all have it.
func (r *releases) rollback(ctx context.Context, version string) error {
	version = cmp.Or(version, r.parted())
	serve := 0
	for i, replica := range r.out.Replicas {
		to, err := r.builders[i].Earlier(replica.Releases, version)
		if errors.Is(err, build.ErrServes) { // in some, where the last rollback was cut off
			if serve++; serve < len(r.out.Replicas) {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("ollama at %s: %w", replica.Address, err)
		}

		version = cmp.Or(version, to.Version) // which the others have to have too
	}

	for _, replica := range r.out.Replicas {
		if serves := servingIn(replica); serves != version {
			r.out.From = cmp.Or(r.out.From, serves)
		}
	}

	for i, replica := range r.out.Replicas {
		if err := r.builders[i].Rollback(ctx, version); err != nil {
			return fmt.Errorf("ollama at %s: %w", replica.Address, err)
		}
	}

	r.out.Version, r.out.Replicas = version, nil
	return nil
}

// parted returns the earliest of the versions that serve where the replicas differ: an update or a
// rollback of some was cut off. It is empty where the same one serves in all.
func (r *releases) parted() string {
	earliest, differ := "", false
	for _, replica := range r.out.Replicas {
		at := func(version string) int {
			return slices.IndexFunc(replica.Releases, func(v mlapi.Release) bool {
				return v.Version == version
			})
		}

		serves := servingIn(replica)
		if serves == "" || serves == earliest {
			continue
		}

		differ = differ || earliest != ""
		if at(earliest) < at(serves) { // the list begins with the last one
			earliest = serves
		}
	}

	if !differ {
		return ""
	}
	return earliest
}

// servingIn returns the version that serves in the replica, if one does.
func servingIn(replica mlapi.Releases) string {
	for _, v := range replica.Releases {
		if v.Serves {
			return v.Version
		}
	}
	return ""
}
