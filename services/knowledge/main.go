// Command knowledge keeps a domain's documents, and finds the passages that answer a question.
//
//	knowledge                    serve, as the environment says (see services/knowledge/knowledgeenv)
//	knowledge parse TYPE         read a document on standard input, and write what it says as JSON to
//	                             a pipe: it may write to no file.
//	                             The service runs it for each document that is added
//	knowledge healthcheck [URL]  exit 0 when /health answers 200
//	knowledge certificate        print until when its certificate is good
//	knowledge version            print the version
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/logging"
	"github.com/codexcontinue/codexcontinue/services/internal/mlapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/api"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/split"
	"github.com/codexcontinue/codexcontinue/services/knowledge/knowledgeenv"
	redislog "github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "knowledge:", err)
		os.Exit(1)
	}
}

// run is the whole command: it returns nil after a clean stop.
func run(
	ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer,
) error {
	if len(args) == 2 && args[0] == "parse" {
		return parse.Child(parse.Type(args[1]), stdin, stdout, os.Getenv)
	}

	c := server.Command{
		Health: "/health",
		Usage:  "usage: knowledge [parse TYPE | healthcheck [URL] | certificate | version]",
		Serve:  serve,
	}
	return c.Run(ctx, args, environ, stdout, stderr)
}

func serve(ctx context.Context, environ []string, stderr io.Writer) error {
	cfg, err := contract.Parse[knowledgeenv.Config](environ)
	if err != nil {
		return err
	}

	at, err := cfg.Redis()
	if err != nil {
		return err
	}

	redislog.Disable() // what fails is logged here
	log := logging.New(stderr, "knowledge", cfg.LogLevel, cfg.Debug)
	who, err := mtls.Open(cfg.TLS)
	if err != nil {
		return err
	}
	keys, err := openKeys(at)
	if err != nil {
		return err
	}
	defer keys.Close()
	records, err := audit.Open(&cfg.Auditing, at, identity.Knowledge, log, stderr)
	if err != nil {
		return err
	}
	defer records.Close()

	// It believes the gate, which asks for people, and the backend, which asks for their questions
	// and for nothing that an administrator may.
	srv := server.New("knowledge", log, cfg.DrainTimeout)
	srv.Secure(who.Server())
	srv.Private("/collections/") // the name of a file may say whom it is about
	verifier := identity.NewVerifier(identity.Knowledge, keys.Get, identity.Gate, identity.Backend)
	backups := identity.NewVerifier(identity.Knowledge, keys.Get, identity.Backup)
	srv.Guard(func(h http.Handler) http.Handler {
		people, archive := verifier.Require(h, log), backups.Require(h, log)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == knowledgeapi.ArchivePath {
				archive.ServeHTTP(w, r)
			} else {
				people.ServeHTTP(w, r)
			}
		})
	})
	signer := identity.NewSigner(identity.Knowledge)
	ml := hop.NewStreaming("ml", cfg.MLServiceURL)
	ml.Secure(who.Client())
	ml.Sign(func(context.Context, string) string {
		return signer.Sign(identity.Person{}, identity.ML)
	})
	ml.Register(srv.Registry())

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("the program's own file: %w", err)
	}
	if c := parse.Confined(); !c.Whole() {
		log.Warn("documents are read in a process that is not confined: the kernel has no Landlock, an "+
			"old one, or the container may not use it", "from_files", c.Files, "from_network", c.Network)
	}

	reader := &parse.Runner{
		Program: []string{self, "parse"}, Limits: parse.DefaultLimits,
		Cache: filepath.Join(cfg.DataDir, "pdfium"),
	}
	documents := library.New(library.Options{
		Dir:         cfg.DataDir,
		Collections: cfg.Collections.Names(),
		Size:        split.DefaultSize,
		Parse:       reader.Run,
		Model:       cfg.EmbeddingModel,
		Embed:       embedder(ml),
		Log:         log,
	})

	srv.StartWhen(map[string]server.Check{
		"documents": documents.Ready,
		"redis":     keys.Check,
		"key":       func(ctx context.Context) error { return signer.Publish(ctx, keys.Publish) },
	})
	api.Register(srv, api.Options{
		Library: documents, Collections: cfg.Collections, Model: cfg.EmbeddingModel,
		Audit: records, Log: log,
	})
	srv.Liveness("/health")
	srv.Readiness("/ready", map[string]server.Check{
		"documents": documents.Ready, "redis": keys.Check,
	})
	if cfg.Debug {
		srv.Profiling()
	}

	// It answers probes while it opens what may be many documents.
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		if err := documents.Open(serving); err != nil {
			stop(err)
			return
		}
		if err := reader.Prepare(serving); err != nil && serving.Err() == nil {
			log.Warn("PDFs take some seconds longer to read", "error", err)
		}
	}()
	go signer.Run(serving, keys.Publish, log)
	err = srv.Run(serving, cfg.ListenAddr)
	cause := context.Cause(serving)
	stop(nil)
	<-opened
	if ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	return errors.Join(err, documents.Close())
}

// embedder returns how ml is asked for vectors.
func embedder(
	ml *hop.Client,
) func(ctx context.Context, model string, texts []string) ([][]float32, error) {
	return func(ctx context.Context, model string, texts []string) ([][]float32, error) {
		var made mlapi.EmbedResponse
		err := ml.JSON(ctx, http.MethodPost, "/embed",
			mlapi.EmbedRequest{Model: model, Input: texts}, &made, nil)
		return made.Embeddings, err
	}
}
