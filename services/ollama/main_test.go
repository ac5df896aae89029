package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// TestMain is, for the tests' own processes, drain and a server that it runs: that answers a line
// with each line until its client goes, and ends at once on SIGTERM, as Ollama does.
func TestMain(m *testing.M) {
	switch os.Getenv("DRAIN_TEST") {
	case "drain":
		os.Setenv("DRAIN_TEST", "server")
		main()
	case "server":
		l, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}

		fmt.Println("listening")
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(4)
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	default:
		os.Exit(m.Run())
	}
}

// process is drain, and what it says.
type process struct {
	*exec.Cmd
	said *bufio.Reader
}

// start runs drain with the server on a free port.
func start(t *testing.T) (cmd *process, address string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("connections are seen on Linux only, which is what the image runs on")
	}

	port := peers.FreePort(t, "127.0.0.1")
	address = "127.0.0.1:" + port
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	cmd = &process{Cmd: exec.Command(self, port, self, port)}
	cmd.Env = append(os.Environ(), "DRAIN_TEST=drain")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}

	cmd.said = bufio.NewReader(said)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listening\n" {
		t.Fatalf("the server says %q (%v)", line, err)
	}

	return cmd, address
}

// echo sends a line over the connection and wants it back.
func echo(t *testing.T, c net.Conn, line string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatal(err)
	}

	if got, err := bufio.NewReader(c).ReadString('\n'); err != nil ||
		strings.TrimSpace(got) != line {
		t.Fatalf("got %q (%v), want %q", got, err, line)
	}
}

// signalled stops it, and returns when it knows.
func signalled(t *testing.T, cmd *process) <-chan error {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	if line, err := cmd.said.ReadString('\n'); err != nil ||
		!strings.Contains(line, "stopping when") {
		t.Fatalf("it says %q (%v)", line, err)
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended
}

func wantEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		// The server dies of the signal that it is sent.
		if want := fmt.Sprintf("exit status %d", 128+int(syscall.SIGTERM)); err == nil ||
			err.Error() != want {
			t.Errorf("it ended with %v, want %s", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestDrain(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		cmd, address := start(t)
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}

		echo(t, c, "before")
		c.Close()
		wantEnd(t, signalled(t, cmd))
	})

	t.Run("busy", func(t *testing.T) {
		cmd, address := start(t)
		first, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}

		echo(t, first, "before")
		ended := signalled(t, cmd)
		// The request that is there goes on, and one that comes a moment later is taken.
		echo(t, first, "after")
		second, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}

		echo(t, second, "late")
		first.Close()
		echo(t, second, "still there")
		select {
		case err := <-ended:
			t.Fatalf("it ended with a request that it has: %v", err)
		default:
		}

		second.Close()
		wantEnd(t, ended)
	})

	t.Run("it tells", func(t *testing.T) {
		cmd, address := start(t)
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}

		echo(t, c, "before")
		told := func() bool {
			host, port, _ := net.SplitHostPort(address)
			n, _ := strconv.Atoi(port)
			c, err := net.DialTimeout("tcp",
				net.JoinHostPort(host, strconv.Itoa(n+1)), 10*time.Second)
			if err == nil {
				c.Close()
			}

			return err == nil
		}
		if told() {
			t.Skip("somebody has the port after the server's")
		}

		ended := signalled(t, cmd)
		for deadline := time.Now().Add(10 * time.Second); !told(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody is told that it stops")
			}
		}

		c.Close()
		wantEnd(t, ended)
		if told() {
			t.Error("it tells after its end")
		}
	})

	t.Run("a second signal", func(t *testing.T) {
		cmd, address := start(t)
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()

		echo(t, c, "before")
		ended := signalled(t, cmd)
		echo(t, c, "after")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}

		wantEnd(t, ended)
	})
}

// TestRefused: what it is given is checked before anything starts, and the
// server's own end is its end.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "usage: drain PORT COMMAND"},
		{[]string{"11434"}, 2, "usage: drain PORT COMMAND"},
		{[]string{"port", "true"}, 2, `"port" is no port`},
		{[]string{"70000", "true"}, 2, `"70000" is no port`},
		{[]string{"11434", "/nowhere/ollama"}, 127, "no such file"},
		{[]string{"11434", "sh", "-c", "exit 7"}, 7, ""},
		{[]string{"11434", "true"}, 0, ""},
	} {
		code, err := run(tc.args)
		if code != tc.code || (err == nil) != (tc.want == "") ||
			err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %d, %v; want %d, %q", tc.args, code, err, tc.code, tc.want)
		}
	}
}

// TestRelay: what comes in reaches the server, and what it answers comes out, until both are done.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		text, _ := io.ReadAll(c) // to the end of what is sent
		fmt.Fprintf(c, "got %d bytes", len(text))
		c.Close()
	}()

	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	var out strings.Builder
	sent := strings.Repeat("weights ", 1<<17)
	if err := relay(port, strings.NewReader(sent), &out); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("got %d bytes", len(sent)); out.String() != want {
		t.Errorf("answered %q, want %q", out.String(), want)
	}

	l.Close()
	if code, err := run([]string{"relay", port}); code != 1 || err == nil {
		t.Errorf("to a port that nobody listens on: %d, %v", code, err)
	}
}

// TestRead writes a file as it is, and says which is not there.
func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, []byte("weights\x00"), 0o600); err != nil {
		t.Fatal(err)
	}

	var out strings.Builder
	if err := read(file, &out); err != nil || out.String() != "weights\x00" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if code, err := run([]string{"read", file + ".none"}); code != 1 || err == nil {
		t.Errorf("a file that is not there: %d, %v", code, err)
	}
}
