package redis

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// Script is a script in Lua that returns whole numbers.
type Script struct{ source, sha1 string }

// NewScript makes a script of its source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source))
	return &Script{source: source, sha1: hex.EncodeToString(sum[:])}
}

// run runs the script with the keys and arguments that the words are: the number of the keys first.
func (s *Script) run(ctx context.Context, cn *conn, words []string) ([]int, error) {
	v, err := cn.do(ctx, append([]string{"EVALSHA", s.sha1}, words...)...)
	var said Error
	if errors.As(err, &said) && strings.HasPrefix(string(said), "NOSCRIPT") {
		v, err = cn.do(ctx, append([]string{"EVAL", s.source}, words...)...)
	}
	if err != nil {
		return nil, err
	}

	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("redis: the script returned %T", v)
	}

	out := make([]int, len(list))
	for i, x := range list {
		if out[i], ok = x.(int); !ok {
			return nil, fmt.Errorf("redis: the script returned a list with %T", x)
		}
	}

	return out, nil
}

// Error is what a server says of a command that it does not do.
type Error string

func (e Error) Error() string { return "redis: " + string(e) }

func isReply(err error) bool {
	var said Error
	return errors.As(err, &said)
}

// elsewhere reports whether another server may do it.
func (e Error) elsewhere() bool {
	word, _, _ := strings.Cut(string(e), " ")
	switch word {
	case "MOVED", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "LOADING":
		return true
	}
	return false
}

// moved returns where the error, which came by the connection, sends the command; empty if nowhere.
// ASK is not followed: while a slot is being moved, a script of which one key is there and another
// is not runs on neither node.
func (e Error) moved(from *conn) string {
	words := strings.Fields(string(e))
	if len(words) != 3 || words[0] != "MOVED" {
		return ""
	}

	address := words[2]
	// Without a host it is another port of the same server.
	host, _, err := net.SplitHostPort(from.RemoteAddr().String())
	if err == nil && strings.HasPrefix(address, ":") {
		address = net.JoinHostPort(host, address[1:])
	}

	return address
}

// do sends a command and reads its reply: a string, an int, nil or a list of these.
func (cn *conn) do(ctx context.Context, words ...string) (any, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, errors.New("redis: a command without an end")
	}
	if err := cn.SetDeadline(deadline); err != nil {
		return nil, err
	}

	b := make([]byte, 0, 256)
	b = fmt.Appendf(b, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}

	if _, err := cn.Write(b); err != nil {
		return nil, err
	}

	return read(cn.r)
}

// maxReply bounds a string and a list in a reply.
const maxReply = 1 << 16

// read reads one reply of the second version of Redis's protocol.
func read(r *bufio.Reader) (any, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}

	text := strings.TrimRight(string(line), "\r\n")
	if text == "" {
		return nil, errors.New("redis: an empty line for a reply")
	}

	kind, text := text[0], text[1:]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return nil, Error(text)
	}

	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n > maxReply && kind != ':':
		return nil, fmt.Errorf("redis: %q is no reply", string(kind)+text)
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		return string(b[:n]), nil
	case kind == '*':
		list := make([]any, n)
		for i := range list {
			if list[i], err = read(r); err != nil {
				// the rest of it is still to come
				return nil, fmt.Errorf("redis: in a list: %v", err)
			}
		}

		return list, nil
	}

	return nil, fmt.Errorf("redis: %q is no reply", string(kind)+text)
}
