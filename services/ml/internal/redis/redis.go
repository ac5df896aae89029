// Package redis is a client of Redis that runs scripts, reads strings and can do nothing else. The
// backend's library would make ml larger by 8 MB: ml links text/template, which may call any method
// by its name, so the linker keeps each of the library's hundreds of commands.
//
// Redis is one server, the master that Sentinels name, or a Cluster. The keys of a script lie in
// one hash slot, so a script is sent to one server.
package redis

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
)

// Client runs scripts. It is safe for concurrent use.
type Client struct {
	address contract.Redis
	host    string // of the URL, with its port
	user    string
	db      string
	tls     *tls.Config // nil without TLS

	// turns holds the connections that nobody uses, and nil for each that may still be made.
	turns chan *conn

	// next counts the Sentinels or nodes that turned out to be of no use.
	next atomic.Uint32
}

// maxConns bounds the connections of a client. A command for which Redis takes its time, as when it
// syncs each write to its disk, then delays no other.
const maxConns = 4

// conn is a connection that is ready for commands.
type conn struct {
	net.Conn
	r *bufio.Reader

	// next was the client's when the connection was made.
	next uint32
}

// New returns a client. It does not connect: Redis may come later.
func New(a contract.Redis) (*Client, error) {
	u, err := url.Parse(a.URL)
	if err != nil {
		return nil, errors.New("REDIS_URL: is no URL")
	}

	c := &Client{address: a, host: u.Host, user: u.User.Username()}
	c.turns = make(chan *conn, maxConns)
	for range maxConns {
		c.turns <- nil
	}

	if c.db = strings.Trim(u.Path, "/"); c.db == "0" {
		c.db = ""
	}
	if n, err := strconv.Atoi(c.db); c.db != "" && (err != nil || n < 0) {
		return nil, fmt.Errorf("REDIS_URL: %q is no number of a database", c.db)
	}

	if u.Scheme != "rediss" {
		return c, nil
	}

	authorities, err := a.Authorities()
	if err != nil {
		return nil, err
	}

	certificates, err := a.Certificates()
	if err != nil {
		return nil, err
	}

	c.tls = &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: authorities, Certificates: certificates,
	}
	return c, nil
}

// Close ends the connections. It waits for scripts that run.
func (c *Client) Close() {
	for range maxConns {
		if cn := <-c.turns; cn != nil {
			_ = cn.Close()
		}
	}

	for range maxConns {
		c.turns <- nil
	}
}

// Run runs a script and returns the whole numbers that it returned. A script may run twice when the
// connection breaks: it must do the same then. ctx has to have an end.
func (c *Client) Run(
	ctx context.Context, s *Script, keys []string, args ...string,
) (out []int, err error) {
	words := append([]string{strconv.Itoa(len(keys))}, keys...)
	words = append(words, args...)
	err = c.do(ctx, func(cn *conn) error {
		out, err = s.run(ctx, cn, words)
		return err
	})
	return out, err
}

// Get returns the string with the key, "" if there is none. ctx has to have an end.
func (c *Client) Get(ctx context.Context, key string) (value string, err error) {
	err = c.do(ctx, func(cn *conn) error {
		v, err := cn.do(ctx, "GET", key)
		value, _ = v.(string)
		return err
	})
	return value, err
}

// do has a command done over a connection, which may be twice when a connection breaks.
func (c *Client) do(ctx context.Context, command func(*conn) error) error {
	var cn *conn
	select {
	case cn = <-c.turns:
	case <-ctx.Done():
		return fmt.Errorf("redis: %w", context.Cause(ctx))
	}
	defer func() { c.turns <- cn }()

	to := "" // where a node sent the command
	for try := 0; ; try++ {
		kept := cn != nil
		var err error
		if !kept {
			cn, err = c.connect(ctx, to)
		}
		if err == nil {
			err = command(cn)
		}

		var said Error
		errors.As(err, &said)
		answered := err == nil || said != "" && !said.elsewhere()
		to = ""
		if cn != nil && !answered {
			// The connection is of no use, or leads to a server that does not serve the slot.
			if to = said.moved(cn); to == "" {
				c.next.CompareAndSwap(cn.next, cn.next+1)
			}
			if said == "" {
				c.closeIdle() // they may hang as this one does
			}

			_ = cn.Close()
			cn = nil
		}

		if answered || ctx.Err() != nil || !kept && to == "" || try == maxMoves {
			return err
		}
	}
}

// closeIdle closes the connections that nobody uses.
func (c *Client) closeIdle() {
	for range maxConns {
		select {
		case cn := <-c.turns:
			if cn != nil {
				_ = cn.Close()
			}
			c.turns <- nil
		default:
			return
		}
	}
}

// maxMoves bounds how often a command is sent on.
const maxMoves = 3

// connect connects to the server at the address; where that is empty, to the one that the client's
// own address leads to.
func (c *Client) connect(ctx context.Context, to string) (*conn, error) {
	a := &c.address
	switch {
	case to != "":
		return c.dial(ctx, to)
	case len(a.Sentinels) > 0:
		return c.master(ctx)
	case len(a.Cluster) == 0:
		return c.dial(ctx, c.host)
	}

	return c.firstOf(ctx, a.Cluster, func(node string) (*conn, error) { return c.dial(ctx, node) })
}

// firstOf connects to the first of the servers that can be reached. An attempt begins with the
// server that the one before ended with, unless that was of no use: one that hangs uses up all the
// time of an attempt.
func (c *Client) firstOf(
	ctx context.Context, servers []string, connect func(string) (*conn, error),
) (*conn, error) {
	var errs []error
	for range servers {
		// A connection may notice the end before the context does.
		if end, ok := ctx.Deadline(); ctx.Err() != nil || ok && !time.Now().Before(end) {
			break
		}

		next := c.next.Load()
		cn, err := connect(servers[int(next)%len(servers)])
		if err == nil {
			cn.next = next
			return cn, nil
		}

		c.next.CompareAndSwap(next, next+1)
		errs = append(errs, err)
	}

	if len(errs) == 0 {
		return nil, context.DeadlineExceeded
	}

	return nil, errors.Join(errs...)
}

// master connects to the master that a Sentinel names.
func (c *Client) master(ctx context.Context) (*conn, error) {
	cn, err := c.firstOf(ctx, c.address.Sentinels, func(sentinel string) (*conn, error) {
		at, err := c.ask(ctx, sentinel)
		if err != nil {
			return nil, err
		}

		return c.dial(ctx, at)
	})
	if err != nil {
		return nil, fmt.Errorf("REDIS_SENTINELS: %w", err)
	}

	return cn, nil
}

// ask asks a Sentinel for the master's address.
func (c *Client) ask(ctx context.Context, sentinel string) (string, error) {
	cn, err := c.open(ctx, sentinel)
	if err != nil {
		return "", err
	}
	defer cn.Close()

	if c.address.Password != "" {
		// One that asks for no password says so of any, and answers all the same.
		if _, err := cn.do(ctx, "AUTH", c.address.Password); err != nil && !isReply(err) {
			return "", err
		}
	}

	v, err := cn.do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", c.address.Master)
	if err != nil {
		return "", fmt.Errorf("%s: %w", sentinel, err)
	}

	at, _ := v.([]any)
	if len(at) != 2 {
		return "", fmt.Errorf("%s knows no master %q", sentinel, c.address.Master)
	}

	host, _ := at[0].(string)
	port, _ := at[1].(string)
	return net.JoinHostPort(host, port), nil
}

// dial connects to a server and says who asks.
func (c *Client) dial(ctx context.Context, to string) (*conn, error) {
	cn, err := c.open(ctx, to)
	if err != nil {
		return nil, err
	}

	var hello [][]string
	switch {
	case c.user != "": // one who has no password takes any
		hello = append(hello, []string{"AUTH", c.user, cmp.Or(c.address.Password, c.user)})
	case c.address.Password != "":
		hello = append(hello, []string{"AUTH", c.address.Password})
	}

	if c.db != "" {
		hello = append(hello, []string{"SELECT", c.db})
	}

	for _, command := range hello {
		if _, err := cn.do(ctx, command...); err != nil {
			_ = cn.Close()
			return nil, fmt.Errorf("%s: %w", to, err)
		}
	}

	return cn, nil
}

func (c *Client) open(ctx context.Context, to string) (*conn, error) {
	var d interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	if c.tls != nil {
		d = &tls.Dialer{Config: c.tls}
	}

	n, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}

	return &conn{Conn: n, r: bufio.NewReaderSize(n, 1<<10)}, nil
}
