package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codexcontinue/codexcontinue/test/peers"
)

// pulls downloads the base model of that name, which is a model of the weights, and puts it into the
// stack. Nothing is left of the download.
func (c *checkout) pulls(t *testing.T, stack, name, weights string) {
	t.Helper()
	cache := t.TempDir()
	d := c.with("XDG_CACHE_HOME=" + cache)
	d = d.with(inPlaceOf(t, "registry.ollama.ai", serveModel(t, weights))...)
	d.must(t, 10*time.Minute, "bin/codexctl", "model", "pull", stack, name)

	left, err := filepath.Glob(filepath.Join(cache, "codexcontinue", "models", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("of the download %q is left, %v", left, err)
	}
}

// with returns the checkout with more environment.
func (c *checkout) with(environment ...string) *checkout {
	d := *c
	d.env = append(slices.Clone(c.env), environment...)
	return &d
}

// inPlaceOf serves the host by HTTPS, and returns the environment of a program for which it is that:
// a proxy leads there, and nowhere else.
func inPlaceOf(t *testing.T, host string, h http.Handler) (environment []string) {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	cert, key := peers.Certificate(t, host)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)

	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != host+":443" {
			http.Error(w, "this leads to "+host+" alone", http.StatusForbidden)
			return
		}
		to, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()

		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()

		fmt.Fprint(from, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(to, buffered)
		_, _ = io.Copy(from, to) // until one of them closes its connection
	}))
	t.Cleanup(proxy.Close)

	trusted := filepath.Join(t.TempDir(), "trusted.pem")
	if err := os.WriteFile(trusted, []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"HTTPS_PROXY=" + proxy.URL, "SSL_CERT_FILE=" + trusted}
}

// serveModel answers for a model of the weights by whatever name, as a registry does.
func serveModel(t *testing.T, weights string) http.HandlerFunc {
	t.Helper()
	content, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}

	type part struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int    `json:"size"`
	}

	blobs := map[string][]byte{}
	add := func(kind string, content []byte) part {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
		blobs[digest] = content
		return part{kind, digest, len(content)}
	}

	manifest, err := json.Marshal(map[string]any{
		"config": add("application/vnd.docker.container.image.v1+json", []byte("{}")),
		"layers": []part{add("application/vnd.ollama.image.model", content)},
	})
	if err != nil {
		t.Fatal(err)
	}

	return func(w http.ResponseWriter, r *http.Request) {
		what := blobs[path.Base(r.URL.Path)]
		if strings.HasSuffix(r.URL.Path, "/manifests/latest") {
			what = manifest
		}

		if what == nil {
			http.NotFound(w, r)
			return
		}

		_, _ = w.Write(what)
	}
}
