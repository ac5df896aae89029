// Package auditlog is the form of the audit's records: who did what, as one line of JSON each, in a
// chain. It writes and checks them, and knows no place where they are kept.
//
// A record has the SHA-256 of the line before it, and where the stack has a secret the HMAC-SHA256
// of its own. So no record can be changed, taken out or moved without a trace in those that follow,
// and whoever lacks the key cannot make one.
package auditlog

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// PageSize bounds the lines that are read, and that `gate audit page` prints, at once.
const PageSize = 500

// Action is what somebody does.
type Action string

// The actions.
const (
	SignIn     Action = "sign-in"
	SignOut    Action = "sign-out"
	Question   Action = "question"
	Answer     Action = "answer"
	Stop       Action = "stop"
	Delete     Action = "delete"
	Export     Action = "export"
	Rating     Action = "rating"
	Submission Action = "submission"
	Withdrawal Action = "withdrawal"
	Review     Action = "review"
	ReviewRead Action = "review-read"
	KeyMade    Action = "key-made"
	KeyRevoked Action = "key-revoked"
	Password   Action = "password"

	UserInvited Action = "user-invited"
	UserReset   Action = "user-reset"
	UserAdmin   Action = "user-admin"
	UserMember  Action = "user-member"
	UserGroups  Action = "user-groups"
	UserRemoved Action = "user-removed"

	// Of all that is stored of somebody.
	Read  Action = "read"
	Erase Action = "erase"
	Move  Action = "move"

	// Of the documents that answers are made of.
	DocumentAdded   Action = "document-added"
	DocumentRemoved Action = "document-removed"
	Reindexed       Action = "documents-reindexed"

	Configuration Action = "configuration"

	// What somebody who is known was refused: a page that is for admins, or an answer to a program
	// with a key.
	Access Action = "access"

	// A notice for people, put up or taken down.
	Maintenance Action = "maintenance"

	// A backup has taken the place of what was stored.
	Restore Action = "restore"

	// A program that an operator runs in a container.
	Command Action = "command"
)

// Outcome is what became of an act.
type Outcome string

// The outcomes. An act has a record with Intent before it is done, and one with another
// outcome after it. One that nobody could have prevented, such as the end of an answer,
// has the latter alone.
const (
	Intent  Outcome = "intent"
	Done    Outcome = "done"
	Failed  Outcome = "failed"
	Refused Outcome = "refused"
	Stopped Outcome = "stopped"
)

// Record is one record. It has nothing of what people write.
type Record struct {
	// Number counts the records of a stack from 1, without a gap.
	Number int64     `json:"n"`
	Time   time.Time `json:"time"`

	// ID is that of the act: the record of its outcome has that of its intent.
	ID      string  `json:"id"`
	Service string  `json:"service"`
	Action  Action  `json:"action"`
	Outcome Outcome `json:"outcome"`

	// Actor is the pseudonym of who acts, as in identity.Person; By the name of who runs a command
	// of codexctl, as the machine there says.
	Actor string `json:"actor,omitempty"`
	By    string `json:"by,omitempty"`

	// Address is that of the browser or program, as the edge sees it.
	Address string `json:"address,omitempty"`

	// Object is what the act is about: the pseudonym of an account, or a name by Key.Name.
	Object string `json:"object,omitempty"`

	// Model is the model's name, and Digest that of its Modelfile where it is the stack's own.
	Model  string `json:"model,omitempty"`
	Digest string `json:"digest,omitempty"`

	// Bytes is the size of what was sent or written; the tokens are those of an answer.
	Bytes        int `json:"bytes,omitempty"`
	PromptTokens int `json:"prompt_tokens,omitempty"`
	Tokens       int `json:"tokens,omitempty"`

	// Request is the id of the request in the logs.
	Request string `json:"request,omitempty"`

	// Detail is what else an action has: the revision and the settings' digest of a configuration,
	// the name of the backup that was restored, also where that has moved something again, the
	// service, the program and the exit code of a command, the state of maintenance, the reason of who
	// reads what is somebody else's, what a review came to, and the route that somebody was refused and
	// why.
	Detail map[string]string `json:"detail,omitempty"`

	// Prev is the Hash of the line before, "" of the first one.
	Prev string `json:"prev"`

	// Key names the key of the MAC that ends the line. It is empty if there is none.
	Key string `json:"key,omitempty"`
}

// Key signs records. The zero Key signs none: they are a chain all the same, which whoever can
// write where they are kept can make anew.
type Key struct {
	secret []byte
	id     string
}

// NewKey returns the key of the secret, which may be empty.
func NewKey(secret string) Key {
	if secret == "" {
		return Key{}
	}

	k := Key{secret: []byte(secret)}
	k.id = hex.EncodeToString(k.mac("id")[:4])
	return k
}

func (k Key) mac(text string) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// nameLength is the length of what Name hashes to in bytes.
const nameLength = 12

// Name returns what records call a thing that has the id elsewhere: nobody who has records alone
// finds the one by the other.
func (k Key) Name(kind, id string) string {
	return kind + ":" + encode(k.mac("name " + kind + " " + id)[:nameLength])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Hash returns the SHA-256 of a line, by which the next one names it.
func Hash(line string) string {
	sum := sha256.Sum256([]byte(line))
	return encode(sum[:])
}

// macField stands between a record and its MAC, which ends the line.
const macField = `,"mac":"`

// Seal returns the record's line.
func (k Key) Seal(r Record) string {
	r.Key = k.id
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}

	line := string(b)
	if k.id == "" {
		return line
	}

	return strings.TrimSuffix(line, "}") + macField + encode(k.mac(line)) + `"}`
}

// sealed reports whether the line ends with the MAC that the key gives it.
func (k Key) sealed(line string) bool {
	at := strings.LastIndex(line, macField)
	if at < 0 {
		return false
	}

	want := macField + encode(k.mac(line[:at]+"}")) + `"}`
	return hmac.Equal([]byte(line[at:]), []byte(want))
}

// Parse returns the record of a line.
func Parse(line string) (Record, error) {
	var r Record
	if err := json.Unmarshal([]byte(line), &r); err != nil || r.Number < 1 {
		return Record{}, fmt.Errorf("it is no record of an audit")
	}
	return r, nil
}
