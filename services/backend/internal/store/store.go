package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

var (
	// ErrNotFound says that there is no such conversation or answer, or that it is another owner's.
	ErrNotFound = errors.New("not found")

	// ErrBusy says that an answer is being written in the conversation.
	ErrBusy = errors.New("an answer is being written in this conversation")

	// ErrFull says that the conversation has MaxMessages messages.
	ErrFull = fmt.Errorf("the conversation has %d messages", MaxMessages)

	// ErrEnded says that the answer has ended, by whoever it was.
	ErrEnded = errors.New("the answer has ended")

	// ErrSuperseded says that another writer has taken the answer over.
	ErrSuperseded = errors.New("another writer has taken the answer over")

	// ErrAcknowledged says that a message cannot be taken back: it was sent again with its key, and
	// is known to be stored.
	ErrAcknowledged = errors.New("the message is known to be stored")

	// ErrKeyReused says that a message has the key of another one.
	ErrKeyReused = errors.New("the key is that of another message")

	// ErrStorageFull says that Redis has no room left for what is new: no memory,
	// unless it is ErrDiskFull.
	ErrStorageFull = errors.New("no room is left in Redis")

	// ErrDiskFull is the ErrStorageFull of a Redis that cannot write to its disk: it
	// takes no change at all.
	ErrDiskFull = fmt.Errorf("%w: its disk cannot be written", ErrStorageFull)

	// ErrTooMuch says that the owner's conversations have together Options.MaxBytes.
	ErrTooMuch = errors.New("the owner's conversations are too large together")

	// ErrTooMany says that the owner has Options.MaxConversations.
	ErrTooMany = errors.New("the owner has too many conversations")

	// ErrLost says that Redis no longer holds all of the answer's text that it took: a server took
	// over that had not got it.
	ErrLost = errors.New("a part of the answer is lost")

	// ErrCursor says that a page's cursor is not one that List made.
	ErrCursor = errors.New("not a cursor of this list")

	// ErrEventID says that an event's id is not one of the answer's.
	ErrEventID = errors.New("not the id of an event of this answer")
)

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
	outages   *waitsOut
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

	rdb, wait, err := o.clients()
	if err != nil {
		return nil, err
	}

	s := &Store{
		rdb:     rdb,
		wait:    wait,
		scripts: sc,
		outages: newWaitsOut(rdb),
		opts:    o,
		addr:    o.Address,
		key:     keyspace{tagged: len(o.Cluster) > 0},
	}

	s.rdb.AddHook(s.outages) // outside of what counts the errors
	if o.OnError != nil {
		s.rdb.AddHook(errorHook(o.OnError))
		s.wait.AddHook(errorHook(o.OnError))
	}

	return s, nil
}

// Close gives the connections back.
func (s *Store) Close() error { return errors.Join(s.rdb.Close(), s.wait.Close()) }

// Lease is how long a writer may be silent.
func (s *Store) Lease() time.Duration { return s.opts.Lease }

// MaxBytes and MaxConversations are the bounds of one owner.
func (s *Store) MaxBytes() int64       { return s.opts.MaxBytes }
func (s *Store) MaxConversations() int { return s.opts.MaxConversations }

// Outage is how long Redis may be silent.
func (s *Store) Outage() time.Duration { return s.opts.Outage }

// newID is a version 7 UUID: random, and in the order of creation, which breaks ties in lists.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return id.String(), nil
}

// validID keeps anything but our own ids out of key names.
func validID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

func millis(d time.Duration) int64 { return d.Milliseconds() }
