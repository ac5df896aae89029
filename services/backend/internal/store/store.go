package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
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
	// ErrCursor says that a page's cursor is not one that List made.
	ErrCursor = errors.New("not a cursor of this list")
	// ErrEventID says that an event's id is not one of the answer's.
	ErrEventID = errors.New("not the id of an event of this answer")
)

// Limits of one instance.
const (
	// commandConns is how many commands may be with Redis at once; further ones wait for poolTimeout.
	commandConns = 64
	// MaxReaders is how many readers may wait for events at once: each holds a connection while it waits.
	MaxReaders  = 1024
	poolTimeout = 2 * time.Second
	// ioTimeout bounds one command. Redis answers in microseconds or is in trouble.
	ioTimeout = 3 * time.Second
)

// Options say how Redis is reached and how long things are kept.
type Options struct {
	// URL is redis://host:port/db.
	URL string
	// Password is empty when Redis asks for none.
	Password string
	// TTL is how long an untouched conversation is kept; 0 is for ever.
	TTL time.Duration
	// Keep is how long an answer's events are kept after its end.
	Keep time.Duration
	// Lease is how long an answer whose writer is silent counts as being written.
	Lease time.Duration
	// OnError is told of every command that failed, except those whose caller gave up; it may be nil.
	OnError func(error)
}

// Store is Redis as the backend uses it.
type Store struct {
	// rdb runs commands; wait runs those that block until something happens, so that waiting readers never take the
	// connections of writers.
	rdb, wait *redis.Client
	scripts   *scripts
	opts      Options
	addr      string
}

// New makes a store. It does not connect: Redis may come later.
func New(o Options) (*Store, error) {
	opt, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	sc, err := newScripts()
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	opt.Password = o.Password
	opt.MaxRetries = -1 // an append that is sent twice writes twice; callers that can retry do it knowingly
	opt.DialTimeout, opt.DialerRetries = 2*time.Second, 1
	opt.ReadTimeout, opt.WriteTimeout = ioTimeout, ioTimeout
	opt.ContextTimeoutEnabled = true
	opt.PoolSize, opt.MaxActiveConns, opt.PoolTimeout = commandConns, commandConns, poolTimeout
	opt.ConnMaxIdleTime = 5 * time.Minute
	opt.ReadBufferSize, opt.WriteBufferSize = 8<<10, 8<<10
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	waiting := *opt
	waiting.PoolSize, waiting.MaxActiveConns = MaxReaders, MaxReaders
	waiting.ReadBufferSize, waiting.WriteBufferSize = 4<<10, 1<<10
	waiting.ConnMaxIdleTime = 30 * time.Second
	s := &Store{rdb: redis.NewClient(opt), wait: redis.NewClient(&waiting), scripts: sc, opts: o, addr: opt.Addr}
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

// Check asks Redis whether it answers. Its error says what to do; it never holds the password.
func (s *Store) Check(ctx context.Context) error {
	err := s.rdb.Ping(ctx).Err()
	if err == nil {
		return nil
	}
	switch {
	case strings.HasPrefix(err.Error(), "NOAUTH"):
		return errors.New("the server asks for a password: set REDIS_PASSWORD_FILE")
	case strings.HasPrefix(err.Error(), "WRONGPASS"), strings.Contains(err.Error(), "without any password configured"):
		return errors.New("the server refuses the password: compare the file of REDIS_PASSWORD_FILE with Redis's requirepass")
	case strings.HasPrefix(err.Error(), "LOADING"):
		return errors.New("the server is still loading its data")
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("REDIS_URL: the host of %s does not resolve", s.addr)
	case errors.As(err, &op) && op.Op == "dial" && !op.Timeout():
		return fmt.Errorf("REDIS_URL: %s cannot be reached: %w", s.addr, op.Err)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op) && op.Timeout():
		return fmt.Errorf("REDIS_URL: %s does not answer in time", s.addr)
	}
	return fmt.Errorf("REDIS_URL: %s: %w", s.addr, err)
}

// errorHook reports failed commands.
type errorHook func(error)

func (h errorHook) report(err error) error {
	if err != nil && !errors.Is(err, redis.Nil) && !errors.Is(err, context.Canceled) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		h(err)
	}
	return err
}

func (h errorHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h errorHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.report(next(ctx, cmd)) }
}

func (h errorHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.report(next(ctx, cmds)) }
}

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

func listKey(owner string) string      { return "owner:" + owner + ":conversations" }
func conversationKey(id string) string { return "conversation:" + id }
func messagesKey(id string) string     { return "conversation:" + id + ":messages" }
func generationKey(id string) string   { return "generation:" + id }
func eventsKey(id string) string       { return "generation:" + id + ":events" }
func textKey(id string) string         { return "generation:" + id + ":text" }
func millis(d time.Duration) int64     { return d.Milliseconds() }
func conversationKeys(c Conversation) []string {
	return []string{conversationKey(c.ID), messagesKey(c.ID), listKey(c.Owner)}
}
