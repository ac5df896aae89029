package mtls_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/services/contract"
	"github.com/codexcontinue/codexcontinue/services/internal/hop"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls"
	"github.com/codexcontinue/codexcontinue/services/internal/mtls/mtlstest"
	"github.com/codexcontinue/codexcontinue/services/internal/server"
	"github.com/codexcontinue/codexcontinue/stacks/authority"
)

// serve serves as the service with the files, and returns the address.
func serve(t *testing.T, v contract.TLS) string {
	t.Helper()
	who, err := mtls.Open(v)
	if err != nil {
		t.Fatal(err)
	}

	s := server.New("backend", slog.New(slog.DiscardHandler), time.Second)
	s.Secure(who.Server())
	s.Liveness("/health")
	s.Readiness("/ready", nil)
	s.HandleFunc("POST /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })

	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	return l.Addr().String()
}

// call calls the server, by the name of the service that is meant, and returns what is wrong.
func call(t *testing.T, who *mtls.Identity, at, name string) error {
	t.Helper()
	return callFor(t, 2*time.Second, who, at, name)
}

// callFor is call for so long: it tries again what fails until then.
func callFor(t *testing.T, most time.Duration, who *mtls.Identity, at, name string) error {
	t.Helper()
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}

	config := who.Client()
	config.ServerName = name
	c := hop.New(name, "https://127.0.0.1:"+port)
	c.Secure(config)
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	resp, err := c.Do(ctx, http.MethodPost, "/", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if b, err := io.ReadAll(resp.Body); string(b) != "done" {
		t.Errorf("%q, %v", b, err)
	}

	return nil
}

// TestCall has servers and callers of all kinds, on both sides of a rotation, meet.
func TestCall(t *testing.T) {
	text := mtlstest.Now()
	after, err := authority.Rotate(text, time.Now())
	if err != nil {
		t.Fatal(err)
	}

	old := authority.New(time.Now().Add(-authority.Life - 48*time.Hour))
	for name, tt := range map[string]struct {
		server, caller string // of which authority
		as, to         string // the names of the caller, and of whom it means
		want           string // "" for an answer
	}{
		"a caller":               {text, text, "frontend", "backend", ""},
		"another service":        {text, text, "edge", "backend", "remote error: tls: "},
		"another name":           {text, text, "frontend", "ml", "certificate is valid for backend"},
		"foreign caller":         {text, mtlstest.Now(), "frontend", "backend", "unknown authority"},
		"expired":                {old, old, "frontend", "backend", "has expired"},
		"server rotated first":   {after, text, "frontend", "backend", ""},
		"caller rotated first":   {text, after, "frontend", "backend", ""},
		"both rotated":           {after, after, "frontend", "backend", ""},
		"itself, for its health": {text, text, "backend", "backend", ""},
	} {
		t.Run(name, func(t *testing.T) {
			most := 2 * time.Second // what a busy machine takes to fail once
			if tt.want == "" {
				most = 20 * time.Second
			}

			at := serve(t, mtlstest.Files(t, tt.server, "backend", "frontend"))
			err := callFor(t, most, mtlstest.New(t, tt.caller, tt.as), at, tt.to)
			if (err == nil) != (tt.want == "") ||
				err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestForeignServer holds that a caller does not talk to somebody else's server, nor that to it.
func TestForeignServer(t *testing.T) {
	ours, theirs := mtlstest.Now(), mtlstest.Now()
	mixed := mtlstest.Files(t, theirs, "backend", "frontend")
	mixed.TLSAuthoritiesFile = mtlstest.Files(t, ours, "backend").TLSAuthoritiesFile
	at := serve(t, mixed) // believes the caller, who does not believe it
	err := call(t, mtlstest.New(t, ours, "frontend"), at, "backend")
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a foreign server: %v", err)
	}

	mixed = mtlstest.Files(t, ours, "frontend")
	mixed.TLSCertificateFile = mtlstest.Files(t, theirs, "frontend").TLSCertificateFile
	caller, err := mtls.Open(mixed) // believes the server, which does not believe it
	if err != nil {
		t.Fatal(err)
	}

	at = serve(t, mtlstest.Files(t, ours, "backend", "frontend"))
	// It shows no certificate, as the server names the authorities whose certificates it takes.
	if err := call(t, caller, at, "backend"); err == nil ||
		!strings.Contains(err.Error(), "Show a certificate of the stack's authority") {
		t.Errorf("a foreign caller: %v", err)
	}
}

// TestStranger holds that who shows no certificate is answered probes alone, and by TLS 1.3 alone.
func TestStranger(t *testing.T) {
	at := serve(t, mtlstest.Files(t, mtlstest.Now(), "backend", "frontend"))
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // as a kubelet
	}}
	for path, want := range map[string]int{
		"/health": 200, "/ready": 200, "/": 403, "/metrics": 403, "/debug/pprof/": 403, "/health/": 403,
	} {
		resp, err := client.Get("https://" + at + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}

	_, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
}

func TestPlainText(t *testing.T) {
	at := serve(t, mtlstest.Files(t, mtlstest.Now(), "backend", "frontend"))
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: backend\r\nContent-Length: 0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 400 ||
		!strings.Contains(string(b), "HTTP request to an HTTPS server") {
		t.Errorf("%s: %s", resp.Status, b)
	}
}

// TestCommands runs the commands of a service's container.
func TestCommands(t *testing.T) {
	v := mtlstest.Files(t, mtlstest.Now(), "backend", "frontend")
	at := serve(t, v)
	environ := []string{
		"LISTEN_ADDR=" + at, "TLS_CERTIFICATE_FILE=" + v.TLSCertificateFile,
		"TLS_AUTHORITIES_FILE=" + v.TLSAuthoritiesFile,
	}
	for _, url := range []string{"", "https://" + at + "/ready"} {
		if err := server.Healthcheck(t.Context(), environ, "/health", url); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}

	var out strings.Builder
	c := server.Command{}
	if err := c.Run(t.Context(), []string{"certificate"}, environ, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(out.String()))
	if left := time.Until(until); err != nil || left > authority.Life ||
		left < authority.Life-48*time.Hour {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := c.Run(t.Context(), []string{"certificate"}, nil, &out, io.Discard); err == nil {
		t.Error("a service without a certificate says until when it is good")
	}
}

func TestOpen(t *testing.T) {
	if i, err := mtls.Open(contract.TLS{}); i != nil || err != nil || i.Server() != nil ||
		i.Client() != nil {
		t.Errorf("without files: %v, %v", i, err)
	}

	v := mtlstest.Files(t, mtlstest.Now(), "backend")
	if err := os.WriteFile(v.TLSCertificateFile, []byte("The value is none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mtls.Open(v); err == nil ||
		!strings.HasPrefix(err.Error(), "TLS_CERTIFICATE_FILE: ") ||
		!strings.Contains(err.Error(), "codexctl certificates new") {
		t.Errorf("a file that holds none: %v", err)
	}
}
