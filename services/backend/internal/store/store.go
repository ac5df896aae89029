package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

var (
	// ErrNotFound reports that there is no such conversation or answer, or that
	// it is another owner's.
	ErrNotFound = errors.New("not found")

	// ErrBusy reports that an answer is being written in the conversation.
	ErrBusy = errors.New("an answer is being written in this conversation")

	// ErrChanged reports that a conversation does not end as a turn says that replaces its end.
	ErrChanged = errors.New("the conversation has changed")

	// ErrFull reports that the conversation has MaxMessages messages.
	ErrFull = fmt.Errorf("the conversation has %d messages", MaxMessages)

	// ErrEnded reports that the answer has ended, by whoever it was.
	ErrEnded = errors.New("the answer has ended")

	// ErrSuperseded reports that another writer has taken the answer over.
	ErrSuperseded = errors.New("another writer has taken the answer over")

	// ErrAcknowledged reports that a message cannot be taken back: it was sent again with its key,
	// and is known to be stored.
	ErrAcknowledged = errors.New("the message is known to be stored")

	// ErrKeyReused reports that a message has the key of another one.
	ErrKeyReused = errors.New("the key is that of another message")

	// ErrStorageFull reports that Redis has no room left for what is new: no memory,
	// unless it is ErrDiskFull.
	ErrStorageFull = errors.New("no room is left in Redis")

	// ErrDiskFull is the ErrStorageFull of a Redis that cannot write to its disk: it
	// takes no change at all.
	ErrDiskFull = fmt.Errorf("%w: its disk cannot be written", ErrStorageFull)

	// ErrTooMuch reports that the owner's conversations have together Options.MaxBytes.
	ErrTooMuch = errors.New("the owner's conversations are too large together")

	// ErrTooMany reports that the owner has Options.MaxConversations.
	ErrTooMany = errors.New("the owner has too many conversations")

	// ErrSubmissions reports that the owner has handed over MaxSubmissions.
	ErrSubmissions = fmt.Errorf("the owner has handed over %d answers", MaxSubmissions)

	// ErrErased reports that the owner's data are being erased, or were a moment ago.
	ErrErased = errors.New("the owner's data are being erased")

	// ErrLost reports that Redis no longer holds all of the answer's text that it took: a server
	// took over that had not got it.
	ErrLost = errors.New("a part of the answer is lost")

	// ErrCursor reports that a page's cursor is not one that List made.
	ErrCursor = errors.New("not a cursor of this list")

	// ErrEventID reports that an event's id is not one of the answer's.
	ErrEventID = errors.New("not the id of an event of this answer")
)

// refusals are the errors that the scripts reply by a word.
var refusals = map[string]error{
	"":              ErrNotFound,
	"missing":       ErrNotFound,
	"busy":          ErrBusy,
	"changed":       ErrChanged,
	"full":          ErrFull,
	"already":       ErrEnded,
	"superseded":    ErrSuperseded,
	"leased":        ErrLeased,
	"mismatch":      ErrKeyReused,
	"bytes":         ErrTooMuch,
	"conversations": ErrTooMany,
	"submissions":   ErrSubmissions,
	"erased":        ErrErased,
}

// Options say how Redis is reached and how long things are kept.
type Options struct {
	Address

	// TTL is how long an untouched conversation is kept; 0 is for ever.
	TTL time.Duration

	// Keep is how long an answer's events are kept after its end.
	Keep time.Duration

	// Lease is how long an answer whose writer is silent counts as being written.
	Lease time.Duration

	// Grace is how long a writer has to renew a lease that was found expired: it may have been
	// Redis that was away, and the writer comes back with it. Half a lease when it is 0.
	Grace time.Duration

	// Outage is how long writers and readers of an answer bear a Redis that does not answer, such
	// as while another server takes over.
	Outage time.Duration

	// MaxBytes and MaxConversations bound what one owner stores: DefaultMaxBytes and
	// DefaultMaxConversations when they are 0.
	MaxBytes         int64
	MaxConversations int

	// OnError is told of every command that failed, except those whose caller
	// gave up; it may be nil.
	OnError func(error)
}

// What one owner stores at most, unless the options say otherwise.
const (
	DefaultMaxBytes         = 64 << 20
	DefaultMaxConversations = 1000
)

// Store is Redis as the backend uses it.
type Store struct {
	rdb, wait redis.UniversalClient // see Address.clients
	scripts   *scripts
	retrier   *retrier
	opts      Options
	addr      Address
	key       keyspace
}

// New makes a store. It does not connect: Redis may come later.
func New(o Options) (*Store, error) {
	if o.Grace == 0 {
		o.Grace = o.Lease / 2
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxConversations == 0 {
		o.MaxConversations = DefaultMaxConversations
	}

	sc, err := newScripts()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}

	rdb, wait, err := clients(o.Address)
	if err != nil {
		return nil, err
	}

	s := &Store{
		rdb:     rdb,
		wait:    wait,
		scripts: sc,
		retrier: newRetrier(rdb),
		opts:    o,
		addr:    o.Address,
		key:     keyspace{tagged: len(o.Cluster) > 0},
	}

	s.rdb.AddHook(s.retrier) // outside of what counts the errors
	if o.OnError != nil {
		s.rdb.AddHook(errorHook(o.OnError))
		s.wait.AddHook(errorHook(o.OnError))
	}

	return s, nil
}

// Close closes the connections.
func (s *Store) Close() error { return errors.Join(s.rdb.Close(), s.wait.Close()) }

// Lease returns how long a writer may be silent.
func (s *Store) Lease() time.Duration { return s.opts.Lease }

// MaxBytes returns how much one owner may store.
func (s *Store) MaxBytes() int64 { return s.opts.MaxBytes }

// MaxConversations returns how many conversations one owner may have.
func (s *Store) MaxConversations() int { return s.opts.MaxConversations }

// Outage returns how long Redis may be silent.
func (s *Store) Outage() time.Duration { return s.opts.Outage }

// newID returns a version 7 UUID: random, and in the order of creation, which breaks ties in lists.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return id.String(), nil
}

// validID reports whether an id may be one that newID made, so that no other text gets
// into the name of a key.
func validID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// storedNow returns the time, to the millisecond: as precisely as it is stored.
func storedNow() time.Time { return time.UnixMilli(time.Now().UnixMilli()).UTC() }

func millis(d time.Duration) int64 { return d.Milliseconds() }
