// Package knowledgeapi describes the HTTP API of the service knowledge: documents, and the passages
// of them that answer a question.
//
//	GET    /collections                          those that the person may read   200 Collections
//	GET    /collections/{name}/documents         what is in one                   200 Documents
//	PUT    /collections/{name}/documents/{file}  add or replace a document, whose
//	                                             bytes are the body               202 Document
//	GET    /collections/{name}/documents/{file}/turn
//	                                             of one that is being added       200 Turn
//	DELETE /collections/{name}/documents/{id}    remove one, with its index       204
//	POST   /collections/{name}/reindex           make the vectors anew            202
//	POST   /search                               SearchRequest                    200 SearchResponse
//	GET    /passages/{id}                        a passage with its surroundings  200 Passage
//	GET    /archive                              all documents, as a tar archive  200
//	PUT    /archive                              documents that take the place of all others at the
//	                                             next start                       204
//
// A request carries a token of the gate or the backend for the audience "knowledge"
// (services/internal/identity), which names the person and the person's groups. A collection is for
// everybody or for groups; whoever may not read one is told, as of one that is not there, 404. To
// add, remove and reindex takes an administrator, as the turn does, who may list all collections but
// searches those alone that are for the administrator's groups as well. The archive takes a token of
// the service backup, which opens nothing else.
//
// A refusal is an RFC 9457 problem: 400 the name or the query, 403 no administrator, 404, 409 the
// document is being added, 413 larger than MaxDocument, 415 a type that is not read, 422 empty,
// encrypted or broken, 507 no space is left, 503 not ready or draining.
package knowledgeapi

import "time"

// Limits of what the service takes.
const (
	// MaxDocument is the greatest size of a document in bytes.
	MaxDocument = 64 << 20

	// MaxName is the greatest length of a document's file name in bytes.
	MaxName = 200

	// MaxQuery is the greatest length of a query in bytes. A longer question is cut by who asks.
	MaxQuery = 8 << 10

	// MaxPassages is the most passages that a search returns.
	MaxPassages = 20
)

// ArchivePath is that of all documents.
const ArchivePath = "/archive"

// The states of a document.
const (
	StateIndexing = "indexing" // it is found by its words, its vectors are still made
	StateIndexed  = "indexed"
	StateFailed   = "failed" // it is found by its words; Document.Problem says what failed
)

// Collections is a list of collections, by name.
type Collections struct {
	Collections []Collection `json:"collections"`

	// Embedding is the model that makes vectors; empty where passages are found by words alone.
	Embedding string `json:"embedding,omitempty"`
}

// Collection is a set of documents with one rule of who may read them.
type Collection struct {
	Name string `json:"name"`

	// Groups are those whose people may read it; none stands for everybody.
	Groups []string `json:"groups,omitempty"`

	// Readable reports whether the person's searches find what is in it.
	Readable bool `json:"readable"`

	Documents int   `json:"documents"`
	Passages  int   `json:"passages"`
	Bytes     int64 `json:"bytes"`

	// Pending counts the passages whose vectors of the current model are not made yet.
	Pending int `json:"pending,omitempty"`
}

// Documents are those of a collection, by name.
type Documents struct {
	Documents []Document `json:"documents"`
}

// Document is what somebody added.
type Document struct {
	ID    string `json:"id"`
	File  string `json:"file"`  // the file's name, one of each in a collection
	Title string `json:"title"` // what the document calls itself; else the file's name
	Type  string `json:"type"`  // markdown, text, html, docx, pdf or fhir

	// SHA256 is the digest of its bytes, in hexadecimal: who has a file knows by it that it is there.
	SHA256 string `json:"sha256,omitempty"`

	Bytes    int64     `json:"bytes"`
	Passages int       `json:"passages"`
	Added    time.Time `json:"added"`
	AddedBy  string    `json:"added_by,omitempty"`

	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`

	// Warnings say what of the document could not be read, such as a page that is a picture.
	Warnings []string `json:"warnings,omitempty"`
}

// Turn is how far a document is that is being added. One is read at a time, in the order in which
// they came.
type Turn struct {
	// Waits reports whether others are read first.
	Waits bool `json:"waits"`
}

// SearchRequest asks for the passages that answer a query best.
type SearchRequest struct {
	Query string `json:"query"`

	// Collections narrows the search; none stands for all that the person may read.
	Collections []string `json:"collections,omitempty"`

	// Limit is how many passages to return; 0 stands for 6.
	Limit int `json:"limit,omitempty"`
}

// SearchResponse has the passages, the best first. It is empty, not an error, if none suits.
type SearchResponse struct {
	Passages []Passage `json:"passages"`

	// WordsAlone is set if vectors could not be used: none are made, or ml did not answer in time.
	WordsAlone bool `json:"words_alone,omitempty"`
}

// Passage is a part of a document that makes sense by itself.
type Passage struct {
	// ID names the passage for as long as its document is there unchanged.
	ID         string `json:"id"`
	Collection string `json:"collection"`
	DocumentID string `json:"document_id"`
	File       string `json:"file"`
	Title      string `json:"title"`

	// Heading is the path of headings above it, such as "Discharge > Letters"; Page is the page it
	// begins on, from 1, where the document has pages.
	Heading string `json:"heading,omitempty"`
	Page    int    `json:"page,omitempty"`

	Text  string  `json:"text"`
	Score float64 `json:"score,omitempty"` // of this search; greater is better

	// Before and After are the passages beside it. Only in the answer to GET /passages/{id}.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}
