// Command backend is the REST API: conversations, answers that outlive their readers, models and the stack's status.
//
//	backend                    serve, as the environment says (see services/backend/backendenv)
//	backend healthcheck [URL]  exit 0 when /health answers 200
//	backend version            print the version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/api"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/prometheus/client_golang/prometheus"
	redislog "github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

// run is the whole command: it returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c := server.Command{Health: "/health", Usage: "usage: backend [healthcheck [URL] | version]", Serve: serve}
	return c.Run(ctx, args, environ, stdout, stderr)
}

const (
	// lease is how long an answer whose backend is silent counts as being written, and grace how
	// long the backend has then to renew it: so late does another one go on with the answer of one
	// that was killed. One that was only slow is refused from then on, so short times cost no more
	// than an answer that is asked for twice.
	lease = 2 * time.Second
	grace = time.Second
	// sweepEvery is how often a backend looks for answers whose backend was killed.
	sweepEvery = 250 * time.Millisecond
	// outage is how long an answer bears a Redis that does not answer: Sentinels wait 30 s by default before they let
	// another server take over, which takes them a few more.
	outage = 40 * time.Second
	// keep is how long an answer's events can be read after its end.
	keep = time.Hour
	// watchEvery is how often Redis is asked whether it is there, for the log.
	watchEvery = 5 * time.Second
)

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[backendenv.Config](environ)
	if err != nil {
		return err
	}
	redis, err := cfg.Redis()
	if err != nil {
		return err
	}
	redislog.Disable() // what fails is returned, and told here once; the library would repeat it on stderr in its own format
	log := logging.New(stderr, "backend", cfg.LogLevel, cfg.Debug)
	srv := server.New("backend", log, cfg.DrainTimeout)
	redisErrors := prometheus.NewCounter(prometheus.CounterOpts{Name: "backend_redis_errors_total", Help: "Commands that Redis did not do."})
	srv.Registry().MustRegister(redisErrors)
	st, err := store.New(store.Options{Address: store.Address(redis), TTL: cfg.ConversationTTL, Keep: keep,
		Lease: lease, Grace: grace, Outage: outage,
		OnError: func(error) { redisErrors.Inc() }})
	if err != nil {
		return err
	}
	defer st.Close()
	srv.StartWhen(map[string]server.Check{"redis": st.Check}) // without storage there is nothing to answer with
	ml := hop.New("ml", cfg.MLServiceURL)
	jobs := generation.New(st, hop.NewStreaming("ml", cfg.MLServiceURL), cfg.DefaultModel, generation.DefaultTiming(cfg.GenerationTimeout), log, srv.Registry())
	if err := api.Register(srv, api.Options{Store: st, Jobs: jobs, ML: ml, DefaultModel: cfg.DefaultModel, Log: log, Draining: srv.Draining}); err != nil {
		return err
	}
	srv.Liveness("/health")
	// pages, reading and the status live without ml
	srv.Readiness("/ready", map[string]server.Check{"redis": st.Check})
	if cfg.Debug {
		srv.Profiling()
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go st.Watch(watching, log, watchEvery)
	go jobs.Sweep(watching, sweepEvery)
	return srv.Run(ctx, cfg.ListenAddr, jobs.Drain)
}
