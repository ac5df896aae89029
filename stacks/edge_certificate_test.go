package stacks_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/stacks"
	"github.com/codexcontinue/codexcontinue/test/peers"
)

// give writes the certificate and its key where the edge reads them, as an engine does: one file
// after the other, each of which is gone for the pause and then there in part for as long.
func give(t *testing.T, dir, cert, key string, pause time.Duration) {
	t.Helper()
	stack := load(t, "prod", edgeTLS(stacks.EdgeSettings{
		OwnTLS: &stacks.EdgeTLS{Certificate: cert},
	}))
	for _, f := range stack.Service(stacks.Edge).Files {
		if f.Live {
			writeSlowly(t, filepath.Join(dir, filepath.Base(f.Path)), f.Text(key), pause)
		}
	}
}

func writeSlowly(t *testing.T, name, text string, pause time.Duration) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}

	time.Sleep(pause)
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	half := len(text) / 2
	for _, part := range []string{text[:half], text[half:]} {
		time.Sleep(pause)
		if _, err := io.WriteString(f, part); err != nil {
			t.Fatal(err)
		}
	}
}

// startGiven starts an edge that has the certificate and its key in the folder.
func startGiven(t *testing.T, dir, cert, key, upstream string) *tlsEdge {
	t.Helper()
	give(t, dir, cert, key, 0)
	e := startTLS(t, stacks.EdgeSettings{OwnTLS: &stacks.EdgeTLS{Certificate: cert}}, upstream,
		t.TempDir(), "/run/certificate", dir,
		"http://127.0.0.1:8081", "http://127.0.0.1:"+peers.FreePort(t, "127.0.0.1"))

	// It may be healthy a moment before it listens at its other ports.
	for _, client := range []*http.Client{
		e.client(edgeHost, trust(cert)), e.http3Client(edgeHost, trust(cert)),
	} {
		e.await("HTTPS", func() bool {
			resp, err := client.Get("https://" + edgeHost + "/edge/health")
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		})
	}
	return e
}

// trust returns a pool of the certificates in PEM.
func trust(certs ...string) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AppendCertsFromPEM([]byte(c))
	}
	return pool
}

// TestEdgeCertificate serves the certificate that it is given, whatever name is asked for.
func TestEdgeCertificate(t *testing.T) {
	cert, key := certificate(t, edgeHost, "other.example.com")
	e := startGiven(t, t.TempDir(), cert, key, whoAsks(t))
	for _, name := range []string{edgeHost, "other.example.com", "127.0.0.1"} {
		resp, err := e.client(name, trust(cert)).Get("https://" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); got != asked("127.0.0.1", "https", name) {
			t.Errorf("got %s", got)
		}
	}
}

// TestEdgeCertificateReplaced writes other certificates under streams by HTTP/1.1, 2 and 3, which
// go on to their end. Who connects meanwhile is shown the former or the next one, and the last one
// as soon as it is written. The key shows in no log.
func TestEdgeCertificateReplaced(t *testing.T) {
	const streams = 3
	begun, release := make(chan struct{}, streams), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			return
		}

		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			if i == 0 {
				begun <- struct{}{}
			}
			select {
			case <-release:
				fmt.Fprintf(w, "data: end after %d\n\n", i)
				return
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}))
	defer app.Close()

	dir := t.TempDir()
	cert, key := certificate(t, edgeHost)
	e := startGiven(t, dir, cert, key, port(t, app))
	clients := func(roots *x509.CertPool) map[int]*http.Client {
		first := e.client(edgeHost, roots)
		first.Transport.(*http.Transport).Protocols = new(http.Protocols)
		first.Transport.(*http.Transport).Protocols.SetHTTP1(true)
		return map[int]*http.Client{
			1: first, 2: e.client(edgeHost, roots), 3: e.http3Client(edgeHost, roots),
		}
	}

	var read sync.WaitGroup
	for version, client := range clients(trust(cert)) {
		resp, err := client.Get("https://" + edgeHost + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != version {
			t.Errorf("the stream is by %s, want HTTP/%d", resp.Proto, version)
		}

		<-begun
		read.Go(func() {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("HTTP/%d: %v", version, err)
			}
			if text := string(body); text != wholeStream(text) {
				t.Errorf("HTTP/%d: the stream is\n%s", version, text)
			}
		})
	}

	var next, nextKey string
	keys := []string{key}
	for range 3 {
		next, nextKey = certificate(t, edgeHost)
		keys = append(keys, nextKey)
		shown := e.connecting(t, cert, next)
		give(t, dir, next, nextKey, 20*time.Millisecond)
		if n := shown(); n == 0 {
			t.Error("nobody connected while the certificate was replaced")
		}

		der, _ := pem.Decode([]byte(next))
		for version, client := range clients(trust(next)) {
			resp, err := client.Get("https://" + edgeHost)
			if err != nil {
				t.Fatalf("HTTP/%d after the replacement: %v", version, err)
			}
			resp.Body.Close()
			if resp.ProtoMajor != version || !bytes.Equal(resp.TLS.PeerCertificates[0].Raw, der.Bytes) {
				t.Errorf("%s shows another certificate than the one that was written", resp.Proto)
			}
		}
		cert = next
	}

	close(release)
	read.Wait()
	e.stop(time.Minute)
	for _, key := range keys {
		lines := strings.Split(key, "\n")
		if strings.Contains(e.out.String(), lines[1]) {
			t.Error("the log shows a key")
		}
	}
}

// wholeStream returns the stream that ends as the text does.
func wholeStream(text string) string {
	var last int
	at := strings.LastIndex(text, "data: end after ")
	if at < 0 {
		return "a stream with an end"
	}
	if _, err := fmt.Sscanf(text[at:], "data: end after %d", &last); err != nil {
		return err.Error()
	}

	var out strings.Builder
	for i := range last + 1 {
		fmt.Fprintf(&out, "data: %d\n\n", i)
	}
	fmt.Fprintf(&out, "data: end after %d\n\n", last)
	return out.String()
}

// connecting has two clients connect again and again, who trust the certificates, until the
// function that it returns is called. That returns how often they did.
func (e *tlsEdge) connecting(t *testing.T, certs ...string) (stop func() int) {
	config := &tls.Config{RootCAs: trust(certs...), ServerName: edgeHost}
	done, n := make(chan struct{}), make([]int, 2)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for {
				conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", e.https), config)
				if err != nil {
					t.Errorf("a connection while the certificate is replaced: %v", err)
					return
				}
				conn.Close()
				n[i]++
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}

	return func() int {
		close(done)
		all.Wait()
		return n[0] + n[1]
	}
}

// TestEdgeKey refuses a key that the edge could not show its certificate with.
func TestEdgeKey(t *testing.T) {
	cert, key := certificate(t, edgeHost)
	_, other := certificate(t, edgeHost)
	s := load(t, "prod", edgeTLS(stacks.EdgeSettings{
		OwnTLS: &stacks.EdgeTLS{Certificate: cert},
	}))

	block, _ := pem.Decode([]byte(key))
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	p256, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b pem.Block) string { return string(pem.EncodeToMemory(&b)) }
	parameters := encode(pem.Block{Type: "EC PARAMETERS", Bytes: p256})
	ec := encode(pem.Block{Type: "EC PRIVATE KEY", Bytes: der})

	for _, good := range []string{key, key + "\n", strings.TrimSpace(key), ec, parameters + ec} {
		if err := s.CheckSecret(stacks.TLSKey, good); err != nil {
			t.Error(err)
		}
	}

	const setIt = ": set it with `pulumi"
	encrypted := map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}
	for name, tt := range map[string]struct{ bad, want, todo string }{
		"another": {
			other, "is not the key of edge.tls.certificate: tls: private key does not match",
			": set both, the key with `pulumi",
		},
		"no key":          {"correct-horse", "holds no key in PEM", setIt},
		"the certificate": {cert + key, "holds a CERTIFICATE beside the key", setIt},
		"with a passphrase": {
			encode(pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: block.Bytes}),
			"has a passphrase: remove it with `openssl pkey ", "then set it with `pulumi",
		},
		"with a passphrase, as of old": {
			parameters + encode(pem.Block{Type: "EC PRIVATE KEY", Headers: encrypted, Bytes: der}),
			"has a passphrase: remove it with `openssl pkey ", "then set it with `pulumi",
		},
		"parameters before another form": {
			parameters + key, "holds EC PARAMETERS before a PRIVATE KEY, which is no EC PRIVATE KEY",
			": leave out EC PARAMETERS, and set it with `pulumi",
		},
		"parameters alone": {
			parameters, "is not the key of edge.tls.certificate: tls: ", ": set both",
		},
	} {
		err := s.CheckSecret(stacks.TLSKey, tt.bad)
		if err == nil || !strings.HasPrefix(err.Error(), "codexcontinue:tlsKey: "+tt.want) ||
			!strings.Contains(err.Error(), tt.todo) ||
			!strings.HasSuffix(err.Error(), " config set -s prod --secret codexcontinue:tlsKey < key.pem`") {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
			continue
		}
		for line := range strings.Lines(tt.bad) {
			line = strings.TrimSpace(line)
			if line != "" && strings.Contains(err.Error(), line) {
				t.Errorf("%s: the error shows %s", name, line)
			}
		}
	}
}
