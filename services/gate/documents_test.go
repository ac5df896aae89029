package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/gate/documents"
	"github.com/codexcontinue/codexcontinue/services/gate/gateenv"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgeapi"
	"github.com/codexcontinue/codexcontinue/services/internal/knowledgetest"
	"github.com/codexcontinue/codexcontinue/services/internal/problem"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
)

// library is a town with documents, its administrator ada and its member bob.
type library struct {
	*town
	knowledge *knowledgetest.Documents
	ada, bob  *visitor
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	r, f := redistest.Start(t), newFrontend(t)
	k := knowledgetest.NewDocuments(t, contract.Redis{URL: r.URL},
		knowledgeapi.Collection{Name: "handbook"},
		knowledgeapi.Collection{Name: "wards", Groups: []string{"nurses", "doctors"}})
	change := func(c *gateenv.Config) {
		c.SignIn, c.KnowledgeURL = gateenv.Accounts, k.URL
	}
	base, stop, log := start(t, r.URL, f.URL, change)
	town := &town{t, r, base, f, stop, log, environ(t, ":1", r.URL, f.URL, change)}
	l := &library{town, k, town.visitor("192.0.2.1"), town.visitor("192.0.2.2")}
	l.ada.join("ada", town.code("invite ada --admin"))
	l.bob.join("bob", town.code("invite bob"))
	return l
}

// send sends a request with a body of its own.
func (v *visitor) send(
	method, path, kind string, body io.Reader, header ...string,
) (*http.Response, string) {
	v.town.t.Helper()
	req, err := http.NewRequestWithContext(v.town.t.Context(), method, v.town.base+path, body)
	if err != nil {
		v.town.t.Fatal(err)
	}

	req.Header.Set("Content-Type", kind)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}

	req.Header.Set("X-Forwarded-For", v.address)
	resp, err := v.client.Do(req)
	if err != nil {
		v.town.t.Fatal(err)
	}
	defer resp.Body.Close()

	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.town.t.Fatal(err)
	}

	return resp, string(b)
}

// put sends a document as the page's script does, and returns the status and what is said.
func (v *visitor) put(path, content string) (int, string) {
	v.town.t.Helper()
	resp, body := v.send(http.MethodPut, path, "application/octet-stream",
		strings.NewReader(content))
	if resp.StatusCode == http.StatusOK {
		var result documents.Result
		if err := json.Unmarshal([]byte(body), &result); err != nil {
			v.town.t.Fatalf("%v: %s", err, body)
		}
		return resp.StatusCode, string(result.Outcome)
	}

	var p problem.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		v.town.t.Fatalf("%v: %s", err, body)
	}

	return resp.StatusCode, p.Detail
}

// upload sends a form of the files, as a browser without scripts does.
func (v *visitor) upload(path string, files ...string) (*http.Response, string) {
	v.town.t.Helper()
	b, kind := formOf(v.town.t, files...)
	return v.send(http.MethodPost, path, kind, b, "Accept", "text/html")
}

// formOf returns a form and its media type: pairs of a file's name and its content, or of a field's
// for a name without a dot.
func formOf(t *testing.T, files ...string) (form *bytes.Buffer, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		var part io.Writer
		var err error
		if strings.Contains(files[i], ".") {
			part, err = w.CreateFormFile("file", files[i])
		} else {
			part, err = w.CreateFormField(files[i])
		}
		if err == nil {
			_, err = io.WriteString(part, files[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	return &b, w.FormDataContentType()
}

// TestDocuments: an admin adds, replaces and removes documents on the page, in the admin's own name
// and from the admin's address. Of what fails nothing is there.
func TestDocuments(t *testing.T) {
	l := newLibrary(t)
	l.knowledge.Embedding = "all-minilm"
	_, body := l.ada.get("/documents")
	text := plain(body)
	for _, want := range []string{
		"Account Sessions Keys Usage Data People Documents", "handbook For everybody.",
		"wards For nurses, doctors. You are of none of these groups",
		"0 documents, 0 passages, 0 bytes.", "the vectors of all-minilm",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}

	const at, file = "/documents/handbook", "/documents/handbook/files/"
	for i, x := range []struct {
		path, content string
		status        int
		says          string
	}{
		{file + "leave.md", "# Leave", 200, "added"},
		{file + "leave.md", "# Other", 409, "A document of this name is there already."},
		{file + "leave.md?replace=yes", "# Other", 200, "replaced"},
		{file + "my%20plan%20%26%20more.pdf", "Picture", 200, "added"},
		{file + "a.exe", "MZ", 415, "This kind of file is not read."},
		{file + "empty.md", "", 422, "It is empty."},
		{file + "locked.pdf", "Encrypted", 422, "It is encrypted: save it without a password."},
		{"/documents/wards/files/..%2Fa.md", "x", 400, "The name cannot be that of a file."},
		{"/documents/none/files/a.md", "x", 404, "There is no such collection."},
		{file + "big.pdf", strings.Repeat("x", documents.MaxSize+1), 413, "It is larger than 64 MiB."},
	} {
		if status, says := l.ada.put(x.path, x.content); status != x.status || says != x.says {
			t.Errorf("%d %s: %d %s, want %d %s", i, x.path, status, says, x.status, x.says)
		}
	}

	resp, _ := l.ada.send(http.MethodPut, file+"b.md", "", io.MultiReader(strings.NewReader("x")))
	if resp.StatusCode != http.StatusLengthRequired {
		t.Errorf("without its length: %s", resp.Status)
	}

	if got := l.knowledge.Files("handbook"); !slices.Equal(got, []string{
		"leave.md", "my plan & more.pdf",
	}) {
		t.Fatalf("there are %q", got)
	}

	l.ada.get("/")
	who, ada := l.knowledge.Last(), l.person()
	if who.ID != ada.ID || who.Name != "ada" || who.Address != "192.0.2.1" || who.By != "" {
		t.Errorf("knowledge was asked for %+v", who)
	}

	resp, body = l.ada.get(at)
	text = plain(body)
	for _, want := range []string{
		"leave.md Remove", "Markdown, 7 bytes, 1 passage. Added ", "UTC by ada.",
		"my plan &amp; more.pdf Remove", "Page 2 is a picture, of which no word is found.",
		"all-minilm makes them.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}

	csp := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "script-src 'self'") || strings.Contains(csp, "unsafe") {
		t.Errorf("the policy is %q", csp)
	}
	if _, body := l.ada.get("/documents/upload.js"); !strings.Contains(body, "XMLHttpRequest") {
		t.Error("the page has no script")
	}

	// It is removed after a question.
	link := regexp.MustCompile(`/documents/handbook/remove\?id=\w+`).FindString(body)
	_, body = l.ada.get(link)
	if text := plain(body); !strings.Contains(text, "leave.md goes from handbook") {
		t.Errorf("%s: %s", link, text)
	}

	_, id, _ := strings.Cut(link, "=")
	for _, note := range []string{"removed", "gone"} {
		resp, _ = l.ada.post(at+"/remove", "id", id)
		to := resp.Header.Get("Location")
		if resp.StatusCode != http.StatusSeeOther || to != at+"?note="+note {
			t.Errorf("removed: %s to %s, want note %s", resp.Status, to, note)
		}
	}

	if _, body := l.ada.get(at + "?note=removed"); !strings.Contains(body, "has been removed") {
		t.Error("nothing is said of the removal")
	}
	if got := l.knowledge.Files("handbook"); len(got) != 1 {
		t.Errorf("there are %q", got)
	}

	resp, _ = l.ada.post(at + "/reindex")
	_, body = l.ada.get(resp.Header.Get("Location"))
	if text := plain(body); !strings.Contains(text, "The vectors are being made anew.") ||
		!strings.Contains(text, "vectors being made") {
		t.Errorf("reindexed: %s", text)
	}

	l.knowledge.Close() // it is away
	if status, _ := l.ada.put(file+"away.md", "# Away"); status != http.StatusServiceUnavailable {
		t.Errorf("without knowledge: %d", status)
	}

	_ = l.stop()
	for _, name := range []string{"leave.md", "away.md", "plan"} {
		if strings.Contains(l.log.String(), name) {
			t.Errorf("the log has %s, the name of a file", name)
		}
	}
	if !strings.Contains(l.log.String(), "documents cannot be reached") {
		t.Error("the log does not have that knowledge is away")
	}
}

// TestDocumentsForm: without scripts the files of one form are added as they come, each with its
// outcome.
func TestDocumentsForm(t *testing.T) {
	l := newLibrary(t)
	const at = "/documents/wards"
	resp, body := l.ada.upload(at, "a.md", "one", "b.pdf", "Encrypted", "c.txt", "three")
	text := plain(body)
	if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text,
		"a.md added b.pdf It is encrypted: save it without a password. c.txt added") {
		t.Errorf("%s %s", resp.Status, text)
	}

	resp, body = l.ada.upload(at, "a.md", "other", "d.md", "four")
	if text := plain(body); !strings.Contains(text,
		"a.md A document of this name is there already. d.md added") {
		t.Errorf("%s %s", resp.Status, text)
	}

	resp, body = l.ada.upload(at, "replace", "yes", "a.md", "other")
	if text := plain(body); resp.StatusCode != http.StatusOK ||
		!strings.Contains(text, "a.md replaced") {
		t.Errorf("%s %s", resp.Status, text)
	}

	// A large one does not stop those before it, and of itself nothing is there. How large the form
	// is, is not said.
	form, kind := formOf(t, "e.md", "five", "f.md", strings.Repeat("x", documents.MaxSize+1),
		"g.md", strings.Repeat("x", 1<<20))
	resp, body = l.ada.send(http.MethodPost, at, kind, io.MultiReader(form), "Accept", "text/html")
	text = plain(body)
	if resp.StatusCode != http.StatusUnprocessableEntity ||
		!strings.Contains(text, "e.md added f.md It is larger than 64 MiB. g.md "+
			"What was sent at once is larger than 64 MiB: send fewer files at once. The rest What") {
		t.Errorf("%s %s", resp.Status, text)
	}

	// Nor of one whose end is missing.
	cut := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cut.md\"\r\n\r\nhalf of"
	resp, body = l.ada.send(http.MethodPost, at, "multipart/form-data; boundary=x",
		strings.NewReader(cut), "Accept", "text/html")
	if text := plain(body); resp.StatusCode < 400 || strings.Contains(text, "cut.md added") {
		t.Errorf("%s %s", resp.Status, text)
	}

	resp, body = l.ada.upload(at, "big.md", strings.Repeat("x", documents.MaxSize+2<<20))
	if text := plain(body); resp.StatusCode != http.StatusRequestEntityTooLarge ||
		!strings.Contains(text, "send fewer files at once") {
		t.Errorf("%s %s", resp.Status, text)
	}

	if resp, _ := l.ada.upload(at); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("without files: %s", resp.Status)
	}
	if resp, _ := l.ada.post(at, "a", "b"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("another form: %s", resp.Status)
	}

	if got := l.knowledge.Files("wards"); !slices.Equal(got, []string{
		"a.md", "c.txt", "d.md", "e.md",
	}) {
		t.Errorf("there are %q", got)
	}
}

// TestDocumentsAreForAdmins: nobody else sees or changes anything, from no other site, and where the
// stack has no knowledge there is no page.
func TestDocumentsAreForAdmins(t *testing.T) {
	l := newLibrary(t)
	for _, x := range []struct{ method, path string }{
		{"GET", "/documents"}, {"GET", "/documents/handbook"}, {"POST", "/documents/handbook"},
		{"PUT", "/documents/handbook/files/a.md"}, {"GET", "/documents/handbook/remove?id=x"},
		{"POST", "/documents/handbook/remove"}, {"POST", "/documents/handbook/reindex"},
		{"GET", "/documents/upload.js"},
	} {
		kind := "application/x-www-form-urlencoded"
		if resp, body := l.bob.send(x.method, x.path, kind, nil); resp.StatusCode != 403 ||
			strings.Contains(body, "handbook") {
			t.Errorf("bob: %s %s: %s %s", x.method, x.path, resp.Status, body)
		}

		guest := l.visitor("192.0.2.3")
		if resp, _ := guest.send(x.method, x.path, kind, nil); resp.StatusCode != 401 {
			t.Errorf("a guest: %s %s: %s", x.method, x.path, resp.Status)
		}

		if x.method == "GET" {
			continue
		}
		resp, _ := l.ada.send(x.method, x.path, kind, nil, "Origin", "https://evil.example",
			"Sec-Fetch-Site", "cross-site")
		if resp.StatusCode != 403 {
			t.Errorf("from another site: %s %s: %s", x.method, x.path, resp.Status)
		}
	}

	if _, body := l.bob.get("/account"); strings.Contains(body, "Documents") {
		t.Error("bob is shown the way there")
	}
	if resp, _ := l.ada.get("/documents/none"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a collection that is not there: %s", resp.Status)
	}
	if n := l.knowledge.Puts(); n > 0 {
		t.Errorf("%d documents were sent on", n)
	}

	town := newTown(t)
	ada := town.visitor("192.0.2.1")
	ada.join("ada", town.code("invite ada --admin"))
	if _, body := ada.get("/account"); strings.Contains(body, "Documents") {
		t.Error("a stack without knowledge has the page")
	}
	if _, body := ada.get("/documents"); body != "the page" {
		t.Errorf("a stack without knowledge: %s", body)
	}
}

// TestDocumentsAway: while knowledge is away people are told, and what was on its way is not there.
func TestDocumentsAway(t *testing.T) {
	l := newLibrary(t)
	l.knowledge.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		problem.Write(w, r, problem.New(http.StatusInsufficientStorage, "There is no space left."))
		return true
	})
	if status, says := l.ada.put("/documents/wards/files/a.md", "x"); status != 507 ||
		says != "There is no space left." {
		t.Errorf("full: %d %s", status, says)
	}

	l.knowledge.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		p := problem.New(http.StatusServiceUnavailable, "Other documents are being added.")
		p.RetryAfter = 5
		problem.Write(w, r, p)
		return true
	})
	if status, says := l.ada.put("/documents/wards/files/a.md", "x"); status != 503 ||
		says != "Other documents are being added." {
		t.Errorf("crowded: %d %s", status, says)
	}

	l.knowledge.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	resp, body := l.ada.get("/documents")
	if text := plain(body); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" ||
		!strings.Contains(text, "The documents cannot be reached at the moment.") {
		t.Errorf("away: %s %s", resp.Status, text)
	}

	if err := l.command(nil, io.Discard, "list"); err == nil ||
		!strings.Contains(err.Error(), "cannot be reached") {
		t.Errorf("list: %v", err)
	}
}

// TestDocumentTurn: the page's script learns whether a document waits for others, and nobody else does.
func TestDocumentTurn(t *testing.T) {
	l := newLibrary(t)
	const path = "/documents/wards/files/a%20b.md/turn"
	for _, waits := range []bool{true, false} {
		l.knowledge.Wait("a b.md", waits)
		resp, body := l.ada.get(path)
		if want := fmt.Sprintf("{\"waits\":%t}\n", waits); resp.StatusCode != 200 || body != want {
			t.Errorf("%s %s, want %s", resp.Status, body, want)
		}
	}

	if resp, _ := l.bob.get(path); resp.StatusCode != http.StatusForbidden {
		t.Errorf("bob gets %s", resp.Status)
	}
	if resp, _ := l.ada.get("/documents/none/files/a.md/turn"); resp.StatusCode != 404 {
		t.Errorf("of no collection: %s", resp.Status)
	}
}

// TestDocumentIsStreamed: a document is on its way to knowledge before all of it has come, and one
// whose sender goes away is not there.
func TestDocumentIsStreamed(t *testing.T) {
	l := newLibrary(t)
	arrived := make(chan string, 1)
	ended := make(chan error, 1)
	l.knowledge.Hook(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}

		b := make([]byte, 9)
		_, err := io.ReadFull(r.Body, b)
		arrived <- string(b)
		if err == nil {
			_, err = io.ReadAll(r.Body)
		}
		ended <- err
		return true
	})

	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		l.base+"/documents/wards/files/a.md", in)
	if err != nil {
		t.Fatal(err)
	}

	req.ContentLength = documents.MaxSize
	done := make(chan error, 1)
	go func() {
		resp, err := l.ada.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()

	if _, err := io.WriteString(out, "the first"); err != nil {
		t.Fatal(err)
	}
	if got := <-arrived; got != "the first" {
		t.Errorf("knowledge got %q", got)
	}

	out.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-ended; err == nil {
		t.Error("knowledge took half of a document for all of it")
	}
	<-done
}

// command runs `gate knowledge` with the words.
func (l *library) command(in io.Reader, out io.Writer, words ...string) error {
	l.t.Helper()
	return manageDocuments(l.t.Context(), append([]string{"--by=carol"}, words...), l.env, in, out)
}

// archive returns pairs of a file's name and its content as codexctl sends them.
func archive(t *testing.T, files ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := documents.Write(w, files[i], []byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// results returns what was printed of each document.
func results(t *testing.T, out *bytes.Buffer) (all []string) {
	t.Helper()
	for d := json.NewDecoder(out); ; {
		var r documents.Result
		if err := d.Decode(&r); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintln(r.File, r.Outcome, r.Problem)))
	}
}

// TestKnowledgeCommand: an operator adds a folder in one run, by name, and removes documents.
func TestKnowledgeCommand(t *testing.T) {
	l := newLibrary(t)
	var out bytes.Buffer
	long := strings.Repeat("ä", 98) + ".md" // its header needs a record of its own
	err := l.command(archive(t, "a.md", "one", "b.exe", "MZ", long, "three", "a.md", "four"), &out,
		"add", "handbook")
	if err == nil || err.Error() != "1 of 4 documents were not added" {
		t.Errorf("add: %v", err)
	}
	want := []string{
		"a.md added", "b.exe failed This kind of file is not read.", long + " added",
		"a.md replaced",
	}
	if got := results(t, &out); !slices.Equal(got, want) {
		t.Errorf("it prints %q", got)
	}

	if who := l.knowledge.Last(); who.By != "carol" || !who.Admin || who.ID != "" {
		t.Errorf("knowledge was asked for %+v", who)
	}

	out.Reset()
	var list documents.Documents
	sum := sha256.Sum256([]byte("four"))
	if err := l.command(nil, &out, "list", "handbook"); err != nil ||
		json.Unmarshal(out.Bytes(), &list) != nil || len(list.Documents) != 2 ||
		list.Documents[0].AddedBy != "carol" ||
		list.Documents[0].SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("list: %v %+v", err, list)
	}

	out.Reset()
	var all documents.Collections
	if err := l.command(nil, &out, "list"); err != nil || json.Unmarshal(out.Bytes(), &all) != nil ||
		len(all.Collections) != 2 || all.Collections[0].Documents != 2 {
		t.Errorf("list: %v %+v", err, all)
	}

	for want, line := range map[string][]string{
		`there is no collection "none": the stack has handbook, wards`: {"list", "none"},
		"usage: gate knowledge list":                                   {"show"},
		"usage: gate knowledge":                                        {"remove", "handbook"},
		`handbook has no "x.md", "y.md", and nothing was removed`:      {"remove", "handbook", "x.md", "a.md", "y.md"},
		"this stack finds passages by their words alone":               {"reindex", "handbook"},
		"usage: gate knowledge list ":                                  {"list", "--json"},
		`there is no collection "nowhere": the stack has handbook`:     {"remove", "nowhere", "a.md"},
		`there is no collection "elsewhere": the stack has handbook`:   {"add", "elsewhere"},
	} {
		err := l.command(archive(t), io.Discard, line...)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}

	out.Reset()
	if err := l.command(nil, &out, "remove", "handbook", "a.md", long); err != nil ||
		out.String() != "removed a.md\nremoved "+long+"\n" {
		t.Errorf("remove: %v %s", err, &out)
	}
	if got := l.knowledge.Files("handbook"); len(got) > 0 {
		t.Errorf("there are %q", got)
	}

	l.knowledge.Embedding = "all-minilm"
	out.Reset()
	if err := l.command(nil, &out, "reindex", "handbook"); err != nil ||
		!strings.Contains(out.String(), "by all-minilm") {
		t.Errorf("reindex: %v %s", err, &out)
	}
	if err := l.command(nil, &out, "reindex", "none"); err == nil ||
		!strings.Contains(err.Error(), "the stack has handbook, wards") {
		t.Errorf("reindex: %v", err)
	}
}

// TestKnowledgeCommandCut: of an archive that comes to an early end the documents before it are
// there, and no half of one. What would fail again and again ends the run at once.
func TestKnowledgeCommandCut(t *testing.T) {
	l := newLibrary(t)
	whole := archive(t, "a.md", "one", "b.md", strings.Repeat("x", 4000)).Bytes()
	var out bytes.Buffer
	err := l.command(bytes.NewReader(whole[:len(whole)-3000]), &out, "add", "wards")
	if err == nil || !strings.Contains(err.Error(), "early end") {
		t.Errorf("add: %v", err)
	}
	if got := l.knowledge.Files("wards"); !slices.Equal(got, []string{"a.md"}) {
		t.Errorf("there are %q", got)
	}

	before := l.knowledge.Puts()
	l.knowledge.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || r.PathValue("file") == "c.md" {
			return false
		}
		problem.Write(w, r, problem.New(http.StatusInsufficientStorage, "There is no space left."))
		return true
	})
	out.Reset()
	err = l.command(archive(t, "c.md", "three", "d.md", "four", "e.md", "five"), &out, "add", "wards")
	if err == nil || err.Error() != "d.md: There is no space left." ||
		!slices.Equal(results(t, &out), []string{"c.md added"}) {
		t.Errorf("add: %v", err)
	}
	if n := l.knowledge.Puts() - before; n != 1 {
		t.Errorf("%d were sent", n)
	}

	// A knowledge that is replaced in the middle is waited for, and gets the document whole.
	refused := 0
	l.knowledge.Hook(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || refused > 1 {
			return false
		}

		refused++
		_, _ = io.CopyN(io.Discard, r.Body, 2)
		problem.Write(w, r, problem.Draining("This instance is being stopped. Try again."))
		return true
	})
	out.Reset()
	if err := l.command(archive(t, "f.md", "six"), &out, "add", "wards"); err != nil ||
		!slices.Equal(results(t, &out), []string{"f.md added"}) || refused != 2 {
		t.Errorf("add: %v after %d refusals", err, refused)
	}

	if resp, err := http.Get(l.knowledge.URL + "/collections"); err != nil ||
		resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("knowledge without a token: %v %v", resp, err)
	}
}

// TestNoKnowledge: a stack without knowledge says so.
func TestNoKnowledge(t *testing.T) {
	town := newTown(t)
	err := manageDocuments(t.Context(), []string{"list"}, town.env, nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "codexcontinue:knowledge is not set") {
		t.Errorf("%v", err)
	}
}
