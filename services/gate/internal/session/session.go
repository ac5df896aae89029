// Package session knows a browser again in which somebody has signed in.
//
// The browser has a random token in a cookie, and Redis the session under the token's hash: who
// reads Redis, its files or a backup of them finds nothing to sign in with. A session ends when
// nobody used it for a while, after a longer time in any case, and when somebody ends it.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/codexcontinue/codexcontinue/services/auditlog"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/cookie"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/pseudonym"
	"github.com/codexcontinue/codexcontinue/services/gate/internal/store"
	"github.com/codexcontinue/codexcontinue/services/internal/audit"
	"github.com/codexcontinue/codexcontinue/services/internal/identity"
	"github.com/codexcontinue/codexcontinue/services/internal/wire"
)

// cookieName is the name of the cookie, as package cookie has it.
const cookieName = "session"

// ErrNone reports that a request is of no session, or of one that has ended.
var ErrNone = errors.New("nobody is signed in")

// Who is somebody who signs in.
type Who struct {
	// Issuer vouches for the person, whom it knows as the subject for ever.
	Issuer, Subject string

	// Name is what pages call the person.
	Name   string
	Admin  bool
	Groups []string

	// SID is what the issuer calls the session of its own, if it does.
	SID string

	// Hint tells the issuer who signs out. It opens nothing.
	Hint string `json:",omitempty"`
}

// Session is one browser in which somebody is signed in.
type Session struct {
	// Ref names the session to its owner, and to nobody who has not signed in.
	Ref string

	// ID is the person's, as in identity.Person.
	ID string
	Who

	// Browser and Address are where the person signed in from, Since is when.
	Browser, Address string
	Since            time.Time

	// Deadline is when the session ends in any case.
	Deadline time.Time
}

// Person returns the person who is signed in.
func (s *Session) Person() identity.Person {
	return identity.Person{ID: s.ID, Name: s.Name, Admin: s.Admin, Groups: s.Groups}
}

// Manager knows the sessions of all gates.
type Manager struct {
	// Audit records who signs in and out. It must be set before the first request.
	Audit *audit.Recorder

	scs   *scs.SessionManager
	store *store.Store
	names *pseudonym.Names
	idle  time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	watched map[string]map[*watch]struct{} // by the session's Ref
}

// New returns a manager of sessions that end after the idle time without use, and after life at the
// latest.
func New(
	st *store.Store, names *pseudonym.Names, idle, life time.Duration, log *slog.Logger,
) *Manager {
	m := &Manager{
		scs: scs.New(), store: st, names: names, idle: idle, log: log,
		watched: make(map[string]map[*watch]struct{}),
	}

	m.scs.HashTokenInStore = true
	m.scs.Lifetime, m.scs.IdleTimeout = life, idle
	m.scs.Codec = codec{}
	m.scs.Store = &kept{m}
	return m
}

// SignIn signs the person in at the browser. A session that it has ends, so that nobody can have
// known the new one's token before.
func (m *Manager) SignIn(w http.ResponseWriter, r *http.Request, who Who) error {
	act, err := m.Audit.Begin(r.Context(),
		Record(r, auditlog.SignIn, m.names.Of(who.Issuer, who.Subject)))
	if err != nil {
		return err
	}

	err = m.signIn(w, r, who)
	act.End(audit.Result(err))
	return err
}

// Record returns what the audit says of an act that the person with the ID asks for.
func Record(r *http.Request, action auditlog.Action, id string) auditlog.Record {
	return auditlog.Record{Action: action, Actor: id, Address: Address(r)}
}

// ID returns the id of the person whom the issuer knows as the subject.
func (m *Manager) ID(issuer, subject string) string { return m.names.Of(issuer, subject) }

// EndedBy returns what the audit says of an issuer that ends sessions of the subject, which may
// be "".
func (m *Manager) EndedBy(issuer, subject string) auditlog.Record {
	record := auditlog.Record{Action: auditlog.SignOut, By: "the OpenID provider"}
	if subject != "" {
		record.Object = m.names.Of(issuer, subject)
	}
	return record
}

func (m *Manager) signIn(w http.ResponseWriter, r *http.Request, who Who) error {
	ctx, err := m.scs.Load(background(r.Context()), token(r))
	if err == nil {
		err = m.scs.RenewToken(ctx)
	}
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}

	m.scs.Put(ctx, sessionKey, &Session{
		ID:      m.names.Of(who.Issuer, who.Subject),
		Who:     who,
		Browser: describe(r.UserAgent()),
		Address: Address(r),
		Since:   time.Now(),
	})

	token, _, err := m.scs.Commit(ctx)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}

	setCookie(w, r, token)
	return nil
}

// Find returns the session that the request is of, else ErrNone. A request that a person makes
// begins the idle time anew; one that a page makes by itself does not.
func (m *Manager) Find(r *http.Request) (*Session, error) {
	token := token(r)
	if token == "" {
		return nil, ErrNone
	}

	ctx := r.Context()
	if byItself(r) {
		ctx = background(ctx)
	}

	ctx, err := m.scs.Load(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}

	s, ok := m.scs.Get(ctx, sessionKey).(*Session)
	if !ok {
		return nil, ErrNone
	}

	return s, nil
}

// SignOut ends the session that the request is of, if it is of one, and takes the cookie back.
func (m *Manager) SignOut(w http.ResponseWriter, r *http.Request) error {
	ctx, err := m.scs.Load(background(r.Context()), token(r))
	if err == nil && m.scs.Token(ctx) != "" {
		err = m.scs.Destroy(ctx)
	}
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}

	setCookie(w, r, "")
	return nil
}

// Shown is a session as its owner sees it.
type Shown struct {
	*Session

	// Seen is when it was last used.
	Seen time.Time
}

// List returns the sessions of the person, those first that were used last.
func (m *Manager) List(ctx context.Context, id string) ([]Shown, error) {
	return m.list(ctx, byPerson(id))
}

// End ends the person's session with the Ref. One of somebody else is left alone.
func (m *Manager) End(ctx context.Context, id, ref string) error {
	_, err := m.endOf(ctx, byPerson(id), func(r string, _ *Session) bool { return r == ref })
	return err
}

// EndAll ends the sessions of the person, but for that with the Ref except, which may be "".
func (m *Manager) EndAll(ctx context.Context, id, except string) error {
	_, err := m.endOf(ctx, byPerson(id), func(r string, _ *Session) bool { return r != except })
	return err
}

// EndBy ends the sessions that an issuer says are over: those with its sid, or without one all of
// the subject, whose keys are those of a person without groups from then on. It returns how many
// sessions there were. One of subject and sid may be "".
func (m *Manager) EndBy(ctx context.Context, issuer, subject, sid string) (int, error) {
	index := byPerson(m.names.Of(issuer, subject))
	if sid != "" {
		index = m.bySID(issuer, sid)
	}

	n, err := m.endOf(ctx, index, func(_ string, s *Session) bool {
		return s == nil || (sid == "" || s.SID == sid) && (subject == "" || s.Subject == subject)
	})
	if sid == "" {
		err = errors.Join(err, m.store.DropGroups(ctx, m.names.Of(issuer, subject)))
	}

	return n, err
}

// Holds reports whether there is something for EndBy to end of the subject: a session, or the groups
// that the person's keys follow.
func (m *Manager) Holds(ctx context.Context, issuer, subject string) (bool, error) {
	return m.Knows(ctx, m.names.Of(issuer, subject))
}

// Knows reports whether the person with the id has a session, or has had one and the groups are kept.
func (m *Manager) Knows(ctx context.Context, id string) (bool, error) {
	refs, err := m.store.Index(ctx, byPerson(id))
	if err != nil || len(refs) > 0 {
		return err == nil, err
	}
	return m.store.HasGroups(ctx, id)
}

// endOf ends the sessions of the index that are over, and returns how many there were. One that is
// about to begin is nil.
func (m *Manager) endOf(
	ctx context.Context, index string, over func(ref string, s *Session) bool,
) (ended int, err error) {
	refs, err := m.store.Index(ctx, index)
	if err != nil {
		return 0, fmt.Errorf("sessions: %w", err)
	}

	var errs []error
	for _, ref := range refs {
		s, err := m.get(ctx, ref)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !over(ref, s):
		case s == nil:
			errs = append(errs, m.removeUnborn(ctx, index, ref))
		default:
			errs = append(errs, m.remove(ctx, s))
			ended++
		}
	}

	return ended, errors.Join(errs...)
}

// token returns the token in the request's cookie, "" if there is none.
func token(r *http.Request) string {
	c, err := r.Cookie(cookie.Name(cookieName, Secure(r)))
	if err != nil || len(c.Value) > maxToken {
		return ""
	}

	return c.Value
}

// maxToken bounds what is looked up. A token has 43 characters.
const maxToken = 64

// setCookie sets the cookie, or takes it back if the token is "". It has no age: the browser drops
// it when it is closed.
func setCookie(w http.ResponseWriter, r *http.Request, token string) {
	age := time.Duration(0)
	if token == "" {
		age = -1
	}
	cookie.Set(w, cookieName, token, age, Secure(r))
}

// Secure reports whether the browser's request came over TLS, as the edge says.
func Secure(r *http.Request) bool { return r.Header.Get("X-Forwarded-Proto") == "https" }

// Address returns the address that the request came from, as the edge says.
func Address(r *http.Request) string {
	hops := strings.Split(r.Header.Get("X-Forwarded-For"), ",")
	if last := strings.TrimSpace(hops[len(hops)-1]); net.ParseIP(last) != nil {
		return last
	}

	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}

	return host
}

// byItself reports whether a page makes the request while nobody does anything: it follows an
// answer, or asks whether something is new.
func byItself(r *http.Request) bool {
	p := r.URL.Path
	return strings.HasPrefix(p, "/fragments/") || strings.HasSuffix(p, "/events") ||
		p == "/status" || p == "/api/status" ||
		r.Method == http.MethodGet && r.URL.Query().Has(wire.ReloadQuery)
}

// sessionKey is the name of the one value in a session of scs.
const sessionKey = "session"

// codec stores a Session as JSON, with what scs knows of it.
type codec struct{}

// Encode implements scs.Codec.
func (codec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	s, ok := values[sessionKey].(*Session)
	if !ok {
		return nil, errors.New("session: nobody has signed in")
	}

	s.Deadline = deadline
	return json.Marshal(s)
}

// Decode implements scs.Codec.
func (codec) Decode(b []byte) (time.Time, map[string]any, error) {
	var s Session
	if err := json.Unmarshal(b, &s); err != nil {
		return time.Time{}, nil, fmt.Errorf("session: %w", err)
	}
	return s.Deadline, map[string]any{sessionKey: &s}, nil
}
