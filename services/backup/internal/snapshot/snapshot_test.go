package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/redisclient"
	"github.com/codexcontinue/codexcontinue/services/internal/redistest"
	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// restored starts a Redis that begins with the RDB file, as start.sh has it, and returns it.
func restored(t *testing.T, rdb []byte) *redistest.Server {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "appendonlydir")
	const base = "appendonly.aof.1.base.rdb"
	err := errors.Join(os.Mkdir(at, 0o700),
		os.WriteFile(filepath.Join(at, base), rdb, 0o600),
		os.WriteFile(filepath.Join(at, "appendonly.aof.manifest"),
			[]byte("file "+base+" seq 1 type b\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return redistest.StartOn(t, dir)
}

// TestCopy copies a Redis that is written to, as the service's user. All that was acknowledged
// before is in the copy, and what was written in order ends at one place.
func TestCopy(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backup)
	ctx := t.Context()
	c := s.Client(t)
	var acknowledged atomic.Int64
	writing, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		for n := int64(1); writing.Err() == nil; n++ {
			if err := c.RPush(ctx, "list", fmt.Sprint(n, strings.Repeat("x", 1000))).Err(); err != nil {
				done <- err
				return
			}
			acknowledged.Store(n)
		}
		done <- nil
	}()
	for acknowledged.Load() < 2000 {
		time.Sleep(time.Millisecond)
	}

	before := acknowledged.Load()
	var rdb bytes.Buffer
	if err := Copy(ctx, redisclient.Address{URL: s.URL}, &rdb); err != nil {
		t.Fatal(err)
	}
	after := acknowledged.Load()
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	check := exec.Command(peers.Find(t, "redis", "redis-check-rdb"), file(t, rdb.Bytes()))
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	copied := restored(t, rdb.Bytes()).Client(t)
	n, err := copied.LLen(ctx, "list").Result()
	if err != nil || n < before || n > after+1 {
		t.Fatalf("it has %d entries, %v: %d were there before, %d after", n, err, before, after)
	}
	for _, i := range []int64{0, n / 2, n - 1} {
		v, err := copied.LIndex(ctx, "list", i).Result()
		if err != nil || !strings.HasPrefix(v, fmt.Sprint(i+1, "x")) {
			t.Errorf("entry %d is %.10q, %v", i, v, err)
		}
	}
	t.Logf("%d entries before, %d in the copy, %d after; %d bytes", before, n, after, rdb.Len())
}

// TestFromDisk copies a Redis that makes the copy on its disk first, and says how long it is.
func TestFromDisk(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backup, "--repl-diskless-sync", "no")
	if err := s.Client(t).Set(t.Context(), "a", strings.Repeat("b", 200_000), 0).Err(); err != nil {
		t.Fatal(err)
	}

	var rdb bytes.Buffer
	if err := Copy(t.Context(), redisclient.Address{URL: s.URL}, &rdb); err != nil {
		t.Fatal(err)
	}
	if v, err := restored(t, rdb.Bytes()).Client(t).Get(t.Context(), "a").Result(); len(v) != 200_000 {
		t.Errorf("%d bytes, %v", len(v), err)
	}
}

// TestUser: the user may copy, and neither read a key nor change one.
func TestUser(t *testing.T) {
	s := redistest.StartAs(t, stacks.Backup)
	o, err := redisclient.Address{URL: s.URL}.Options()
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), redisclient.Address{URL: s.URL})
	if err != nil {
		t.Fatalf("%v as %s", err, o.Username)
	}
	defer c.Close()
	for _, words := range [][]string{
		{"GET", "owner:a:usage"}, {"SET", "a", "b"}, {"RPUSH", "{audit}:2026-11-26", "x"},
		{"UNLINK", "{audit}:days"}, {"KEYS", "*"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"},
		{"REPLICAOF", "127.0.0.1", "1"}, {"ACL", "LIST"}, {"LRANGE", "conversation:a:messages", "0", "1"},
	} {
		if err := c.ok(words...); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s: %v", words[0], err)
		}
	}
}

// TestRefused: an error of Redis, and an end that comes too early, are errors.
func TestRefused(t *testing.T) {
	s := redistest.StartAs(t, stacks.Gate)
	err := Copy(t.Context(), redisclient.Address{URL: s.URL}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("another user: %v", err)
	}

	mark := strings.Repeat("m", markLength)
	for answer, want := range map[string]string{
		"\n\n$EOF:" + mark + "\r\nREDIS0010abc" + mark:  "",
		"$12\r\nREDIS0010abc":                           "",
		"$EOF:" + mark + "\r\nREDIS0010abc" + mark[1:]:  "unexpected EOF",
		"$13\r\nREDIS0010abc":                           "EOF",
		"$EOF:" + mark[1:] + "\r\nREDIS0010" + mark[1:]: "it answers",
		"$x\r\n":                        "it answers",
		"$0\r\n":                        "no RDB file",
		"$5\r\nHELLO":                   "no RDB file",
		"-LOADING it loads\r\n":         "LOADING it loads",
		"$EOF:" + mark + "\r\n" + mark:  "no RDB file",
		"+FULLRESYNC\r\n$5\r\nREDIS000": "it answers",
	} {
		err := Copy(t.Context(), redisclient.Address{URL: "redis://" + answering(t, answer)}, io.Discard)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", answer, err, want)
		}
	}
}

// TestMark finds the mark however it is cut.
func TestMark(t *testing.T) {
	mark := strings.Repeat("ab", markLength/2)
	content := strings.Repeat("abb", 50_000) + "a"
	for _, from := range []io.Reader{
		strings.NewReader(content + mark), iotest.OneByteReader(strings.NewReader(content + mark)),
		iotest.HalfReader(strings.NewReader(content + mark)),
		iotest.DataErrReader(strings.NewReader(content + mark)),
	} {
		var b bytes.Buffer
		if err := copyTo(&b, from, []byte(mark)); err != nil || b.String() != content {
			t.Errorf("%d bytes of %d, %v", b.Len(), len(content), err)
		}
	}
}

// answering returns the address of a server that answers REPLCONF with OK and SYNC with the text.
func answering(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 1024)
		seen := ""
		for !strings.Contains(seen, "SYNC") {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if strings.Contains(string(b[:n]), "REPLCONF") {
				_, _ = io.WriteString(c, "+OK\r\n")
			}
			seen += string(b[:n])
		}
		_, _ = io.WriteString(c, text)
	}()
	return l.Addr().String()
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.rdb")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
