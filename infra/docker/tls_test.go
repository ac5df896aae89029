package docker_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codexcontinue/codexcontinue/infra/plan"
	"github.com/codexcontinue/codexcontinue/stacks"
)

// endsTLS are the forms in which an edge gets its certificate.
var endsTLS = map[string]stacks.EdgeTLS{
	"acme": {ACME: &stacks.ACME{
		Email: "admin@example.com", Directory: "https://ca.example.com/acme/directory",
	}},
	"certificate": {Certificate: "a certificate in PEM"},
	"internal":    {Internal: true},
}

// TestGoldenTLS compares what prod's plan has of the edge in each form with testdata/edge-tls.json.
func TestGoldenTLS(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	all := map[string][]plan.Resource{}
	for form, own := range endsTLS {
		settings := shippedSettings(t, root, "prod")
		settings.AssumeSecrets = true
		settings.Edge = stacks.EdgeSettings{
			Host: "chat.example.com", Address: "0.0.0.0", OwnTLS: &own,
		}
		stack, err := stacks.Load("prod", settings, stacks.Checkout{FS: os.DirFS(root)})
		if err != nil {
			t.Fatal(err)
		}

		for _, r := range mustRecord(t, stack, root) {
			if strings.Contains(r.Name, stacks.Edge) {
				all[form] = append(all[form], r)
			}
		}
	}

	got, path := toJSON(t, all, root), filepath.Join("testdata", "edge-tls.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run `go test ./infra/docker -run Golden -update`", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the edges that end TLS changed: %s", firstDifference(want, got))
	}
	if bytes.Contains(got, []byte(recordedPassword)) {
		t.Error("the plan shows a secret")
	}
}

// TestTLSOutputs holds the address that people are given: by HTTPS, and by the name if there is one.
func TestTLSOutputs(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}

	for want, edge := range map[string]stacks.EdgeSettings{
		"https://chat.example.com":      {Host: "chat.example.com"},
		"https://chat.example.com:8443": {Host: "chat.example.com", Port: 8443},
		"https://127.0.0.1":             {},
		"https://[::1]:8443":            {Address: "::1", Port: 8443},
	} {
		settings := shippedSettings(t, root, "prod")
		settings.Edge, settings.Edge.OwnTLS = edge, &stacks.EdgeTLS{Internal: true}
		stack, err := stacks.Load("prod", settings, stacks.Checkout{FS: os.DirFS(root)})
		if err != nil {
			t.Fatal(err)
		}

		_, out, err := record(stack, root)
		if err != nil {
			t.Fatal(err)
		}
		if got := out.URLs[stacks.Edge]; len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %s", got, want)
		}
	}
}
