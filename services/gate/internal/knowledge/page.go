package knowledge

import (
	_ "embed"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pages"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/session"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
)

// Path is where the page with the collections is. Those of single ones are below it.
const Path = "/documents"

const (
	// scriptPath cannot be the name of a collection, which has no dot.
	scriptPath = Path + "/upload.js"

	collectionPath = Path + "/{collection}"
)

//go:embed upload.js
var script []byte

// site has the pages.
type site struct {
	client *Client
	pages  *pages.Pages
	tabs   func(identity.Person) []pages.Tab
	log    *slog.Logger
}

// Page returns the handler of Path and what is below it. It takes each request for one of an admin,
// as session.Site.Admins lets through. tabs returns the pages that a person may go to.
func (c *Client) Page(
	p *pages.Pages, tabs func(identity.Person) []pages.Tab, log *slog.Logger,
) http.Handler {
	s := &site{c, p, tabs, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, s.signedIn(s.list))
	mux.HandleFunc("GET "+scriptPath, s.signedIn(sendScript))
	mux.HandleFunc("GET "+collectionPath, s.signedIn(s.collection))
	mux.HandleFunc("POST "+collectionPath, s.signedIn(s.upload))
	mux.HandleFunc("PUT "+collectionPath+"/files/{file}", s.signedIn(s.put))
	mux.HandleFunc("GET "+collectionPath+"/files/{file}/turn", s.signedIn(s.turn))
	mux.HandleFunc("GET "+collectionPath+"/remove", s.signedIn(s.ask))
	mux.Handle("POST "+collectionPath+"/remove", p.Form(s.signedIn(s.remove)))
	mux.Handle("POST "+collectionPath+"/reindex", p.Form(s.signedIn(s.reindex)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.Fail(w, r, problem.New(http.StatusNotFound, "There is nothing at this path."))
	})
	return mux
}

type personal = func(http.ResponseWriter, *http.Request, identity.Person)

// signedIn returns a handler that knows who asks.
func (s *site) signedIn(next personal) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		me := session.From(r.Context()).Person()
		me.Address = session.Address(r) // for the audit
		next(w, r, me)
	}
}

func sendScript(w http.ResponseWriter, _ *http.Request, _ identity.Person) {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // it belongs to the page that this gate renders
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(script) // an error means that the browser is gone
}

func (s *site) list(w http.ResponseWriter, r *http.Request, me identity.Person) {
	all, err := s.client.Collections(r.Context(), me)
	if err != nil {
		s.fail(w, r, err)
		return
	}

	var list []collection
	for _, c := range all.Collections {
		list = append(list, collection{c})
	}

	s.render(w, r, http.StatusOK, me, "documents", pages.Page{Title: "Documents", Main: struct {
		Collections []collection
		Embedding   string
	}{list, all.Embedding}})
}

func (s *site) collection(w http.ResponseWriter, r *http.Request, me identity.Person) {
	s.show(w, r, http.StatusOK, me, notes[r.URL.Query().Get("note")], nil)
}

// notes are what the page says after something was done, by the value in its address.
var notes = map[string]string{
	"removed": "The document has been removed.",
	"gone":    "The document was not there any more.",
	"reindex": "The vectors are being made anew. The old ones answer until then.",
}

// show shows the page of a collection, with what went well, and what became of documents.
func (s *site) show(
	w http.ResponseWriter, r *http.Request, status int, me identity.Person, note string,
	results []documents.Result,
) {
	name := r.PathValue("collection")
	all, err := s.client.Collections(r.Context(), me)
	if err != nil {
		s.fail(w, r, err)
		return
	}

	i := slices.IndexFunc(all.Collections, func(c documents.Collection) bool {
		return c.Name == name
	})
	if i < 0 {
		s.pages.Fail(w, r, problem.New(http.StatusNotFound, "There is no such collection."))
		return
	}

	list, err := s.client.Documents(r.Context(), me, name)
	if err != nil {
		s.fail(w, r, err)
		return
	}

	v := collectionPage{
		Collection: collection{all.Collections[i]}, Embedding: all.Embedding, Results: results,
		Largest: documents.MaxSize,
	}
	for _, d := range list.Documents {
		v.Documents = append(v.Documents, document{d, name})
	}

	s.render(w, r, status, me, "collection", pages.Page{
		Title: name, Note: note, Script: scriptPath, Main: v,
	})
}

// ask asks whether a document is to be removed.
func (s *site) ask(w http.ResponseWriter, r *http.Request, me identity.Person) {
	name, id := r.PathValue("collection"), r.URL.Query().Get("id")
	all, err := s.client.Documents(r.Context(), me, name)
	if err != nil {
		s.fail(w, r, err)
		return
	}

	for _, d := range all.Documents {
		if d.ID == id {
			s.render(w, r, http.StatusOK, me, "remove-document", pages.Page{
				Title: "Remove a document?", Main: document{d, name},
			})
			return
		}
	}

	leave(w, r, "gone")
}

func (s *site) remove(w http.ResponseWriter, r *http.Request, me identity.Person) {
	id := r.PostFormValue("id")
	if id == "" {
		s.pages.Fail(w, r, problem.New(http.StatusBadRequest, "The form names no document."))
		return
	}

	err := s.client.Remove(r.Context(), me, r.PathValue("collection"), id)
	switch {
	case err == nil:
		leave(w, r, "removed")
	case faultOf(err).Status == http.StatusNotFound:
		leave(w, r, "gone")
	default:
		s.fail(w, r, err)
	}
}

func (s *site) reindex(w http.ResponseWriter, r *http.Request, me identity.Person) {
	if err := s.client.Reindex(r.Context(), me, r.PathValue("collection")); err != nil {
		s.fail(w, r, err)
		return
	}
	leave(w, r, "reindex")
}

// leave sends the browser to the page of the collection, which has the note.
func leave(w http.ResponseWriter, r *http.Request, note string) {
	target := url.URL{
		Path:     Path + "/" + r.PathValue("collection"),
		RawQuery: url.Values{"note": {note}}.Encode(),
	}
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

func (s *site) render(
	w http.ResponseWriter, r *http.Request, status int, me identity.Person, name string,
	page pages.Page,
) {
	page.Tabs, page.Path = s.tabs(me), Path
	s.pages.Render(w, r, status, name, page)
}

// fail answers with the error, a part of which is only for the log.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	fault := faultOf(err)
	if fault.Status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "documents", "error", err)
	}
	s.pages.Fail(w, r, fault)
}

// collectionPage is the data of the page of a collection.
type collectionPage struct {
	Collection collection
	Documents  []document
	Embedding  string

	// Results are what became of the documents that a form without scripts had.
	Results []documents.Result

	// Largest is the greatest size of a document.
	Largest int
}

// collection is one as the pages have it.
type collection struct{ documents.Collection }

// Size is that of its documents together.
func (c collection) Size() string { return size(c.Bytes) }

// document is one as the pages have it.
type document struct {
	documents.Document
	Collection string
}

// Size is that of the file.
func (d document) Size() string { return size(d.Bytes) }

// Kind is the type as people write it.
func (d document) Kind() string {
	if kind, ok := kinds[d.Type]; ok {
		return kind
	}
	return d.Type
}

var kinds = map[string]string{
	"markdown": "Markdown", "text": "text", "html": "HTML", "docx": "Word", "pdf": "PDF",
	"fhir": "FHIR",
}

// size formats a number of bytes as people read it.
func size(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " bytes"
	}

	v, units := float64(n)/(1<<10), []string{"KiB", "MiB", "GiB", "TiB"}
	for v >= 1<<10 && len(units) > 1 {
		v, units = v/(1<<10), units[1:]
	}

	digits := 1
	if v >= 10 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + units[0]
}
