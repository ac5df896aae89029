package knowledge

import (
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

const (
	// maxForm bounds a form with documents, in bytes: the largest one, and what is around it.
	maxForm = documents.MaxSize + 1<<20

	// uploadTime bounds how long a browser may take to send it. The edge gives less.
	uploadTime = 5 * time.Minute
)

// put adds one document, which a script sends as it is. It answers with the result, or a problem.
func (s *site) put(w http.ResponseWriter, r *http.Request, me identity.Person) {
	if r.ContentLength < 0 { // half of one could be taken for all of it
		s.pages.Fail(w, r, problem.New(http.StatusLengthRequired,
			"Say in Content-Length how many bytes the document has."))
		return
	}

	allow(w)
	body := http.MaxBytesReader(w, r.Body, maxForm)
	replace := r.URL.Query().Get("replace") != ""
	a, err := s.client.adder(r.Context(), me, r.PathValue("collection"), replace)
	var result documents.Result
	if err == nil {
		result, err = a.add(r.Context(), r.PathValue("file"), body, r.ContentLength)
	}

	if err != nil {
		finish(body, r)
		s.fail(w, r, err)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(result) // an error means that the browser is gone
}

// turn answers a script that has sent a document whether it waits for others.
func (s *site) turn(w http.ResponseWriter, r *http.Request, me identity.Person) {
	waits, err := s.client.Waits(r.Context(), me, r.PathValue("collection"), r.PathValue("file"))
	if err != nil {
		s.fail(w, r, err)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(knowledgeapi.Turn{Waits: waits}) // an error: the browser is gone
}

// finish reads the rest of a refused request's body, unless that is long: a browser that still sends
// may miss the answer.
func finish(body io.Reader, r *http.Request) {
	if r.ContentLength <= maxForm {
		_, _ = io.Copy(io.Discard, body)
	}
}

// allow gives the request's body more time than others have.
func allow(w http.ResponseWriter) {
	// A response without a connection, as in a test, has no deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTime))
}

// upload adds the documents of a form, as they come. It shows what became of each.
func (s *site) upload(w http.ResponseWriter, r *http.Request, me identity.Person) {
	if r.ContentLength > maxForm {
		s.fail(w, r, errLargeForm())
		return
	}

	allow(w)
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	form, err := r.MultipartReader()
	if err != nil {
		s.pages.Fail(w, r, problem.New(http.StatusBadRequest, "The form has no files."))
		return
	}

	a, err := s.client.adder(r.Context(), me, r.PathValue("collection"), false)
	if err != nil {
		finish(r.Body, r)
		s.fail(w, r, err)
		return
	}

	results, err := a.addForm(r, form)
	status := http.StatusOK
	for _, result := range results {
		if result.Outcome == documents.Failed {
			status = http.StatusUnprocessableEntity
		}
	}

	switch {
	case err != nil && len(results) == 0:
		s.fail(w, r, err)
	case len(results) == 0:
		s.pages.Fail(w, r, problem.New(http.StatusBadRequest, "Choose at least one file."))
	default:
		s.show(w, r, status, me, "", results)
	}
}

// addForm adds the files of a form, and returns what became of them. The error is that of the form.
func (a *adder) addForm(
	r *http.Request, form *multipart.Reader,
) (results []documents.Result, err error) {
	for {
		part, err := form.NextPart()
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			return results, nil
		case errors.As(err, &tooLarge):
			err = errLargeForm()
		case err != nil:
			err = problem.New(http.StatusBadRequest, "What was sent came to an early end.")
		}

		if err != nil {
			return append(results, documents.Result{
				File: "The rest", Outcome: documents.Failed, Problem: err.Error(),
			}), err
		}

		switch {
		case part.FormName() == "replace":
			a.replace = true
		case part.FormName() == "file" && part.FileName() != "":
			result, _ := a.add(r.Context(), part.FileName(), part, -1)
			results = append(results, result)
		}
	}
}

// errLargeForm returns the refusal of a form whose files together are too large.
func errLargeForm() error {
	return problem.New(http.StatusRequestEntityTooLarge, "What was sent at once is larger than "+
		"%d MiB: send fewer files at once.", documents.MaxSize>>20)
}
