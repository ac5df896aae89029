package api

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/knowledge/internal/library"
)

// archive writes all documents, for a backup.
func (s *service) archive(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-tar")
	if err := s.Library.Archive(r.Context(), w); err != nil {
		s.Log.ErrorContext(r.Context(), "archive", "error", err)
		panic(http.ErrAbortHandler) // else it would look like all of it
	}
}

// restore keeps documents, of which ?sha256 is the SHA-256 of the archive, for the next start.
func (s *service) restore(w http.ResponseWriter, r *http.Request) {
	n, err := s.Library.Restore(r.Context(), &patient{r.Body, http.NewResponseController(w)},
		r.URL.Query().Get("sha256"))
	switch {
	case errors.Is(err, library.ErrArchive):
		problem.Write(w, r, problem.New(http.StatusBadRequest, "%v.", err))
	case err != nil:
		s.refuse(w, r, err)
	default:
		s.Log.InfoContext(r.Context(), "documents of a backup wait for the next start", "count", n)
		w.Header().Set("X-Documents", strconv.Itoa(n))
		w.WriteHeader(http.StatusNoContent)
	}
}

// patient reads a body of any size, of which each piece has uploadTime.
type patient struct {
	io.Reader
	connection *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	// A response without a connection, as in a test, has no deadline.
	_ = p.connection.SetReadDeadline(time.Now().Add(uploadTime))
	return p.Reader.Read(b)
}
