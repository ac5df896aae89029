package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls/mtlstest"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// startFront runs drain with the server behind TLS, for ml alone.
func startFront(t *testing.T, text string) (cmd *process, address string) {
	t.Helper()
	port, behind := peers.FreePort(t, "127.0.0.1"), peers.FreePort(t, "127.0.0.1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	v := mtlstest.Files(t, text, "ollama")
	cmd = &process{Cmd: exec.Command(self, port, self, behind)}
	cmd.Env = append(os.Environ(), "DRAIN_TEST=drain", "OLLAMA_HOST=127.0.0.1:"+behind,
		"TLS_CERTIFICATE_FILE="+v.TLSCertificateFile, "TLS_AUTHORITIES_FILE="+v.TLSAuthoritiesFile,
		"TLS_CALLERS=ml")
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

	return cmd, "127.0.0.1:" + port
}

// dial connects as the service, and returns what is said of that.
func dial(t *testing.T, who *mtls.Identity, address, name string) (net.Conn, error) {
	t.Helper()
	config := who.Client()
	config.ServerName = name
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}

	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(c, "hello")
	_, err = c.Read(make([]byte, 6)) // a client learns here that it is refused
	return c, err
}

func TestFront(t *testing.T) {
	text := mtlstest.Now()
	cmd, address := startFront(t, text)
	c, err := dial(t, mtlstest.New(t, text, "ml"), address, "ollama")
	if err != nil {
		t.Fatal(err)
	}

	for name, tt := range map[string]struct {
		text, as, to, want string
	}{
		"another service": {text, "backend", "ollama", "remote error: tls: "},
		"another stack":   {mtlstest.Now(), "ml", "ollama", "unknown authority"},
		"another name":    {text, "ml", "redis", "certificate is valid for ollama"},
	} {
		_, err := dial(t, mtlstest.New(t, tt.text, tt.as), address, tt.to)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if resp, err := http.Get("http://" + address); err == nil {
		t.Errorf("plain text: %s", resp.Status)
		resp.Body.Close()
	}

	// What comes in the clear waits in nobody's way, and the request that is there is waited for.
	echo(t, c, "still here")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for line := ""; !strings.Contains(line, "stopping when"); {
		if line, err = cmd.said.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	echo(t, c, "after the signal")
	c.Close()
	wantEnd(t, ended)
}

// TestFrontHangsUp holds that a client that goes ends its connection to the server, by which Ollama
// knows that nobody wants the answer.
func TestFrontHangsUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	text := mtlstest.Now()
	v := mtlstest.Files(t, text, "ollama")
	t.Setenv("OLLAMA_HOST", l.Addr().String())
	t.Setenv("TLS_CERTIFICATE_FILE", v.TLSCertificateFile)
	t.Setenv("TLS_AUTHORITIES_FILE", v.TLSAuthoritiesFile)
	t.Setenv("TLS_CALLERS", "ml")
	f, err := newFront(0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.listener.Close()
	go f.serve()

	config := mtlstest.New(t, text, "ml").Client()
	config.ServerName = "ollama"
	client, err := tls.Dial("tcp", f.listener.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}

	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	client.Close()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("the server still has a client: %d, %v", n, err)
	}
}
