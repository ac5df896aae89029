// Command backup makes backups of the stack while it runs, at the times of the settings, and keeps
// them in a directory or a bucket. It encrypts them to recipients, and cannot read them again.
//
//	backup                    serve, as the environment says (see services/backup/backupenv)
//	backup create [NAME]      make a backup now, and print what it is as JSON; that of the name, which
//	                          is about to be restored, is not dropped for a week
//	backup release NAME       have the backup be dropped when the rule says so, as it was restored
//	backup list               print the backups as JSON, the last one first
//	backup verify NAME        read a backup, and compare it with its summary
//	backup files              print the names of all files, after erasures were written down
//	backup fetch FILE         print a file
//	backup state              keep what is on the standard input: a State of package archive
//	backup missing SHA256...  print which of these weights are not there, and keep the others for a day
//	backup weights SHA256     keep the weights on the standard input
//	backup documents SHA256   put the documents on the standard input in the place of those there
//	backup healthcheck [URL]  exit 0 when /health answers 200
//	backup certificate        print until when its certificate is good
//	backup version            print the version
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/job"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	redislog "github.com/redis/go-redis/v9/logging"
)

const usage = "usage: backup [create [NAME] | release NAME | list | verify NAME | files | fetch FILE | state | " +
	"missing SHA256... | weights SHA256 | documents SHA256 | healthcheck [URL] | certificate | version]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		os.Exit(1)
	}
}

// run runs the command. It returns nil after a clean stop.
func run(
	ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer,
) error {
	commands := map[string][2]int{ // with the least and the most words
		"create": {1, 2}, "release": {2, 2}, "list": {1, 1}, "verify": {2, 2}, "files": {1, 1},
		"fetch": {2, 2}, "state": {1, 1}, "documents": {2, 2}, "missing": {2, math.MaxInt},
		"weights": {2, 2},
	}
	if len(args) > 0 && commands[args[0]][0] != 0 {
		if n := commands[args[0]]; len(args) < n[0] || len(args) > n[1] {
			return errors.New(usage)
		}
		return command(ctx, args, environ, stdin, stdout, stderr)
	}

	c := server.Command{Health: "/health", Usage: usage, Serve: serve}
	return c.Run(ctx, args, environ, stdout, stderr)
}

// command runs a command of the operator.
func command(
	ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer,
) error {
	w, err := open(environ, stderr)
	if err != nil {
		return err
	}
	defer w.Close()

	switch args[0] {
	case "create":
		for _, name := range args[1:] {
			if err := archive.CheckName(name); err != nil {
				return err
			}
			if err := w.job.Hold(ctx, name); err != nil {
				return err
			}
		}
		if err := w.publish(ctx); err != nil {
			return err
		}
		name, s, err := w.job.Create(ctx)
		if err != nil {
			return err
		}
		if err := w.job.Prune(ctx); err != nil {
			fmt.Fprintln(stderr, "backup: older backups are not dropped:", err)
		}
		return json.NewEncoder(stdout).Encode(job.Backup{Name: name, Summary: s})
	case "release":
		if err := archive.CheckName(args[1]); err != nil {
			return err
		}
		return w.job.Release(ctx, args[1])
	case "list":
		list, err := w.job.List(ctx)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(list)
	case "verify":
		if err := archive.CheckName(args[1]); err != nil {
			return err
		}
		return w.job.Verify(ctx, args[1])
	case "files":
		return w.files(ctx, stdout, stderr)
	case "fetch":
		return w.fetch(ctx, args[1], stdout)
	case "state":
		var s archive.State
		if err := json.NewDecoder(stdin).Decode(&s); err != nil {
			return fmt.Errorf("the state on the standard input: %w", err)
		}
		return w.job.PutState(ctx, s)
	case "missing", "weights":
		for _, sum := range args[1:] {
			if err := archive.CheckSum(sum); err != nil {
				return err
			}
		}
		if args[0] == "weights" {
			return w.job.PutWeights(ctx, args[1], stdin)
		}
		missing, err := w.job.MissingWeights(ctx, args[1:])
		if err == nil {
			_, err = fmt.Fprint(stdout, strings.Join(append(missing, ""), "\n"))
		}
		return err
	}

	if err := w.publish(ctx); err != nil {
		return err
	}
	return w.putDocuments(ctx, stdin, args[1])
}

// files prints the names of the files. That erasures cannot be read, as after a loss of Redis, is
// said on stderr.
func (w *worker) files(ctx context.Context, stdout, stderr io.Writer) error {
	if err := w.job.Erasures(ctx); err != nil {
		fmt.Fprintln(stderr, "backup: erasures since the last minute may be missing:", err)
	}

	files, err := w.depot.List(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b depot.File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range files {
		fmt.Fprintln(stdout, f.Name)
	}
	return nil
}

// fetch prints a file.
func (w *worker) fetch(ctx context.Context, file string, stdout io.Writer) error {
	if kind, _, _ := archive.Parse(file); kind == archive.Other {
		return fmt.Errorf("%q is no file of backups: `backup files` lists them", file)
	}

	f, err := w.depot.Open(ctx, file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()

	_, err = io.Copy(stdout, f)
	return err
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	w, err := open(environ, stderr)
	if err != nil {
		return err
	}
	defer w.Close()

	srv := server.New("backup", w.log, w.cfg.DrainTimeout)
	srv.Secure(w.who.Server())
	srv.StartWhen(map[string]server.Check{
		// What is wrong with the place is known when the stack comes up, and not at night.
		"depot": w.try,
		"key":   w.publish,
	})
	srv.Liveness("/health")
	srv.Readiness("/ready", nil)
	if w.cfg.Debug {
		srv.Profiling()
	}

	schedule := &schedule{
		job: w.job, every: w.cfg.Every, at: w.cfg.At, log: w.log, metrics: newMetrics(srv.Registry()),
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go w.signer.Run(working, w.keys, w.log)
	go func() {
		defer close(done)
		schedule.run(working)
	}()

	err = srv.Run(ctx, w.cfg.ListenAddr)
	stop()
	<-done
	return err
}

// openDepot returns where backups are kept.
func openDepot(cfg backupenv.Config) (depot.Depot, error) {
	if cfg.Directory != "" {
		d, err := depot.NewDirectory(cfg.Directory, cfg.Stack)
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: give the directory to the user %d", err, os.Getuid())
		}
		if err != nil {
			return nil, fmt.Errorf("DIRECTORY: %w", err)
		}
		return d, nil
	}

	secret, err := contract.Secret("S3_SECRET_KEY_FILE", cfg.S3SecretKeyFile)
	if err != nil {
		return nil, err
	}
	o := depot.BucketOptions{
		URL: cfg.S3URL, Region: cfg.S3Region, Bucket: cfg.S3Bucket, Prefix: cfg.S3Prefix,
		AccessKey: cfg.S3AccessKey, SecretKey: secret,
	}
	if o.Authorities, err = contract.Authorities("S3_CA_FILE", cfg.S3CAFile); err != nil {
		return nil, err
	}
	if cfg.EgressURL != "" {
		if o.Proxy, err = url.Parse(cfg.EgressURL); err != nil {
			return nil, fmt.Errorf("EGRESS_URL: %w", err)
		}
	}

	b, err := depot.NewBucket(o, cfg.Stack)
	if err != nil {
		return nil, fmt.Errorf("S3_URL: %w", err)
	}
	return b, nil
}

// open returns what the commands work with.
func open(environ []string, stderr io.Writer) (*worker, error) {
	cfg, err := contract.Parse[backupenv.Config](environ)
	if err != nil {
		return nil, err
	}

	at, err := cfg.Redis()
	if err != nil {
		return nil, err
	}

	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return nil, err
	}

	redislog.Disable() // what fails is logged here
	log := logging.New(stderr, "backup", cfg.LogLevel, cfg.Debug)
	d, err := openDepot(cfg)
	if err != nil {
		return nil, err
	}
	return newWorker(cfg, at, who, d, log, time.Now)
}
