// Command gate lets people in: it knows who a request is from, and passes it on to the frontend in
// that person's name.
//
//	gate                    serve, configured by the environment (see gateenv)
//	gate healthcheck [URL]  exit 0 when /health answers 200
//	gate user ...           manage the accounts, as codexctl user does
//	gate usage ...          show what people have used, as codexctl usage does
//	gate learn ...          read and review what people hand over, as codexctl learn does
//	gate audit ...          read who did what, as codexctl audit does
//	gate knowledge ...      manage documents, as codexctl knowledge does
//	gate maintenance ...    show people a page for a while, as codexctl maintenance does
//	gate replay ...         do again what was erased since a backup, as codexctl restore does
//	gate certificate        print until when its certificate is good
//	gate version            print the version
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/account"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/apikey"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/browser"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/edge"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/forward"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/knowledge"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/maintenance"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/openai"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/owndata"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/report"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	redislog "github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args, err := readWords(os.Args[1:], os.Stdin)
	if err == nil {
		err = run(ctx, args, os.Environ(), os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// run runs the command. It returns nil after a clean stop.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	c := server.Command{
		Health: "/health",
		Usage: "usage: gate [healthcheck [URL] | certificate | user ... | usage ... | learn ... | " +
			"audit ... | knowledge ... | maintenance ... | replay ... | " +
			"version]",
		Serve: serve,
	}
	if len(args) > 0 {
		switch args[0] {
		case "user":
			return user(ctx, args[1:], environ, stdout)
		case "audit":
			return readAudit(ctx, args[1:], environ, os.Stdin, stdout)
		case "usage":
			return printUsage(ctx, args[1:], environ, stdout)
		case "learn":
			return learn(ctx, args[1:], environ, stdout)
		case "knowledge":
			return manageDocuments(ctx, args[1:], environ, os.Stdin, stdout)
		case "maintenance":
			return maintain(ctx, args[1:], environ, stdout)
		case "replay":
			return replay(ctx, args[1:], environ, os.Stdin, stdout)
		}
	}

	return c.Run(ctx, args, environ, stdout, stderr)
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[gateenv.Config](environ)
	if err != nil {
		return err
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	redislog.Disable() // errors are logged here, by the service's own log
	log := logging.New(stderr, "gate", cfg.LogLevel, cfg.Debug)
	st, err := store.New(redisclient.Address(at))
	if err != nil {
		return err
	}
	defer st.Close()

	base, err := url.Parse(cfg.FrontendURL)
	if err != nil {
		return fmt.Errorf("FRONTEND_URL: %w", err)
	}

	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}

	srv := server.New("gate", log, cfg.DrainTimeout)
	srv.Secure(who.Server())
	srv.Liveness("/health")
	// Readiness asks nothing: without Redis, those whose names it knows go on.
	srv.Readiness("/ready", nil)
	if cfg.Debug {
		srv.Profiling()
	}

	records, err := audit.Open(&cfg.Auditing, at, identity.Gate, log, stderr)
	if err != nil {
		return err
	}
	defer records.Close()

	signer, names := identity.NewSigner(identity.Gate), &pseudonym.Names{}
	notice := maintenance.NewWatch(st, log)
	srv.StartWhen(map[string]server.Check{
		"key":         func(ctx context.Context) error { return signer.Publish(ctx, st.Publish) },
		"pseudonyms":  func(ctx context.Context) error { return names.Load(ctx, st.Claim) },
		"maintenance": notice.Look,
	})

	frontend := hop.New("frontend", cfg.FrontendURL)
	frontend.Secure(who.Client())
	frontend.Register(srv.Registry())
	sign := func(p identity.Person) string { return signer.Sign(p, identity.Backend) }
	forwarder := forward.New(frontend, base, sign, log)

	own, err := pages.New(cfg.Title, log)
	if err != nil {
		return err
	}

	draining, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	running, stop := context.WithCancel(ctx)
	defer stop()
	trust := func(next http.Handler) http.Handler { return next }
	if cfg.EdgeHost != "" {
		watch := edge.NewWatch(cfg.EdgeHost, log)
		go watch.Run(running)
		trust = watch.Guard
	}

	srv.Guard(func(next http.Handler) http.Handler {
		return trust(notice.Guard(own, duringMaintenance, next))
	})

	ended := func(r *http.Request) context.Context {
		if resumable(r) {
			return draining
		}
		return context.WithoutCancel(ctx)
	}

	keys := newKeys(st, cfg)
	keys.Audit = records
	documents := newKnowledge(cfg, who)
	if documents != nil {
		documents.Register(srv.Registry())
	}
	api := newAPI(srv, cfg, who, signer, documents, keys, log)
	api.Audit = records
	if cfg.SignIn == gateenv.None {
		local := func(pattern string, h http.Handler) {
			srv.Handle(pattern, browser.Loopback(own, h))
		}
		me := func(w http.ResponseWriter, r *http.Request) (identity.Person, bool) {
			return browser.Person(w, r, names), true
		}

		local("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			forwarder.Serve(w, r, browser.Person(w, r, names), ended(r))
		}))
		local(apikey.Path, keys.Page(own, me, localTabs, log))
		local(report.Path, report.New(st, cfg.Limits, nil).Page(own, me, localTabs, log))
		openai.Register(local, api)
	} else {
		sessions := session.New(st, names, cfg.SessionIdle, cfg.SessionLife, log)
		sessions.Audit = records
		go sessions.Run(running)
		data := owndata.New(st, frontend, sign, sessions, keys)
		p := &people{
			site: &session.Site{
				Sessions:  sessions,
				Pages:     own,
				Tabs:      tabs(cfg),
				Passwords: cfg.SignIn == gateenv.Accounts,
				Log:       log,
			},
			forwarder: forwarder,
			status:    newPublicStatus(frontend, sign),
			ended:     ended,
		}

		known := report.Names(sessions.Names)
		if cfg.SignIn == gateenv.OIDC {
			client, err := newClient(cfg, st, log)
			if err != nil {
				return err
			}

			go client.Run(running)
			there := &provider{p.site, client, account.NewStarts(st, names), cfg.PublicURL}
			p.enter, p.site.After = there.register, there.after
			p.data = providedData(p.site, data)
		} else {
			accounts := account.New(st, names, sessions)
			accounts.OnRemove(keys.RevokeAll)
			site := account.NewSite(accounts, p.site)
			accounts.OnRemove(st.DropUsage)
			accounts.OnRemove(st.DropReadings)
			accounts.OnRemove(data.Withdraw(identity.Gate))
			known = accounts.Names
			p.enter, p.data = site.Register, accountData(site, accounts, data)
		}

		if !cfg.SharedBrowsers {
			p.data.Browser = func(r *http.Request) string { return browser.Former(r, names) }
		}

		if documents != nil {
			srv.Private(knowledge.Path + "/") // the names of files
			p.documents = newDocuments(documents, signer).Page(own, p.site.Tabs, log)
		}

		p.register(srv, keys.Page(own, signedIn, p.site.Tabs, log),
			report.New(st, cfg.Limits, known).Page(own, signedIn, p.site.Tabs, log))
		openai.Register(srv.Handle, api)
	}

	go signer.Run(running, st.Publish, log)
	go notice.Run(running)
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() {
		if err := names.Run(running, st.Claim); err != nil {
			fail(err)
		}
	}()

	err = srv.Run(serving, cfg.ListenAddr, func(context.Context) error {
		drain()
		return nil
	})

	if cause := context.Cause(serving); errors.Is(cause, pseudonym.ErrOther) {
		err = errors.Join(cause, err)
	}

	return err
}
