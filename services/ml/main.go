// Command ml is the model service: it makes the stack's custom model and stands between
// the backend and Ollama.
//
//	ml                    serve, as the environment says (see services/ml/mlenv)
//	ml model apply [--replicas N] [--timeout 15m] [--tries N] [--again]
//	                      make the custom model in every replica of Ollama, N at least, and exit
//	ml model list         print the versions of the model as JSON
//	ml model eval [VERSION]
//	                      ask a version its evals, the one that serves unless another is named, and
//	                      print the report as JSON
//	ml model rollback [--replicas N] [VERSION]
//	                      have an earlier version serve until the Modelfile changes, if N replicas
//	                      of Ollama at least are there
//	ml healthcheck [URL]  exit 0 when /health answers 200
//	ml certificate        print until when its certificate is good
//	ml version            print the version
//
// ml model apply prints its progress on stderr. The timeout is for the replicas to be there and to
// answer. A try that failed is repeated while there are tries left and another one may help. It
// exits with 2 if trying again is in vain. With --again the evals are asked again, and a rollback
// ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/api"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/build"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/meter"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/ollama"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/queue"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/redis"
	"github.com/codexcontinue/codexcontinue/services/ml/internal/replicas"
	"github.com/codexcontinue/codexcontinue/services/ml/mlenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "ml:", err)
		if _, ok := errors.AsType[*build.FinalError](err); ok {
			os.Exit(exitFinal)
		}
		os.Exit(1)
	}
}

// exitFinal is the exit status of `ml model apply` if trying again is in vain.
const exitFinal = 2

// applyFlags are those of `ml model apply`.
const applyFlags = "[--replicas N] [--timeout 15m] [--tries N] [--again]"

// silence is how long a model may pause between two tokens, where it has no tools to call.
const silence = time.Minute

// patience is how long a request waits for an Ollama that cannot be reached: one that was killed is
// back sooner.
const patience = 20 * time.Second

// run is the whole command: it returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	if len(args) >= 2 && args[0] == "model" && args[1] == "apply" {
		return apply(ctx, args[2:], environ, stderr)
	}
	if len(args) >= 2 && args[0] == "model" && releaseCommands[args[1]] != nil {
		return runRelease(ctx, args[1], args[2:], environ, stdout, stderr)
	}

	c := server.Command{
		Health: "/health",
		Usage: "usage: ml [model apply " + applyFlags + " | model list | model eval [VERSION] | " +
			"model rollback [--replicas N] [VERSION] | healthcheck [URL] | certificate | version]",
		Serve: serve,
	}

	return c.Run(ctx, args, environ, stdout, stderr)
}

func options(cfg mlenv.Config) build.Options {
	return build.Options{
		Name:      cfg.DefaultModel,
		Modelfile: cfg.ModelfilePath,
		Digest:    cfg.ModelfileDigest,
		Base:      cfg.BaseModel,
		Embedding: cfg.EmbeddingModel,
		Evals:     cfg.EvalsDigest,

		NoDownload: cfg.NoDownload,
	}
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[mlenv.Config](environ)
	if err != nil {
		return err
	}

	log := logging.New(stderr, "ml", cfg.LogLevel, cfg.Debug)
	if cfg.RedisURL == "" {
		return errors.New("REDIS_URL: is not set, and the keys of who asks are there")
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	r, err := redis.New(at) // it connects when it is used
	if err != nil {
		return err
	}
	defer r.Close()

	// What people use lies on other nodes of a Cluster than the queue does.
	uses, err := redis.New(at)
	if err != nil {
		return err
	}
	defer uses.Close()

	turns := queue.New(cfg.MaxParallel, cfg.MaxQueue)
	turns.Limit(cfg.RequestsAtOnce)
	turns.Share(r, log)

	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	pool, err := replicas.New(replicas.Options{
		URL:        cfg.OllamaURL,
		TLS:        who.Client(),
		Parallel:   cfg.MaxParallel,
		Everywhere: build.Latest(cfg.DefaultModel),
		Version:    build.Version(cfg.DefaultModel, cfg.ModelfileDigest),
		Turns:      turns.Resize,
		Log:        log,
	})
	if err != nil {
		return err
	}

	maker := ollama.New(cfg.OllamaURL)
	maker.Secure(who.Client())
	opts := options(cfg)
	opts.Turn = spare(turns)
	builder := build.New(opts, maker, log, nil)
	srv := server.New("ml", log, cfg.DrainTimeout)
	srv.Secure(who.Server())
	verifier := identity.NewVerifier(identity.ML, r.Get, identity.Gate, identity.Backend,
		identity.Knowledge)
	listing := identity.NewVerifier(identity.ML, r.Get, identity.Gate, identity.Backend,
		identity.Knowledge, identity.Backup) // a backup names the models, and asks for no more
	srv.Guard(func(h http.Handler) http.Handler {
		all, list := verifier.Require(h, log), listing.Require(h, log)
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet && req.URL.Path == "/models" {
				list.ServeHTTP(w, req)
			} else {
				all.ServeHTTP(w, req)
			}
		})
	})
	embedding := ""
	if cfg.EmbeddingModel != "" {
		embedding = build.FullName(cfg.EmbeddingModel)
	}
	watch := api.Register(srv, api.Options{
		Ollama:       pool,
		Queue:        turns,
		Builder:      builder,
		Meter:        meter.New(uses, cfg.Limits, log),
		Await:        !cfg.ApplyModel,
		DefaultModel: cfg.DefaultModel,
		Models:       cfg.Models,
		Embedding:    embedding,
		Timeout:      cfg.GenerationTimeout,
		Silence:      silence,
		Patience:     patience,
		KeepAlive:    cfg.KeepAlive,
		Log:          log,
	})
	if cfg.Debug {
		srv.Profiling()
	}

	bctx, stop := context.WithCancel(ctx)
	// Those that have their turn keep their places while they end.
	qctx, stopQueue := context.WithCancel(context.WithoutCancel(ctx))
	var working sync.WaitGroup
	working.Go(func() { turns.Run(qctx) })
	working.Go(func() { pool.Run(bctx) })
	working.Go(func() { watch(bctx) })
	working.Go(func() {
		if cfg.ApplyModel {
			builder.Run(bctx)
		} else {
			builder.Await(bctx, pool.Lists)
		}
	})
	defer func() { stop(); stopQueue(); working.Wait() }()
	return srv.Run(ctx, cfg.ListenAddr, func(context.Context) error {
		turns.Close()
		return nil
	})
}
