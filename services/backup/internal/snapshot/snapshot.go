// Package snapshot copies all that a Redis holds while it runs, as a replica would: Redis forks, and
// the copy is of that moment. It needs a user who may SYNC and REPLCONF, and no room on Redis' disk.
package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
)

const (
	// silence is how long Redis may send nothing. While it forks, and waits for other replicas, it
	// sends a line break every ten seconds.
	silence = 2 * time.Minute

	// markLength is the length of the mark that ends a copy whose size Redis does not know before.
	markLength = 40
)

// Copy writes what the Redis holds, as an RDB file. All that Redis had stored when Copy was called
// is in it. It is whole only if there is no error.
func Copy(ctx context.Context, at redisclient.Address, to io.Writer) error {
	c, err := dial(ctx, at)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	defer c.Close()

	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err = c.copy(to); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: copy: %w", at, err)
	}
	return nil
}

// conn is a connection to Redis.
type conn struct {
	net.Conn
	r *bufio.Reader
}

// dial connects and signs in.
func dial(ctx context.Context, at redisclient.Address) (*conn, error) {
	o, err := at.Options()
	if err != nil {
		return nil, err
	}
	if o.IsClusterMode || o.MasterName != "" {
		return nil, errors.New("only a single Redis can be copied")
	}

	d := net.Dialer{Timeout: o.DialTimeout}
	open := d.DialContext
	if o.TLSConfig != nil {
		open = (&tls.Dialer{NetDialer: &d, Config: o.TLSConfig}).DialContext
	}
	nc, err := open(ctx, "tcp", o.Addrs[0])
	if err != nil {
		return nil, err
	}

	c := &conn{nc, bufio.NewReaderSize(nc, 64<<10)}
	if o.Username != "" {
		err = c.ok("AUTH", o.Username, o.Password)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// send sends a command.
func (c *conn) send(words ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	_, err := io.WriteString(c, b.String())
	return err
}

// Read reads what Redis sends, which is not silent for too long.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// line reads a line that says something. An error of Redis is one.
func (c *conn) line() (string, error) {
	for {
		if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return "", err
		}
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}

		line = strings.TrimRight(line, "\r\n")
		if text, failed := strings.CutPrefix(line, "-"); failed {
			return "", errors.New(text)
		}
		if line != "" {
			return line, nil
		}
	}
}

// ok sends a command that Redis answers with OK.
func (c *conn) ok(words ...string) error {
	err := c.send(words...)
	if err != nil {
		return err
	}
	line, err := c.line()
	if err == nil && line != "+OK" {
		err = fmt.Errorf("%s: it answers %q", words[0], line)
	}
	return err
}

// copy writes the RDB file.
func (c *conn) copy(to io.Writer) error {
	// Redis sends the file from memory then, and nothing after it.
	for _, words := range [][]string{{"capa", "eof"}, {"rdb-only", "1"}} {
		if err := c.ok(append([]string{"REPLCONF"}, words...)...); err != nil {
			return err
		}
	}
	if err := c.send("SYNC"); err != nil {
		return err
	}

	line, err := c.line()
	if err != nil {
		return err
	}

	magic := &magic{to: to}
	mark, unknown := strings.CutPrefix(line, "$EOF:")
	size, err := strconv.ParseInt(strings.TrimPrefix(line, "$"), 10, 64)
	switch {
	case unknown && len(mark) == markLength:
		err = copyTo(magic, io.MultiReader(buffered(c.r), c), []byte(mark))
	case unknown || err != nil:
		err = fmt.Errorf("it answers %q", line)
	default:
		_, err = io.CopyN(magic, io.MultiReader(buffered(c.r), c), size)
	}
	if err == nil && !magic.seen {
		err = errNoRDB
	}
	return err
}

// buffered returns what the reader has read already.
func buffered(r *bufio.Reader) io.Reader {
	b, _ := r.Peek(r.Buffered())
	return bytes.NewReader(b)
}

// copyTo copies until the mark, which ends what is sent before the connection ends.
func copyTo(to io.Writer, from io.Reader, mark []byte) error {
	buf := make([]byte, 64<<10)
	held := 0 // bytes that may be of the mark
	for {
		n, err := from.Read(buf[held:])
		have := buf[:held+n]
		if bytes.HasSuffix(have, mark) {
			_, err := to.Write(have[:len(have)-len(mark)])
			return err
		}

		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}

		held = min(len(have), len(mark))
		if _, err := to.Write(have[:len(have)-held]); err != nil {
			return err
		}
		copy(buf, have[len(have)-held:])
	}
}

var errNoRDB = errors.New("what it sends is no RDB file")

// magic checks that what is written begins as an RDB file does.
type magic struct {
	to    io.Writer
	begin []byte
	seen  bool
}

func (m *magic) Write(b []byte) (int, error) {
	const want = "REDIS"
	if !m.seen {
		m.begin = append(m.begin, b[:min(len(b), len(want)-len(m.begin))]...)
		if !strings.HasPrefix(want, string(m.begin)) {
			return 0, errNoRDB
		}
		m.seen = len(m.begin) == len(want)
	}
	return m.to.Write(b)
}
