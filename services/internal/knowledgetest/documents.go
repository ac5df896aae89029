package knowledgetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
	"github.com/redis/go-redis/v9"
)

// Documents has the routes for managing documents. Of what is in a document it knows a single word:
// one that begins with Encrypted is refused as that, one that begins with Picture has a warning.
type Documents struct {
	*httptest.Server

	// Embedding is the model that makes vectors, and State the state of a document that is added.
	Embedding, State string

	verifier *identity.Verifier

	mu    sync.Mutex
	all   []knowledgeapi.Collection
	added map[string][]knowledgeapi.Document // by the collection

	waiting map[string]bool // by the file's name

	hook func(w http.ResponseWriter, r *http.Request) bool
	who  []identity.Person
	puts int
}

// NewDocuments starts a service with the collections, which takes tokens of the gate and the backend
// whose keys are in the Redis.
func NewDocuments(t testing.TB, at contract.Redis, all ...knowledgeapi.Collection) *Documents {
	t.Helper()
	o, err := redisclient.Address(at).Options()
	if err != nil {
		t.Fatal(err)
	}

	client := redis.NewUniversalClient(o)
	get := func(ctx context.Context, key string) (string, error) {
		value, err := client.Get(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		return value, err
	}

	d := &Documents{
		State: knowledgeapi.StateIndexed, all: all, added: map[string][]knowledgeapi.Document{},
		verifier: identity.NewVerifier(identity.Knowledge, get, identity.Gate, identity.Backend),
	}
	mux := http.NewServeMux()
	for pattern, h := range map[string]personal{
		"GET /collections":                              d.collections,
		"GET /collections/{name}/documents":             d.documents,
		"PUT /collections/{name}/documents/{file}":      admin(d.put),
		"GET /collections/{name}/documents/{file}/turn": admin(d.turn),
		"DELETE /collections/{name}/documents/{file}":   admin(d.remove),
		"POST /collections/{name}/reindex":              admin(d.reindex),
	} {
		mux.HandleFunc(pattern, d.known(h))
	}

	d.Server = httptest.NewServer(mux)
	t.Cleanup(func() { d.CloseClientConnections(); d.Close(); client.Close() })
	return d
}

// Hook has each request go to the function first, which reports whether it has answered; nil is none.
func (d *Documents) Hook(hook func(w http.ResponseWriter, r *http.Request) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = hook
}

// Files returns the names of the documents of a collection.
func (d *Documents) Files(collection string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := []string{}
	for _, x := range d.added[collection] {
		names = append(names, x.File)
	}
	return names
}

// Last returns the person in whose name the last request that changes something was made.
func (d *Documents) Last() identity.Person {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.who) == 0 {
		return identity.Person{}
	}
	return d.who[len(d.who)-1]
}

// Puts returns how many documents were sent, with those that were refused.
func (d *Documents) Puts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.puts
}

type personal = func(http.ResponseWriter, *http.Request, identity.Person)

// known lets through requests with a token for knowledge.
func (d *Documents) known(next personal) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		hook := d.hook
		d.mu.Unlock()
		if hook != nil && hook(w, r) {
			return
		}

		_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		who, _, err := d.verifier.Verify(r.Context(), token)
		if err != nil {
			problem.Write(w, r, problem.New(http.StatusUnauthorized, "The token is not good."))
			return
		}

		next(w, r, who)
	}
}

// admin lets through administrators.
func admin(next personal) personal {
	return func(w http.ResponseWriter, r *http.Request, who identity.Person) {
		if !who.Admin {
			problem.Write(w, r, problem.New(http.StatusForbidden, "This is for administrators."))
			return
		}
		next(w, r, who)
	}
}

func (d *Documents) collections(w http.ResponseWriter, _ *http.Request, who identity.Person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := knowledgeapi.Collections{
		Collections: []knowledgeapi.Collection{}, Embedding: d.Embedding,
	}
	for _, c := range d.all {
		c.Readable = readable(who, c.Groups)
		if !c.Readable && !who.Admin {
			continue
		}

		for _, x := range d.added[c.Name] {
			c.Documents, c.Passages, c.Bytes = c.Documents+1, c.Passages+x.Passages, c.Bytes+x.Bytes
		}
		out.Collections = append(out.Collections, c)
	}

	wire.WriteJSON(w, http.StatusOK, out)
}

// has reports whether there is the collection for the person, and else answers.
func (d *Documents) has(w http.ResponseWriter, r *http.Request, who identity.Person) bool {
	for _, c := range d.all {
		if c.Name == r.PathValue("name") && (who.Admin || readable(who, c.Groups)) {
			return true
		}
	}
	problem.Write(w, r, problem.New(http.StatusNotFound, "There is no such collection."))
	return false
}

func (d *Documents) documents(w http.ResponseWriter, r *http.Request, who identity.Person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.has(w, r, who) {
		list := append([]knowledgeapi.Document{}, d.added[r.PathValue("name")]...)
		wire.WriteJSON(w, http.StatusOK, knowledgeapi.Documents{Documents: list})
	}
}

// Wait has a document that is being added wait for others, or not.
func (d *Documents) Wait(file string, waits bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[string]bool{}
	}
	d.waiting[file] = waits
}

func (d *Documents) turn(w http.ResponseWriter, r *http.Request, who identity.Person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.has(w, r, who) {
		wire.WriteJSON(w, http.StatusOK, knowledgeapi.Turn{Waits: d.waiting[r.PathValue("file")]})
	}
}

// types are those of documents by the ends of their names.
var types = map[string]string{
	".md": "markdown", ".txt": "text", ".html": "html", ".docx": "docx", ".pdf": "pdf",
	".json": "fhir",
}

func (d *Documents) put(w http.ResponseWriter, r *http.Request, who identity.Person) {
	d.mu.Lock()
	d.puts++
	d.who = append(d.who, who)
	d.mu.Unlock()

	name, file := r.PathValue("name"), r.PathValue("file")
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, knowledgeapi.MaxDocument))
	var tooLarge *http.MaxBytesError
	kind, ok := types[path.Ext(file)]
	refuse := func(status int, text string) { problem.Write(w, r, problem.New(status, "%s", text)) }
	switch {
	case errors.As(err, &tooLarge):
		refuse(http.StatusRequestEntityTooLarge, "It is larger than 64 MiB.")
		return
	case err != nil:
		refuse(http.StatusBadRequest, "It came to an early end.")
		return
	case len(file) > knowledgeapi.MaxName || strings.ContainsAny(file, "/\\"):
		refuse(http.StatusBadRequest, "The name cannot be that of a file.")
		return
	case !ok:
		refuse(http.StatusUnsupportedMediaType, "This kind of file is not read.")
		return
	case len(content) == 0:
		refuse(http.StatusUnprocessableEntity, "It is empty.")
		return
	case strings.HasPrefix(string(content), "Encrypted"):
		refuse(http.StatusUnprocessableEntity, "It is encrypted: save it without a password.")
		return
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.has(w, r, who) {
		return
	}

	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	x := knowledgeapi.Document{
		ID: fmt.Sprintf("%.12s%x", digest, file), File: file, Title: file, Type: kind,
		SHA256: digest, Bytes: int64(len(content)), Passages: 1 + len(content)/1500,
		Added: time.Now(), AddedBy: cmp.Or(who.Name, who.By), State: d.State,
	}
	if strings.HasPrefix(string(content), "Picture") {
		x.Warnings = []string{"Page 2 is a picture, of which no word is found."}
	}

	list := slices.DeleteFunc(d.added[name], func(old knowledgeapi.Document) bool {
		return old.File == file
	})
	d.added[name] = append(list, x)
	slices.SortFunc(d.added[name], func(a, b knowledgeapi.Document) int {
		return cmp.Compare(a.File, b.File)
	})
	wire.WriteJSON(w, http.StatusAccepted, x)
}

func (d *Documents) remove(w http.ResponseWriter, r *http.Request, who identity.Person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.who = append(d.who, who)
	if !d.has(w, r, who) {
		return
	}

	name, id := r.PathValue("name"), r.PathValue("file")
	left := slices.DeleteFunc(slices.Clone(d.added[name]), func(x knowledgeapi.Document) bool {
		return x.ID == id
	})
	if len(left) == len(d.added[name]) {
		problem.Write(w, r, problem.New(http.StatusNotFound, "There is no such document."))
		return
	}

	d.added[name] = left
	w.WriteHeader(http.StatusNoContent)
}

func (d *Documents) reindex(w http.ResponseWriter, r *http.Request, who identity.Person) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.who = append(d.who, who)
	if !d.has(w, r, who) {
		return
	}

	for i := range d.added[r.PathValue("name")] {
		d.added[r.PathValue("name")][i].State = knowledgeapi.StateIndexing
	}
	w.WriteHeader(http.StatusAccepted)
}
