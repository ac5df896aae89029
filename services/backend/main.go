// Command backend is the REST API: conversations, answers that outlive their readers, models
// and the stack's status.
//
//	backend                    serve, as the environment says (see services/backend/backendenv)
//	backend healthcheck [URL]  exit 0 when /health answers 200
//	backend certificate        print until when its certificate is good
//	backend version            print the version
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backend/backendenv"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/api"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/generation"
	"github.com/codexcontinue/codexcontinue/services/backend/internal/store"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
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
	c := server.Command{
		Health: "/health",
		Usage:  "usage: backend [healthcheck [URL] | certificate | version]",
		Serve:  serve,
	}
	return c.Run(ctx, args, environ, stdout, stderr)
}

const (
	// lease is how long an answer whose backend is silent counts as being written. Then the backend
	// has grace to renew it, before another one goes on with the answer. The writes of one that was
	// only slow are refused from then on, so short times cost no more than an answer that is asked
	// for twice.
	lease = 2 * time.Second
	grace = time.Second

	// sweepEvery is how often a backend looks for answers whose backend was killed.
	sweepEvery = 250 * time.Millisecond

	// outage is how long an answer bears a Redis that does not answer. Sentinels wait 30 s by
	// default before they let another server take over, which takes a few more.
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

	// The store's errors are logged here. The library would repeat them in a format of its own.
	redislog.Disable()
	log := logging.New(stderr, "backend", cfg.LogLevel, cfg.Debug)
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	srv := server.New("backend", log, cfg.DrainTimeout)
	srv.Secure(who.Server())
	redisErrors := promauto.With(srv.Registry()).NewCounter(prometheus.CounterOpts{
		Name: "backend_redis_errors_total", Help: "Commands that Redis did not do.",
	})
	st, err := store.New(store.Options{
		Address: store.Address(redis),
		TTL:     cfg.ConversationTTL,
		Keep:    keep,
		Lease:   lease,
		Grace:   grace,
		Outage:  outage,
		OnError: func(error) { redisErrors.Inc() },

		MaxBytes: cfg.MaxStored,
	})
	if err != nil {
		return err
	}
	defer st.Close()

	records, err := audit.Open(&cfg.Auditing, redis, identity.Backend, log, stderr)
	if err != nil {
		return err
	}
	defer records.Close()

	// It believes the gate alone whose requests are, and tells ml whose answers it asks for: an
	// answer that it takes over has an owner, and nobody who waits for it.
	verifier := identity.NewVerifier(identity.Backend, st.Public, identity.Gate)
	srv.Guard(func(h http.Handler) http.Handler { return verifier.Require(h, log) })
	signer := identity.NewSigner(identity.Backend)
	ml, writing := hop.New("ml", cfg.MLServiceURL), hop.NewStreaming("ml", cfg.MLServiceURL)
	for _, c := range []*hop.Client{ml, writing} {
		c.Secure(who.Client())
		c.Sign(signer.For(identity.ML))
	}

	knowledge := newKnowledge(&cfg, who, signer)

	// Without Redis it can do nothing. Pages, reading and the status live without ml.
	checks := map[string]server.Check{"redis": st.Check}
	srv.StartWhen(map[string]server.Check{
		"redis": st.Check,
		"key":   func(ctx context.Context) error { return signer.Publish(ctx, st.Publish) },
	})
	jobs := generation.New(st, writing, cfg.DefaultModel,
		generation.DefaultTiming(cfg.GenerationTimeout), log, srv.Registry())
	jobs.Audit, jobs.Knowledge = records, knowledge
	if err := api.Register(srv, api.Options{
		Store:        st,
		Jobs:         jobs,
		ML:           ml,
		Knowledge:    knowledge,
		Audit:        records,
		DefaultModel: cfg.DefaultModel,
		Ratings:      cfg.Ratings,
		Log:          log,
		Owner: func(ctx context.Context, token string) (string, error) {
			p, _, err := verifier.Verify(ctx, token)
			return p.ID, err
		},
		Draining: srv.Draining,
	}); err != nil {
		return err
	}

	srv.Liveness("/health")
	srv.Readiness("/ready", checks)
	if cfg.Debug {
		srv.Profiling()
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()
	go st.Watch(watching, log, watchEvery)
	go signer.Run(watching, st.Publish, log)
	go jobs.Sweep(watching, sweepEvery)
	return srv.Run(ctx, cfg.ListenAddr, jobs.Drain)
}

// newKnowledge returns the client of the service that has the documents; nil if there is none.
func newKnowledge(
	cfg *backendenv.Config, who *mtls.Identity, signer *identity.Signer,
) *hop.Client {
	if cfg.KnowledgeURL == "" {
		return nil
	}

	c := hop.New("knowledge", cfg.KnowledgeURL)
	c.Secure(who.Client())
	c.Sign(signer.For(identity.Knowledge))
	return c
}
