package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/backup/archive"
	"github.com/codexcontinue/codexcontinue/services/backup/backupenv"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/depot"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/job"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/keep"
	"github.com/codexcontinue/codexcontinue/services/backup/internal/snapshot"
	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/outage"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// worker is what the commands work with.
type worker struct {
	cfg    backupenv.Config
	log    *slog.Logger
	who    *mtls.Identity
	signer *identity.Signer
	rdb    redis.UniversalClient
	depot  depot.Depot
	job    *job.Job

	knowledge *hop.Client // nil where the stack has no documents
	records   *audit.Reader
}

func newWorker(
	cfg backupenv.Config, at contract.Redis, who *mtls.Identity, d depot.Depot, log *slog.Logger,
	now func() time.Time,
) (*worker, error) {
	address := redisclient.Address(at)
	o, err := address.Options()
	if err != nil {
		return nil, err
	}
	records, err := audit.NewReader(address)
	if err != nil {
		return nil, err
	}

	recipients, err := cfg.Keys()
	if err != nil {
		return nil, err
	}

	o.PoolSize, o.MaxActiveConns = 2, 2
	w := &worker{
		cfg: cfg, log: log, who: who, signer: identity.NewSigner(identity.Backup),
		rdb: redis.NewUniversalClient(o), depot: d, records: records,
	}

	parts := []job.Part{{Name: archive.Redis, Write: func(ctx context.Context, to io.Writer) error {
		return snapshot.Copy(ctx, address, to)
	}}}
	if cfg.KnowledgeURL != "" {
		w.knowledge = w.peer(identity.Knowledge, cfg.KnowledgeURL)
		parts = append(parts, job.Part{Name: archive.Documents, Write: w.documents})
	}
	ml := w.peer(identity.ML, cfg.MLServiceURL)
	parts = append(parts, job.Part{Name: archive.Models,
		Write: func(ctx context.Context, to io.Writer) error { return receive(ctx, ml, "/models", to) },
	})

	options := job.Options{
		Stack: cfg.Stack, Depot: d, Recipients: cfg.Recipients, Keys: recipients,
		Keep: keep.Rule{
			Last: cfg.KeepLast, Daily: cfg.KeepDaily, Weekly: cfg.KeepWeekly, Monthly: cfg.KeepMonthly,
		},
		Parts: parts, Log: log, Now: now,
	}
	if cfg.Erasures {
		options.Audit = records
	}
	w.job = job.New(options)
	return w, nil
}

// peer returns the client of a service, which is asked in the name of this one.
func (w *worker) peer(name, base string) *hop.Client {
	c := hop.New(name, base)
	c.Secure(w.who.Client())
	c.Sign(func(context.Context, string) string { return w.signer.Sign(identity.Person{}, name) })
	return c
}

// Close ends the connections.
func (w *worker) Close() {
	w.records.Close()
	_ = w.rdb.Close()
}

// keys publishes a public key; see package identity.
func (w *worker) keys(ctx context.Context, key, value string, life time.Duration) error {
	return redisclient.Publish(ctx, w.rdb, key, value, life)
}

// publish publishes the key by which other services know this one.
func (w *worker) publish(ctx context.Context) error { return w.signer.Publish(ctx, w.keys) }

// trial is the name of the file by which it is tried whether files can be written.
const trial = "trial"

// try returns an error unless files can be listed, written and removed.
func (w *worker) try(ctx context.Context) error {
	_, err := w.depot.List(ctx)
	if err == nil {
		err = w.depot.Create(ctx, trial, strings.NewReader("It can be removed.\n"))
	}
	if err == nil {
		err = w.depot.Remove(ctx, trial)
	}
	return err
}

// receive writes what a service answers.
func receive(ctx context.Context, from *hop.Client, path string, to io.Writer) error {
	resp, err := from.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	_, err = io.Copy(to, resp.Body)
	return err
}

// documents writes all documents.
func (w *worker) documents(ctx context.Context, to io.Writer) error {
	return receive(ctx, w.knowledge, knowledgeapi.ArchivePath, to)
}

// putDocuments puts documents, of which sum is the SHA-256, in the place of those that are there.
func (w *worker) putDocuments(ctx context.Context, from io.Reader, sum string) error {
	if w.knowledge == nil {
		return fmt.Errorf("this stack has no documents: set codexcontinue:knowledge first")
	}

	body := &untouched{from: from}
	for end := time.Now().Add(admission); ; {
		token := w.signer.Sign(identity.Person{}, identity.Knowledge)
		resp, err := w.knowledge.Send(ctx, http.MethodPut,
			knowledgeapi.ArchivePath+"?sha256="+url.QueryEscape(sum), body, -1,
			http.Header{"Authorization": {identity.Authorization(token)}})
		if err == nil {
			return resp.Body.Close()
		}

		p, refused := errors.AsType[*problem.Problem](err)
		if !refused || p.Status != http.StatusServiceUnavailable || body.read ||
			time.Now().After(end) || !outage.Pause(ctx, time.Second) {
			return err
		}
	}
}

// admission is how long a peer may take to know this service's key. It has it of Redis, which a
// restore has restarted.
const admission = time.Minute

// untouched is a reader that knows whether it was read.
type untouched struct {
	from io.Reader
	read bool
}

// Read implements io.Reader.
func (u *untouched) Read(b []byte) (int, error) {
	u.read = true
	return u.from.Read(b)
}
