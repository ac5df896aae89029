package api

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/parse"
)

// uploadTime bounds how long a document is on its way. It is longer than the server gives other
// requests, and as long as the gate gives a browser.
const uploadTime = 5 * time.Minute

// change does what an administrator asks for, and records it. do may complete the act's record.
func (s *service) change(
	w http.ResponseWriter, r *http.Request, what auditlog.Record, do func(*auditlog.Record) error,
) {
	ctx, p := r.Context(), identity.From(r.Context())
	name := r.PathValue("name")
	_, there := s.Collections[name]
	switch {
	case !there || !p.Admin && !s.Collections.Readable(name, p.Groups):
		s.refuse(w, r, library.ErrNotFound)
		return
	case !p.Admin:
		what = about(what, p, name)
		s.Audit.Note(ctx, what, auditlog.Refused)
		s.refuse(w, r, problem.New(http.StatusForbidden,
			"Only administrators add and remove documents."))
		return
	}

	act, err := s.Audit.Begin(ctx, about(what, p, name))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	record := &auditlog.Record{}
	if act != nil {
		record = &act.Record
	}
	if err := do(record); err != nil {
		act.End(audit.Result(asProblem(err)))
		s.refuse(w, r, err)
		return
	}
	act.End(auditlog.Done)
}

// about returns the record of what a person does with a collection.
func about(what auditlog.Record, p identity.Person, collection string) auditlog.Record {
	what.Actor, what.By, what.Address = p.ID, p.By, p.Address
	what.Detail = map[string]string{"collection": collection}
	return what
}

// object returns what the audit calls a document: the name of a file may say whom it is about.
func (s *service) object(collection, file string) string {
	return s.Audit.Name("document", collection+"/"+file)
}

func (s *service) add(w http.ResponseWriter, r *http.Request) {
	name, file := r.PathValue("name"), r.PathValue("file")
	if err := validName(file); err != nil {
		s.refuse(w, r, err)
		return
	}

	var added knowledgeapi.Document
	what := auditlog.Record{Action: auditlog.DocumentAdded, Object: s.object(name, file)}
	s.change(w, r, what, func(record *auditlog.Record) error {
		t, err := parse.TypeOf(file)
		if err != nil {
			return err
		}
		if r.ContentLength > knowledgeapi.MaxDocument {
			return &http.MaxBytesError{Limit: knowledgeapi.MaxDocument}
		}

		upload, err := s.receive(w, r)
		if upload.Content != nil {
			defer os.Remove(upload.Content.Name())
			defer upload.Content.Close()
		}
		if err != nil {
			return err
		}

		p := identity.From(r.Context())
		upload.Name, upload.By = file, cmp.Or(p.By, p.Name)
		record.Bytes = int(upload.Bytes)
		added, err = s.Library.Add(r.Context(), name, upload)
		s.metrics.add(t, err)
		return err
	})
	if added.ID != "" {
		wire.WriteJSON(w, http.StatusAccepted, added)
	}
}

// turn answers whether a document that is being added waits for others.
func (s *service) turn(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if p := identity.From(r.Context()); !p.Admin {
		s.refuse(w, r, library.ErrNotFound)
		return
	}

	waits, err := s.Library.Waits(name, r.PathValue("file"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	wire.WriteJSON(w, http.StatusOK, knowledgeapi.Turn{Waits: waits})
}

// receive writes a request's body to a file, which is closed and removed by the caller.
func (s *service) receive(w http.ResponseWriter, r *http.Request) (u library.Upload, err error) {
	u.Content, err = s.Library.Spool()
	if err != nil {
		return u, err
	}

	// A response without a connection, as in a test, has no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTime))
	sum := sha256.New()
	u.Bytes, err = io.Copy(io.MultiWriter(u.Content, sum),
		http.MaxBytesReader(w, r.Body, knowledgeapi.MaxDocument))
	if err != nil {
		return u, library.Full(err)
	}
	// It may have to wait, and whoever goes away meanwhile is to be noticed.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	u.SHA256 = hex.EncodeToString(sum.Sum(nil))
	_, err = u.Content.Seek(0, io.SeekStart)
	return u, err
}

// validName returns an error unless a file may be called so.
func validName(file string) error {
	if len(file) > knowledgeapi.MaxName || !utf8.ValidString(file) || file != strings.TrimSpace(file) ||
		strings.HasPrefix(file, ".") || strings.ContainsAny(file, `/\`) ||
		strings.ContainsFunc(file, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return problem.New(http.StatusBadRequest, "The name of a file has no slash and nothing that "+
			"cannot be seen, does not begin with a dot, and is not longer than %d bytes.",
			knowledgeapi.MaxName)
	}
	return nil
}

func (s *service) remove(w http.ResponseWriter, r *http.Request) {
	name, id := r.PathValue("name"), r.PathValue("id")
	file, err := s.Library.Find(name, id)
	if err != nil && !errors.Is(err, library.ErrNotFound) {
		s.refuse(w, r, err)
		return
	}

	what := auditlog.Record{Action: auditlog.DocumentRemoved}
	if file != "" {
		what.Object = s.object(name, file)
	}
	removed := false
	s.change(w, r, what, func(*auditlog.Record) error {
		err := s.Library.Remove(r.Context(), name, id)
		removed = err == nil
		return err
	})
	if removed {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *service) reindex(w http.ResponseWriter, r *http.Request) {
	if s.Model == "" {
		problem.Write(w, r, problem.New(http.StatusBadRequest,
			"There is no model for vectors: the settings name none, and words need none."))
		return
	}

	done := false
	s.change(w, r, auditlog.Record{Action: auditlog.Reindexed}, func(*auditlog.Record) error {
		err := s.Library.Reindex(r.PathValue("name"))
		done = err == nil
		return err
	})
	if done {
		w.WriteHeader(http.StatusAccepted)
	}
}
