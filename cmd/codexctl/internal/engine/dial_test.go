package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/codexcontinue/codexcontinue/cmd/codexctl/internal/running"
)

// TestServe runs a command whose container is used while it runs, and is gone then.
func TestServe(t *testing.T) {
	f, e := startRunner(t)
	c := command(nil, nil)
	c.Env, c.Network = []string{"HOME=/ollama"}, "none"
	failed := errors.New("of no use")
	err := e.Serve(t.Context(), c, func(in running.Replica) error {
		select {
		case <-f.started:
		default:
			t.Error("it does not run")
		}

		if in.ID != "c1" || len(f.removed) > 0 {
			t.Errorf("%+v is to be used, removed %q", in, f.removed)
		}

		return failed
	})
	if !errors.Is(err, failed) || !slices.Equal(f.removed, []string{"containers/c1"}) {
		t.Errorf("got %v, removed %q", err, f.removed)
	}

	var made struct {
		Env        []string
		HostConfig struct{ NetworkMode string }
	}

	if err := json.Unmarshal([]byte(f.made["containers/create"]), &made); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(made.Env, c.Env) || made.HostConfig.NetworkMode != "none" {
		t.Errorf("made %+v", made)
	}
}

// echo is an engine whose commands write in capitals what they are given, until it ends. It writes
// said to their standard error at the end.
type echo struct{ said string }

func (f echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/containers/c1/exec"):
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"Id":"x1"}`)
	case strings.HasSuffix(r.URL.Path, "/exec/x1/start"):
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		f.answer(conn, buffered)
	}
}

func (f echo) answer(conn net.Conn, in io.Reader) {
	text := make([]byte, 16)
	for f.said == "" {
		n, err := in.Read(text)
		if err != nil {
			return
		}
		writeFrame(conn, stdcopy.Stdout, strings.ToUpper(string(text[:n])))
	}

	writeFrame(conn, stdcopy.Stderr, f.said+"\n")
}

// writeFrame writes a part of one of a command's streams as the engine does.
func writeFrame(w io.Writer, stream stdcopy.StdType, text string) {
	head := [8]byte{0: byte(stream)}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	fmt.Fprintf(w, "%s%s", head[:], text)
}

func TestDial(t *testing.T) {
	in, relay := running.Replica{ID: "c1", Name: "ollama"}, []string{"/drain", "relay", "11434"}
	c, err := connect(t, echo{}).Dial(t.Context(), in, relay)
	if err != nil {
		t.Fatal(err)
	}

	got := make([]byte, 5)
	for _, word := range []string{"hello", "again"} {
		if _, err := c.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || string(got) != strings.ToUpper(word) {
			t.Errorf("got %q, %v", got, err)
		}
	}

	if err := c.Close(); err != nil {
		t.Error(err)
	}

	c, err = connect(t, echo{said: "drain: connection refused"}).Dial(t.Context(), in, relay)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	if _, err := c.Read(got); err == nil || err.Error() != "drain: connection refused" {
		t.Errorf("a command that fails: %v", err)
	}
}

// printer is an engine whose command prints that many lines, and still runs if its output was cut.
type printer struct {
	lines int
	cut   bool
}

func (f printer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/exec/x1/json") {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"ID":"x1","Running":%t,"ExitCode":0}`, f.cut)
		return
	}

	if !strings.HasSuffix(r.URL.Path, "/exec/x1/start") {
		echo{}.ServeHTTP(w, r)
		return
	}

	_, _ = io.Copy(io.Discard, r.Body)
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()

	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	for range f.lines {
		writeFrame(conn, stdcopy.Stdout, strings.Repeat("x", 1023)+"\n")
	}
	writeFrame(conn, stdcopy.Stderr, "said\n")
}

// TestStream reads an output of more than Exec gives, apart from what is said of it, and finds that
// it was cut.
func TestStream(t *testing.T) {
	in := running.Replica{ID: "c1", Name: "gate-1"}
	var out, said strings.Builder
	e := connect(t, printer{lines: 2048})
	code, err := e.Stream(t.Context(), in, []string{"/gate"},
		running.Streams{Out: &out, Err: &said})
	if err != nil || code != 0 || out.Len() != 2<<20 || said.String() != "said\n" {
		t.Errorf("code %d, %v: %d bytes, said %q", code, err, out.Len(), &said)
	}

	e = connect(t, printer{lines: 1, cut: true})
	_, err = e.Stream(t.Context(), in, []string{"/gate"},
		running.Streams{Out: io.Discard, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "was cut") {
		t.Errorf("an output that was cut: %v", err)
	}
}
